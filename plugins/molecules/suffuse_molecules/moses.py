"""MOSES's and GuacaMol's figures of a set of molecules, written anew.

Of n molecules made, against real ones: shares that are valid, unique and novel; internal
diversity; the share that passes the filters of medicinal chemistry; the similarity to the nearest
real one (SNN); the cosines of the counts of BRICS fragments and of Murcko scaffolds (with two rings
or more); the Wasserstein distances of logP, SA, QED and weight; and GuacaMol's mean of e^{−KL} over
distributions of properties. `add_carbon` makes a set that most of these take for excellent: what a
figure has to be seen beside.

Sources: Polykovskiy et al., "Molecular sets (MOSES)" (2020), doi 10.3389/fphar.2020.565644; Brown,
Fiscato, Segler, Vaucher, "GuacaMol" (2019), doi 10.1021/acs.jcim.8b00839; Renz, Van Rompaey,
Wegner, Hochreiter, Klambauer, "On failure modes in molecule generation and optimization" (2019),
doi 10.1016/j.ddtec.2020.09.003, for the added carbon.
"""

from __future__ import annotations

import csv
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import metadata
from typing import Any, NamedTuple

import numpy as np
from rdkit import Chem
from rdkit.Chem import BRICS, Descriptors, FilterCatalog, rdFingerprintGenerator
from rdkit.Chem.Scaffolds import MurckoScaffold
from scipy.stats import entropy, gaussian_kde

from suffuse.errors import SuffuseError
from suffuse.stats import evenly

from .chemistry import canonical, flat, parse, problem, quiet
from .evaluators import fcd, wasserstein
from .properties import property_of

__all__ = [
    "add_carbon",
    "beside",
    "cosine",
    "described",
    "divergence",
    "diversity",
    "figures",
    "fragments",
    "guacamol_kl",
    "mean_similarities",
    "nearest",
    "nearest_similarity",
    "pains",
    "passes",
    "scaffolds",
    "shipped",
]

_ELEMENTS = {"C", "N", "S", "O", "F", "Cl", "Br", "H"}
_COMPARED = ("logp", "sa", "qed", "weight")
_CONTINUOUS = {
    "BertzCT": Descriptors.BertzCT,
    "MolLogP": Descriptors.MolLogP,
    "MolWt": Descriptors.MolWt,
    "TPSA": Descriptors.TPSA,
}
_DISCRETE = {
    "NumHAcceptors": Descriptors.NumHAcceptors,
    "NumHDonors": Descriptors.NumHDonors,
    "NumRotatableBonds": Descriptors.NumRotatableBonds,
    "NumAliphaticRings": Descriptors.NumAliphaticRings,
    "NumAromaticRings": Descriptors.NumAromaticRings,
}


def figures(
    made: Sequence[str],
    real: Sequence[Chem.Mol],
    training: Sequence[str] = (),
    at: int = 1000,
) -> dict[str, float]:
    """All figures by name; of the molecules made as SMILES, those that are none among them.

    Args:
        made: SMILES, also broken ones.
        real: molecules of a test set.
        training: canonical SMILES without stereo that are not novel.
        at: of uniqueness, among how many of the first valid ones.
    """
    mols = [mol for mol in map(parse, made) if mol is not None and problem(mol) is None]
    if not mols:
        raise SuffuseError("not one of the molecules is valid, so there is nothing to compare")
    names = [canonical(mol) for mol in mols]
    first = names[:at]
    out = {
        "valid": len(mols) / len(made),
        f"unique@{at}": len(set(first)) / len(first),
        "unique": len(set(names)) / len(names),
        "IntDiv": diversity(mols),
        "IntDiv2": diversity(mols, 2),
        "SNN": nearest_similarity(mols, real),
        "Frag": cosine(fragments(mols), fragments(real)),
        "Scaf": cosine(scaffolds(mols), scaffolds(real)),
        "KL": guacamol_kl(mols, real),
    }
    if training:
        out["novel"] = len(set(names) - set(training)) / len(set(names))
    if _mcf() is not None:
        out["filters"] = float(np.mean([passes(mol) for mol in mols]))
    apart = fcd(names, [canonical(mol) for mol in real])
    if apart is not None:
        out["FCD"] = apart.value
    for name in _COMPARED:
        out[name] = wasserstein(*([property_of(m, name) for m in part] for part in (mols, real)))
    return out


