r"""One converter of predictions.

What a network is trained to answer is a combination p = a x_0 + b ε of the clean data and the
noise: a row (a, b), given α and σ,

    x0         (1, 0)
    eps        (0, 1)
    v          (−σ, α)
    score      (0, −1/σ)
    flow       (−1, 1)
    edm        (σ / (s r), −α s / r)      r² = α² s² + σ², s the deviation of the data

Since x_t = α x_0 + σ ε is a second combination of the same two, any p gives any q = c x_0 + d ε:

    q = [ (ad − bc) x_t + (cσ − dα) p ] / (aσ − bα).

The square of p's coefficient is the scaling between a loss on q and the same loss on p. A zero
denominator means that p tells nothing new at this noise level (ε at α = 0, x_0 at σ = 0): such a
conversion is refused when a table is built, by `check`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from suffuse.diffusion.schedules import Coefficients, Schedule
from suffuse.errors import SuffuseError, unknown

__all__ = ["PREDICTIONS", "check", "convert", "row", "weights"]

Row = tuple[Tensor, Tensor]


def _edm(c: Coefficients, s: float) -> Row:
    r = (c.alpha**2 * s**2 + c.sigma**2).sqrt()
    return c.sigma / (s * r), -c.alpha * s / r


PREDICTIONS: dict[str, Callable[[Coefficients, float], Row]] = {
    "x0": lambda c, s: (torch.ones_like(c.alpha), torch.zeros_like(c.alpha)),
    "eps": lambda c, s: (torch.zeros_like(c.alpha), torch.ones_like(c.alpha)),
    "v": lambda c, s: (-c.sigma, c.alpha),
    "score": lambda c, s: (torch.zeros_like(c.alpha), -1 / c.sigma),
    "flow": lambda c, s: (-torch.ones_like(c.alpha), torch.ones_like(c.alpha)),
    "edm": _edm,
}
"""The row (a, b) of each kind of output on (x_0, ε), from the coefficients and σ_data."""


def row(prediction: str, c: Coefficients, sigma_data: float = 1.0) -> Row:
    """The row (a, b) of a prediction at the given coefficients."""
    if prediction not in PREDICTIONS:
        raise unknown("prediction", prediction, PREDICTIONS)
    return PREDICTIONS[prediction](c, sigma_data)


def weights(p: str, q: str, c: Coefficients, sigma_data: float = 1.0) -> Row:
    """The coefficients of x_t and of p in q; q itself, (0, 1), where both rows are the same."""
    if p == q:
        return torch.zeros_like(c.alpha), torch.ones_like(c.alpha)
    (a, b), (cc, d) = row(p, c, sigma_data), row(q, c, sigma_data)
    over = a * c.sigma - b * c.alpha
    return (a * d - b * cc) / over, (cc * c.sigma - d * c.alpha) / over


def convert(
    value: Tensor, p: str, q: str, x_t: Tensor, c: Coefficients, sigma_data: float = 1.0
) -> Tensor:
    """A prediction of kind p, of the shape of x_t, as one of kind q.

    Args:
        value: the prediction, [B, ...].
        p, q: names in `PREDICTIONS`.
        x_t: the noisy state, [B, ...].
        c: coefficients aligned with x_t (`Coefficients.align`).
        sigma_data: the deviation of the data, which "edm" needs.
    """
    k_x, k_p = weights(p, q, c, sigma_data)
    return k_x * x_t + k_p * value


def check(prediction: str, schedule: Schedule, t: Tensor) -> None:
    """Refuse times at which a prediction does not determine the clean estimate.

    Raises:
        SuffuseError: naming the prediction, the time and what to do.
    """
    c = schedule.at(t)
    a, b = row(prediction, c)
    dead = (a * c.sigma - b * c.alpha == 0) & torch.full_like(c.lam, prediction != "x0").bool()
    if bool(dead.any()):
        where = float(torch.as_tensor(t, dtype=torch.float64)[dead].flatten()[0])
        raise SuffuseError(
            f"a model that predicts {prediction!r} says nothing of the data at t = {where:g}, "
            "where α or σ is 0; begin the grid elsewhere (begin=0.999) or train with prediction 'v'"
        )
