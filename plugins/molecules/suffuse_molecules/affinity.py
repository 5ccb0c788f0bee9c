r"""How strongly a molecule binds to a protein: boosted trees on similarities, with an interval.

No diffusion here, since nothing says that it would help. A molecule is told by its Tanimoto
similarities to those of the training table (Morgan fingerprints of radius 2), a protein by the
cosines of its counts of three letters with those of the table's proteins, on their principal axes,
and a pair by what the table knows of like molecules with its protein, and of its molecule with like
proteins. Members of an ensemble, one for each fold, are gradient boosted trees; their mean is the
answer.

The interval is that of split-conformal prediction: errors of pairs that an ensemble like this one
has not seen, in units of a spread s that follows from its members' disagreement, have the quantile
q; the answer is y ± q s. It holds for pairs like those that were held out: of molecules and
proteins that occur in other pairs, unless the table says by folds what is new together. A molecule
or a protein unlike any of the table gets a warning by its largest similarity, and no promise.

Sources: He et al., "SimBoost" (2017), doi 10.1186/s13321-017-0209-z, for boosting on similarities;
Lei et al., "Distribution-free predictive inference for regression" (2018), doi
10.1080/01621459.2017.1307116, sections 2.2 and 5.2; the data of the model that ships: Davis et al.,
"Comprehensive analysis of kinase inhibitor selectivity" (2011), doi 10.1038/nbt.1990.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rdkit import Chem, DataStructs
from rdkit.Chem import rdFingerprintGenerator
from scipy.sparse import csr_array
from scipy.stats import kendalltau

from suffuse.errors import SuffuseError

from .chemistry import REASONS, parse, refusal

__all__ = [
    "Affinity",
    "Answer",
    "Features",
    "Likeness",
    "Trees",
    "concordance",
    "fingerprint",
    "molecule_of",
    "sequence_of",
]

LETTERS = "ACDEFGHIKLMNPQRSTVWYBJOUXZ"
_SHIPPED = Path(__file__).parent / "pretrained" / "davis"
_FAR = 0.35
"""Below these similarities to all of the table a molecule or protein is called unlike it."""
_FAR_PROTEIN = 0.2
_PRIOR = 1e-6
"""How many pairs the mean of the table counts for beside what is known around a pair."""


class Answer(NamedTuple):
    """pKd (−log10 of the dissociation constant in mol/l), its interval, and how near the table is.

    Attributes:
        value, low, high: pKd and the ends of the interval.
        molecule, protein: the largest similarity to a molecule and to a protein of the table.
    """

    value: float
    low: float
    high: float
    molecule: float
    protein: float

    @property
    def warning(self) -> str:
        """What is unlike the table, as a sentence; else empty."""
        far = [
            name
            for name, near, least in (
                ("molecule", self.molecule, _FAR),
                ("protein", self.protein, _FAR_PROTEIN),
            )
            if near < least
        ]
        if not far:
            return ""
        return (
            f"the {' and the '.join(far)} {'are' if len(far) > 1 else 'is'} unlike the training "
            "table: the interval is no promise"
        )


def sequence_of(text: str) -> str:
    """A protein's sequence in one-letter codes, from text, FASTA text or the path of such a file.

    Raises:
        SuffuseError: for letters that stand for no amino acid, or fewer than 20; for several
            sequences; and for the name of a file that is not there.

    >>> sequence_of("> kinase\\nMKTAYIAKQR QISFVKSHFS\\n")
    'MKTAYIAKQRQISFVKSHFS'
    """
    if os.path.isfile(text):  # where Path.is_file raises for a text that is too long for a name
        text = Path(text).read_text(encoding="utf-8", errors="replace")
    elif Path(text).suffix.lower() in (".fasta", ".fa", ".faa", ".txt", ".seq"):
        raise SuffuseError(f"cannot read {text!r}: there is no such file")
    named = sum(line.startswith(">") for line in text.splitlines())
    if named > 1:
        raise SuffuseError(
            f"{named} sequences were given, and an affinity is one protein's: give one of them"
        )
    lines = [line for line in text.strip().splitlines() if not line.startswith(">")]
    found = "".join("".join(lines).split()).upper().rstrip("*")
    strange = sorted(set(found) - set(LETTERS))
    if strange or len(found) < 20:
        few = " ".join(strange[:8]) + (" and others" if len(strange) > 8 else "")
        what = f"has the letters {few!r}" if strange else f"has {len(found)} letters"
        raise SuffuseError(
            "a protein's sequence is one-letter codes of at least 20 amino acids, or a FASTA file; "
            f"this one {what}: {text[:40]!r}"
        )
    return found


def concordance(wanted: Any, found: Any) -> float:
    """The share of pairs of different truth that are in the right order; ties count half.

    NaN where all truths are equal.

    >>> round(concordance([1, 2, 3], [1, 3, 2]), 4), concordance([1, 2], [5, 5])
    (0.6667, 0.5)
    """
    wanted, found = np.asarray(wanted, float), np.asarray(found, float)
    if np.ptp(wanted) == 0:
        return math.nan
    if np.ptp(found) == 0:
        return 0.5
    # Kendall's tau-b is (right − wrong) / √(pairs of different truth · pairs of different answers)
    tau = float(kendalltau(wanted, found).statistic)
    return 0.5 + 0.5 * tau * math.sqrt(_unlike(found) / _unlike(wanted))


def _unlike(values: Any) -> float:
    """How many pairs of the values differ."""
    _, counts = np.unique(values, return_counts=True)
    n = len(values)
    return (n * (n - 1) - float((counts * (counts - 1.0)).sum())) / 2


class Features:
    """Numbers of pairs, by similarity to a table's molecules and proteins.

    Args:
        smiles, sequences: those of the table, M and P of them.
        total, count: of each pair of these, the sum of its pKd in the table and how many there are,
            float64 [M, P].
        axes: principal axes [P, K] and mean [P] of the proteins' similarities; found where None.
        components: K.
    """

    def __init__(
        self,
        smiles: Sequence[str],
        sequences: Sequence[str],
        total: Any,
        count: Any,
        axes: tuple[Any, Any] | None = None,
        components: int = 48,
    ) -> None:
        self.smiles, self.sequences = tuple(smiles), tuple(sequences)
        self.total, self.count = total, count
        self._prints = [fingerprint(s) for s in self.smiles]
        self.protein = Likeness(self.sequences)
        if axes is None:
            similar = np.array([self.protein(s) for s in self.sequences])
            mean = similar.mean(0)
            found = np.linalg.svd(similar - mean, full_matrices=False)[2]
            # in C's order: safetensors writes the memory of an array as it lies
            turned = np.ascontiguousarray(found[:components].T, np.float32)
            axes = turned, mean.astype(np.float32)
        self.axes = axes

    def molecule(self, smiles: str) -> Any:
        """Similarities to the table's molecules, float32 [M]."""
        own = fingerprint(smiles)
        return np.array(DataStructs.BulkTanimotoSimilarity(own, self._prints), np.float32)

    def __call__(self, molecules: Any, proteins: Any, own: Any = None) -> Any:
        """Features of pairs, float32 [N, M + K + 4].

        The last four are means of what the table knows and how much it knows: of the pair's protein
        with molecules weighted by the fourth power of their similarity, and of its molecule with
        proteins weighted by the eighth. In the place of a protein or a molecule that the table
        does not have stand those like it, by the same weights.

        Args:
            molecules, proteins: their similarities to the table's, [N, M] and [N, P].
            own: in fitting, the value of each pair, which the table has and which does not count
                here, [N].
        """
        a, u = _weights(molecules, 4)
        b, v = _weights(proteins, 8)
        mean = self.total.sum() / self.count.sum()
        parts = [molecules, (proteins - self.axes[1]) @ self.axes[0]]
        for left, right in ((a, v), (u, b)):
            total, count = (
                np.einsum("np,np->n", left @ table, right) for table in (self.total, self.count)
            )
            if own is not None:  # its weight is 1
                total, count = total - own, count - 1
            around = (total + _PRIOR * mean) / (count + _PRIOR)
            parts += [around[:, None], np.log1p(np.maximum(count, 0))[:, None]]
        return np.concatenate(parts, axis=1).astype(np.float32)


