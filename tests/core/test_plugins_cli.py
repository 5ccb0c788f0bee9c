"""``suffuse plugins``, and the commands that plugins bring."""

import json
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from suffuse import plugins as system
from suffuse.cli import plugins as command_line
from suffuse.cli.plugins import commands, plugins
from suffuse.errors import SuffuseError
from suffuse.plugins import Candidate, Manager, hookimpl


class Good:
    suffuse_api = 1

    @hookimpl
    def register_datasets(self, register):
        register("good/a", "json:loads")
        register("other/a", "json:loads")

    @hookimpl
    def register_solvers(self, register):
        register("good/b", "json:loads")

    @hookimpl
    def environment_info(self):
        return {"abacus": "wood"}

    @hookimpl(optionalhook=True)
    def register_dreams(self):
        pass


class Odd:
    suffuse_api = 1

    @hookimpl
    def environment_info(self):
        return "this is no mapping"


def broken():
    raise RuntimeError("boom")


def run(*arguments, load, only=None):
    manager = Manager(
        (Candidate(name, each, version="1.0") for name, each in load.items()), only=only
    )
    with system.using(manager):
        return CliRunner().invoke(plugins, list(arguments))


REFUSED = (
    "plugin 'good' (suffuse-good 1.0) may not register dataset 'other/a': "
    "its distribution does not declare the namespace 'other'"
)
BROKEN = "plugin 'bad' (suffuse-bad 1.0) could not be imported: RuntimeError: boom"
EVERY = {"good": Good, "bad": broken, "off": Odd}


def test_list():
    result = run("list", load=EVERY, only=["good", "bad"])
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "bad  suffuse-bad 1.0  error",
        f"    {BROKEN}",
        "good  suffuse-good 1.0  ok",
        "    dataset: good/a",
        "    solver: good/b",
        f"    {REFUSED}",
        "off  suffuse-off 1.0  disabled",
        "    plugin 'off' (suffuse-off 1.0) is left out by SUFFUSE_PLUGINS",
    ]


def test_list_as_json():
    rows = json.loads(run("list", "--json", load=EVERY).stdout)
    assert [(row["name"], row["status"]) for row in rows] == [
        ("bad", "error"),
        ("good", "ok"),
        ("off", "ok"),
    ]
    assert rows[1] == {
        "name": "good",
        "distribution": "suffuse-good",
        "version": "1.0",
        "status": "ok",
        "message": REFUSED,
        "adds": {"dataset": ["good/a"], "solver": ["good/b"]},
    }


def test_list_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    with system.using(Manager([Candidate("good", Good, version="1.0")])):
        plugins.main(["list"], standalone_mode=False)
    out = capsys.readouterr().out
    assert "┃" in out
    assert "suffuse-good 1.0" in out
    assert "dataset: good/a" in out


def test_list_of_nothing():
    assert run("list", load={}).stdout.startswith("no plugin is installed")
    assert json.loads(run("list", "--json", load={}).stdout) == []


def test_listing_says_nothing_twice(monkeypatch, caplog):
    """What the table says of a broken plugin, the log does not say before."""
    with monkeypatch.context() as patch:
        patch.setattr(system, "_managers", [])
        patch.setattr(system, "discover", lambda: [Candidate("bad", broken, version="1.0")])
        patch.delenv("SUFFUSE_PLUGINS")
        assert BROKEN in CliRunner().invoke(plugins, ["list"]).stdout
    assert caplog.records == []
    Manager([Candidate("bad", broken, version="1.0")])
    assert [record.message for record in caplog.records] == [BROKEN]


def test_doctor(monkeypatch):
    monkeypatch.setenv("SUFFUSE_PLUGINS", "good,bad,off")
    result = run("doctor", load=EVERY)
    lines = result.stdout.splitlines()
    assert result.exit_code == 1
    assert any(line.split()[:2] == ["python", sys.version.split()[0]] for line in lines)
    assert any(
        line.split()[0] == "torch" and line.split()[1][0].isdigit() for line in lines if line
    )
    assert "abacus" in result.stdout
    assert "good,bad,off" in result.stdout
    assert "bad: error (suffuse-bad 1.0)" in lines
    assert f"    {BROKEN}" in lines
    assert "    RuntimeError: boom" in lines  # the end of the traceback
    assert (
        "plugin 'good' (suffuse-good 1.0) offers a hook 'register_dreams' that this core does not "
        "have"
    ) in lines
    assert lines[-1] == "not usable: bad"


def test_doctor_finds_nothing():
    result = run("doctor", load={"good": Good})
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "every plugin that is not disabled is usable"


# pip


@pytest.fixture
def pip(monkeypatch):
    """pip, and the fresh interpreter that is asked afterwards, as a record of calls."""
    calls = []
    answers = {"code": 0, "rows": [], "listing": 0}

    def call(command):
        calls.append(command)
        return answers["code"]

    def run(command, **options):
        return subprocess.CompletedProcess(command, answers["listing"], json.dumps(answers["rows"]))

    monkeypatch.setattr(command_line.subprocess, "call", call)
    monkeypatch.setattr(command_line.subprocess, "run", run)
    monkeypatch.setattr(command_line, "discover", lambda: [Candidate("old", Good, version="1.0")])
    return calls, answers


