"""Integrals of interpolation polynomials, which are a multistep method's weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from suffuse.diffusion.solvers.table import Array

__all__ = ["exponential_quadrature", "exponential_weights", "quadrature_weights", "usable"]

_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(32)


def usable(nodes: Sequence[float]) -> bool:
    """Whether a polynomial can run through the nodes: all finite, none twice."""
    return all(map(math.isfinite, nodes)) and len(set(nodes)) == len(nodes)


def exponential_weights(
    nodes: Sequence[float], start: float, end: float, rate: float = 1.0
) -> Array:
    """Weights w with Σ_j w_j f(nodes_j) = ∫ rate e^{rate (λ − end)} f(λ) dλ from `start` to `end`.

    Exact for polynomials f of degree below the number of nodes. The polynomial is centred at
    `start` and scaled by the step, so that short steps lose no digits.

    Args:
        nodes: distinct finite λ, in any order.
        start, end: finite λ.
        rate: 1 for the probability flow, 1 + τ² for the equation with noise of strength τ.
    """
    h = end - start
    u = (np.asarray(nodes, dtype=np.float64) - start) / h
    vandermonde = np.vander(u, increasing=True).T
    return np.asarray(np.linalg.solve(vandermonde, _moments(len(nodes), rate * h)), np.float64)


def _moments(k: int, h: float) -> Array:
    """h ∫_0^1 e^{h(u − 1)} u^j du for j < k, by Gauss quadrature or, for long steps, by parts."""
    if h < 8:
        u, w = (_POINTS + 1) / 2, _WEIGHTS / 2
        return np.array([h * np.sum(w * np.exp(h * (u - 1)) * u**j) for j in range(k)])
    out = [-math.expm1(-h)]
    for j in range(1, k):
        out.append(1 - j / h * out[-1])
    return np.array(out)


def exponential_quadrature(
    nodes: Sequence[float] | Array, start: float, end: float, variable: Callable[[Array], Array]
) -> Array:
    """Weights w with Σ_j w_j f(nodes_j) = ∫ e^{λ − end} f(variable(λ)) dλ from `start` to `end`.

    Exact up to quadrature with 32 points where f is a polynomial in `variable`, of degree below the
    number of nodes; nodes are values of that variable. Where it is finite at λ = ±∞, `start` and
    `end` may be infinite: the integral then begins in pure noise, or is the value in clean data.
    """
    if end == math.inf:
        share, values = np.ones(1), variable(np.array([math.inf]))
    else:
        least = math.exp(start - end)
        share = (1 - least) * _WEIGHTS / 2
        values = variable(end + np.log(least + (1 - least) * (_POINTS + 1) / 2))
    return _basis(nodes, values) @ share


def _basis(nodes: Sequence[float] | Array, values: Array) -> Array:
    """The polynomials of Lagrange through the nodes, at some values, [nodes, values]."""
    rows = []
    for j, node in enumerate(nodes):
        others = [n for i, n in enumerate(nodes) if i != j]
        rows.append(
            np.prod([np.ones_like(values), *((values - n) / (node - n) for n in others)], 0)
        )
    return np.stack(rows)


def quadrature_weights(
    nodes: Sequence[float],
    start: float,
    end: float,
    density: Callable[[Array], Array],
    variable: Callable[[Array], Array],
) -> Array:
    """Weights w with Σ_j w_j f(nodes_j) = ∫ density(λ) f(variable(λ)) dλ from `start` to `end`.

    Exact up to quadrature with 32 points where f is a polynomial in `variable`, of degree below the
    number of nodes; nodes are values of that variable.
    """
    lam = start + (end - start) * (_POINTS + 1) / 2
    return _basis(nodes, variable(lam)) @ (_WEIGHTS / 2 * (end - start) * density(lam))
