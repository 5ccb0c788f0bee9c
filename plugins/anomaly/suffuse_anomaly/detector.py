"""The detector: scikit-learn's outlier detection by diffusion.

What is unusual about a row is told in nats: −log of the part of normal rows, held out of training,
that are at least as unusual; beyond the last of them the tail goes on exponentially. Each score
looks at a row in several ways, which are calibrated like this one by one: of the views of knn-time
the one counts that finds the row most unusual, of the noise levels of the denoiser the mean. The
number that comes out is calibrated again, and its contributions are scaled with it:

    unusualness = Σ over columns of contributions = −score_samples
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

import suffuse
from suffuse import storage
from suffuse.diffusion.scores import Calibration, calibrate
from suffuse.errors import unknown
from suffuse_anomaly import decisions
from suffuse_anomaly.learned import Learned
from suffuse_anomaly.neighbours import KnnTime
from suffuse_anomaly.table import Table, TableError, columns_of
from suffuse_anomaly.views import Views

__all__ = ["FORMAT", "KIND", "METHODS", "DiffusionDetector", "table_columns"]

FORMAT = 1
KIND = "anomaly/detector"
METHODS = ("auto", "knn-time", "denoiser", "ensemble")
FEW = 200
"""With fewer rows than this nothing is learned but neighbours."""
CHUNK = 4096
DONORS = 5000
"""The most training rows that counterfactuals are taken from."""
ROUNDS = 3
"""Of trimming."""

Floats = npt.NDArray[np.float64]


class DiffusionDetector(OutlierMixin, BaseEstimator):
    """Which rows of a table are unusual.

    Takes arrays and data frames: numbers, categories, dates, gaps (see `suffuse_anomaly.table`).

    Args:
        method: "knn-time" (diffusion time from neighbours), "denoiser" (a learned denoiser at
            several noise levels), "ensemble" (the mean of both), or "auto", which says in `why_`
            what it took and why.
        n_neighbors: how many neighbours "knn-time" asks; None for 5, and for 20 where contamination
            is given, since anomalies may have each other for neighbours.
        contamination: "auto" where the training rows are normal ones; else the part of them, in
            (0, 0.5], that is unusual: so many are left out of what is learned, and the threshold
            is put there.
        alarms: the part of normal rows held out that are to be alarms, in (0, 1), which puts the
            threshold where contamination is "auto".
        steps: of training the denoiser.
        random_state: of training; scores themselves draw nothing.

    Attributes:
        method_: the method that was used, and `why_`: why, in a sentence.
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
        method: str = "auto",
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
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.method_, self.why_ = self._choice(len(rows))
        k = self.n_neighbors or (5 if self.contamination == "auto" else 20)
        kept = self._kept(rows, k)
        held = np.arange(len(rows))
        self._members: dict[str, Any] = {}
        if self.method_ in ("denoiser", "ensemble"):
            order = np.random.default_rng(seed).permutation(len(rows))
            held = np.sort(order[: max(2, len(rows) // 5)])
            trained = rows[np.setdiff1d(kept, held)]
            self._members["denoiser"] = Learned.fit(trained, seed=seed, steps=self.steps)
        if self.method_ in ("knn-time", "ensemble"):
            self._members["knn-time"] = KnnTime.fit(rows[kept], k)
        self._usual = {
            name: [
                calibrate(torch.from_numpy(level[:, None].copy()), _kind(len(held)))
                for level in member.raw(rows[held]).T
            ]
            for name, member in self._members.items()
        }
        self._last = None
        joined = self._unusualness(rows[held])
        if len(held) >= 20:
            self._last = calibrate(torch.from_numpy(joined[:, None]), "quantile")
            joined = self._unusualness(rows[held])
        self._held = np.sort(joined)
        if self.contamination == "auto":
            self.offset_ = -float(np.quantile(self._held, 1 - self.alarms))
        else:
            score = -self._unusualness(rows)
            self.offset_ = float(np.percentile(score, 100 * float(self.contamination)))
        return self

    def _kept(self, rows: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.intp]:
        """The rows that are learned from: all, or those left by trimming in rounds."""
        kept = np.arange(len(rows))
        if self.contamination == "auto":
            return kept
        size = max(2, round((1 - float(self.contamination)) * len(rows)))
        for _ in range(ROUNDS):
            score = KnnTime.fit(rows[kept], k)
            ranks = score.raw(rows).argsort(0, kind="stable").argsort(0, kind="stable")
            kept = np.sort(np.argsort(ranks.max(1), kind="stable")[:size])
        return kept

    def _check_settings(self) -> None:
        if self.method not in METHODS:
            raise TableError(str(unknown("method", self.method, METHODS)))
        if self.contamination != "auto" and not (
            isinstance(self.contamination, int | float) and 0 < self.contamination <= 0.5
        ):
            raise TableError(
                "contamination is 'auto' or a number above 0 and at most 0.5; given "
                f"{self.contamination!r}"
            )
        if not (isinstance(self.alarms, int | float) and 0 < self.alarms < 1):
            raise TableError(f"alarms is a part above 0 and below 1; given {self.alarms!r}")
        for name in ("n_neighbors", "steps"):
            value = getattr(self, name)
            if (name, value) != ("n_neighbors", None) and not (
                isinstance(value, int | np.integer) and value >= 1
            ):
                raise TableError(f"{name} is a whole number, 1 or more; given {value!r}")

    def _choice(self, n: int) -> tuple[str, str]:
        if self.method != "auto":
            return self.method, "as asked"
        if n < FEW:
            return "knn-time", f"{n} rows are too few to train a network, which needs {FEW}"
        return "knn-time", "on tables with known anomalies no learned score came out above it"

    # Scoring

    def _rows(self, X: Any) -> npt.NDArray[np.float32]:
        check_is_fitted(self, "offset_")
        return self.table_.encode(table_columns(self, X, reset=False))

    def _levels(self, rows: npt.NDArray[np.float32]) -> dict[str, Floats]:
        """The calibrated scores of each member, [N, L]."""
        found = {}
        for name, member in self._members.items():
            raw = torch.from_numpy(np.ascontiguousarray(member.raw(rows)))
            usual = self._usual[name]
            found[name] = np.stack(
                [usual[i](raw[:, i : i + 1]).numpy() for i in range(len(usual))], 1
            )
        return found

    def _weights(self, levels: Mapping[str, Floats]) -> dict[str, Floats]:
        """How much each level counts, [N, L]; the sum over levels and members is 1."""
        found = {}
        for name, level in levels.items():
            if name == "knn-time":
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

    def _unusualness(self, rows: npt.NDArray[np.float32]) -> Floats:
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

    def explain(self, X: Any) -> pd.DataFrame:
        """What each column adds to a row's unusualness, in nats; a row sums to −score_samples."""
        return pd.DataFrame(self._contributions(self._rows(X)), columns=self.table_.names)

    def _contributions(self, rows: npt.NDArray[np.float32]) -> Floats:
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
        """The nearest change that would make each row usual.

        The column that adds most to a row's score takes the value, among those of the 20 training
        rows that are most alike in the other columns, that makes the row least unusual; and so on
        with the next column, until the row is no alarm or `most` columns are changed.

        Returns:
            A table of the columns of X, with the new value where a column is changed, else None.

        Raises:
            ValueError: for the method "denoiser", which keeps no training rows.
        """
        if "knn-time" not in getattr(self, "_members", {"knn-time": None}):
            raise TableError("counterfactuals are taken from training rows: fit by 'knn-time'")
        rows = self._rows(X)
        near = self._members["knn-time"].rows
        near = near[:: max(1, len(near) // DONORS)]
        answer = np.full((len(rows), len(self.table_.columns)), None, dtype=object)
        for n, row in enumerate(rows):
            row = row.copy()
            for _ in range(most):
                if self._unusualness(row[None])[0] <= -self.offset_:
                    break
                parts = self._contributions(row[None])[0]
                parts[[value is not None for value in answer[n]]] = -np.inf
                column = int(parts.argmax())
                own = self.table_.owner == column
                away = ((near[:, ~own] - row[~own]) ** 2).sum(1)
                tries = np.repeat(row[None], min(20, len(near)), 0)
                tries[:, own] = near[np.argsort(away, kind="stable")[: len(tries)]][:, own]
                row = tries[self._unusualness(tries).argmin()]
                answer[n, column] = self.table_.value(row, column)
        return pd.DataFrame(answer, columns=self.table_.names)

    def score_batches(self, batches: Iterable[Any]) -> Iterator[Floats]:
        """`score_samples` of each table of a stream, one after the other; memory stays flat."""
        for X in batches:
            yield self.score_samples(X)

    # Keeping

    def save(self, path: str | PathLike[str]) -> None:
        """Write a directory: model.safetensors and config.json. It holds the training rows."""
        check_is_fitted(self, "offset_")
        tensors: dict[str, Any] = {"held": self._held}
        if self._last is not None:
            tensors["last"] = self._last.table
        for name, member in self._members.items():
            own: dict[str, Any] = {f"views.{k}": v for k, v in member.views.tables.items()}
            if isinstance(member, Learned):
                own |= {"mean": member.mean, "deviation": member.deviation}
                own |= {f"network.{k}": v for k, v in member.network.state_dict().items()}
            else:
                own |= {"rows": member.rows, "floor": member.floor}
            own |= {f"usual.{i}": c.table for i, c in enumerate(self._usual[name])}
            tensors |= {f"{name}.{key}": value for key, value in own.items()}
        params = self.get_params()
        if not isinstance(params["random_state"], int | None):
            params["random_state"] = None
        config = {
            "format": FORMAT,
            "kind": KIND,
            "suffuse": suffuse.__version__,
            "settings": params,
            "method": self.method_,
            "why": self.why_,
            "offset": self.offset_,
            "neighbors": next((m.k for m in self._members.values() if isinstance(m, KnnTime)), 0),
            "calibration": {name: usual[0].kind for name, usual in self._usual.items()},
            "feature_names": getattr(self, "feature_names_in_", np.array([])).tolist(),
            "columns": self.table_.to_json(),
        }
        with storage.replacing_folder(path) as folder:
            storage.save_tensors(
                folder / "model.safetensors",
                {k: torch.as_tensor(v) for k, v in tensors.items()},
            )
            storage.write_json(folder / "config.json", config)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """The detector in a directory; its scores are the same to the last bit.

        Raises:
            SuffuseError: where it is none, or of another format.
        """
        folder = Path(path)
        config = storage.read_json(folder / "config.json")
        if not isinstance(config, dict) or config.get("kind") != KIND:
            raise TableError(f"{str(folder)!r} is no detector of tables: its config.json says so")
        if config["format"] != FORMAT:
            raise TableError(
                f"{str(folder)!r} has the format {config['format']}, and this version of "
                f"suffuse-anomaly reads {FORMAT}; install the one that made it"
            )
        found = cls(**config["settings"])
        tensors = storage.load_tensors(folder / "model.safetensors")
        found.method_, found.why_, found.offset_ = config["method"], config["why"], config["offset"]
        found.table_ = Table.from_json(config["columns"])
        found.n_features_in_ = len(found.table_.columns)
        if config["feature_names"]:
            found.feature_names_in_ = np.array(config["feature_names"], dtype=object)
        found._held = tensors["held"].numpy()
        found._last = Calibration("quantile", tensors["last"]) if "last" in tensors else None
        found._members, found._usual = {}, {}
        for name, kind in config["calibration"].items():
            own = {k[len(name) + 1 :]: v for k, v in tensors.items() if k.startswith(f"{name}.")}
            views = Views({k[6:]: v.numpy() for k, v in own.items() if k.startswith("views.")})
            if name == "denoiser":
                state = {k[8:]: v for k, v in own.items() if k.startswith("network.")}
                arrays = {k: own[k].numpy() for k in ("mean", "deviation")}
                learned = Learned.shell(arrays, views, len(state["first.bias"]))
                learned.network.load_state_dict(state)
                found._members[name] = learned
            else:
                found._members[name] = KnnTime(
                    own["rows"].numpy(), config["neighbors"], views, own["floor"].numpy()
                )
            usual = [own[f"usual.{i}"] for i in range(sum(k.startswith("usual.") for k in own))]
            found._usual[name] = [Calibration(kind, table) for table in usual]
        return found


def _kind(n: int) -> str:
    return "quantile" if n >= 20 else "z"


def table_columns(estimator: Any, X: Any, *, reset: bool) -> dict[str, Any]:
    """Checked columns of what scikit-learn's callers give; sets what it learned of their names."""
    if not isinstance(X, pd.DataFrame) and hasattr(X, "to_pandas"):
        X = X.to_pandas()
    if isinstance(X, list | tuple):
        plain = np.asarray(X)
        X = np.asarray(X, dtype=object) if plain.dtype.kind in "USO" else plain
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
