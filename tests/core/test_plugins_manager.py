"""Loading: guarded, wholly or not at all, each name by its owner, in no particular order."""

import itertools
import logging
import sys
import types
from pathlib import Path

import pytest

from suffuse import plugins
from suffuse.errors import SuffuseError
from suffuse.plugins import Candidate, Manager, hookimpl
from suffuse.plugins.candidates import discover, selection
from suffuse.plugins.hookspecs import Hooks

HOOKS = [name for name, hook in vars(Hooks).items() if hasattr(hook, "suffuse_spec")]


def plugin(*hooks, api=1, **named):
    """A plugin module that implements these functions as hooks."""
    module = types.ModuleType("toy_plugin")
    if api is not None:
        module.suffuse_api = api
    for function in hooks:
        setattr(module, function.__name__, hookimpl(function))
    vars(module).update(named)
    return module


def datasets(*names, kind="datasets"):
    """A hook that registers these names."""

    def function(register):
        for name in names:
            register(name, "json:loads")

    function.__name__ = f"register_{kind}"
    return function


def candidate(name, *hooks, distribution="", version="1.0", **options):
    return Candidate(name, lambda: plugin(*hooks, **options), distribution, version)


def names(manager, kind="dataset"):
    return [entry.name for entry in manager.registry.entries(kind)]


def status_of(manager, name):
    return next(status for status in manager.statuses if status.name == name)


GOOD = candidate("good", datasets("good/a", "good/b"))


# A broken plugin


def raises(error):
    def load():
        raise error

    return load


def half(register):
    register("bad/a", "json:loads")
    raise RuntimeError("boom")


class UnspeakableError(Exception):
    def __str__(self):
        raise ValueError("not even this")


def register_datasets(register):
    register("bad/a", "json:loads")


def wrong_argument(registry): ...


def more_arguments(register, colour): ...


def any_arguments(*register): ...


def keyword_argument(*, register): ...


def default_argument(register=None): ...


def wrapper(register):
    yield


