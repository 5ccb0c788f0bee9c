"""Figures of made molecules, each with its interval and, where there is one, its floor.

**Validity** is told four ways: stable atoms of raw graphs, raw molecules that rdkit sanitises, raw
molecules that are valid (sanitised and in one piece), and molecules after valence-safe decoding.
All other figures are of valid molecules as they were decoded.

Definitions follow MOSES (Polykovskiy et al., "Molecular sets (MOSES): a benchmarking platform for
molecular generation models" (2020), arXiv 1811.12823, section 3), with canonical SMILES without
stereo, since the graphs hold none.
"""

from __future__ import annotations

import logging
import math
import weakref
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
import torch
from rdkit import Chem

from suffuse import stats
from suffuse.errors import MissingExtra, SuffuseError
from suffuse.plugins.contracts import Dataset, Example, Metric
from suffuse.stats.intervals import wilson

from .chemistry import canonical, known, quiet
from .files import is_valid
from .graph import RAW, STABLE
from .properties import PROPERTIES, property_of
from .valence import unstable

__all__ = ["FCD", "Conditions", "Distinct", "Distributions", "Validity", "chemnet", "fcd"]

logger = logging.getLogger("suffuse_molecules")

MOST = 10_000
"""At most so many real molecules, evenly spaced, are looked at for distributions."""

FEWEST = 600
"""Fewer molecules on either side have no covariance of ChemNet's 512 numbers."""

_DISCONNECTED = "fragments"


class Validity:
    """Shares of stable atoms and valid molecules, before and after valence-safe decoding.

    Args:
        target: what a good model reaches raw, in percent.
    """

    def __init__(self, target: float | None = None) -> None:
        self.target = target

    def evaluate(
        self, samples: Sequence[Example], *, test: Dataset, train: Dataset, seed: int
    ) -> list[Metric]:
        """Four figures in percent; the note of the second counts the reasons of failures."""
        n = len(samples)
        raw = Counter(_raw(sample.data) for sample in samples)
        valid = raw.pop("valid", 0)
        reasons = ", ".join(f"{count} {reason}" for reason, count in raw.most_common())
        safe = sum(is_valid(sample.data) for sample in samples)
        if not n:
            raise SuffuseError("there are no samples to evaluate")
        atoms = np.array([_stable(sample.data) for sample in samples])
        return [
            Metric.of(
                "Stable atoms",
                _clustered(atoms),
                "higher",
                n,
                scale=100,
                unit="%",
                note="Atoms of the graphs as they were sampled whose bonds their element and "
                "charge allow, in rings that have a Kekulé form. Molecules all of whose atoms are "
                "stable are those that rdkit sanitises.",
            ),
            _share(
                "Raw sanitised",
                valid + raw[_DISCONNECTED],
                n,
                note="Graphs as they were sampled that rdkit sanitises, whole or in pieces: stable "
                "molecules.",
            ),
            _share(
                "Raw valid",
                valid,
                n,
                target=self.target,
                note="Graphs as they were sampled that are sanitised and in one piece. "
                + (f"The others: {reasons}." if reasons else "All are."),
            ),
            _share(
                "Valid as decoded",
                safe,
                n,
                note="After valence-safe decoding, unless the encoder's option decoding is raw.",
            ),
        ]


class Distinct:
    """Uniqueness and novelty among valid molecules."""

    def evaluate(
        self, samples: Sequence[Example], *, test: Dataset, train: Dataset, seed: int
    ) -> list[Metric]:
        """Two figures in percent.

        Raises:
            SuffuseError: where no sample is valid.
        """
        made = [canonical(mol) for mol in _valid(samples)]
        distinct = set(made)
        seen = _training(train)
        again = sum(smiles in seen for smiles in _canonical(test)) if len(test) else 0
        floor = stats.proportion(len(test) - again, len(test)) if len(test) else None
        return [
            _share(
                "Unique",
                len(distinct),
                len(made),
                note=f"Different molecules among {len(made)} valid ones; fewer as more are made.",
            ),
            _share(
                "Novel",
                len(distinct - seen),
                len(distinct),
                floor=floor,
                note="Different valid molecules that are not in the training split. Where the data "
                "list all molecules of their kind, as QM9 does, a novel one has left that kind.",
            ),
        ]


