"""Fitting a model of affinities to a table, and judging it on pairs, molecules or proteins unseen.

Needs scikit-learn, the extra `affinity`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from suffuse.errors import SuffuseError

from .affinity import Affinity, Features, Trees, concordance, molecule_of, sequence_of
from .reading import rows

__all__ = ["Pairs", "fit", "judged", "read_pairs"]

_COLUMNS = {
    "smiles": ("smiles", "ligand", "drug", "compound"),
    "sequence": ("sequence", "protein", "target_sequence", "target"),
}
_FOLDS = 5


@dataclass(frozen=True)
class Pairs:
    """A table of affinities.

    Attributes:
        smiles, sequences: the different ones.
        molecule, protein: of each pair, the place in these, int [N].
        value: pKd, [N].
        fold: the number of each pair's fold, int [N]; None where folds are drawn.
    """

    smiles: tuple[str, ...]
    sequences: tuple[str, ...]
    molecule: Any
    protein: Any
    value: Any
    fold: Any = None

    def of(self, index: Any) -> Pairs:
        """Some of the pairs, with the same molecules and proteins."""
        return Pairs(
            self.smiles,
            self.sequences,
            self.molecule[index],
            self.protein[index],
            self.value[index],
            None if self.fold is None else self.fold[index],
        )


def read_pairs(path: str | Path) -> tuple[Pairs, list[str]]:
    """A CSV with the columns smiles, sequence, and pkd or kd_nm; and what was skipped, by line.

    A column "fold", if there is one, says which pairs are left out together in fitting.

    Raises:
        SuffuseError: where the file or a column is missing, or too few pairs can be taken.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SuffuseError(f"cannot read {str(path)!r}: {error}") from None
    header, lines = rows(path, text)
    names = {name.strip().lower(): name for name in header}
    found = {
        kind: next((names[n] for n in known if n in names), None)
        for kind, known in _COLUMNS.items()
    }
    target = next((names[n] for n in ("pkd", "kd_nm") if n in names), None)
    if None in found.values() or target is None:
        raise SuffuseError(
            f"a table of affinities has the columns smiles, sequence, and pkd or kd_nm; "
            f"{str(path)!r} has {', '.join(names) or 'none'}"
        )
    molecules: dict[str, int] = {}
    proteins: dict[str, int] = {}
    kept, skipped = [], []
    for line, row in lines:
        try:
            number = float(row[target])
            value = number if target == names.get("pkd") else 9 - math.log10(number)
            if not math.isfinite(value):
                raise ValueError(f"{row[target]!r} is no finite number")
            fold = int(row[names["fold"]]) if "fold" in names else 0
            smiles, sequence = row[found["smiles"]].strip(), sequence_of(row[found["sequence"]])
            molecule_of(smiles)
        except (SuffuseError, ValueError, TypeError, AttributeError) as error:
            skipped.append(f"line {line}: {str(error)[:120]}")
            continue
        kept.append(
            (
                molecules.setdefault(smiles, len(molecules)),
                proteins.setdefault(sequence, len(proteins)),
                value,
                fold,
            )
        )
    if len(kept) < 50:
        raise SuffuseError(
            f"{len(kept)} pairs of {str(path)!r} can be taken, and fitting takes 50 or more; "
            + "; ".join(skipped[:3])
        )
    molecule, protein, value, fold = (np.array(part) for part in zip(*kept, strict=True))
    folds = fold if len(np.unique(fold)) > 1 else None
    return Pairs(tuple(molecules), tuple(proteins), molecule, protein, value, folds), skipped


def fit(
    pairs: Pairs,
    *,
    coverage: float = 0.9,
    seed: int = 0,
    trees: int = 300,
) -> tuple[Affinity, dict[str, float]]:
    """A model of all pairs of a table, and what one like it says of pairs that it has not seen.

    A sixth of the pairs is held out first, or whole folds until it is as much where the table has
    three folds or more. An ensemble of the rest gives the quantile of the interval and the figures
    of `judged`; of these "covered" is by halves of what was held out, each with the quantile of the
    other.

    Args:
        pairs: the table; its own folds are used, else five random ones.
        coverage: of the interval.
        seed: of the folds and the trees.
        trees: of each member.
    """
    order = np.random.default_rng(seed + 1)
    held = _held_out(pairs, order)
    trial, asked = _ensemble(pairs.of(~held), coverage, seed, trees), pairs.of(held)
    value, spread = trial.spread(matrix(trial.features, asked))
    ratios = np.abs(value - asked.value) / spread
    trial.quantile = _quantile(ratios, coverage)
    found = judged(trial, asked)
    half = order.permutation(len(ratios)) % 2 == 0
    sides = [ratios[a] <= _quantile(ratios[b], coverage) for a, b in ((half, ~half), (~half, half))]
    found["covered"] = float(np.concatenate(sides).mean())
    model = _ensemble(pairs, coverage, seed, trees)
    model.quantile = trial.quantile
    return model, found