def _weights(similar: Any, power: float) -> tuple[Any, Any]:
    """Weights of the table's rows for what is like each, and for what stands for each, [N, M]."""
    same = similar > 1 - 1e-5
    alike = np.where(same, 1.0, similar.astype(float)) ** power
    some = alike + 1e-30
    others = some / some.sum(1, keepdims=True)
    return alike, np.where(same.any(1, keepdims=True), same, others)


@lru_cache(maxsize=4096)
def molecule_of(smiles: str) -> Chem.Mol:
    """The molecule of a SMILES; of a salt its largest piece."""
    mol = parse(smiles)
    reason = refusal(mol)
    if mol is not None and reason == "fragments":
        return max(Chem.GetMolFrags(mol, asMols=True), key=lambda m: m.GetNumHeavyAtoms())
    if mol is None or reason not in (None, "isotope"):
        raise SuffuseError(
            f"the molecule {smiles!r} is not taken ({reason}): {REASONS[reason or 'unreadable']}"
        )
    return mol


def fingerprint(smiles: str) -> Any:
    """Morgan's bits of radius 2, 2,048 of them; of a salt those of its largest piece."""
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    return generator.GetFingerprint(molecule_of(smiles))


def _words(sequence: str) -> Any:
    """How often each word of three letters occurs, as a vector of length 1, [26³]."""
    letters = np.array([LETTERS.index(letter) for letter in sequence])
    base = len(LETTERS)
    words = (letters[:-2] * base + letters[1:-1]) * base + letters[2:]
    counts = np.bincount(words, minlength=base**3).astype(float)
    return counts / np.linalg.norm(counts)


