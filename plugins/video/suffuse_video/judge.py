"""A small network that tells the categories of a condition apart: which action, which digit, whose
hair. It is trained on real clips when it is first wanted, and judges whether made ones show what
they were made for.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from suffuse import stats
from suffuse.errors import SuffuseError, unknown
from suffuse.plugins.contracts import Dataset, Example, Metric

from .features import pixels

__all__ = ["Judge", "LabelAccuracy"]

_STEPS, _BATCH, _WIDTH = 300, 32, 96
_MOST = 1000  # at most so many clips of a split are looked at
_FRAMES, _SIZE = 16, 32  # it sees no more than that of a clip


class LabelAccuracy:
    """How often a network, trained on the training split, sees what a clip was made for.

    The floor is what the same network sees rightly in real held-out clips.

    Args:
        condition: "label", or another one of the data set that has categories; for video/sprites
            "action", "body", "bottomwear", "topwear" and "hair".
        target: what a good model reaches, in percent.
        frames: so many of a clip are looked at, at most, evenly spread; 1 is the first alone, so
            that motion does not count.

    Raises:
        SuffuseError: for no frames.
    """

    def __init__(
        self, condition: str = "label", target: float | None = None, frames: int = _FRAMES
    ) -> None:
        if frames < 1:
            raise SuffuseError(f"frames is 1 or more, and {frames} is not")
        self.condition, self.target, self.frames = condition, target, frames

    def evaluate(
        self, samples: Sequence[Example], *, test: Dataset, train: Dataset, seed: int
    ) -> list[Metric]:
        """One figure in percent, over the clips that were made for a category.

        Raises:
            SuffuseError: where there is no such condition, or no clip was made for one.
        """
        if not samples:
            raise SuffuseError("there are no clips to evaluate")
        judge = Judge.of(self.condition, samples[0], train, test, self.frames)
        wanted = torch.tensor([judge.wanted(s) for s in samples])
        asked = [s for s, label in zip(samples, wanted, strict=True) if label >= 0]
        if not asked:
            raise SuffuseError(
                f"no clip was made for one {self.condition}, so none can be recognised as one: "
                f"make them with --{self.condition}, or with a --prompt that names it"
            )
        right = judge.recognise(asked).eq(wanted[wanted >= 0])
        return [
            Metric.share(
                f"Recognised {self.condition} (judge/1)",
                right,
                judge.held_out,
                target=self.target,
                note=f"Recognised by a network trained to tell {len(judge.names)} categories of "
                f"{self.condition!r} apart on {judge.n_train} real clips; the floor is its share "
                f"of {len(judge.held_out)} held-out ones. By chance it is "
                f"{100 / len(judge.names):.1f} %.",
            )
        ]


class Judge:
    """Version 1. Changing anything that changes its answers makes another version.

    Args:
        condition: of the data sets.
        train, test: splits.
        frames, size: what clips are brought to.

    Attributes:
        names: the categories.
        n_train: clips that it was trained on.
        held_out: whether it is right on each clip of the test split.
    """

    def __init__(
        self, condition: str, train: Dataset, test: Dataset, frames: int, size: int
    ) -> None:
        found = train.conditions.get(condition)
        if found is None or found.kind != "category" or len(found.names) < 2:
            names = [k for k, c in train.conditions.items() if c.kind == "category"]
            raise unknown("condition with two categories or more", condition, names)
        self.condition, self.names = condition, tuple(found.names)
        self.frames, self.size = frames, size
        # A name is a word, or words, of its own: "walk left" in "walk left, body-1".
        self._named = [re.compile(rf"(?<![\w-]){re.escape(n)}(?![\w-])") for n in self.names]
        x, y = self._labelled(train)
        self.n_train = len(y)
        classes = len(self.names)
        self._network = stats.trained_classifier(
            lambda: _Network(classes), x, y, _jittered, steps=_STEPS, batch=_BATCH
        )
        x, y = self._labelled(test)
        self.held_out = self._recognised(x).eq(y)

    @classmethod
    def of(
        cls, condition: str, sample: Example, train: Dataset, test: Dataset, most: int = _FRAMES
    ) -> Judge:
        """The judge of a data set, for clips such as the sample, of which it sees so many frames at
        most; trained once a process."""
        frames = min(most, len(sample.data))
        size = min(_SIZE, max(sample.data.frames.shape[1:3]))
        key = (condition, frames, size)
        kept = _judges.setdefault(train, {})
        if key not in kept:
            kept[key] = cls(condition, train, test, frames, size)
        return kept[key]

    def wanted(self, sample: Example) -> int:
        """The category that a clip was made for: its condition's, or the only one that its prompt
        names ("go back" is not "go"); −1 where there is none."""
        value = sample.conditions.get(self.condition)
        if value is not None:
            return self.names.index(str(value)) if str(value) in self.names else -1
        prompt = str(sample.conditions.get("prompt") or "")
        named = [
            name
            for name, found in zip(self.names, self._named, strict=True)
            if found.search(prompt)
        ]
        whole = [n for n in named if not any(n in other for other in named if other != n)]
        return self.names.index(whole[0]) if len(whole) == 1 else -1

    def recognise(self, examples: Sequence[Example]) -> Tensor:
        """The index of the category that each clip shows, int64 [N]."""
        return self._recognised(self._look(examples))

    def _look(self, examples: Sequence[Example]) -> Tensor:
        return torch.stack([pixels(e.data, self.frames, self.size) for e in examples])

    def _labelled(self, dataset: Dataset) -> tuple[Tensor, Tensor]:
        examples = [dataset[i] for i in stats.evenly(len(dataset), _MOST)]
        labels = torch.tensor([self.wanted(e) for e in examples])
        if not (labels >= 0).any():
            raise SuffuseError(f"a split of the data set has no clip with a {self.condition}")
        seen = [e for e, label in zip(examples, labels, strict=True) if label >= 0]
        return self._look(seen), labels[labels >= 0]

    @torch.no_grad()
    def _recognised(self, x: Tensor) -> Tensor:
        return torch.cat([self._network(part).argmax(1) for part in x.split(64)])


_judges: weakref.WeakKeyDictionary[Any, dict[Any, Judge]] = weakref.WeakKeyDictionary()


class _Network(nn.Module):
    """Clips [B, F, 3, s, s] in [0, 1] -> logits [B, classes]: convolutions over the frames, then
    over time; the mean and the largest of what is seen at each time."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        frame: list[nn.Module] = []
        for enter, leave in ((3, 16), (16, 32), (32, 64)):
            frame += [nn.Conv2d(enter, leave, 3, 2, 1), nn.GroupNorm(8, leave), nn.SiLU()]
        self.frame = nn.Sequential(*frame, nn.AdaptiveAvgPool2d(4), nn.Flatten())
        self.enter = nn.Linear(64 * 16, _WIDTH)
        time = [nn.Conv1d(_WIDTH, _WIDTH, 3, padding=1) for _ in range(2)]
        self.time = nn.Sequential(nn.SiLU(), time[0], nn.SiLU(), time[1], nn.SiLU())
        self.leave = nn.Sequential(nn.Dropout(0.2), nn.Linear(2 * _WIDTH, classes))

    def forward(self, x: Tensor) -> Tensor:
        seen = self.enter(self.frame(x.flatten(0, 1)))
        h = self.time(seen.unflatten(0, x.shape[:2]).transpose(1, 2))
        out: Tensor = self.leave(torch.cat([h.mean(2), h.amax(2)], dim=1))
        return out


def _jittered(x: Tensor, generator: torch.Generator) -> Tensor:
    """Shifted by up to a sixteenth, and noised: never mirrored, since left is not right."""
    most = x.shape[-1] // 16
    if most:
        moved = pad(x.flatten(1, 2), (most,) * 4, mode="replicate").unflatten(1, x.shape[1:3])
        places = torch.randint(2 * most + 1, (2, len(x)), generator=generator).tolist()
        h, w = x.shape[-2:]
        parts = zip(moved, *places, strict=True)
        x = torch.stack([m[..., top : top + h, left : left + w] for m, top, left in parts])
    return x + 0.05 * torch.randn(x.shape, generator=generator)