BROKEN = {
    "import": (
        raises(ImportError("no torchaudio")),
        "could not be imported: ImportError: no torch",
    ),
    "exit": (raises(SystemExit(3)), "could not be imported: SystemExit: 3"),
    "syntax": (lambda: exec("def ("), "could not be imported: File"),
    "unspeakable": (raises(UnspeakableError()), "could not be imported:"),
    "half": (
        lambda: plugin(register_datasets, register_encoders=hookimpl(half)),
        "failed in its hook 'register_encoders': RuntimeError: boom",
    ),
    "exit in a hook": (
        lambda: plugin(register_datasets=hookimpl(lambda register: sys.exit("bye"))),
        "failed in its hook 'register_datasets': SystemExit: bye",
    ),
    "wrong argument": (
        lambda: plugin(register_datasets=hookimpl(wrong_argument)),
        "takes 'registry' in its hook 'register_datasets', which is given: register",
    ),
    "more arguments": (
        lambda: plugin(register_datasets=hookimpl(more_arguments)),
        "takes 'colour' in its hook 'register_datasets', which is given: register",
    ),
    "any arguments": (
        lambda: plugin(register_datasets=hookimpl(any_arguments)),
        "takes '*register' in its hook 'register_datasets', which is given: register",
    ),
    "keyword argument": (
        lambda: plugin(register_datasets=hookimpl(keyword_argument)),
        "takes 'register' in its hook 'register_datasets', which is given: register",
    ),
    "argument for none": (
        lambda: plugin(environment_info=hookimpl(wrong_argument)),
        "takes 'registry' in its hook 'environment_info', which is given: nothing",
    ),
    "default": (
        lambda: plugin(register_datasets=hookimpl(default_argument)),
        "has a default for 'register' in its hook 'register_datasets'",
    ),
    "misspelt": (
        lambda: plugin(register_datasets, register_evaluator=hookimpl(half)),
        "implements a hook 'register_evaluator' that there is not; "
        "did you mean 'register_evaluators'?",
    ),
    "misspelt by specname": (
        lambda: plugin(anything=hookimpl(specname="zzz")(half)),
        "implements a hook 'zzz' that there is not",
    ),
    "wrapper": (
        lambda: plugin(register_datasets=hookimpl(wrapper=True)(wrapper)),
        "wraps the hook 'register_datasets', which no plugin may",
    ),
    "dotted target": (
        lambda: plugin(
            register_datasets=hookimpl(lambda register: register("bad/a", "json.loads"))
        ),
        "failed in its hook 'register_datasets': ValueError: dataset 'bad/a': "
        "expected 'module:attribute', given 'json.loads'",
    ),
    "wrong call": (
        lambda: plugin(register_datasets=hookimpl(lambda register: register("bad/a"))),
        "failed in its hook 'register_datasets': TypeError:",
    ),
    "twice": (
        lambda: plugin(datasets("bad/a", "bad/a")),
        "registers dataset 'bad/a', which plugin 'bad' (suffuse-bad 2.0) registered before",
    ),
    "unhashable": (
        lambda: types.SimpleNamespace(suffuse_api=1, register_datasets=hookimpl(register_datasets)),
        "could not be registered: TypeError: unhashable type",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_is_told_and_gone_wholly(case, caplog):
    load, problem = BROKEN[case]
    manager = Manager([Candidate("bad", load, version="2.0"), GOOD])
    status = status_of(manager, "bad")
    assert status.status == "error"
    assert status.message.startswith(f"plugin 'bad' (suffuse-bad 2.0) {problem}")
    assert "\n" not in status.message
    assert status.adds == {}
    assert [record.message for record in caplog.records] == [status.message]
    # its neighbour is whole, and nothing of it is left
    assert status_of(manager, "good").status == "ok"
    assert names(manager) == ["good/a", "good/b"]
    assert not [c for hook in HOOKS for c, _ in manager.calls(hook) if c.name == "bad"]
    assert manager.pending() == []
    with pytest.raises(SuffuseError) as caught:
        manager.registry.get("dataset", "bad/a")
    assert str(caught.value).startswith(f"no dataset 'bad/a': {status.message}")


def test_the_traceback_of_an_error_is_kept():
    manager = Manager([candidate("bad", datasets("bad/a"), register_encoders=hookimpl(half))])
    traceback = manager.statuses[0].traceback
    assert "in half" in traceback
    assert traceback.rstrip().endswith("RuntimeError: boom")


def test_an_interrupt_is_the_readers():
    with pytest.raises(KeyboardInterrupt):
        Manager([Candidate("bad", raises(KeyboardInterrupt()))])
    with pytest.raises(KeyboardInterrupt):
        Manager(
            [candidate("bad", register_datasets=hookimpl(lambda: raises(KeyboardInterrupt())()))]
        )


@pytest.mark.parametrize(
    ("api", "said"),
    [
        (2, "was written for plugin API 2"),
        ("1", "was written for plugin API '1'"),
        (None, "does not state the plugin API it was written for, by `suffuse_api = ...`"),
    ],
)
def test_another_api_version(api, said):
    manager = Manager([candidate("bad", datasets("bad/a"), api=api), GOOD])
    status = status_of(manager, "bad")
    version = manager.registry.get("process", "gaussian").version
    assert status.status == "incompatible"
    assert status.message == (f"plugin 'bad' (suffuse-bad 1.0) {said}; suffuse {version} offers 1")
    assert names(manager) == ["good/a", "good/b"]


def test_a_hook_without_its_decorator_is_told():
    manager = Manager([candidate("good", datasets("good/a"), register_encoders=lambda register: 1)])
    status = manager.statuses[0]
    assert status.status == "ok"
    assert status.message == (
        "plugin 'good' (suffuse-good 1.0) defines 'register_encoders' without @hookimpl: "
        "it is never called"
    )
    assert names(manager) == ["good/a"]


def test_a_hook_of_a_later_core_may_be_optional():
    later = hookimpl(optionalhook=True)(lambda: None)
    manager = Manager([candidate("good", datasets("good/a"), register_dreams=later)])
    assert manager.statuses[0].status == "ok"
    assert [(str(c), hook) for c, hook in manager.pending()] == [
        ("plugin 'good' (suffuse-good 1.0)", "register_dreams")
    ]


def test_what_a_plugin_prints_is_kept_from_standard_output(capsys):
    def noisy(register):
        print("hello from a hook")

    def load():
        print("hello from an import")
        return plugin(register_datasets=hookimpl(noisy))

    Manager([Candidate("good", load)])
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "hello from an import\nhello from a hook\n"


# Names and their owners


def test_a_namespace_of_another_is_refused_by_name_and_nothing_else_is_lost(caplog):
    thief = candidate("thief", datasets("thief/a", "good/c", "thief/b"), version="3.1")
    manager = Manager([GOOD, thief])
    assert names(manager) == ["good/a", "good/b", "thief/a", "thief/b"]
    status = status_of(manager, "thief")
    assert status.status == "ok"
    assert status.message == (
        "plugin 'thief' (suffuse-thief 3.1) may not register dataset 'good/c': "
        "the namespace 'good' belongs to suffuse-good 1.0"
    )
    assert [record.message for record in caplog.records] == [status.message]
    assert status.adds == {"dataset": ["thief/a", "thief/b"]}


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("bare", "names without a namespace are the core's"),
        ("ddim", "names without a namespace are the core's"),
        ("nobody/a", "its distribution does not declare the namespace 'nobody'"),
        ("Good/a", "a name is namespace/name, in lower-case letters, digits and . _ -"),
        ("good/a/b", "a name is namespace/name, in lower-case letters, digits and . _ -"),
        ("good/", "a name is namespace/name, in lower-case letters, digits and . _ -"),
        ("good/a b", "a name is namespace/name, in lower-case letters, digits and . _ -"),
    ],
)
def test_names_that_are_no_plugins_to_give(name, why):
    manager = Manager([candidate("good", datasets("good/a", name))])
    assert names(manager) == ["good/a"]
    assert manager.statuses[0].message == (
        f"plugin 'good' (suffuse-good 1.0) may not register dataset {name!r}: {why}"
    )


