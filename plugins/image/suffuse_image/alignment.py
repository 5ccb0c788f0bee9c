"""Whether made pictures show what their prompts say, and in the style that was asked for.

The judge is the dual encoder that ships (`suffuse_image.dual`), whose name and version each figure
bears; what it reaches on real held-out pictures is the floor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Condition, Dataset, Example, Metric

from .dual import NAME, pretrained
from .evaluators import ClassifierAccuracy

__all__ = ["Alignment", "StyleAccuracy"]

MOST = 1000
"""So many held-out pictures give the floor at most."""


class Alignment:
    """How often the judge picks a picture's own prompt among others: R@1.

    Args:
        among: of how many prompts, the right one with them; of distinct prompts of the data.
        condition: the name of the prompts' condition.
    """

    def __init__(self, among: int = 100, condition: str = "prompt") -> None:
        if among < 2:
            raise SuffuseError(f"a choice is among 2 prompts or more, and not {among}")
        self.among, self.condition = among, condition

    def evaluate(
        self, samples: Sequence[Example], *, test: Dataset, train: Dataset, seed: int
    ) -> list[Metric]:
        """One figure in percent.

        Raises:
            SuffuseError: where the data have no prompts, or no sample was made for one.
        """
        if self.condition not in train.conditions:
            raise SuffuseError(f"the data have no condition {self.condition!r} to judge by")
        asked = [s for s in samples if s.conditions.get(self.condition)]
        if not asked:
            raise SuffuseError(f"no sample was made for a {self.condition}, so none can be judged")
        real = [test[i] for i in range(min(len(test), MOST))]
        real = [example for example in real if example.conditions.get(self.condition)]
        step = max(1, len(train) // 5000)
        every = [train[i] for i in range(0, len(train), step)]
        pool = {e.conditions.get(self.condition) for e in [*asked, *real, *every]}
        prompts = sorted(str(prompt) for prompt in pool if prompt)
        among = min(self.among, len(prompts))
        if among < 2:
            raise SuffuseError("all prompts of these data are the same: there is nothing to choose")
        return [
            Metric.share(
                f"Own prompt picked among {among} ({NAME})",
                self._right(asked, prompts, among, seed),
                self._right(real, prompts, among, seed) if real else (),
                note=f"Picked by the encoder {NAME}; chance is {100 / among:.1f} %, the floor is "
                "what it picks right of real held-out pictures.",
            )
        ]

    def _right(
        self, examples: Sequence[Example], prompts: Sequence[str], among: int, seed: int
    ) -> list[bool]:
        """For each example whether it is nearest to its own prompt."""
        dual = pretrained()
        pictures = dual.pictures([example.data for example in examples])
        texts = dual.texts(prompts)
        place = {prompt: i for i, prompt in enumerate(prompts)}
        right = []
        for vector, example in zip(pictures, examples, strict=True):
            own = place[str(example.conditions[self.condition])]
            # A prompt has the same others wherever it stands in the list.
            rng = np.random.default_rng([seed, own])
            others = rng.choice(len(prompts) - 1, among - 1, replace=False)
            others = others + (others >= own)
            # Strictly better than all others: prompts that hash alike are no success.
            right.append(bool(texts[own] @ vector > (texts[others] @ vector).max()))
        return right


class StyleAccuracy:
    """How often a classifier, trained on the training split, recognises the style asked for.

    Args:
        condition: the category that is recognised.
        target: what a good model reaches, in percent.
    """

    def __init__(self, condition: str = "style", target: float | None = None) -> None:
        self.condition, self.target = condition, target

    def evaluate(
        self, samples: Sequence[Example], *, test: Dataset, train: Dataset, seed: int
    ) -> list[Metric]:
        """One figure in percent, as `ClassifierAccuracy`."""
        if self.condition not in train.conditions:
            raise SuffuseError(f"the data have no condition {self.condition!r} to judge by")
        made = [Example(s.data, {"label": s.conditions.get(self.condition)}) for s in samples]
        metrics = ClassifierAccuracy(self.target).evaluate(
            made,
            test=_labelled(test, self.condition),
            train=_labelled(train, self.condition),
            seed=seed,
        )
        name = f"Recognised as its {self.condition} (classifier/1)"
        return [replace(metric, name=name) for metric in metrics]


@lru_cache(maxsize=4)
def _labelled(dataset: Dataset, condition: str) -> Dataset:
    """One view of a data set, so that what is kept for it is found again."""
    return _Labelled(dataset, condition)


class _Labelled:
    """A data set whose label is another of its conditions."""

    def __init__(self, dataset: Dataset, condition: str) -> None:
        self.dataset, self.condition = dataset, condition

    @property
    def conditions(self) -> Mapping[str, Condition]:
        return {"label": self.dataset.conditions[self.condition]}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Example:
        example = self.dataset[index]
        label: Any = example.conditions.get(self.condition)
        return Example(example.data, {"label": label})
