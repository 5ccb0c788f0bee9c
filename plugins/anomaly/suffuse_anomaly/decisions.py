"""From scores to decisions: conformal p-values, false-discovery control, thresholds.

With u the unusualness of a row and h_1 … h_n that of normal rows that were not trained on,

    p = (1 + #{h_i >= u}) / (n + 1)

is a p-value for "the row is normal": where it is, it and the h_i are exchangeable, and P(p <= a) is
at most a for every a, whatever the score is (Vovk, Gammerman, Shafer (2005)). Benjamini and
Hochberg's procedure on these p-values keeps the false-discovery rate, although they share the h_i
(Bates et al., "Testing for outliers with conformal p-values" (2023), arXiv 2104.08279, theorem 2).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from suffuse.errors import SuffuseError

__all__ = ["DecisionError", "p_values", "select"]

Floats = npt.NDArray[np.float64]


class DecisionError(SuffuseError, ValueError):
    """A setting of a decision that cannot be; also a ValueError."""


def p_values(unusual: Any, held: Any) -> Floats:
    """Conformal p-values [N] of unusualness [N], given that of held-out normal data [n].

    >>> p_values([0.5, 9.0], [0.0, 1.0, 2.0])
    array([0.75, 0.25])
    """
    held = np.sort(np.asarray(held, np.float64))
    at_least = len(held) - np.searchsorted(held, np.asarray(unusual, np.float64), side="left")
    return (1 + at_least) / (len(held) + 1)


def select(p: Any, fdr: float) -> npt.NDArray[np.bool_]:
    """Benjamini and Hochberg's procedure: which of p-values [N] are discoveries.

    >>> select([0.01, 0.5, 0.03, 0.9], 0.1)
    array([ True, False,  True, False])
    """
    if not 0 < fdr < 1:
        raise DecisionError(f"fdr is a part above 0 and below 1, and {fdr} is not")
    p = np.asarray(p, np.float64)
    ranked = np.sort(p)
    under = np.flatnonzero(ranked <= fdr * np.arange(1, len(p) + 1) / len(p))
    return p <= ranked[under[-1]] if len(under) else np.zeros(len(p), bool)
