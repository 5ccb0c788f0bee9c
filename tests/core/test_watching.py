"""Seeing a run: the page that is drawn again, and trackers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from suffuse import plugins
from suffuse import recipe as recipes
from suffuse.cli import cli
from suffuse.errors import SuffuseError
from suffuse.report import watch
from suffuse.training import train

LOGGED: list[tuple[str, Any]] = []


class Ear:
    def __init__(self, run: Path, recipe: Mapping[str, Any], *, name_of: str = "") -> None:
        LOGGED.append(("begin", (run.name, recipe["training"]["steps"], name_of)))

    def log(self, values: Mapping[str, float], step: int) -> None:
        LOGGED.append(("log", (step, dict(values))))

    def finish(self) -> None:
        LOGGED.append(("finish", None))


@pytest.fixture(autouse=True)
def ear(toy: ModuleType) -> Any:
    @plugins.hookimpl
    def register_trackers(register: Any) -> None:
        register("ear/ear", Ear)

    module = ModuleType("ear")
    module.__dict__.update(register_trackers=register_trackers, suffuse_api=1)
    LOGGED.clear()
    candidates = [
        plugins.Candidate("toy", lambda: toy, version="1.0"),
        plugins.Candidate("ear", lambda: module, version="1.0"),
    ]
    with plugins.using(plugins.Manager(candidates)) as manager:
        assert [status.message for status in manager.statuses] == ["", ""]
        yield


def small(**changes: Any) -> recipes.Recipe:
    usual = {"steps": 12, "batch": 8, "log_every": 4, "sample_every": 6, "precision": "fp32"}
    given: dict[str, Any] = {f"training.{k}": v for k, v in {**usual, **changes}.items()}
    given |= {"dataset.n": 40, "denoiser.width": 8}
    return recipes.load("toy/spiral", given)


def test_trackers_are_told_what_is_logged(tmp_path: Path) -> None:
    asked = small(trackers=[{"name": "ear/ear", "name_of": "mine"}])
    train(asked, tmp_path / "run", progress=False)
    kinds = [kind for kind, _ in LOGGED]
    assert kinds == ["begin", "log", "log", "log", "finish"]
    assert LOGGED[0][1] == ("run", 12, "mine")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    for (step, values), text in zip((v for k, v in LOGGED if k == "log"), lines, strict=True):
        line = json.loads(text)
        assert step == line["step"]
        assert values["loss"] == pytest.approx(line["loss"])
        assert "loss/0" in values or line["levels"][0] is None


def test_a_tracker_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accelerate.tracking.filter_trackers", lambda kinds, logging_dir: [])
    with pytest.raises(SuffuseError, match="pip install tensorboard"):
        train(small(trackers=[{"name": "tensorboard"}]), tmp_path / "run", progress=False)
    with pytest.raises(SuffuseError, match="did you mean 'tensorboard'"):
        small(trackers=[{"name": "tensorbord"}])


def test_a_run_is_drawn_while_it_lasts_and_when_it_is_done(tmp_path: Path) -> None:
    run, page = tmp_path / "run", tmp_path / "page.html"
    train(small(), run, progress=False)
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "finished": 0}))
    assert not watch.write(run, page, refresh=3)
    text = page.read_text()
    assert '<meta http-equiv="refresh" content="3">' in text
    assert "at step 12 of 12" in text
    assert text.count("<svg") >= 3
    assert "After 12 steps" in text
    assert "memory at most" in text
    (run / "run.json").write_text(json.dumps(record))
    assert watch.write(run, page)
    text = page.read_text()
    assert "http-equiv" not in text
    assert "finished after 12 steps" in text
    # where evaluations said that it was enough, it is finished before all of its steps
    record["recipe"]["training"]["steps"] = record["finished"] = 20
    (run / "run.json").write_text(json.dumps(record))
    assert watch.write(run, page)
    assert "finished after 12 steps" in page.read_text()


def test_watching_from_the_command_line(tmp_path: Path) -> None:
    from click.testing import CliRunner

    train(small(), tmp_path / "run", progress=False)
    done = CliRunner().invoke(cli, ["watch", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "run" / "watch.html").stat().st_size > 5000
    nothing = CliRunner().invoke(cli, ["watch", str(tmp_path)])
    assert "is no run" in str(nothing.exception)