@pytest.mark.parametrize(
    ("plugins_", "owner"),
    [
        ([("zoo", "a-zoo"), ("zoo", "suffuse-zoo")], "suffuse-zoo"),  # the namespace's own
        ([("plugin", "suffuse-zoo"), ("zoo", "a-zoo")], "suffuse-zoo"),  # whatever it declares
        ([("plugin", "Suffuse_Zoo"), ("zoo", "a-zoo")], "Suffuse_Zoo"),  # however it is written
        ([("zoo", "b-zoo"), ("zoo", "a-zoo")], "a-zoo"),  # else the first to declare it
    ],
)
def test_who_owns_a_namespace(plugins_, owner):
    for order in itertools.permutations(plugins_):
        manager = Manager(
            candidate(name, datasets("zoo/a"), distribution=distribution)
            for name, distribution in order
        )
        assert manager.registry.get("dataset", "zoo/a").distribution == owner
        assert [s.distribution for s in manager.statuses if s.message] == [
            distribution for _, distribution in plugins_ if distribution != owner
        ]


def test_the_owner_stays_the_owner_when_broken_or_disabled():
    broken = Candidate("zoo", raises(ImportError("x")))
    thief = candidate("thief", datasets("zoo/a"))
    for only in (None, ["thief"]):
        manager = Manager([broken, thief], only=only)
        assert names(manager) == []
        assert "the namespace 'zoo' belongs to" in status_of(manager, "thief").message


def test_one_distribution_may_bring_several_plugins():
    cats = candidate("cats", datasets("cats/a", "dogs/b"), distribution="zoo")
    dogs = candidate("dogs", datasets("dogs/a"), distribution="zoo")
    assert names(Manager([dogs, cats])) == ["cats/a", "dogs/a", "dogs/b"]


def test_a_collision_names_both():
    cats = candidate("cats", datasets("dogs/a"), distribution="zoo", version="4.0")
    dogs = candidate("dogs", datasets("dogs/a", "dogs/b"), distribution="zoo", version="4.0")
    manager = Manager([dogs, cats])
    assert names(manager) == ["dogs/a"]
    assert status_of(manager, "dogs").message == (
        "plugin 'dogs' (zoo 4.0) registers dataset 'dogs/a', "
        "which plugin 'cats' (zoo 4.0) registered before"
    )


def test_the_same_plugin_twice():
    """Two entry points on one module, or of one name: the first stays as it is."""
    module = plugin(datasets("good/a"))
    one, two = (Candidate("good", lambda: module, version=version) for version in "12")
    manager = Manager([two, one])
    assert [(s.version, s.status) for s in manager.statuses] == [("2", "ok"), ("1", "error")]
    assert manager.statuses[1].message == (
        "plugin 'good' (suffuse-good 1) is the same as plugin 'good' (suffuse-good 2)"
    )
    assert names(manager) == ["good/a"]
    assert [c.version for c, _ in manager.calls("register_datasets")] == ["2"]


