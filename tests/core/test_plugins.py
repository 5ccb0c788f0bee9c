"""The registry: names, targets at first use, options and building."""

import json
import subprocess
import sys

import pytest
from pydantic import BaseModel

from suffuse import plugins
from suffuse.diffusion.schedules import SCHEDULES
from suffuse.diffusion.solvers import ALL
from suffuse.errors import MissingExtra, SuffuseError
from suffuse.plugins import Candidate, Manager, contracts
from suffuse.plugins.registry import KINDS


def with_entry(kind, target, name="toy/thing", **options):
    """A manager with one plugin that registers one thing."""

    class Plugin:
        suffuse_api = 1

    setattr(
        Plugin,
        KINDS[kind].hook,
        staticmethod(plugins.hookimpl(lambda register: register(name, target, **options))),
    )
    manager = Manager([Candidate("toy", Plugin, version="1.0")])
    assert manager.statuses[0].message == ""
    return plugins.using(manager)


def test_importing_the_plugin_system_imports_nothing_heavy():
    code = (
        "import sys, suffuse.plugins; suffuse.plugins.statuses();"
        "print({'torch', 'pydantic', 'click', 'numpy', 'rich'} & set(sys.modules))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "set()\n"


# Names


def test_the_core_offers_its_own_under_bare_names():
    for kind in KINDS:
        assert all("/" not in entry.name for entry in plugins.entries(kind))
    assert {entry.name: entry.load() for entry in plugins.entries("solver")} == ALL
    assert {entry.name: entry.load() for entry in plugins.entries("schedule")} == SCHEDULES
    for kind in ("process", "guidance", "conditioner"):
        loaded = [callable(entry.load()) for entry in plugins.entries(kind)]
        assert loaded
        assert all(loaded)
    entry = plugins.get("process", "gaussian")
    assert (entry.plugin, entry.distribution) == ("core", "suffuse")
    assert plugins.statuses() == []


def test_entries_are_by_name():
    names = [entry.name for entry in plugins.entries("schedule")]
    assert names == sorted(names)


@pytest.mark.parametrize(
    ("kind", "name", "sentence"),
    [
        ("dataset", "toy/spirl", "no dataset 'toy/spirl'; did you mean 'toy/spiral'?"),
        ("denoiser", "mlp", "no denoiser 'mlp'; did you mean 'toy/mlp'?"),
        ("process", "zzz", "no process 'zzz'; there are: bridge, categorical, gaussian"),
        ("model", "toy/x", "no model 'toy/x'; there are: none"),
        ("solvr", "ddim", "no kind of component 'solvr'; did you mean 'solver'?"),
    ],
)
def test_unknown_names(toy, kind, name, sentence):
    with pytest.raises(SuffuseError) as caught:
        plugins.get(kind, name)
    assert str(caught.value) == sentence


# Targets


def test_a_target_is_imported_at_first_use(toy):
    sys.modules.pop("suffuse_toy.denoiser", None)
    entry = plugins.get("denoiser", "toy/mlp")
    assert "suffuse_toy.denoiser" not in sys.modules
    assert entry.load() is sys.modules["suffuse_toy.denoiser"].MLP


def test_a_target_may_be_an_object_or_a_path(toy):
    assert plugins.get("recipe", "toy/spiral").load().name == "spiral.toml"
    with with_entry("schedule", dict):
        assert plugins.get("schedule", "toy/thing").load() is dict


@pytest.mark.parametrize(
    ("target", "extra", "sentence"),
    [
        ("no_such_module:x", None, "schedule 'toy/thing' of suffuse-toy 1.0 cannot be loaded: "
            "ModuleNotFoundError: No module named 'no_such_module'"),
        ("no_such_module:x", "fast", "schedule 'toy/thing' of suffuse-toy 1.0 cannot be loaded: "
            "ModuleNotFoundError: No module named 'no_such_module'"),
        ("wanting:x", "fast", "schedule 'toy/thing' of suffuse-toy 1.0 needs more: "
            "pip install 'suffuse-toy[fast]' (ModuleNotFoundError: No module named 'no_such_mod"),
        ("wanting.typo:x", "fast", "schedule 'toy/thing' of suffuse-toy 1.0 cannot be loaded: "
            "ModuleNotFoundError: No module named 'wanting.part'"),
        ("json:nothing", "fast", "schedule 'toy/thing' of suffuse-toy 1.0 cannot be loaded: "
            "AttributeError: module 'json' has no attribute 'nothing'"),
    ],
)  # fmt: skip
def test_targets_that_cannot_be_loaded(target, extra, sentence, tmp_path, monkeypatch):
    (tmp_path / "wanting.py").write_text("import no_such_module")
    if target.startswith("wanting.typo"):
        (tmp_path / "wanting").mkdir()
        (tmp_path / "wanting" / "__init__.py").touch()
        (tmp_path / "wanting" / "typo.py").write_text("import wanting.part")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wanting", raising=False)
    with with_entry("schedule", target, extra=extra), pytest.raises(SuffuseError) as caught:
        plugins.get("schedule", "toy/thing").load()
    assert str(caught.value).startswith(sentence)
    assert isinstance(caught.value, MissingExtra) == ("needs more" in sentence)


# Options and building


def test_resolve_fills_in_every_default_and_is_plain(toy):
    resolved = plugins.resolve("encoder", {"name": "toy/points", "scale": "2"})
    assert resolved == {"name": "toy/points", "mean": [0.0, 0.0], "scale": 2.0}
    assert plugins.resolve("encoder", json.loads(json.dumps(resolved))) == resolved


def test_build_gives_context_and_options(toy):
    network = plugins.build("denoiser", {"name": "toy/mlp", "depth": 2}, shape=(2,))
    assert (network.width, len(network.layers)) == (64, 2)
    dataset = plugins.build("dataset", {"name": "toy/spiral", "n": 8}, split="test")
    assert isinstance(dataset, contracts.Dataset)
    assert len(dataset) == 8


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"name": "toy/mlp", "widht": 3}, "unknown key 'a.widht'; did you mean 'a.width'?"),
        ({"name": "toy/mlp", "width": "abc"}, "a.width: expected an integer, given 'abc'"),
        ({"name": "toy/mlp", "shape": [2]}, "unknown key 'a.shape'; there are: depth, width"),
        ({"name": "toy/mpl"}, "no denoiser 'toy/mpl'; did you mean 'toy/mlp'?"),
        ({}, "a.name is missing; there are: toy/mlp"),
        ({"name": 3}, "a.name: expected text, given 3; there are: toy/mlp"),
    ],
)
def test_wrong_options(toy, config, sentence):
    with pytest.raises(SuffuseError) as caught:
        plugins.resolve("denoiser", config, where="a")
    assert str(caught.value) == sentence
    with pytest.raises(SuffuseError) as caught:
        plugins.build("denoiser", config, shape=(2,))
    assert str(caught.value) == sentence.replace("a.", "denoiser.")


