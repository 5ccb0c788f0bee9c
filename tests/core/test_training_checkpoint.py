"""Checkpoints are whole, verified, and the one before a damaged one is used."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from suffuse import storage
from suffuse.errors import SuffuseError
from suffuse.training import checkpoint
from suffuse.training.checkpoint import Checkpoint


def some(step: int) -> Checkpoint:
    value = torch.full((3, 2), float(step))
    return Checkpoint(
        step, 7, {"a": value}, {"a": value / 2}, {"a/exp_avg": value / 3}, {"seconds": 0.1}
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two checkpoints, of steps 10 and 20."""
    folder = tmp_path / "checkpoints"
    for step in (10, 20):
        checkpoint.save(folder, some(step))
    return folder


def newest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    warnings: list[str] = []
    return checkpoint.newest(folder, warnings.append), warnings


def test_what_is_saved_is_loaded(folder: Path, tmp_path: Path) -> None:
    found, warnings = newest(folder)
    assert warnings == []
    assert found is not None
    expected = some(20)
    assert (found.step, found.seed, found.facts) == (20, 7, {"seconds": 0.1})
    for part in ("model", "ema", "optimizer"):
        for name, tensor in getattr(expected, part).items():
            assert torch.equal(getattr(found, part)[name], tensor)
    assert newest(tmp_path / "none") == (None, [])
    for path in folder.rglob("*"):
        assert path.is_dir() or path.suffix in (".safetensors", ".json")


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def flip_value(path: Path) -> None:
    path.write_text(path.read_text().replace('"seed": 7', '"seed": 6'))


MODEL, STATE = "model.safetensors", "state.json"
DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut short": lambda path: os.truncate(path / MODEL, 100),
    "emptied": lambda path: os.truncate(path / "ema.safetensors", 0),
    "a flipped bit in the weights": lambda path: flip(path / MODEL, -1),
    "a flipped bit in the header": lambda path: flip(path / "optimizer.safetensors", 12),
    "a flipped bit in the state": lambda path: flip(path / STATE, 30),
    "another value in the state": lambda path: flip_value(path / STATE),
    "a state cut short": lambda path: os.truncate(path / STATE, 50),
    "a state that is a list": lambda path: (path / STATE).write_text("[]"),
    "a state without a digest": lambda path: (path / STATE).write_text('{"format": 1}'),
    "no state": lambda path: (path / STATE).unlink(),
    "no weights": lambda path: (path / MODEL).unlink(),
    "a pickle for weights": lambda path: torch.save({"a": torch.ones(3)}, path / MODEL),
    "weights of another step": lambda path: shutil.copy(
        path.parent / "00000010" / "ema.safetensors", path / "ema.safetensors"
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    damage: str, folder: Path
) -> None:
    checkpoint.save(folder, some(30))
    DAMAGE[damage](folder / "00000030")
    found, warnings = newest(folder)
    assert found is not None
    assert found.step == 20
    assert len(warnings) == 1
    assert "00000030 is damaged" in warnings[0]
    # It is set aside, so that it is not met again, and nothing is lost.
    again, warnings = newest(folder)
    assert again is not None
    assert (again.step, warnings) == (20, [])
    assert (folder / "00000030.damaged").is_dir()


