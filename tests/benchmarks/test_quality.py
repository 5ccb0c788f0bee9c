"""The time until pictures are good: which look counts, and what the table says of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from suffuse import plugins
from suffuse.bench import Context, Record
from suffuse.plugins.contracts import Metric
from suffuse_benchmarks import quality, trainers
from suffuse_benchmarks.trainers import DIGITS, EMOJI, Look, Subject

TASK, OTHER = quality.SUBJECTS

pytest.importorskip("suffuse_image")


class MeanLevel:
    """A judge whose KID is the mean of the pictures."""

    def evaluate(self, samples: Sequence[Any], **rest: Any) -> list[Metric]:
        value = float(np.mean([np.asarray(sample.data) for sample in samples])) / 255
        return [Metric("KID", value, value, value, "lower", n=len(samples))]


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = plugins.build

    def build(kind: str, part: Any, **given: Any) -> Any:
        return MeanLevel() if kind == "evaluator" else genuine(kind, part, **given)

    monkeypatch.setattr(quality.plugins, "build", build)

    def darker(
        subject: Subject, pictures: Tensor, seed: int, looks: Sequence[float]
    ) -> Iterator[Look]:
        assert subject is DIGITS
        assert pictures.shape[1:] == (1, 8, 8)
        assert float(pictures.max()) == 1.0
        for i, cores in enumerate(looks):
            level = 0.8 - 0.2 * i
            yield Look(cores / 2, cores, lambda n, level=level: torch.full((n, 1, 8, 8), level))

    monkeypatch.setitem(trainers.TRAINERS, "suffuse", darker)


def case(level: float = 0.0, limit: float = 120.0) -> quality.TimeToQuality:
    return quality.TimeToQuality(TASK, "suffuse", 0, 1, level, limit)


@pytest.mark.usefixtures("judged")
@pytest.mark.parametrize(
    ("level", "limit", "looks", "reached"),
    [(0.3, 120.0, 4, True), (0.5, 120.0, 3, True), (0.1, 60.0, 4, False), (0.0, 0.0, 4, True)],
)
def test_the_first_look_at_the_level_counts(
    level: float, limit: float, looks: int, reached: bool
) -> None:
    found = case(level, limit).run(Context())
    cores, seconds, _ = found.metrics
    assert cores.value == (limit or DIGITS.limit) * DIGITS.looks[looks - 1]
    assert seconds.value == cores.value / 2
    assert found.detail["reached"] is reached
    assert len(found.detail["curve"]) == looks
    assert ("not reached" in found.note) is not reached


def test_the_table_says_at_least_where_a_seed_did_not_get_there() -> None:
    def record(model: str, seed: int, cores: float, reached: bool, task: str = TASK) -> Record:
        metric = Metric("core-seconds", cores, cores, cores, "lower", n=1)
        known = dict.fromkeys(Record.__dataclass_fields__, "")
        known |= {"task": task, "model": model, "seed": seed, "error": None}
        return Record(**{**known, "metrics": [metric], "detail": {"reached": reached}})  # type: ignore[arg-type]

    records = [
        *(record("suffuse", seed, cores, True) for seed, cores in enumerate((10.0, 20.0, 30.0))),
        *(record("other", seed, 60.0, seed > 0) for seed in range(3)),
        record("suffuse", 0, 5.0, True, OTHER),
    ]
    table, other = quality.table(records)
    assert [tuple(row) for row in other.rows] == [("suffuse", "5", "5 to 5", "1 of 1", "1.0")]
    assert [tuple(row) for row in table.rows] == [
        ("suffuse", "20", "10 to 30", "3 of 3", "1.0"),
        ("other", "> 60", "60 to 60", "2 of 3", "> 3.0"),
    ]
    assert quality.table([records[3]]) == []


@pytest.mark.parametrize("subject", [DIGITS, EMOJI], ids=lambda s: s.name)
def test_ours_is_looked_at_by_its_checkpoints(subject: Subject) -> None:
    train = quality._split(subject, "train")
    shape = trainers.as_tensor([train[0].data]).shape[1:]
    planned = replace(subject, steps=2)
    found = [
        (look.cores, look.draw(3))
        for look in trainers.ours(planned, torch.zeros(1, *shape), seed=1, looks=())
    ]
    assert 0 < found[0][0] < found[1][0]
    assert all(made.shape == (3, *shape) and made.max() <= 1 for _, made in found)
    assert not torch.equal(found[0][1], found[1][1])


@pytest.mark.parametrize("subject", [DIGITS, EMOJI], ids=lambda s: s.name)
@pytest.mark.parametrize("name", ["diffusers", "denoising-diffusion-pytorch"])
def test_others_learn_and_draw(
    name: str, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(name.replace("-", "_"))
    monkeypatch.setattr(trainers, "CALLS", 3)
    train = quality._split(subject, "train")
    shape = trainers.as_tensor([train[0].data]).shape[1:]
    looks = list(trainers.TRAINERS[name](subject, torch.rand(120, *shape), 0, (0.01, 0.02)))
    assert 0 < looks[0].cores <= looks[1].cores
    made = looks[-1].draw(2)
    assert made.shape == (2, *shape)
    assert bool(made.isfinite().all())
    assert torch.equal(made, looks[-1].draw(2))


def test_pictures_survive_the_way_there_and_back(rng: np.random.Generator) -> None:
    for shape in ((8, 8), (5, 4, 3)):
        picture = Image.fromarray(rng.integers(256, size=shape, dtype=np.uint8))
        there = trainers.as_tensor([picture])
        assert there.shape == (1, 3 if len(shape) == 3 else 1, *shape[:2])
        assert trainers.as_image(there[0]).tobytes() == picture.tobytes()
