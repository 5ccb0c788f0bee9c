"""The detector: scikit-learn's outlier detection by diffusion.

What is unusual about a row is told in nats: −log of the part of normal rows, held out of training,
that are at least as unusual; beyond the last of them the tail goes on exponentially. Each method
looks at a row in several ways, which are calibrated like this one by one: of the views of knn-time
the one counts that finds the row most unusual, of the levels of the other methods the mean. The
number that comes out is calibrated again, and its contributions are scaled with it:

    unusualness = Σ over columns of contributions = −score_samples
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from suffuse.diffusion.scores import Calibration, calibrate
from suffuse.errors import unknown
from suffuse_anomaly import decisions, keeping
from suffuse_anomaly.counterfactual import nearest_usual
from suffuse_anomaly.learned import LEARNED, Learned
from suffuse_anomaly.member import Floats, Member, Rows
from suffuse_anomaly.neighbours import KnnTime
from suffuse_anomaly.surprisal import Surprisal
from suffuse_anomaly.table import Table, TableError, columns_of
from suffuse_anomaly.time_network import NETWORKS, TimeNetwork

__all__ = ["FORMAT", "KIND", "METHODS", "DiffusionDetector", "table_columns"]

FORMAT = 2
KIND = "anomaly/detector"
MEMBERS: dict[str, type[Member]] = {
    "knn-time": KnnTime,
    **dict.fromkeys(LEARNED, Learned),
    **dict.fromkeys(NETWORKS, TimeNetwork),
    "surprisal": Surprisal,
}
METHODS = ("auto", "ensemble", *MEMBERS)
FEW = 200
"""With fewer rows than this nothing is learned but neighbours."""
CHUNK = 4096
KEPT = 5000
"""The most training rows that are kept for counterfactuals and refreshing."""
ROUNDS = 3
"""Of trimming."""
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
            ValueError: for settings or tables that do not fit.
        """
        self._check_settings()
        columns = table_columns(self, X, reset=True)
        self.table_ = Table.fit(columns)
        rows = self.table_.encode(columns)
        self._seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        names, self.why_ = self._choice(len(rows))
        self.method_ = " + ".join(names)
        self._learn(names, rows, {}, 0)
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
        self._learn(list(self._members), rows, self._members, len(self._kept_rows))
        return self

    def _learn(self, names: list[str], rows: Rows, start: Mapping[str, Member], known: int) -> None:
        """Fit members, from those of `start` that know the first `known` rows, and calibrate."""
        k = self.n_neighbors or self._neighbours(len(rows))
        chosen = self._chosen(rows, k)
        held = np.arange(len(rows))
        trained = chosen
        if any(MEMBERS[name].trained for name in names):
            held = _held_out(rows, self._seed)
            trained = np.setdiff1d(chosen, held)
        how = {"seed": self._seed, "steps": max(1, self.steps // (4 if start else 1)), "k": k}
        self._members = {
            name: MEMBERS[name].fit(
                name,
                rows[trained if MEMBERS[name].trained else chosen[chosen >= known]],
                self.table_,
                start=start.get(name),
                **how,
            )
            for name in names
        }
        raw = {
            name: member.left_out(rows, self._seed)[held]
            if self.contamination == "auto" and not member.trained
            else member.raw(rows[held])
            for name, member in self._members.items()
        }
        self._usual = {
            name: [
                calibrate(torch.from_numpy(level[:, None].copy()), _kind(len(held)))
                for level in levels.T
            ]
            for name, levels in raw.items()
        }
        self._last = None
        levels = self._calibrated(raw)
        joined = self._joined(levels)[1]
        if len(held) >= 20:
            self._last = calibrate(torch.from_numpy(joined[:, None]), "quantile")
            joined = self._joined(levels)[1]
        self._held = np.sort(joined)
        self._kept_rows = rows[chosen] if len(chosen) <= KEPT else _thinned(rows[chosen], KEPT)
        if self.contamination == "auto":
            self.offset_ = -decisions.by_tail(self._held, self.alarms, nats=self._last is not None)
        else:
            score = -(joined if len(held) == len(rows) else self._unusualness(rows))
            self.offset_ = float(np.percentile(score, 100 * float(self.contamination)))

    def _neighbours(self, n: int) -> int:
        """5 of normal rows; of mixed ones as many as there are anomalies, for these crowd."""
        if self.contamination == "auto":
            return 5
        return int(np.clip(round(float(self.contamination) * n), 20, CROWD))

    def _chosen(self, rows: Rows, k: int) -> npt.NDArray[np.intp]:
        """The rows that are learned from: all, or those left by trimming in rounds."""
        chosen = np.arange(len(rows))
        if self.contamination == "auto":
            return chosen
        size = max(2, round((1 - float(self.contamination)) * len(rows)))
        for _ in range(ROUNDS):
            score = KnnTime.fit("knn-time", rows[chosen], self.table_, seed=0, steps=1, k=k)
            ranks = score.raw(rows).argsort(0, kind="stable").argsort(0, kind="stable")
            chosen = np.sort(np.argsort(ranks.max(1), kind="stable")[:size])
        return chosen

    def _check_settings(self) -> None:
        several = isinstance(self.method, list | tuple)
        for name in self.method if several else [self.method]:
            known = tuple(MEMBERS) if several else METHODS
            if name not in known:
                raise TableError(str(unknown("method", str(name), known)))
        if several and not (len(set(self.method)) == len(self.method) >= 1):
            raise TableError(f"several methods are different ones; given {list(self.method)}")
        if self.contamination != "auto" and not (
            _is_number(self.contamination) and 0 < float(self.contamination) <= 0.5
        ):
            raise TableError(
                "contamination is 'auto' or a number above 0 and at most 0.5; given "
                f"{self.contamination!r}"
            )
        if not (_is_number(self.alarms) and 0 < self.alarms < 1):
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

    def _levels(self, rows: Rows) -> dict[str, Floats]:
        """The calibrated scores of each member, [N, L]."""
        return self._calibrated({name: one.raw(rows) for name, one in self._members.items()})

    def _calibrated(self, scores: Mapping[str, Floats]) -> dict[str, Floats]:
        found = {}
        for name, score in scores.items():
            raw, usual = torch.from_numpy(np.ascontiguousarray(score)), self._usual[name]
            found[name] = np.stack(
                [usual[i](raw[:, i : i + 1]).numpy() for i in range(len(usual))], 1
            )
        return found

    def _weights(self, levels: Mapping[str, Floats]) -> dict[str, Floats]:
        """How much each level counts, [N, L]; the sum over levels and members is 1."""
        found = {}
        for name, level in levels.items():
            if self._members[name].loudest:
                weight = np.eye(level.shape[1])[level.argmax(1)]
            else:
                weight = np.full(level.shape, 1 / level.shape[1])
            found[name] = weight / len(levels)
        return found

    def _joined(self, levels: Mapping[str, Floats]) -> tuple[Floats, Floats]:
        """The mean of calibrated levels by their weights, and what it means in nats; [N] both."""
        weights = self._weights(levels)
        mean = np.sum([(weights[name] * level).sum(1) for name, level in levels.items()], axis=0)
        if self._last is None:
            return mean, mean
        return mean, self._last(torch.from_numpy(mean[:, None])).numpy()

    def _unusualness(self, rows: Rows) -> Floats:
        return np.concatenate(
            [
                self._joined(self._levels(rows[start : start + CHUNK]))[1]
                for start in range(0, len(rows), CHUNK)
            ]
        )

    def score_samples(self, X: Any) -> Floats:
        """How normal each row is, [N]; higher is more normal, and 0 the most that can be."""
        return -self._unusualness(self._rows(X))

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
        return pd.DataFrame(self._contributions(self._rows(X)), columns=self.table_.names)

    def _contributions(self, rows: Rows) -> Floats:
        found = np.zeros((len(rows), len(self.table_.columns)))
        for start in range(0, len(rows), CHUNK):
            part = rows[start : start + CHUNK]
            levels = self._levels(part)
            weights, (mean, nats) = self._weights(levels), self._joined(levels)
            scale = np.divide(nats, mean, out=np.ones_like(mean), where=mean != 0)
            for name, level in levels.items():
                weighed = level * weights[name] * scale[:, None]
                joined = np.einsum("nl,nld->nd", weighed, self._members[name].shares(part))
                found[start : start + CHUNK] += self.table_.by_column(joined)
        return found

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
            self._unusualness,
            self._contributions,
            threshold=-self.offset_,
            most=most,
        )
        return pd.DataFrame(answer, columns=self.table_.names, dtype=object)

    # Keeping

    def save(self, path: str | PathLike[str]) -> None:
        """Write a directory: model.safetensors and config.json. It holds training rows."""
        check_is_fitted(self, "offset_")
        tensors: dict[str, Any] = {"held": self._held, "kept": self._kept_rows}
        if self._last is not None:
            tensors["last"] = self._last.table
        for name, member in self._members.items():
            named = member.tensors() | {
                f"usual.{i}": usual.table for i, usual in enumerate(self._usual[name])
            }
            tensors |= {f"{name}/{key}": value for key, value in named.items()}
        own = {
            "method": self.method_,
            "why": self.why_,
            "offset": self.offset_,
            "calibration": {name: usual[0].kind for name, usual in self._usual.items()},
        }
        keeping.save_tables(
            path,
            self,
            kind=KIND,
            version=FORMAT,
            tensors=tensors,
            own=own,
        )

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """The detector in a directory; its scores are the same to the last bit.

        Raises:
            SuffuseError: where it is none, or of another format.
        """
        found, config, tensors = keeping.load_tables(cls, path, kind=KIND, version=FORMAT)
        found.method_, found.why_, found.offset_ = config["method"], config["why"], config["offset"]
        found._held, found._kept_rows = tensors["held"].numpy(), tensors["kept"].numpy()
        found._last = Calibration("quantile", tensors["last"]) if "last" in tensors else None
        found._members, found._usual = {}, {}
        for name, kind in config["calibration"].items():
            start = f"{name}/"
            own = {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
            usual = [own[f"usual.{i}"] for i in range(sum(k.startswith("usual.") for k in own))]
            found._members[name] = MEMBERS[name].load(name, own, found.table_)
            found._usual[name] = [Calibration(kind, table) for table in usual]
        return found


def _kind(n: int) -> str:
    return "quantile" if n >= 20 else "z"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _held_out(rows: Rows, seed: int) -> npt.NDArray[np.intp]:
    """About a fifth of the rows, for calibration, by what they hold.

    So a row that is held out is so after every refreshing too, and no network has seen it. Of equal
    rows each has a lot of its own. Where few rows come out too few or too many, a fifth by lot.
    """
    keys = pd.util.hash_array(rows.ravel()).reshape(rows.shape)
    places = np.arange(1, 2 * rows.shape[1], 2, dtype=np.uint64)
    keys = (keys * places).sum(1, dtype=np.uint64)
    copies = pd.Series(keys).groupby(keys).cumcount().to_numpy(np.uint64)
    lots = pd.util.hash_array(keys ^ pd.util.hash_array(copies + np.uint64(seed)))
    held = np.flatnonzero(lots < 2**64 // 5)
    if max(2, len(rows) // 10) <= len(held) <= len(rows) // 2:
        return held
    order = np.random.default_rng(seed).permutation(len(rows))
    return np.sort(order[: max(2, len(rows) // 5)])


def _thinned(rows: Rows, n: int) -> Rows:
    """n of the rows, evenly spaced in their order."""
    return rows[np.linspace(0, len(rows) - 1, n).astype(int)]


def table_columns(estimator: Any, X: Any, *, reset: bool) -> dict[str, Any]:
    """Checked columns of what scikit-learn's callers give; sets what it learned of their names."""
    if not isinstance(X, pd.DataFrame) and hasattr(X, "to_pandas"):
        X = X.to_pandas()
    if isinstance(X, list | tuple):
        plain = np.asarray(X)
        X = np.asarray(X, dtype=object) if plain.dtype.kind in "USO" else plain
    if isinstance(X, pd.DataFrame) and not X.columns.is_unique:
        twice = sorted({str(name) for name in X.columns[X.columns.duplicated()]})
        raise TableError(f"columns have names of their own; these stand twice: {', '.join(twice)}")
    mixed = isinstance(X, pd.DataFrame) or getattr(getattr(X, "dtype", None), "kind", "") == "O"
    if not mixed:
        least = {"ensure_min_samples": 2} if reset else {}
        X = validate_data(
            estimator, X, reset=reset, dtype=np.float64, ensure_all_finite="allow-nan", **least
        )
        return columns_of(X)
    if X.ndim != 2 or not all(X.shape) or len(X) < 1 + reset:
        raise TableError(
            f"expected a table of {1 + reset} rows or more and a column or more; given the shape "
            f"{X.shape}"
        )
    validate_data(estimator, X, reset=reset, skip_check_array=True)
    return columns_of(X)