def test_one_that_the_disk_cannot_read_is_passed_over(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = storage.digest

    def digest(path: Path) -> str:
        if path.parent.name == "00000020":
            raise OSError(5, "Input/output error", str(path))
        return genuine(path)

    monkeypatch.setattr(storage, "digest", digest)
    found, warnings = newest(folder)
    assert found is not None
    assert found.step == 10
    assert "model.safetensors cannot be read (Input/output error)" in warnings[0]


def test_several_damaged_ones_in_a_row(folder: Path) -> None:
    checkpoint.save(folder, some(30))
    for step in (20, 30):
        flip(folder / f"{step:08d}" / MODEL, -1)
    found, warnings = newest(folder)
    assert found is not None
    assert found.step == 10
    assert ["00000030" in warnings[0], "00000020" in warnings[1]] == [True, True]
    assert all("that of step 10 is used" in warning for warning in warnings)


def test_without_a_usable_one_training_does_not_go_on(folder: Path) -> None:
    for step in (10, 20):
        flip(folder / f"{step:08d}" / MODEL, -1)
    said: list[str] = []
    with pytest.raises(
        SuffuseError, match=r"no checkpoint in .* is usable: 00000010, 00000020 are"
    ):
        checkpoint.newest(folder, said.append)
    assert [str(folder / "00000020") in said[0], str(folder / "00000010") in said[1]] == [True] * 2
    assert not any("is used" in line for line in said)


def test_another_format_is_told_and_not_passed_over(folder: Path) -> None:
    path = folder / "00000020" / "state.json"
    state = json.loads(path.read_text())
    del state["sha256"]
    state["format"] = 2
    state["versions"]["suffuse"] = "9.9"
    path.write_text(json.dumps({**state, "sha256": storage.fingerprint(state)}))
    with pytest.raises(SuffuseError, match=r"is of format 2, .* reads 1; .*\(9\.9\)"):
        newest(folder)


@pytest.mark.parametrize("moment", ["fsync", "replace"])
@pytest.mark.parametrize("call", range(6))
def test_a_crash_at_any_moment_of_saving(
    moment: str, call: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Crash(BaseException):
        pass

    calls = [0]
    genuine = getattr(os, moment)

    def crash(*arguments: object) -> None:
        calls[0] += 1
        if calls[0] > call:
            raise Crash
        genuine(*arguments)

    # As after a SIGKILL, nothing is tidied up.
    monkeypatch.setattr(storage.shutil, "rmtree", lambda *a, **k: None)
    monkeypatch.setattr(Path, "unlink", lambda *a, **k: None)
    monkeypatch.setattr(os, moment, crash)
    try:
        checkpoint.save(folder, some(30))
        reached = True
    except Crash:
        reached = False
    monkeypatch.undo()
    found, warnings = newest(folder)
    assert warnings == []
    assert found is not None
    assert found.step == (30 if (folder / "00000030").exists() else 20)
    assert found.step == 30 or not reached
    again = checkpoint.save(folder, some(30))
    assert checkpoint.load(again).step == 30
    checkpoint.prune(folder, 2)
    assert sorted(p.name for p in folder.iterdir()) == ["00000020", "00000030"]


def test_a_full_disk_leaves_the_earlier_ones(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SuffuseError, match=r"checkpoints/00000030.*: the disk is full") as failure:
        checkpoint.save(folder, some(30))
    assert storage.TEMPORARY not in str(failure.value)
    assert sorted(p.name for p in folder.iterdir()) == ["00000010", "00000020"]
    found, _ = newest(folder)
    assert found is not None
    assert found.step == 20


def test_a_step_that_is_there_already_is_replaced(folder: Path) -> None:
    flip(folder / "00000020" / MODEL, -1)
    assert checkpoint.load(checkpoint.save(folder, some(20))).step == 20


def test_only_the_newest_are_kept(folder: Path) -> None:
    checkpoint.save(folder, some(100_000_000))
    checkpoint.prune(folder, 2)
    assert sorted(p.name for p in folder.iterdir()) == ["00000020", "100000000"]
    found, _ = newest(folder)
    assert found is not None
    assert found.step == 100_000_000


@pytest.mark.parametrize("fused", [True, False])
def test_the_optimiser_goes_on_where_it_was(fused: bool) -> None:
    def build() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 1))
        network[1].bias.requires_grad_(False)
        learning = [p for p in network.parameters() if p.requires_grad]
        matrices = {"params": [p for p in learning if p.ndim > 1], "weight_decay": 0.1}
        rest = {"params": [p for p in learning if p.ndim <= 1]}
        return network, torch.optim.AdamW([matrices, rest], fused=fused)

    def steps(network: nn.Module, optimizer: torch.optim.Optimizer, which: range) -> None:
        for i in which:
            optimizer.zero_grad()
            x = torch.randn(5, 3, generator=torch.Generator().manual_seed(i))
            network(x).square().sum().backward()
            optimizer.step()

    straight, broken = build(), build()
    steps(*straight, range(7))
    steps(*broken, range(3))
    network, optimizer = build()
    network.load_state_dict(broken[0].state_dict())
    moments = checkpoint.optimizer_state(broken[1], dict(broken[0].named_parameters()))
    checkpoint.restore_optimizer(optimizer, dict(network.named_parameters()), moments)
    steps(network, optimizer, range(3, 7))
    for a, b in zip(network.parameters(), straight[0].parameters(), strict=True):
        assert torch.equal(a, b)
