r"""Sliders: samples made again with one attribute at another value, and others where they were.

A direction of `suffuse.model.inner` moves its own attribute most, and others a little. So how far a
sample is moved along each of several is solved for: with attributes y(c) of what is made when it is
moved by c, and their mean response R = ∂y/∂c,

    c ← c + R⁻¹ (wanted − y(c)),

which is Newton's iteration with one matrix for all samples. The sample of all rounds that is
nearest to what was wanted is kept.

    sliders = Sliders.fit(model, [warm, bright], [warmth, brightness], prompt=["fox", "cat"])
    made = sliders({0: 60.0}, 8, seed=1, prompt="fox")     # as warm as that, as bright as before
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from suffuse.errors import SuffuseError
from suffuse.model.inner import Direction, moved
from suffuse.model.making import Making
from suffuse.model.rows import batches, repeated
from suffuse.plugins.contracts import Metric

__all__ = ["Sliders", "flips"]

BATCH = 64
WORST = 1e3
"""The condition number from which responses are taken for dependent."""


@dataclass(frozen=True)
class Sliders:
    """What moves samples of a model.

    Attributes:
        model: whose samples are moved.
        directions: one for each attribute, of any layers.
        attributes: of a made object, a number each.
        spread: the deviation of each attribute over samples, [K].
        response: what attribute i gains by a move along direction j, in `spread`, [K, K].
    """

    model: Making
    directions: Sequence[Direction]
    attributes: Sequence[Callable[[Any], float]]
    spread: Tensor
    response: Tensor

    @classmethod
    def fit(
        cls,
        model: Making,
        directions: Sequence[Direction],
        attributes: Sequence[Callable[[Any], float]],
        *,
        n: int = 64,
        amount: float = 1.0,
        seed: int = 0,
        **settings: Any,
    ) -> Sliders:
        """Measure the response on n samples that are moved by `amount` along each direction.

        Args:
            settings: of the samples, conditions above all; see `Making.sample`.

        Raises:
            SuffuseError: for other numbers of directions and attributes, fewer than 2 samples, and
                directions that do not move the attributes apart from each other.
        """
        if not directions or len(attributes) != len(directions) or n < 2:
            raise SuffuseError(
                "sliders have a direction for each attribute, and are fitted by 2 samples or more; "
                f"given {len(directions)} directions, {len(attributes)} attributes, {n} samples"
            )
        before = _measured(attributes, model.sample(n, seed=seed, **settings))
        spread = before.std(0).clamp(min=1e-9)
        gains = []
        for direction in directions:
            with moved(model, direction, amount):
                after = _measured(attributes, model.sample(n, seed=seed, **settings))
            gains.append((after - before).mean(0) / spread / amount)
        response = torch.stack(gains, 1)
        if not float(torch.linalg.cond(response)) < WORST:
            raise SuffuseError("these directions do not move the attributes apart from each other")
        return cls(model, directions, attributes, spread, response)

    def __call__(
        self,
        wanted: Mapping[int, float],
        n: int = 1,
        *,
        seed: int = 0,
        first: int = 0,
        rounds: int = 3,
        most: float = 3.0,
        **settings: Any,
    ) -> list[Any]:
        """The n samples of a seed, made again with attributes at other values.

        Args:
            wanted: the value of some attributes, by their number; the others stay as they were.
            n, seed, first, settings: as for `Making.sample`.
            rounds: how often samples are made again; the first time is before them.
            most: a sample is moved by so much at most along a direction.

        Raises:
            SuffuseError: for attributes that there are none of.
        """
        if not set(wanted) <= set(range(len(self.attributes))):
            raise SuffuseError(
                f"attributes have the numbers 0 to {len(self.attributes) - 1}; given {[*wanted]}"
            )
        values = {
            name: repeated(name, value, n)
            for name, value in settings.items()
            if name in self.model.conditions
        }
        out: list[Any] = []
        for part in batches(n, BATCH):
            given = {**settings, **{name: value[part] for name, value in values.items()}}
            given |= {"seed": seed, "first": first + part.start}
            out += self._slid(wanted, part.stop - part.start, rounds, most, given)
        return out

    def _slid(
        self,
        wanted: Mapping[int, float],
        n: int,
        rounds: int,
        most: float,
        given: Mapping[str, Any],
    ) -> list[Any]:
        best = self.model.sample(n, **given)
        y = _measured(self.attributes, best)
        target = y.clone()
        for k, value in wanted.items():
            target[:, k] = value
        least = ((y - target) / self.spread).square().sum(1)
        by = torch.zeros(n, len(self.directions), dtype=torch.float64)
        for _ in range(rounds):
            step = torch.linalg.solve(self.response, ((target - y) / self.spread).T).T
            by = (by + step).clamp(-most, most)
            with ExitStack() as stack:
                for k, direction in enumerate(self.directions):
                    stack.enter_context(moved(self.model, direction, by[:, k]))
                made = self.model.sample(n, batch=n, **given)
            y = _measured(self.attributes, made)
            off = ((y - target) / self.spread).square().sum(1)
            best = [a if c else b for a, b, c in zip(made, best, off < least, strict=True)]
            least = torch.minimum(off, least)
        return best


def _measured(attributes: Sequence[Callable[[Any], float]], made: Sequence[Any]) -> Tensor:
    """[n, K] float64."""
    return torch.tensor([[float(f(x)) for f in attributes] for x in made], dtype=torch.float64)


def flips(
    attributes: Mapping[str, Callable[[Any], float]],
    bounds: Mapping[str, float],
    moved: str,
    before: Sequence[Any],
    after: Sequence[Any],
) -> list[Metric]:
    """How often a slider gave an attribute to samples that lacked it, and what else it changed.

    Of the samples whose attribute `moved` is not above its bound, the percentage in which each
    attribute is on the other side of its bound afterwards: for `moved` higher is better, and for
    the others lower.

    Args:
        attributes: of a made object, by name.
        bounds: above which a sample has the attribute, for instance the median of real data.
        before, after: the same samples, unmoved and moved.

    Raises:
        SuffuseError: where all samples have the attribute already.
    """
    had, has = (
        {name: [f(x) > bounds[name] for x in group] for name, f in attributes.items()}
        for group in (before, after)
    )
    rows = [i for i, there in enumerate(had[moved]) if not there]
    if not rows:
        raise SuffuseError(f"all {len(before)} samples have {moved!r} already: none can gain it")
    return [
        Metric.share(
            f"{name} {'flipped' if name == moved else 'changed'}",
            [had[name][i] != has[name][i] for i in rows],
            better="higher" if name == moved else "lower",
        )
        for name in attributes
    ]