def beside(
    made: Sequence[str], real: Sequence[Chem.Mol], training: Sequence[str], seed: int = 0
) -> dict[str, dict[str, float]]:
    """The figures of a made set, of added carbons and of training molecules, all of one size.

    Args:
        made: SMILES, also broken ones; of more than there are training molecules, as many are
            drawn.
        real: molecules of a test set, not trained on.
        training: canonical SMILES without stereo.
        seed: of the draws.

    Returns:
        The figures by the names "made", "added carbon" and "training": the last is the floor.
    """
    n = min(len(made), len(training))
    source = random.Random(seed)
    drawn = source.sample(list(training), n)
    if len(made) > n:
        made = source.sample(list(made), n)
    return {
        "made": figures(made, real, training),
        "added carbon": figures(add_carbon(training, n, seed), real, training),
        "training": figures(drawn, real, training),
    }


def _bits(mols: Sequence[Chem.Mol], size: int = 1024) -> Any:
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=size)
    return np.stack([generator.GetFingerprintAsNumPy(mol) for mol in mols]).astype(np.float32)


def _similar(a: Any, b: Any) -> Any:
    """Tanimoto similarities [A, B]; of two without bits 1."""
    shared = a @ b.T
    union = a.sum(1)[:, None] + b.sum(1) - shared
    return np.where(union > 0, shared / np.maximum(union, 1), 1.0)


def diversity(mols: Sequence[Chem.Mol], p: int = 1) -> float:
    """One less the mean over molecules of (the mean over all of the similarity to the p)^{1/p}.

    A molecule is compared with itself too. The root is taken for each molecule, as MOSES's code
    does, and not once for all, as its paper writes.
    """
    return 1 - float(mean_similarities(mols, p).mean())


def mean_similarities(mols: Sequence[Chem.Mol], p: int = 1) -> Any:
    """Of each molecule (the mean over all of the similarity to the p)^{1/p}, [N]."""
    x = _bits(mols)
    rows = [(_similar(x[i : i + 1000], x) ** p).mean(1) ** (1 / p) for i in range(0, len(x), 1000)]
    return np.concatenate(rows)


def nearest_similarity(mols: Sequence[Chem.Mol], real: Sequence[Chem.Mol]) -> float:
    """SNN: the mean similarity of each to its nearest real one."""
    return float(nearest(mols, real)[1].mean())


def nearest(mols: Sequence[Chem.Mol], real: Sequence[Chem.Mol]) -> tuple[Any, Any]:
    """Of each its nearest real one's place, int64 [N], and the similarity to it, [N]."""
    x = _bits(mols)
    place, best = np.zeros(len(x), dtype=np.int64), np.full(len(x), -1.0)
    for i in range(0, len(real), 2000):  # fingerprints of all would not fit in memory
        found = _similar(x, _bits(real[i : i + 2000]))
        better = found.max(1) > best
        place[better], best[better] = i + found.argmax(1)[better], found.max(1)[better]
    return place, best


def fragments(mols: Sequence[Chem.Mol]) -> Counter[str]:
    """How often each piece occurs that is left when the bonds of BRICS are cut."""
    found: Counter[str] = Counter()
    for mol in mols:
        cut = BRICS.BreakBRICSBonds(flat(mol))
        found.update(Chem.MolToSmiles(cut).split("."))
    return found


def scaffolds(mols: Sequence[Chem.Mol], rings: int = 2) -> Counter[str]:
    """How often each Murcko scaffold with so many rings or more occurs."""
    found: Counter[str] = Counter()
    for mol in mols:
        core = MurckoScaffold.GetScaffoldForMol(flat(mol))
        if core.GetNumAtoms() and core.GetRingInfo().NumRings() >= rings:
            found[Chem.MolToSmiles(core)] += 1
    return found


def cosine(a: Mapping[str, int], b: Mapping[str, int]) -> float:
    """The cosine of two tables of counts; NaN where one is empty.

    >>> cosine({"a": 3, "b": 4}, {"a": 3, "c": 4})
    0.36
    """
    if not a or not b:
        return math.nan
    shared = sum(count * b.get(name, 0) for name, count in a.items())
    return shared / math.sqrt(sum(v * v for v in a.values()) * sum(v * v for v in b.values()))


def shipped(name: str) -> str | None:
    """The path of a file of the package `molsets`; None where that is not installed."""
    try:
        files = metadata.files("molsets") or ()
    except metadata.PackageNotFoundError:
        return None
    return next((str(f.locate()) for f in files if f.name == name), None)


@cache
def _mcf() -> tuple[Chem.Mol, ...] | None:
    """MOSES's own filters, from the package `molsets`; None where that is not installed."""
    path = shipped("mcf.csv")
    if path is None:
        return None
    with open(path, encoding="utf-8") as file:
        return tuple(Chem.MolFromSmarts(row["smarts"]) for row in csv.DictReader(file))


@cache
def pains() -> Any:
    """The catalogue of the PAINS filters (Baell and Holloway, 2010)."""
    parameters = FilterCatalog.FilterCatalogParams()
    parameters.AddCatalog(FilterCatalog.FilterCatalogParams.FilterCatalogs.PAINS)
    return FilterCatalog.FilterCatalog(parameters)