class Likeness:
    """Cosines of a sequence's counts of words to those of several sequences, float32 [P]."""

    def __init__(self, sequences: Sequence[str]) -> None:
        self.counts = csr_array(np.array([_words(s) for s in sequences]))

    def __call__(self, sequence: str) -> Any:
        return np.asarray(self.counts @ _words(sequence), np.float32)


@dataclass(frozen=True)
class Trees:
    """Regression trees as arrays, the nodes of all one after the other.

    Attributes:
        feature: of each node, int32; −1 for a leaf.
        threshold: values up to it go left, float32.
        left: the node of the left child, int32; the right one follows it.
        value: of a leaf, float32.
        roots: the first node of each tree, int32.
        base: what the sum of the trees is added to.
    """

    feature: Any
    threshold: Any
    left: Any
    right: Any
    value: Any
    roots: Any
    base: float

    def __call__(self, x: Any) -> Any:
        """Predictions [N] for features [N, F]."""
        out = np.full(len(x), self.base)
        for start in range(0, len(x), 512):
            part = x[start : start + 512]
            rows = np.arange(len(part))[:, None]
            node = np.broadcast_to(self.roots, (len(part), len(self.roots))).copy()
            while True:
                feature = self.feature[node]
                inner = feature >= 0
                if not inner.any():
                    break
                goes_left = part[rows, np.maximum(feature, 0)] <= self.threshold[node]
                after = np.where(goes_left, self.left[node], self.right[node])
                node = np.where(inner, after, node)
            out[start : start + 512] += self.value[node].sum(1)
        return out


class Affinity:
    """A fitted model of affinities.

    Args:
        features: of pairs.
        members: the trees of each fold.
        quantile: q of the interval, for the coverage.
        floor: added to the members' disagreement, in pKd.
        coverage: of the interval, in (0, 1).
    """

    def __init__(
        self,
        features: Features,
        members: Sequence[Trees],
        quantile: float,
        floor: float,
        coverage: float,
    ) -> None:
        self.features, self.members = features, tuple(members)
        self.quantile, self.floor, self.coverage = quantile, floor, coverage

    def __call__(self, smiles: str, sequence: str) -> Answer:
        """The affinity of one pair.

        Raises:
            SuffuseError: for a molecule or a sequence that is none.
        """
        molecule = self.features.molecule(smiles)
        protein = self.features.protein(sequence_of(sequence))
        found = self.spread(self.features(molecule[None], protein[None]))
        value, width = float(found[0][0]), float(found[1][0]) * self.quantile
        near = float(molecule.max()), float(protein.max())
        return Answer(value, value - width, value + width, *near)

    def spread(self, x: Any) -> tuple[Any, Any]:
        """The answer and s for features [N, F]."""
        each = np.stack([member(x) for member in self.members])
        return each.mean(0), each.std(0) + self.floor

    def save(self, path: str | Path) -> None:
        """Write model.safetensors and config.json into a folder."""
        from safetensors.numpy import save

        from suffuse.storage import write_bytes

        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        known = self.features
        tables = {"axes": known.axes[0], "mean": known.axes[1]}
        tables |= {"total": known.total, "count": known.count}
        for k, member in enumerate(self.members):
            for name in ("feature", "threshold", "left", "right", "value", "roots"):
                tables[f"{k}.{name}"] = getattr(member, name)
        config = {
            "kind": "molecules/affinity",
            "smiles": known.smiles,
            "sequences": known.sequences,
            "bases": [member.base for member in self.members],
            "quantile": self.quantile,
            "floor": self.floor,
            "coverage": self.coverage,
        }
        write_bytes(folder / "model.safetensors", save(tables))
        write_bytes(folder / "config.json", (json.dumps(config) + "\n").encode())

    @classmethod
    def load(cls, path: str | Path | None = None) -> Affinity:
        """The model of a folder, or the one that ships.

        Raises:
            SuffuseError: where the folder holds none.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        folder = _SHIPPED if path is None else Path(path)
        try:
            config = json.loads((folder / "config.json").read_text())
            tables = load_file(folder / "model.safetensors")
            if config["kind"] != "molecules/affinity":
                raise KeyError("kind")
            table = [tables[name] for name in ("total", "count")]  # those of before have none
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise SuffuseError(
                f"{str(folder)!r} holds no model of affinities ({error}); fit one by "
                "`suffuse molecules affinity --fit TABLE -o FOLDER`"
            ) from None
        members = [
            Trees(
                *(tables[f"{k}.{n}"] for n in ("feature", "threshold", "left", "right", "value")),
                tables[f"{k}.roots"],
                base,
            )
            for k, base in enumerate(config["bases"])
        ]
        axes = tables["axes"], tables["mean"]
        features = Features(config["smiles"], config["sequences"], *table, axes)
        return cls(features, members, config["quantile"], config["floor"], config["coverage"])