def test_the_same_name_may_be_given_in_every_kind():
    manager = Manager([candidate("good", datasets("good/a"), datasets("good/a", kind="recipes"))])
    assert manager.statuses[0].adds == {"dataset": ["good/a"], "recipe": ["good/a"]}


def test_the_order_of_discovery_does_not_matter():
    found = [
        candidate("b", datasets("b/x"), distribution="zoo-b"),
        candidate("a", datasets("a/x", "b/x"), distribution="zoo-c"),
        candidate("b", datasets("b/y"), distribution="zoo-a"),
        Candidate("bad", raises(ValueError("x"))),
    ]
    told = {
        tuple((s.name, s.distribution, s.status, s.message) for s in Manager(order).statuses)
        for order in itertools.permutations(found)
    }
    assert len(told) == 1
    assert [row[1] for row in told.pop()] == ["suffuse-bad", "zoo-a", "zoo-b", "zoo-c"]


# The environment


@pytest.mark.parametrize(
    ("value", "loaded"),
    [
        (None, ["cats", "dogs"]),
        ("", []),
        (" , ", []),
        ("cats", ["cats"]),
        ("dogs, cats", ["cats", "dogs"]),
        ("suffuse_dogs", ["dogs"]),
    ],
)
def test_plugins_are_picked_by_the_environment(value, loaded, monkeypatch):
    monkeypatch.delenv("SUFFUSE_PLUGINS", raising=False)
    if value is not None:
        monkeypatch.setenv("SUFFUSE_PLUGINS", value)
    both = [candidate(name, datasets(f"{name}/a")) for name in ("cats", "dogs")]
    manager = Manager(both, only=selection())
    assert [s.name for s in manager.statuses if s.status == "ok"] == loaded
    assert [s.name for s in manager.statuses if s.status == "disabled"] == [
        name for name in ("cats", "dogs") if name not in loaded
    ]
    assert names(manager) == [f"{name}/a" for name in loaded]


def test_a_disabled_plugin_is_not_imported_and_is_named_where_it_is_missed(caplog):
    manager = Manager([Candidate("cats", raises(AssertionError()), version="1.0")], only=[])
    assert caplog.records == []
    with pytest.raises(SuffuseError) as caught:
        manager.registry.get("dataset", "cats/a")
    assert str(caught.value) == (
        "no dataset 'cats/a': plugin 'cats' (suffuse-cats 1.0) is left out by SUFFUSE_PLUGINS"
    )


def test_picking_what_is_not_there_is_told(caplog):
    Manager([GOOD], only=["goood", "zzz"])
    assert [record.message for record in caplog.records] == [
        "SUFFUSE_PLUGINS names 'goood', which is not installed; did you mean 'good'?",
        "SUFFUSE_PLUGINS names 'zzz', which is not installed; see `suffuse plugins list`",
    ]


@pytest.mark.parametrize("value", ["", "0", "1"])
def test_the_trace_switch_prints_hook_calls(value, monkeypatch, capsys):
    monkeypatch.setenv("SUFFUSE_PLUGINS_TRACE", value)
    manager = Manager([candidate("good", environment_info=hookimpl(lambda: {"a": "b"}))])
    capsys.readouterr()
    manager.hook.environment_info()
    out, err = capsys.readouterr()
    assert out == ""
    assert ("environment_info" in err) == (value == "1")


def test_the_environment_is_told_whatever_a_plugin_answers(caplog):
    def broken():
        raise SystemExit(3)

    answers = {"a": lambda: {"abacus": 7}, "b": lambda: "words", "c": broken, "d": lambda: None}
    manager = Manager(candidate(n, environment_info=hookimpl(f)) for n, f in answers.items())
    assert manager.environment() == {"abacus": "7"}
    assert [record.message[:30] for record in caplog.records] == [
        "plugin 'b' (suffuse-b 1.0) fai",
        "plugin 'c' (suffuse-c 1.0) fai",
    ]


# Discovery


def install(folder: Path, name: str, version: str, entry_points: str, module: str = "") -> None:
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(entry_points)
    if module:
        (folder / f"{module}.py").write_text("suffuse_api = 1\n")


def found_in(monkeypatch, *folders):
    monkeypatch.setattr(sys, "path", [*map(str, folders)])
    return [(c.name, c.distribution, c.version) for c in discover()]


def test_installed_plugins_are_found(tmp_path, monkeypatch):
    install(tmp_path, "suffuse-cats", "1.0", "[suffuse.plugins]\ncats = cats_plugin\n")
    install(tmp_path, "other", "2.0", "[other.group]\nx = y\n")
    assert found_in(monkeypatch, tmp_path) == [("cats", "suffuse-cats", "1.0")]


