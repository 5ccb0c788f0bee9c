"""A network that tells categories of clips apart: what it recognises, and what it is asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Condition, Example
from suffuse_video import judge
from suffuse_video.clip import Clip
from suffuse_video.judge import Judge, LabelAccuracy

WAYS = ("go", "go back")


class Walks:
    """A light that goes right or left; no frame alone says which."""

    licence, source = "none", "walks"

    def __init__(self, n, rng):
        self.conditions = {"way": Condition("category", WAYS), "prompt": Condition("text")}
        self.examples = []
        for i in range(n):
            place = rng.integers(8) + (1 - 2 * (i % 2)) * np.arange(5)
            frames = np.zeros((5, 8, 8, 3), np.uint8)
            frames[np.arange(5), rng.integers(8), place % 8] = 255
            way = WAYS[i % 2]
            self.examples.append(
                Example(Clip(frames, 8.0), {"way": way, "prompt": f"a light, {way}"})
            )

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, i):
        return self.examples[i]


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    monkeypatch.setattr(judge, "_STEPS", 60)


def test_what_only_time_tells_is_recognised_and_known_by_its_prompt(rng):
    train, test = Walks(160, rng), Walks(80, rng)
    before = torch.random.get_rng_state()
    prompted = [Example(e.data, {"prompt": e.conditions["prompt"]}) for e in test]
    right = LabelAccuracy("way").evaluate(prompted, test=test, train=train, seed=0)[0]
    assert torch.equal(before, torch.random.get_rng_state())
    assert right.value > 85
    assert (right.value, right.n, right.unit) == (right.floor, 80, "%")
    backwards = [Example(Clip(e.data.frames[::-1].copy(), 8.0), e.conditions) for e in test]
    wrong = LabelAccuracy("way").evaluate(backwards, test=test, train=train, seed=0)[0]
    assert wrong.value < 15
    alone = LabelAccuracy("way", frames=1).evaluate(prompted, test=test, train=train, seed=0)[0]
    assert alone.value < 70
    judge = Judge.of("way", test[0], train, test)  # trained once
    assert judge.wanted(Example(test[0].data, {"way": "go back"})) == 1
    assert judge.wanted(Example(test[0].data, {"way": "up"})) == -1
    assert judge.wanted(Example(test[0].data, {"prompt": "goes"})) == -1


def test_clips_that_cannot_be_judged_are_refused(rng):
    train = Walks(8, rng)
    bare = [Example(train[0].data, {"prompt": "a light"})]
    with pytest.raises(SuffuseError, match="condition with two categories or more 'label'"):
        LabelAccuracy().evaluate(bare, test=train, train=train, seed=0)
    with pytest.raises(SuffuseError, match="no clips"):
        LabelAccuracy("way").evaluate([], test=train, train=train, seed=0)
    with pytest.raises(SuffuseError, match="no clip was made for one way"):
        LabelAccuracy("way").evaluate(bare, test=train, train=train, seed=0)
