"""The detector: scikit-learn's outlier detection by diffusion.

What is unusual about a row is told in nats: −log of the part of normal rows, held out of training,
that are at least as unusual; beyond the last of them the tail goes on exponentially. How several
ways to look at a row become this one number says `suffuse_anomaly.ensemble`. Contributions of
columns add up to it:

    unusualness = Σ over columns of contributions = −score_samples
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from suffuse.errors import unknown
from suffuse_anomaly import decisions, keeping
from suffuse_anomaly.columns import table_columns, warn_of_constants
from suffuse_anomaly.counterfactual import nearest_usual
from suffuse_anomaly.ensemble import MEMBERS, Ensemble
from suffuse_anomaly.member import Floats, Rows
from suffuse_anomaly.table import Table, TableError
from suffuse_anomaly.training_rows import held_out, thinned, trimmed

__all__ = ["FORMAT", "KIND", "METHODS", "DiffusionDetector"]

FORMAT = 2
KIND = "anomaly/detector"
METHODS = ("auto", "ensemble", *MEMBERS)
FEW = 200
"""With fewer rows than this nothing is learned but neighbours."""
KEPT = 5000
"""The most training rows that are kept for counterfactuals and refreshing."""
CROWD = 200
"""The most neighbours that contamination asks for."""


class DiffusionDetector(OutlierMixin, BaseEstimator):
    """Which rows of a table are unusual.

    Takes arrays and data frames: numbers, categories, dates, gaps (see `suffuse_anomaly.table`).

    Args:
        method: one of `METHODS`, or several of them, whose mean counts. "knn-time" is diffusion
            time from neighbours, "surprisal" masked diffusion of categories, "dte-c" and "dte-ig"
            networks that tell the noise level, the others ask a learned denoiser
            (`suffuse_anomaly.learned`); "ensemble" is knn-time with denoiser, and with surprisal
            where there are categories; "auto" says in `why_` what it took and why.
        n_neighbors: how many neighbours "knn-time" asks; None for 5, and where contamination is
            given for as many as there are anomalies, 20 to 200, since these may have each other for
            neighbours.
        contamination: "auto" where the training rows are normal ones; else the part of them, in
            (0, 0.5], that is unusual: so many are left out of what is learned, and the threshold
            is put there.
        alarms: the part of normal rows that are to be alarms, in (0, 1), which puts the threshold
            where contamination is "auto": by ranks among normal rows held out, and where there are
            fewer of them than 1 / alarms by the exponential tail of their scores.
        steps: of training a network.
        random_state: of training; scores themselves draw nothing.

    Attributes:
        method_: the methods that were used, joined by " + ", and `why_`: why, in a sentence.
        offset_: `decision_function` is `score_samples` less this.
        table_: the fitted `Table`.
        n_features_in_, feature_names_in_: as in scikit-learn.

    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> detector = DiffusionDetector(random_state=0).fit(X)
    >>> detector.predict([[0, 0, 0], [0, 9, 0]])
    array([ 1, -1])
    >>> detector.explain([[0, 9, 0]]).idxmax(axis=1).item()
    'x1'
    """

    def __init__(
        self,
        method: str | Sequence[str] = "auto",
        *,
        n_neighbors: int | None = None,
        contamination: float | str = "auto",
        alarms: float = 0.01,
        steps: int = 1500,
        random_state: Any = None,
    ) -> None:
        self.method = method
        self.n_neighbors = n_neighbors
        self.contamination = contamination
        self.alarms = alarms
        self.steps = steps
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        return tags

    # Fitting

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn what is usual from rows X [N, F]; y is ignored.

        Raises:
            ValueError: for settings or tables that do not fit, or hold no value.

        Warns:
            UserWarning: of columns without a value, and of those that hold one value in all rows.
        """
        self._check_settings()
        columns = table_columns(self, X, reset=True)
        warn_of_constants(columns)
        self.table_ = Table.fit(columns)
        rows = self.table_.encode(columns)
        self._seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        names, self.why_ = self._choice(len(rows))
        self.method_ = " + ".join(names)
        self._learn(names, rows, None, 0)
        return self

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Learn from further rows X [N, F], without starting anew; y is ignored.

        Columns stay encoded as they are. Neighbours are joined by the new rows, networks go on for
        a quarter of their steps, on the new rows and on kept ones, and the calibration and the
        threshold are made anew.

        Raises:
            ValueError: as `fit`.
        """
        if not hasattr(self, "table_"):
            return self.fit(X)
        self._check_settings()
        rows = np.concatenate([self._kept_rows, self._rows(X)])
        self._learn(list(self._ensemble.members), rows, self._ensemble, len(self._kept_rows))
        return self

    def _learn(self, names: list[str], rows: Rows, start: Ensemble | None, known: int) -> None:
        """Fit members, from those of `start` that know the first `known` rows, and calibrate."""
        k = self.n_neighbors or self._neighbours(len(rows))
        every = np.arange(len(rows))
        chosen, held = every, every
        if self.contamination != "auto":
            chosen = trimmed(rows, self.table_, float(self.contamination), k)
        if any(MEMBERS[name].trained for name in names):
            held = held_out(rows, self._seed)
        members = {
            name: MEMBERS[name].fit(
                name,
                rows[
                    np.setdiff1d(chosen, held) if MEMBERS[name].trained else chosen[chosen >= known]
                ],
                self.table_,
                seed=self._seed,
                steps=max(1, self.steps // (4 if start else 1)),
                k=k,
                start=start.members[name] if start else None,
            )
            for name in names
        }
        raw = {
            name: member.left_out(rows, self._seed)[held]
            if self.contamination == "auto" and not member.trained
            else member.raw(rows[held])
            for name, member in members.items()
        }
        self._ensemble = Ensemble.calibrated(members, raw)
        usual = self._ensemble.unusualness_of(raw)
        self._held = np.sort(usual)
        self._kept_rows = thinned(rows[chosen], KEPT)
        if self.contamination == "auto":
            nats = self._ensemble.last is not None
            self.offset_ = -decisions.by_tail(self._held, self.alarms, nats=nats)
        else:
            score = -(usual if len(held) == len(rows) else self._ensemble.unusualness(rows))
            self.offset_ = float(np.percentile(score, 100 * float(self.contamination)))

    def _neighbours(self, n: int) -> int:
        """5 of normal rows; of mixed ones as many as there are anomalies, for these crowd."""
        if self.contamination == "auto":
            return 5
        return int(np.clip(round(float(self.contamination) * n), 20, CROWD))

    def _check_settings(self) -> None:
        several = isinstance(self.method, list | tuple)
        for name in self.method if several else [self.method]:
            known = tuple(MEMBERS) if several else METHODS
            if name not in known:
                raise TableError(str(unknown("method", str(name), known)))
        if several and not (len(set(self.method)) == len(self.method) >= 1):
            raise TableError(f"several methods are different ones; given {list(self.method)}")
        if self.contamination != "auto" and not (
            decisions.is_number(self.contamination) and 0 < float(self.contamination) <= 0.5
        ):
            raise TableError(
                "contamination is 'auto' or a number above 0 and at most 0.5; given "
                f"{self.contamination!r}"
            )
        if not (decisions.is_number(self.alarms) and 0 < self.alarms < 1):
            raise TableError(f"alarms is a part above 0 and below 1; given {self.alarms!r}")
        for name in ("n_neighbors", "steps"):
            value = getattr(self, name)
            if (name, value) != ("n_neighbors", None) and not (
                isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= 1
            ):
                raise TableError(f"{name} is a whole number, 1 or more; given {value!r}")

    def _choice(self, n: int) -> tuple[list[str], str]:
        """The names of the methods, and why these."""
        if self.method == "ensemble":
            categories = any(c.kind == "category" for c in self.table_.columns)
            return ["knn-time", "denoiser", *["surprisal"] * categories], "as asked"
        if self.method != "auto":
            return [self.method] if isinstance(self.method, str) else [*self.method], "as asked"
        if n < FEW:
            return ["knn-time"], f"{n} rows are too few to train a network, which needs {FEW}"
        return ["knn-time"], "on tables with known anomalies no learned score came out above it"

    # Scoring

    def _rows(self, X: Any) -> Rows:
        check_is_fitted(self, "offset_")
        return self.table_.encode(table_columns(self, X, reset=False))

    def score_samples(self, X: Any) -> Floats:
        """How normal each row is, [N]; higher is more normal, and 0 the most that can be."""
        rows = self._rows(X)
        return -self._ensemble.unusualness(rows)

    def decision_function(self, X: Any) -> Floats:
        """`score_samples` less `offset_`: below 0 is unusual; [N]."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> npt.NDArray[np.int64]:
        """+1 for usual rows and −1 for unusual ones, [N]."""
        return np.where(self.decision_function(X) >= 0, 1, -1)

    def score_batches(self, batches: Iterable[Any]) -> Iterator[Floats]:
        """`score_samples` of each table of a stream, one after the other; memory stays flat."""
        for X in batches:
            yield self.score_samples(X)

    # Deciding

    def p_values(self, X: Any) -> Floats:
        """Conformal p-values, [N]: for a normal row, P(p <= a) is at most a, for each a.

        They are ranks among held-out normal rows, so 1 / (n + 1) is the least that n of them allow.
        """
        return decisions.p_values(-self.score_samples(X), self._held)

    def select(self, X: Any, fdr: float = 0.1) -> npt.NDArray[np.bool_]:
        """Which rows to look at, [N]: on average at most the part `fdr` of them is normal.

        Raises:
            ValueError: for fdr outside (0, 1).
        """
        return decisions.select(self.p_values(X), fdr)

    def drift(self, alarms: float = 0.01) -> decisions.Drift:
        """An alarm for a stream of `p_values`: rows are no longer what they were in training.

        Args:
            alarms: the chance of a false alarm over the whole stream.
        """
        check_is_fitted(self, "offset_")
        return decisions.Drift(len(self._held), alarms)

    def threshold_by_budget(self, alarms: float, per: float = 1.0) -> Self:
        """Put the threshold where `alarms` of `per` normal rows are alarms (`decisions.by_budget`).

        Raises:
            ValueError: where the held-out rows are too few to promise it.
        """
        check_is_fitted(self, "offset_")
        self.offset_ = -decisions.by_budget(self._held, alarms, per)
        return self

    def threshold_by_cost(
        self, X_odd: Any, *, false_alarm: float, miss: float, share: float
    ) -> Self:
        """Put the threshold where the expected cost is least (`decisions.by_cost`).

        Args:
            X_odd: rows [M, F] that are known to be anomalies, none of them trained on.
            false_alarm, miss: what an alarm for nothing and an anomaly without one cost.
            share: the part of the rows that is anomalous where the detector will be used.
        """
        odd = -self.score_samples(X_odd)
        costs = {"false_alarm": false_alarm, "miss": miss, "share": share}
        self.offset_ = -decisions.by_cost(self._held, odd, **costs)[0]
        return self

    # Explaining

    def explain(self, X: Any) -> pd.DataFrame:
        """What each column adds to a row's unusualness, in nats; a row sums to −score_samples."""
        rows = self._rows(X)
        parts = self._ensemble.contributions(rows, self.table_)
        return pd.DataFrame(parts, columns=self.table_.names)

    def counterfactual(self, X: Any, most: int = 3) -> pd.DataFrame:
        """The nearest change that would make each row usual (`suffuse_anomaly.counterfactual`).

        Args:
            most: how many columns may change.

        Returns:
            A table of the columns of X, with the new value where a column is changed, else None.
        """
        rows = self._rows(X)
        if not (isinstance(most, int | np.integer) and most >= 1):
            raise TableError(f"most is a whole number of columns, 1 or more; given {most!r}")
        answer = nearest_usual(
            rows,
            self._kept_rows,
            self.table_,
            self._ensemble,
            threshold=-self.offset_,
            most=most,
        )
        return pd.DataFrame(answer, columns=self.table_.names, dtype=object)

    # Keeping

    def save(self, path: str | PathLike[str]) -> None:
        """Write a directory: model.safetensors and config.json. It holds training rows."""
        check_is_fitted(self, "offset_")
        keeping.save_tables(
            path,
            self,
            kind=KIND,
            version=FORMAT,
            tensors=self._ensemble.tensors() | {"held": self._held, "kept": self._kept_rows},
            own={
                "method": self.method_,
                "why": self.why_,
                "offset": self.offset_,
                "calibration": self._ensemble.kinds(),
            },
        )

    @classmethod
    @keeping.whole
    def load(cls, path: str | PathLike[str]) -> Self:
        """The detector in a directory; its scores are the same to the last bit.

        Raises:
            SuffuseError: where it is none, or of another format.
        """
        found, config, tensors = keeping.load_tables(cls, path, kind=KIND, version=FORMAT)
        found.method_, found.why_, found.offset_ = config["method"], config["why"], config["offset"]
        found._held, found._kept_rows = tensors["held"].numpy(), tensors["kept"].numpy()
        found._ensemble = Ensemble.load(config["calibration"], tensors, found.table_)
        return found