def test_broken_metadata_of_anyone_hide_no_plugin(tmp_path, monkeypatch):
    install(tmp_path / "a", "zzz", "1.0", "[suffuse.plugins]\nthis is nonsense\n")
    install(tmp_path / "b", "suffuse-cats", "1.0", "[suffuse.plugins]\ncats = cats_plugin\n")
    install(tmp_path / "c", "suffuse-cats", "0.9", "[suffuse.plugins]\ncats = cats_plugin\n")
    folders = [tmp_path / name for name in "abc"]
    assert found_in(monkeypatch, *folders) == [("cats", "suffuse-cats", "1.0")]


def test_metadata_without_a_name_or_version(tmp_path, monkeypatch):
    install(tmp_path, "suffuse-cats", "1.0", "[suffuse.plugins]\ncats = cats_plugin\n")
    next(tmp_path.glob("*.dist-info")).joinpath("METADATA").unlink()
    (name, _, _) = found_in(monkeypatch, tmp_path)[0]
    assert name == "cats"


def test_the_installed_plugins_are_loaded_at_the_first_question(monkeypatch):
    loads = []

    def load():
        loads.append(1)
        # a plugin that asks while it is being loaded finds the core, not an endless loop
        assert plugins.entries("dataset") == []
        return plugin(datasets("good/a"))

    with monkeypatch.context() as patch:
        patch.setattr(plugins, "_managers", [])
        patch.setattr(plugins, "discover", lambda: [Candidate("good", load)])
        patch.delenv("SUFFUSE_PLUGINS")
        assert loads == []
        assert [entry.name for entry in plugins.entries("dataset")] == ["good/a"]
        assert [status.name for status in plugins.statuses()] == ["good"]
        assert loads == [1]


def test_using_another_manager_meanwhile():
    before = plugins.current()
    with plugins.using(Manager([GOOD])), plugins.using(Manager()) as inner:
        assert plugins.current() is inner
    assert plugins.current() is before


# Hooks of a run's life


def run_started(run, step):
    raise OSError(f"disk full at step {step}")


def test_a_failing_hook_never_breaks_the_run(caplog):
    seen = []
    manager = Manager(
        [
            candidate("bad", run_started),
            candidate("exits", run_started=hookimpl(lambda: sys.exit(1))),
            candidate("good", run_started=hookimpl(lambda recipe: seen.append(recipe))),
        ]
    )
    with plugins.using(manager), caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert plugins.hook.run_started(run=Path("a"), recipe={"x": 1}, step=7) == []
    assert seen == [{"x": 1}] * 2
    sentence = (
        "plugin 'bad' (suffuse-bad 1.0) failed in its hook 'run_started': "
        "OSError: disk full at step 7"
    )
    assert [record.message for record in caplog.records].count(sentence) == 2
    assert status_of(manager, "bad").message == sentence
    assert status_of(manager, "bad").status == "ok"
    assert status_of(manager, "exits").message.endswith("SystemExit: 1")


def test_answers_of_all_plugins():
    manager = Manager(
        [
            candidate("a", environment_info=hookimpl(lambda: {"a": "1"})),
            candidate("b", environment_info=hookimpl(lambda: None)),
            candidate("c", environment_info=hookimpl(lambda: {"c": "3"})),
        ]
    )
    assert manager.hook.environment_info() == [{"a": "1"}, {"c": "3"}]


def test_the_first_answer_decides_where_one_is_asked_for():
    manager = Manager(
        [
            candidate("a", resolve_model=hookimpl(lambda name: 1 / 0)),
            candidate("b", resolve_model=hookimpl(lambda name: None)),
            candidate("c", resolve_model=hookimpl(trylast=True)(lambda name: Path("c"))),
            candidate("d", resolve_model=hookimpl(lambda name: Path(name))),
        ]
    )
    assert manager.hook.resolve_model(name="x") == Path("x")
    assert Manager().hook.resolve_model(name="x") is None


def test_hooks_are_called_as_specified():
    with pytest.raises(AttributeError, match="no hook 'run_strated'"):
        plugins.hook.run_strated()
    with pytest.raises(TypeError, match=r"hook 'run_started' takes \('run', 'recipe', 'step'\)"):
        plugins.hook.run_started(run=Path("a"))