def row(name, status="ok", version="1.0"):
    return {
        "name": name,
        "distribution": f"suffuse-{name}",
        "version": version,
        "status": status,
        "message": "a message",
        "adds": {"dataset": [f"{name}/a"]},
    }


def test_install_passes_everything_on_to_pip_of_this_interpreter(pip):
    calls, _ = pip
    arguments = ["--no-deps", "-qq", "--index-url", "https://x.org", "-e", "./a", "suffuse-good>=1"]
    result = CliRunner().invoke(plugins, ["install", *arguments])
    assert calls == [[sys.executable, "-m", "pip", "install", *arguments]]
    assert result.exit_code == 0
    assert result.stdout == "pip is done, and no plugin is new: see `suffuse plugins list`\n"


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["suffuse-good"], ["good"]),  # what is new
        (["Suffuse_Old", "-U"], ["good", "old"]),  # and what was asked for
        (["dist/suffuse_old-1.0-py3-none-any.whl"], ["good", "old"]),
    ],
)
def test_install_shows_what_has_come(pip, arguments, shown):
    _, answers = pip
    answers["rows"] = [row("good"), row("old")]
    result = CliRunner().invoke(plugins, ["install", *arguments])
    assert result.exit_code == 0
    titles = [line for line in result.stdout.splitlines() if line[0] != " "]
    assert titles == [f"{name}  suffuse-{name} 1.0  ok" for name in shown]


def test_install_fails_where_the_plugin_is_broken(pip):
    _, answers = pip
    answers["rows"] = [row("bad", "error")]
    result = CliRunner().invoke(plugins, ["install", "suffuse-bad"])
    assert result.exit_code == 1
    assert "a message" in result.stdout


@pytest.mark.parametrize("verb", ["install", "uninstall"])
def test_the_status_of_pip_is_kept(pip, verb):
    _, answers = pip
    answers["code"] = 7
    assert CliRunner().invoke(plugins, [verb, "suffuse-old"]).exit_code == 7


def test_install_where_the_listing_fails(pip):
    _, answers = pip
    answers["listing"] = 1
    result = CliRunner().invoke(plugins, ["install", "x"])
    assert isinstance(result.exception, SuffuseError)


def test_uninstall(pip):
    calls, _ = pip
    assert CliRunner().invoke(plugins, ["uninstall", "-y", "Suffuse_Old"]).exit_code == 0
    assert calls == [[sys.executable, "-m", "pip", "uninstall", "-y", "Suffuse_Old"]]


@pytest.mark.parametrize("arguments", [["torch"], ["-y", "suffuse"], ["-r", "all.txt"], ["old"]])
def test_only_plugins_are_uninstalled(pip, arguments):
    calls, _ = pip
    result = CliRunner().invoke(plugins, ["uninstall", *arguments])
    assert isinstance(result.exception, SuffuseError)
    assert not calls


def test_without_pip(pip, monkeypatch):
    monkeypatch.setattr(command_line.importlib.util, "find_spec", lambda name: None)
    result = CliRunner().invoke(plugins, ["install", "x"])
    assert str(result.exception).startswith("this Python has no pip: run `uv pip install --python")


def test_pip_needs_arguments(pip):
    assert CliRunner().invoke(plugins, ["install"]).exit_code == 2


# Commands of plugins


def with_commands(**bodies):
    def load(body):
        class Plugin:
            suffuse_api = 1

            @hookimpl
            def register_commands(self, cli):
                body(cli)

        return Plugin

    return Manager(Candidate(name, load(body), version="1.0") for name, body in bodies.items())


def adds(*names):
    def body(cli):
        for name in names:
            cli.add_command(click.Command(name))

    return body


def half(cli):
    cli.add_command(click.Command("half"))
    sys.exit("boom")


def test_commands_of_plugins_are_guarded(caplog):
    manager = with_commands(
        bad=half, cats=adds("cats", "train"), dogs=adds("dogs"), thief=adds("dogs", "thief")
    )
    found = commands(manager, taken=["train"])
    assert set(found) == {"cats", "dogs", "thief"}
    said = {record.message for record in caplog.records}
    assert said == {
        "plugin 'bad' (suffuse-bad 1.0) failed in its hook 'register_commands': SystemExit: boom",
        "plugin 'cats' (suffuse-cats 1.0) may not bring a command 'train', which there is",
        "plugin 'thief' (suffuse-thief 1.0) may not bring a command 'dogs', which there is",
    }
    assert {status.status for status in manager.statuses} == {"ok"}


def test_the_toy_command(toy):
    group = commands(system.current())["toy"]
    result = CliRunner().invoke(group, ["points", "-n", "2"])
    assert len(result.stdout.splitlines()) == 2