def _held_out(pairs: Pairs, order: np.random.Generator) -> Any:
    """Which pairs are held out for the interval, bool [N]."""
    least = len(pairs.value) / 6
    several = [] if pairs.fold is None else order.permutation(np.unique(pairs.fold))
    if len(several) < 3:
        return order.permutation(len(pairs.value)) < least
    held = np.zeros(len(pairs.value), bool)
    for fold in several[:-2]:
        if held.sum() < least:
            held |= pairs.fold == fold
    return held


def _quantile(ratios: Any, coverage: float) -> float:
    """q of the interval y ± q s, from |error| / s of pairs that were not seen."""
    return float(np.quantile(ratios, min(1.0, coverage * (1 + 1 / len(ratios)))))


def _ensemble(pairs: Pairs, coverage: float, seed: int, trees: int) -> Affinity:
    """One member for each fold, which it does not see; the quantile is still to be found."""
    used_m, used_p = np.unique(pairs.molecule), np.unique(pairs.protein)
    place = np.searchsorted(used_m, pairs.molecule), np.searchsorted(used_p, pairs.protein)
    total, count = np.zeros((2, len(used_m), len(used_p)))
    np.add.at(total, place, pairs.value)
    np.add.at(count, place, 1)
    smiles, sequences = [pairs.smiles[i] for i in used_m], [pairs.sequences[i] for i in used_p]
    features = Features(smiles, sequences, total, count)
    x = matrix(features, pairs, own=pairs.value)
    if pairs.fold is None:
        folds = np.array_split(np.random.default_rng(seed).permutation(len(x)), _FOLDS)
    else:
        folds = [np.flatnonzero(pairs.fold == k) for k in np.unique(pairs.fold)]
    members, own = [], np.empty(len(x))
    for k, fold in enumerate(folds):
        rest = np.setdiff1d(np.arange(len(x)), fold)
        members.append(_boosted(x[rest], pairs.value[rest], seed + k, trees))
        own[fold] = members[-1](x[fold])
    floor = float(np.median(np.abs(own - pairs.value))) + 1e-6
    return Affinity(features, members, 1.0, floor, coverage)


def matrix(features: Features, pairs: Pairs, own: Any = None) -> Any:
    """The features of all pairs, float32 [N, F]; for `own` see `Features`."""
    parts = []
    for similar, names, place in (
        (features.molecule, pairs.smiles, pairs.molecule),
        (features.protein, pairs.sequences, pairs.protein),
    ):
        used, index = np.unique(place, return_inverse=True)
        parts.append(np.stack([similar(names[i]) for i in used])[index])
    return features(*parts, own)


def judged(model: Affinity, pairs: Pairs) -> dict[str, float]:
    """Concordance, mean squared error, the share of intervals that hold the truth, their width."""
    value, spread = model.spread(matrix(model.features, pairs))
    error = np.abs(value - pairs.value)
    return {
        "pairs": float(len(pairs.value)),
        "concordance": concordance(pairs.value, value),
        "mse": float((error**2).mean()),
        "covered": float((error <= model.quantile * spread).mean()),
        "width": float(2 * model.quantile * spread.mean()),
    }


def _boosted(x: Any, y: Any, seed: int, trees: int) -> Trees:
    try:
        from sklearn.ensemble import HistGradientBoostingRegressor
    except ImportError:
        raise SuffuseError(
            "fitting needs scikit-learn: pip install 'suffuse-molecules[affinity]'"
        ) from None
    made = HistGradientBoostingRegressor(
        max_iter=trees,
        learning_rate=0.1,
        max_leaf_nodes=48,
        min_samples_leaf=5,
        max_features=0.3,
        early_stopping=False,
        random_state=seed,
    ).fit(x, y)
    return _arrays(made)


def _arrays(made: Any) -> Trees:
    """The trees of scikit-learn's regressor, as arrays."""
    parts: dict[str, list[Any]] = {name: [] for name in ("f", "t", "l", "r", "v")}
    roots, first = [], 0
    for (tree,) in made._predictors:
        nodes = tree.nodes
        leaf = nodes["is_leaf"].astype(bool)
        parts["f"].append(np.where(leaf, -1, nodes["feature_idx"].astype(np.int64)))
        parts["t"].append(nodes["num_threshold"])
        parts["l"].append(nodes["left"].astype(np.int64) + first)
        parts["r"].append(nodes["right"].astype(np.int64) + first)
        parts["v"].append(np.where(leaf, nodes["value"], 0.0))
        roots.append(first)
        first += len(nodes)
    joined = {name: np.concatenate(part) for name, part in parts.items()}
    # a threshold in float32 must leave every float32 value on its side: round towards below
    exact = joined["t"].astype(np.float32)
    low = np.where(exact > joined["t"], np.nextafter(exact, np.float32(-np.inf)), exact)
    return Trees(
        joined["f"].astype(np.int16),
        low.astype(np.float32),
        joined["l"].astype(np.int32),
        joined["r"].astype(np.int32),
        joined["v"].astype(np.float32),
        np.array(roots, np.int32),
        float(np.ravel(made._baseline_prediction)[0]),
    )