class Inner(BaseModel, extra="forbid"):
    size: int = 1


class Config(BaseModel, extra="forbid"):
    width: int = 8
    inner: Inner = Inner()


class Loose(BaseModel):
    width: int = 8


def test_an_explicit_model_of_the_options():
    with with_entry("encoder", dict, config=Config):
        assert plugins.resolve("encoder", {"name": "toy/thing"}) == {
            "name": "toy/thing",
            "width": 8,
            "inner": {"size": 1},
        }
        built = plugins.build("encoder", {"name": "toy/thing", "inner": {"size": 2}})
        assert built == {"width": 8, "inner": Inner(size=2)}
        with pytest.raises(SuffuseError, match=r"did you mean 'encoder\.inner\.size'"):
            plugins.build("encoder", {"name": "toy/thing", "inner": {"sise": 2}})


def test_an_explicit_model_is_imported_at_first_use(toy):
    with with_entry("encoder", dict, config="no_such_module:Config"):
        entry = plugins.get("encoder", "toy/thing")
        with pytest.raises(SuffuseError, match="No module named 'no_such_module'"):
            _ = entry.options


def test_an_explicit_model_refuses_unknown_keys():
    with with_entry("encoder", dict, config=Loose), pytest.raises(SuffuseError) as caught:
        plugins.resolve("encoder", {"name": "toy/thing"})
    assert str(caught.value).endswith("its config Loose needs extra='forbid'")


def careless(*, activation=print): ...


def reserved(*, name="x"): ...


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        (careless, "has an option that JSON cannot hold"),
        (reserved, "has no options to be read: its parameter 'name' cannot be an option"),
        (3, "has no options to be read: 3 is not a callable object"),
    ],
)
def test_targets_whose_options_cannot_be_told(target, sentence):
    with with_entry("encoder", target), pytest.raises(SuffuseError) as caught:
        plugins.resolve("encoder", {"name": "toy/thing"})
    assert str(caught.value).startswith(f"encoder 'toy/thing' of suffuse-toy 1.0 {sentence}")


# The toy domain keeps to the contracts


def test_the_toy_domain(toy, tmp_path):
    train, test = (
        plugins.build("dataset", {"name": "toy/spiral", "n": 200}, split=split)
        for split in ("train", "test")
    )
    fitted = plugins.build("encoder", {"name": "toy/points"}).fit(train)
    encoder = plugins.build("encoder", {"name": "toy/points", **json.loads(json.dumps(fitted))})
    assert isinstance(encoder, contracts.Encoder)
    objects = [train[i].data for i in range(len(train))]
    x = encoder.encode(objects)
    assert tuple(x.shape) == (200, *encoder.shape)
    assert float(x.std()) == pytest.approx(1, abs=0.05)
    assert encoder.decode(x)[3] == pytest.approx(objects[3], abs=1e-6)

    network = plugins.build("denoiser", {"name": "toy/mlp"}, shape=encoder.shape)
    assert network(x, x[:, 0], None).shape == x.shape

    evaluator = plugins.build("evaluator", {"name": "toy/distance"})
    assert isinstance(evaluator, contracts.Evaluator)
    samples = [train[i] for i in range(100)]
    metric = evaluator.evaluate(samples, test=test, train=train, seed=0)[0]
    assert metric.low < metric.value < metric.high

    renderer = plugins.build("renderer", {"name": "toy/plot"})
    assert isinstance(renderer, contracts.Renderer)
    path = tmp_path / "a" / "point.json"
    renderer.write(objects[0], path, {"seed": "1"})
    assert renderer.read(path) == pytest.approx(objects[0])
    assert renderer.metadata(path) == {"seed": "1"}
    assert renderer.sheet(objects)[:4] == b"\x89PNG"
    path.write_text("{}")
    with pytest.raises(SuffuseError, match="no file of a point"):
        renderer.read(path)