class Distributions:
    """How far the distributions of properties are from those of held-out molecules.

    Wasserstein-1 distances, in the unit of the property; the floor is real against real.

    Args:
        properties: names in `suffuse_molecules.properties`.
    """

    def __init__(self, properties: list[str] | None = None) -> None:
        self.properties = properties or ["logp", "sa", "qed", "weight"]

    def evaluate(
        self, samples: Sequence[Example], *, test: Dataset, train: Dataset, seed: int
    ) -> list[Metric]:
        """One figure a property; lower is better."""
        made = _valid(samples)
        if len(made) < 20 or len(test) < 40:
            logger.warning(
                "molecules/distributions is left out: it needs 20 valid samples and 40 held-out "
                "molecules, and there are %d and %d",
                *(len(made), len(test)),
            )
            return []
        real = [known(smiles) for smiles in _spread(_smiles(test), MOST)]
        metrics = []
        for name in self.properties:
            ours, theirs = _column(made, name), _column(real, name)
            figure = stats.jackknife(wasserstein, ours, theirs, seed=seed, bounds=(0, math.inf))
            size = min(len(ours), len(theirs) // 2)
            floor = stats.floor(
                lambda a, b: wasserstein(a[:, 0], b[:, 0]),
                theirs[:, None],
                n=(size, len(theirs) - size),
                repeats=60,
                seed=seed,
            )
            metrics.append(
                Metric.of(
                    f"Distance of {name}",
                    figure,
                    "lower",
                    len(ours),
                    floor=floor,
                    note="Wasserstein-1 to held-out molecules; the floor is "
                    f"{floor.sizes[0]} held-out molecules against {floor.sizes[1]} others.",
                )
            )
        return metrics


class Conditions:
    """How near the properties of made molecules come to those that were asked for.

    Beside it, as the floor, what molecules that were made for others' wishes come to: the same
    molecules against the wishes in a random order, which is what no conditioning would give.
    """

    def evaluate(
        self, samples: Sequence[Example], *, test: Dataset, train: Dataset, seed: int
    ) -> list[Metric]:
        """The mean absolute error of each property that was asked for; lower is better."""
        metrics = []
        order = np.random.default_rng(seed)
        for name in PROPERTIES:
            asked = [
                (sample.conditions[name], sample.data)
                for sample in samples
                if sample.conditions.get(name) is not None and is_valid(sample.data)
            ]
            if len(asked) < 10:
                continue
            wanted = np.array([float(value) for value, _ in asked])
            found = np.array([property_of(mol, name) for _, mol in asked])
            figure = stats.mean(np.abs(found - wanted), seed=seed)
            chance = stats.mean(np.abs(found - order.permutation(wanted)), seed=seed)
            metrics.append(
                Metric(
                    f"Error of {name}",
                    figure.value,
                    figure.low,
                    figure.high,
                    "lower",
                    len(asked),
                    note="Mean absolute error of what was asked for; for wishes in a random order "
                    f"it is {chance.value:.3g}.",
                )
            )
        return metrics


class FCD:
    """The Fréchet distance on the activations of ChemNet, by the package `fcd`.

    Preuer et al., "Fréchet ChemNet distance" (2018), doi 10.1021/acs.jcim.8b00234. It depends on
    the number of molecules: compare at the same n only.

    Args:
        reference: the split to compare with.
        target: what a good model reaches.
    """

    def __init__(
        self, reference: Literal["train", "test"] = "train", target: float | None = None
    ) -> None:
        self.reference: Literal["train", "test"] = reference
        self.target = target

    def evaluate(
        self, samples: Sequence[Example], *, test: Dataset, train: Dataset, seed: int
    ) -> list[Metric]:
        """One figure; lower is better.

        Raises:
            SuffuseError: where the package fcd is missing.
        """
        made = [canonical(mol) for mol in _valid(samples)]
        net = chemnet()
        dataset = train if self.reference == "train" else test
        real = _spread(_smiles(dataset), MOST)
        if min(len(made), len(real)) < FEWEST:
            logger.warning(
                "molecules/fcd is left out: it needs %d molecules on both sides, and there are "
                "%d and %d",
                *(FEWEST, len(made), len(real)),
            )
            return []
        held = _kept(dataset)
        if "chemnet" not in held:
            held["chemnet"] = net([canonical(known(smiles)) for smiles in real])
        figure = stats.frechet_interval(net(made), held["chemnet"], groups=10, seed=seed)
        taken = set(real)
        others = [s for s in [*_smiles(test), *_smiles(train)] if s not in taken]
        rest = _spread(others, len(made))
        floor = None
        if len(rest) == len(made):
            floor = stats.frechet_interval(
                net([canonical(known(smiles)) for smiles in rest]),
                held["chemnet"],
                groups=10,
                seed=seed,
            )
        return [
            Metric.of(
                "FCD",
                figure,
                "lower",
                len(made),
                floor=floor,
                target=self.target,
                note=f"Against {len(real)} molecules of the {self.reference} split; the floor is "
                "as many others as were made.",
            )
        ]


def wasserstein(a: Any, b: Any) -> float:
    """∫ |F_a − F_b| of the distribution functions of two samples of numbers, [M] and [N].

    >>> wasserstein([0.0, 1.0], [1.0, 2.0])
    1.0
    """
    a, b = np.sort(np.asarray(a, dtype=np.float64)), np.sort(np.asarray(b, dtype=np.float64))
    both = np.sort(np.concatenate([a, b]))
    at = both[:-1]
    below = np.searchsorted(a, at, "right") / len(a) - np.searchsorted(b, at, "right") / len(b)
    return float(np.sum(np.abs(below) * np.diff(both)))


def _raw(mol: Chem.Mol) -> str:
    if mol.HasProp(RAW):
        return str(mol.GetProp(RAW))
    return "valid" if is_valid(mol) else "sanitize"


def _stable(mol: Chem.Mol) -> tuple[int, int]:
    """How many atoms of the graph as it was sampled are stable, and how many it has."""
    if mol.HasProp(STABLE):
        stable, _, n = mol.GetProp(STABLE).partition("/")
        return int(stable), int(n)
    return mol.GetNumAtoms() - len(unstable(mol)), mol.GetNumAtoms()


def _clustered(counts: Any) -> stats.Interval:
    """The share of hits among draws that come in clusters, by (hits, draws) of each, [N, 2].

    Wilson's interval at the number of independent draws that would be as precise (Kish); as many as
    there are clusters where none or all are hits.
    """
    hits, draws = np.asarray(counts, float).T
    share = hits.sum() / draws.sum()
    variance = ((hits - share * draws) ** 2).sum() / draws.sum() ** 2
    return wilson(share, share * (1 - share) / variance if variance > 0 else len(hits))


def _valid(samples: Sequence[Example]) -> list[Chem.Mol]:
    mols = [sample.data for sample in samples if is_valid(sample.data)]
    if not mols:
        raise SuffuseError(f"none of the {len(samples)} samples is a valid molecule")
    for mol in mols:
        with quiet():
            Chem.SanitizeMol(mol)
    return mols


def _share(
    name: str,
    count: int,
    n: int,
    *,
    target: float | None = None,
    floor: stats.Interval | None = None,
    note: str = "",
) -> Metric:
    if not n:
        raise SuffuseError("there are no samples to evaluate")
    return Metric.of(
        name,
        stats.proportion(count, n),
        "higher",
        n,
        floor=floor,
        scale=100,
        target=target,
        unit="%",
        note=note,
    )


def _column(mols: Sequence[Chem.Mol], name: str) -> Any:
    values = np.array([property_of(mol, name) for mol in mols])
    return values[np.isfinite(values)]


_datasets: weakref.WeakKeyDictionary[Any, dict[str, Any]] = weakref.WeakKeyDictionary()


def _kept(dataset: Dataset) -> dict[str, Any]:
    """Where to keep what was computed for a data set, for as long as the data set lives."""
    try:
        return _datasets.setdefault(dataset, {})
    except TypeError:
        return {}


def _smiles(dataset: Dataset) -> list[str]:
    listed = getattr(dataset, "smiles", None)
    if listed is not None:
        return list(listed())
    return [Chem.MolToSmiles(dataset[i].data) for i in range(len(dataset))]


def _canonical(dataset: Dataset) -> list[str]:
    return [canonical(known(smiles)) for smiles in _smiles(dataset)]


def _training(train: Dataset) -> set[str]:
    """The canonical SMILES of the training split; made once."""
    kept = _kept(train)
    if "canonical" not in kept:
        kept["canonical"] = set(_canonical(train))
    found: set[str] = kept["canonical"]
    return found


def _spread(items: list[str], most: int) -> list[str]:
    return [items[i] for i in stats.evenly(len(items), most)]


def fcd(made: Sequence[str], real: Sequence[str]) -> stats.Interval | None:
    """The Fréchet ChemNet distance between canonical SMILES, of the real ones `MOST` at most.

    None where the package fcd is missing, or a side has fewer than `FEWEST`.
    """
    real = _spread(list(real), MOST)
    if min(len(made), len(real)) < FEWEST or find_spec("fcd") is None:
        return None
    return stats.frechet_interval(chemnet()(list(made)), _activations(tuple(real)), groups=10)


@lru_cache(maxsize=1)
def _activations(smiles: tuple[str, ...]) -> Any:
    return chemnet()(list(smiles))


def chemnet() -> Any:
    """A function from canonical SMILES to ChemNet's activations [N, 512].

    Raises:
        MissingExtra: where the package fcd is missing.
    """
    try:
        fcd = import_module("fcd")
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"molecules/fcd needs more: pip install 'suffuse-molecules[fcd]' ({error})"
        ) from None
    model = fcd.load_ref_model()

    def activations(smiles: list[str]) -> Any:
        with torch.inference_mode():
            return np.asarray(fcd.get_predictions(model, smiles), dtype=np.float64)

    return activations