def passes(mol: Chem.Mol) -> bool:
    """Whether a molecule passes MOSES's filters.

    No ring of eight or more, no charge, no element but C N S O F Cl Br, nothing that PAINS or the
    filters of medicinal chemistry match; the latter come with the package `molsets`, and are left
    out where it is not installed.
    """
    if any(len(ring) >= 8 for ring in mol.GetRingInfo().AtomRings()):
        return False
    if any(a.GetFormalCharge() or a.GetSymbol() not in _ELEMENTS for a in mol.GetAtoms()):
        return False
    whole = Chem.AddHs(mol)
    return not (
        any(whole.HasSubstructMatch(pattern) for pattern in _mcf() or ()) or pains().HasMatch(whole)
    )


def guacamol_kl(mols: Sequence[Chem.Mol], real: Sequence[Chem.Mol]) -> float:
    """The mean of e^{−KL(real ‖ made)} over nine properties and the similarity to the nearest.

    Of different molecules without stereo, as many on both sides: of the larger one evenly spaced.
    Continuous ones by kernel densities on a thousand points, counts by histograms of ten bins. In
    GuacaMol the real ones are training molecules.
    """
    return divergence(*described(mols, real))


class Described(NamedTuple):
    """Different molecules, for `divergence`.

    Attributes:
        properties: the nine, [N, 9].
        bits: of their fingerprints, [N, 4096].
    """

    properties: Any
    bits: Any

    def of(self, rows: Any) -> Described:
        """Some of them."""
        return Described(self.properties[rows], self.bits[rows])


def described(mols: Sequence[Chem.Mol], real: Sequence[Chem.Mol]) -> tuple[Described, Described]:
    """Different ones of the molecules made and of the real ones, as many of either."""
    sides = [[*{canonical(mol): mol for mol in part}.values()] for part in (mols, real)]
    n = min(map(len, sides))
    chosen = [[part[i] for i in evenly(len(part), n)] for part in sides]
    functions = (*_CONTINUOUS.values(), *_DISCRETE.values())
    made, there = (
        Described(np.array([[f(mol) for f in functions] for mol in part], float), _bits(part, 4096))
        for part in chosen
    )
    return made, there


def divergence(made: Described, real: Described) -> float:
    """The mean of e^{−KL(real ‖ made)}; see `guacamol_kl`."""
    columns = zip(real.properties.T, made.properties.T, strict=True)
    scores = [
        (_continuous if k < len(_CONTINUOUS) else _counted)(*pair) for k, pair in enumerate(columns)
    ]
    scores.append(_continuous(_inner(real.bits), _inner(made.bits)))
    return float(np.mean(np.exp(-np.array(scores))))


def _inner(x: Any) -> Any:
    """The similarity of each to its nearest other one, by their bits [N, K], [N]."""
    best = []
    for start in range(0, len(x), 1000):
        similar = _similar(x[start : start + 1000], x)
        rows = np.arange(len(similar))
        similar[rows, start + rows] = 0.0
        best.append(similar.max(1))
    return np.concatenate(best)


def _continuous(real: Any, made: Any) -> float:
    real, made = (np.asarray(part, float) for part in (real, made))
    if min(np.ptp(real), np.ptp(made)) == 0:
        return 0.0 if np.ptp(np.concatenate([real, made])) == 0 else math.inf
    grid = np.linspace(min(real.min(), made.min()), max(real.max(), made.max()), 1000)
    p, q = (gaussian_kde(part)(grid) + 1e-10 for part in (real, made))
    return float(entropy(p, q))


def _counted(real: Any, made: Any) -> float:
    p, edges = np.histogram(real, bins=10, density=True)
    with np.errstate(invalid="ignore"):  # none of those made may lie within
        q, _ = np.histogram(made, bins=edges, density=True)
    return float(entropy(np.nan_to_num(p) + 1e-10, np.nan_to_num(q) + 1e-10))


def add_carbon(smiles: Sequence[str], n: int, seed: int = 0) -> list[str]:
    """Training molecules with one more carbon, put into their SMILES at a random place.

    A baseline without any model: valid, novel, and near to the training distribution in all that
    is measured of it.
    """
    source, known, out = random.Random(seed), set(smiles), []
    for _ in range(200 * n):
        if len(out) == n:
            break
        text = source.choice(smiles)
        at = source.randint(0, len(text))
        with quiet():
            mol = Chem.MolFromSmiles(text[:at] + "C" + text[at:])
        if mol is not None and problem(mol) is None and canonical(mol) not in known:
            out.append(canonical(mol))
    return out
