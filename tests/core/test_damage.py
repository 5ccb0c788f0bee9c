"""Whatever goes wrong ends in a sentence and a status other than zero, and nothing is lost."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from suffuse import storage
from suffuse.cli import main
from suffuse.model import Model
from suffuse.training import learner
from suffuse.training.directory import locked

SMALL = [
    *("--set", "training.steps=4", "--set", "training.checkpoint_every=2"),
    *("--set", "training.sample_every=0", "--set", "training.precision=fp32"),
    *("--set", "denoiser.width=8", "--set", "denoiser.depth=1", "--set", "dataset.n=40"),
]
NEWEST = "checkpoints/00000004"


def suffuse(*words: object) -> tuple[int, str]:
    """The exit status of a command, and what it says on standard error."""
    code: Any = 0
    with CliRunner().isolation() as (_, err, _):
        try:
            main([str(word) for word in words])
        except SystemExit as ended:
            code = ended.code or 0
        said = err.getvalue().decode()
    return int(code), said


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damage") / "run"


@pytest.fixture
def run(finished: Path, toy: ModuleType, tmp_path: Path) -> Path:
    """A copy of a finished run."""
    if not (finished / "README.md").exists():
        assert suffuse("train", "toy/spiral", "--out", finished, *SMALL)[0] == 0
    return Path(shutil.copytree(finished, tmp_path / "run"))


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder with its digest, but for locks and empty folders."""
    return {
        path.relative_to(folder).as_posix(): storage.digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def pickle(path: Path) -> None:
    torch.save({"weights": torch.zeros(2)}, path)


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def other_version(path: Path) -> None:
    state = {k: v for k, v in json.loads(path.read_text()).items() if k != "sha256"}
    state["format"] = 99
    path.write_text(json.dumps({**state, "sha256": storage.fingerprint(state)}))


def every_checkpoint(run: Path) -> None:
    for folder in (run / "checkpoints").iterdir():
        cut(folder / "model.safetensors")


GO_ON = ["train", "toy/spiral", "--out", "RUN", "--resume", *SMALL, "--set", "training.steps=6"]
SAMPLE = ["sample", "RUN", "-n", "2", "-o", "OUT"]

TABLE: dict[str, tuple[Callable[[Path], object], list[str], str]] = {
    "an unknown recipe": (lambda run: None, ["train", "toy/spirl"], "did you mean 'toy/spiral'"),
    "an unknown solver": (lambda run: None, [*SAMPLE, "--solver", "dimm"], "did you mean 'ddim'"),
    "an unknown key": (
        lambda run: None,
        ["train", "toy/spiral", "--set", "training.stepz=1"],
        "did you mean 'training.steps'",
    ),
    "an unknown label": (lambda run: None, [*SAMPLE, "--arm", "lefd"], "did you mean 'left'"),
    "a model cut short": (lambda run: cut(run / "model.safetensors"), SAMPLE, "is damaged"),
    "a model with a flipped bit": (lambda run: flip(run / "model.safetensors"), SAMPLE, "damaged"),
    "a model of another version": (
        lambda run: edit(run / "config.json", format=99),
        SAMPLE,
        "has the format 99",
    ),
    "a model that is a pickle": (
        lambda run: pickle(run / "model.safetensors"),
        SAMPLE,
        "is a pickle",
    ),
    "a config cut short": (lambda run: cut(run / "config.json"), SAMPLE, "is damaged"),
    "a record cut short": (lambda run: cut(run / "run.json"), GO_ON, "is damaged"),
    "a record of another version": (
        lambda run: edit(run / "run.json", format=99),
        GO_ON,
        "of another version",
    ),
    "every checkpoint cut short": (every_checkpoint, GO_ON, "no checkpoint"),
    "a checkpoint of another version": (
        lambda run: other_version(run / NEWEST / "state.json"),
        GO_ON,
        "is of format 99",
    ),
    "another recipe": (
        lambda run: None,
        [*GO_ON, "--set", "training.batch=7"],
        "training.batch was 256 and is 7",
    ),
    "a run that is there": (
        lambda run: None,
        [word for word in GO_ON if word != "--resume"],
        "holds a training run already",
    ),
    "figures into a folder": (
        lambda run: None,
        ["evaluate", "RUN", "-n", "4", "-o", "RUN/samples"],
        "it is a folder",
    ),
    "a plugin into a folder with files": (
        lambda run: None,
        ["plugins", "new", "birds", "-o", "RUN"],
        "not empty",
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_one_sentence_and_nothing_lost(name: str, run: Path, tmp_path: Path) -> None:
    damage, words, expected = TABLE[name]
    damage(run)
    before = contents(run)
    out = tmp_path / "out"
    filled = [w.replace("RUN", str(run)).replace("OUT", str(out)) for w in words]
    code, said = suffuse(*filled)
    assert code == 1
    assert expected in said
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith("error: ")
    after = contents(run)
    if "checkpoint" in name:  # that the run is to have more steps is recorded before it goes on
        assert after.pop("run.json") != before.pop("run.json")
        assert after.pop("recipe.toml") != before.pop("recipe.toml")
    assert after == before
    assert not out.exists()


@pytest.mark.parametrize("harm", [cut, flip, pickle])
@pytest.mark.parametrize("file", ["model", "ema", "optimizer"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    harm: Callable[[Path], None], file: str, run: Path, finished: Path, tmp_path: Path
) -> None:
    straight = tmp_path / "straight"
    shutil.copytree(finished, straight)
    for folder in (run, straight):
        path = folder / NEWEST / f"{file}.safetensors"
        if folder is run:
            harm(path)
        code, said = suffuse(*(word.replace("RUN", str(folder)) for word in GO_ON))
        assert code == 0, said
    assert storage.digest(run / "model.safetensors") == storage.digest(
        straight / "model.safetensors"
    )


# A disk that is full, a place that may not be written


@contextmanager
def full_disk(monkeypatch: pytest.MonkeyPatch, after: int) -> Iterator[list[int]]:
    """After so many writes nothing can be brought to the disk any more; what was tried."""
    genuine, tried = os.fsync, list[int]()

    def fsync(descriptor: int) -> None:
        tried.append(descriptor)
        if len(tried) > after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        genuine(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        yield tried


@contextmanager
def as_nobody(folder: Path) -> Iterator[None]:
    """The folder cannot be written to; a process of root's is nobody's meanwhile."""
    folder.mkdir(exist_ok=True)
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)


WRITES = {
    "train": ["train", "toy/spiral", "--out", "OUT/run", *SMALL],
    "sample into a folder": ["sample", "RUN", "-n", "2", "-o", "OUT/made"],
    "sample into a file": ["sample", "RUN", "-n", "1", "-o", "OUT/one.json"],
    "sample onto a sheet": ["sample", "RUN", "-n", "2", "-o", "OUT/sheet.png"],
    "evaluate": ["evaluate", "RUN", "-n", "4", "-o", "OUT/figures.json"],
    "plugins new": ["plugins", "new", "birds", "-o", "OUT/birds"],
}


@pytest.mark.parametrize("name", WRITES)
def test_a_full_disk(name: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, whole = contents(run), tmp_path / "whole"

    def words(out: Path) -> list[str]:
        return [w.replace("RUN", str(run)).replace("OUT", str(out)) for w in WRITES[name]]

    whole.mkdir()
    with full_disk(monkeypatch, 10**9) as writes:
        assert suffuse(*words(whole))[0] == 0
    count = len(writes)
    assert count >= 2
    for after in sorted({0, 1, count // 4, count // 2, count - 2, count - 1}):
        out = tmp_path / f"after-{after}"
        out.mkdir()
        with full_disk(monkeypatch, after):
            code, said = suffuse(*words(out))
        assert code == 1, f"with room for {after} of {count} writes: {said}"
        assert "the disk is full" in said
        assert "Traceback" not in said
        assert contents(run) == before
        left = contents(out)
        assert after or not left
        assert not any(storage.TEMPORARY in file for file in left), "nothing half written stays"
        if name == "train":  # what has come so far is good to go on from
            assert suffuse(*words(out), "--resume")[0] == 0
            made = Path("run") / "model.safetensors"
            assert storage.digest(out / made) == storage.digest(whole / made)
        else:
            assert left.items() <= contents(whole).items()


@pytest.mark.parametrize("name", WRITES)
def test_a_place_that_may_not_be_written(
    name: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (run, *run.parents):  # pytest's folders are their owner's alone
        if folder.stat().st_uid == os.getuid() and os.geteuid() == 0:
            folder.chmod(folder.stat().st_mode | 0o555)
    before, out = contents(run), tmp_path / "out"
    words = [w.replace("RUN", str(run)).replace("OUT", str(out)) for w in WRITES[name]]
    with as_nobody(out):
        code, said = suffuse(*words)
    assert code == 1
    assert "no permission to write there" in said
    assert "Traceback" not in said
    assert contents(run) == before
    assert not list(out.iterdir())


# Other trouble of a run


def test_a_loss_that_is_not_finite(run: Path, tmp_path: Path) -> None:
    words = ["--set", "training.learning_rate=1e38", "--set", "training.warmup=0"]
    code, said = suffuse("train", "toy/spiral", "--out", tmp_path / "new", *SMALL, *words)
    assert code == 1
    assert "training diverged" in said
    assert "Traceback" not in said
    assert not (tmp_path / "new" / "model.safetensors").exists()


def test_two_trainings_on_one_run(run: Path) -> None:
    before = contents(run)
    with locked(run):
        code, said = suffuse(*(word.replace("RUN", str(run)) for word in GO_ON))
    assert (code, "is being trained already, by process" in said) == (1, True)
    assert contents(run) == before


def test_a_failed_start_leaves_nothing(toy: ModuleType, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "run"
    code, said = suffuse("train", "toy/spiral", "--out", out, *SMALL, "--set", "dataset.n=0")
    assert (code, "Traceback" in said) == (1, False)
    assert not list(tmp_path.iterdir())


def test_ctrl_c_while_a_run_is_set_up(
    toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*rest: object) -> None:
        raise KeyboardInterrupt

    words = ["train", "toy/spiral", "--out", tmp_path / "run", *SMALL]
    with monkeypatch.context() as patched:
        patched.setattr(learner, "adamw", interrupted)
        code, said = suffuse(*words)
    assert code == 130
    assert "stopped while starting; the same command with --resume goes on" in said
    assert suffuse(*words, "--resume")[0] == 0


@pytest.mark.parametrize("warmup", [1, 100])
def test_growing_steps_under_a_cosine_are_told(
    toy: ModuleType, tmp_path: Path, warmup: int
) -> None:
    """Unless the rate so far is the same, as it is as long as it rises."""
    words = ["train", "toy/spiral", "--out", tmp_path / "run", *SMALL]
    words += ["--set", f"training.warmup={warmup}"]
    assert suffuse(*words)[0] == 0
    code, said = suffuse(*words, "--resume", "--set", "training.steps=6")
    assert code == 0
    assert ("training.steps grows from 4 to 6: the learning rate" in said) is (warmup == 1)


def test_too_little_memory(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sample(*rest: object, **more: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(Model, "sample", sample)
    code, said = suffuse("sample", run, "-n", "2", "-o", tmp_path / "out")
    assert code == 1
    assert "smaller --batch" in said
    assert "Traceback" not in said


def test_sampling_that_is_stopped_leaves_whole_files(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine, out = Model.sample, tmp_path / "out"

    def sample(self: Model, n: int, **settings: Any) -> list[Any]:
        if settings["first"] == 4:
            raise KeyboardInterrupt
        return genuine(self, n, **settings)

    words = ["sample", run, "-n", "5", "--batch", "2", "-o", out]
    with monkeypatch.context() as patched:
        patched.setattr(Model, "sample", sample)
        assert suffuse(*words)[0] != 0
    assert sorted(contents(out)) == [f"{i:05d}.json" for i in range(4)]
    stopped = contents(out)
    assert suffuse(*words)[0] == 0
    assert contents(out).items() >= stopped.items()
    assert len(contents(out)) == 6


def test_older_samples_are_told_of(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert suffuse("sample", run, "-n", "5", "-o", out) == (0, "")
    code, said = suffuse("sample", run, "-n", "2", "-o", out)
    assert code == 0
    assert "holds 3 older samples, from 00002.json on" in said
