"""Benchmarks of shapes and interactions: crystal ligands, redocking beside Vina, affinities.

The cases of poses and affinities need SUFFUSE_DATA (molecules/binding_poses.zip and
molecules/dta_davis.npz), and peers need their packages; without them a case has a note and no
figure.
"""

from __future__ import annotations

import os
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from rdkit import Chem, DataStructs
from rdkit.Chem import rdMolAlign
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from suffuse import stats
from suffuse.bench import Case, Context, Result
from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Metric

from .affinity import Likeness, concordance, fingerprint
from .affinity_fit import Pairs, fit, matrix
from .bench import share
from .checks import failed, strain
from .chemistry import implicit, quiet
from .docking import Pose, dock
from .receptor import Box, Receptor, read_receptor
from .torsion_data import crystal_ligands
from .torsion_fit import compared, coverage
from .torsional import load
from .vina import dock_with_vina

__all__ = ["Affinities", "Poses", "Torsions", "interactions", "judged_poses"]

_PACKAGE = "suffuse_molecules"
_NEAR = 2.0  # Å
_POSES = "binding_poses.zip"


def _file(name: str) -> Path:
    folder = os.environ.get("SUFFUSE_DATA")
    path = Path(folder or ".") / "molecules" / name
    if not folder or not path.is_file():
        raise SuffuseError(f"needs SUFFUSE_DATA with molecules/{name} in it")
    return path


def _median(name: str, values: Any, unit: str) -> Metric:
    found = stats.bootstrap(np.median, np.asarray(values), method="percentile", seed=0)
    return Metric.of(name, found, "lower", len(values), unit=unit)


def _mean(name: str, values: Any, better: Any, unit: str) -> Metric:
    found = stats.bootstrap(np.mean, np.asarray(values), method="percentile", seed=0)
    return Metric.of(name, found, better, len(values), unit=unit)


@dataclass(frozen=True)
class Torsions:
    """The nearest of k conformers to a crystal ligand whose scaffold was held out, by method.

    Figures of ETKDG, of the model of torsions and of half of either are of the same ligands.
    """

    task: str
    model: str
    seed: int
    k: int = 10
    n: int = 500
    path: str | None = None
    measures: ClassVar[Sequence[str]] = (_PACKAGE, "rdkit", "biotite")

    def run(self, context: Context) -> Result:
        """Median distances in Å and shares under 1 Å; coverage at 0.75 Å (`coverage`)."""
        try:
            network = load(self.path)
            ligands = context.once(
                ("crystal ligands", self.n), lambda: [*crystal_ligands(self.n, held_out=True)]
            )
        except SuffuseError as error:
            return Result([], note=str(error))
        found = compared(ligands, self.k, self.seed, network)
        metrics = []
        least = {name: np.array([part.min() for part in parts]) for name, parts in found.items()}
        for name, parts in found.items():
            metrics += [
                _median(f"{name}, median", least[name], "Å"),
                share(f"{name}, under 1 Å", int((least[name] < 1).sum()), len(parts)),
            ]
            # of each ligand one shape is known, so that COV-R of a ligand is 0 or 1
            each = [coverage(part[None]) for part in parts]
            for kind in each[0]:
                values = [100 * one[kind] if kind.startswith("COV") else one[kind] for one in each]
                better, unit = ("higher", "%") if kind.startswith("COV") else ("lower", "Å")
                metrics.append(_mean(f"{name}, {kind}", values, better, unit))
        for name in ("torsional", "union"):
            nearer = least["etkdg"] - least[name]
            metrics.append(_mean(f"{name}, nearer than etkdg", nearer, "higher", "Å"))
        return Result(metrics)


@dataclass(frozen=True)
class Poses:
    """Redocking: ligands from their SMILES into the pockets that they were taken from.

    By this package's search and, of the same ligands, by Vina itself.

    Args:
        group: folders of the archive: "jacs_set", on which the ranking was chosen, "merck", or "".
        each: ligands of each protein, evenly spaced in its file.
        exhaustiveness: of Vina, whose own default is 8.
        padding: of the box about the ligand, in Å.
    """

    task: str
    model: str
    seed: int
    group: str = "merck"
    each: int = 2
    exhaustiveness: int = 8
    padding: float = 4.0
    measures: ClassVar[Sequence[str]] = (_PACKAGE, "rdkit", "vina")

    def run(self, context: Context) -> Result:
        """Shares of ligands with a pose under 2 Å and of first poses that pass all checks; time."""
        try:
            _file(_POSES)
        except SuffuseError as error:
            return Result([], note=str(error))
        rows: list[dict[str, Any]] = [
            {"complex": name, **self.redocked(mol, receptor)}
            for name, mol, receptor in self.complexes()
        ]
        lost = [
            f"{row['complex']}: {method} found no pose ({row[method]['error']})"
            for row in rows
            for method in ("suffuse", "Vina")
            if "error" in row.get(method, ())
        ]
        return Result(judged_poses(rows), note="; ".join(lost), detail={"complexes": rows})

    def redocked(self, mol: Chem.Mol, receptor: Receptor) -> dict[str, dict[str, Any]]:
        """By method, the distances of its poses in Å, the checks that fail and seconds of a thread.

        Without the packages of Vina there is no second one. A method that finds no pose has no
        distance, fails the check "pose", and says why under "error".
        """
        box = Box.about(mol.GetConformer().GetPositions(), self.padding)
        plain = Chem.MolFromSmiles(Chem.MolToSmiles(mol))
        sound = strain(plain)

        def by_vina() -> list[Pose]:
            more = self.exhaustiveness
            return dock_with_vina(plain, receptor, box, seed=self.seed, exhaustiveness=more)

        found = {}
        for name, search in (
            ("suffuse", lambda: dock(plain, receptor, box, seed=self.seed)),
            ("Vina", by_vina),
        ):
            if name == "Vina" and not all(find_spec(package) for package in ("vina", "meeko")):
                continue
            begin = time.process_time()
            try:
                poses = search()
            except (SuffuseError, RuntimeError) as error:  # Vina's own are RuntimeErrors
                answer = {"distances": [], "failed": ["pose"], "error": str(error)}
                found[name] = {"seconds": time.process_time() - begin, **answer}
                continue
            found[name] = {
                "seconds": time.process_time() - begin,
                "distances": [_distance(pose.mol, mol) for pose in poses],
                "failed": list(failed(poses[0].mol, receptor, plain, sound)),
            }
        return found

    def complexes(self) -> Iterator[tuple[str, Chem.Mol, Receptor]]:
        """Name, ligand as it lies in the complex, and receptor."""
        with zipfile.ZipFile(_file(_POSES)) as archive:
            inside = sorted(archive.namelist())
            for entry in inside:
                protein = entry.replace("_ligands.sdf", "_protein.pdb")
                if not entry.startswith(self.group) or protein == entry:
                    continue
                with tempfile.TemporaryDirectory() as folder:
                    receptor = read_receptor(archive.extract(protein, folder))
                with quiet():
                    blocks = archive.read(entry)
                    supplier: Any = Chem.SDMolSupplier()
                    supplier.SetData(blocks)
                    mols = [mol for mol in supplier if mol is not None]
                for k in range(self.each):
                    i = (2 * k + 1) * len(mols) // (2 * self.each)
                    name = Path(entry).name.removesuffix("_ligands.sdf")
                    yield f"{name} {i + 1}", mols[i], receptor


def judged_poses(rows: Sequence[dict[str, Any]]) -> list[Metric]:
    """Figures of redocked complexes by method, and of both on the same complexes.

    Args:
        rows: of `Poses.redocked`.
    """
    metrics = []
    hits, seconds = {}, {}
    for name in ("suffuse", "Vina"):
        own = [row[name] for row in rows if name in row]
        if not own:
            continue
        hits[name] = np.array([any(r < _NEAR for r in one["distances"][:1]) for one in own])
        seconds[name] = np.array([one["seconds"] for one in own])
        best = sum(any(r < _NEAR for r in one["distances"]) for one in own)
        sound = sum(not one["failed"] for one in own)
        note = "Ligands of one protein are alike."
        metrics += [
            share(f"{name}, first under 2 Å", int(hits[name].sum()), len(own), note),
            share(f"{name}, any of nine under 2 Å", best, len(own)),
            share(f"{name}, first passes all checks", sound, len(own)),
            _median(f"{name}, seconds of a thread", seconds[name], "s"),
        ]
    if len(hits) == 2:
        more = 100 * (hits["suffuse"].astype(float) - hits["Vina"])
        metrics += [
            _mean("more first poses under 2 Å", more, "higher", "%"),
            _median("time of Vina over ours", seconds["Vina"] / seconds["suffuse"], ""),
        ]
    return metrics


def _distance(pose: Chem.Mol, crystal: Chem.Mol) -> float:
    """Root mean square distance in Å over heavy atoms and symmetries, as they lie."""
    return float(rdMolAlign.CalcRMS(implicit(pose), implicit(crystal)))


@dataclass(frozen=True)
class Affinities:
    """Davis's kinases, by what was held out: "pairs", a fifth of the molecules, or of the proteins.

    Mutants and other forms of one kinase are held out together (`_families`).

    Beside the model stand two answers that need none: for pairs and new molecules the mean of the
    protein, for new proteins the mean of the molecule; and for new molecules and pairs that mean
    weighted by the molecules' similarity, their fingerprints' kernel regression.

    Args:
        held_out: "pairs", "molecules" or "proteins".
        trees: of each member; what ships has 300.
    """

    task: str
    model: str
    seed: int
    held_out: str = "pairs"
    trees: int = 150
    measures: ClassVar[Sequence[str]] = (_PACKAGE, "sklearn")

    def run(self, context: Context) -> Result:
        """Concordance and squared error of each, and how many intervals hold the truth."""
        try:
            pairs, train, test = _davis(self.held_out, self.seed)
            model, _ = fit(_grouped(pairs.of(train), self.held_out, self.seed), trees=self.trees)
        except SuffuseError as error:
            return Result([], note=str(error))
        seen, asked = pairs.of(train), pairs.of(test)
        value, spread = model.spread(matrix(model.features, asked))
        by = "molecule" if self.held_out == "proteins" else "protein"
        answers = {"model": value, f"mean of the {by}": _means(seen, asked, by)}
        if self.held_out != "proteins":
            answers["similarity"] = _kernel(seen, asked)
        # what was held out together is drawn together
        unit = _units(asked, self.held_out) if self.held_out != "pairs" else asked.molecule
        metrics = []
        for name, answer in answers.items():
            metrics += [
                _judged(f"{name}, concordance", concordance, "higher", asked.value, answer, unit),
                _judged(f"{name}, squared error", _squared, "lower", asked.value, answer, unit),
            ]
        held = np.abs(value - asked.value) <= model.quantile * spread
        note = f"{100 * model.coverage:.0f} % are asked for."
        return Result([*metrics, share("intervals hold", int(held.sum()), len(held), note)])


def _davis(held_out: str, seed: int) -> tuple[Pairs, Any, Any]:
    """The table, and the places of the pairs to learn from and of those held out."""
    with np.load(_file("dta_davis.npz"), allow_pickle=False) as table:
        data = {name: table[name] for name in table.files}
    rows, columns = np.nonzero(~np.isnan(data["affinity"]))
    pairs = Pairs(
        tuple(map(str, data["smiles"])),
        tuple(map(str, data["sequences"])),
        rows,
        columns,
        9 - np.log10(data["affinity"][rows, columns].astype(float)),
    )
    if held_out == "pairs":
        return pairs, data["train_index"], data["test_fold"]
    own = _units(pairs, held_out)
    several = np.random.default_rng(seed).permutation(np.unique(own))
    out = np.isin(own, several[: len(several) // 5])
    return pairs, np.flatnonzero(~out), np.flatnonzero(out)


def _units(pairs: Pairs, held_out: str) -> Any:
    """What is held out together, a number for each pair: its molecule, or its protein's family."""
    return pairs.molecule if held_out == "molecules" else _families(pairs.sequences)[pairs.protein]


@lru_cache(maxsize=2)
def _families(sequences: tuple[str, ...]) -> Any:
    """Proteins that are linked by sequences alike to 0.9, a number for each."""
    likeness = Likeness(sequences)
    alike = np.array([likeness(s) for s in sequences]) > 0.9
    return connected_components(csr_array(alike), directed=False)[1]


def _grouped(pairs: Pairs, held_out: str, seed: int) -> Pairs:
    """With folds that leave out together what the split does, so that intervals are fair."""
    if held_out == "pairs":
        return pairs
    own = _units(pairs, held_out)
    several = np.random.default_rng(seed + 1).permutation(np.unique(own))
    fold = {int(item): k % 5 for k, item in enumerate(several)}
    folds = np.array([fold[int(item)] for item in own])
    return Pairs(pairs.smiles, pairs.sequences, pairs.molecule, pairs.protein, pairs.value, folds)


def _means(seen: Pairs, asked: Pairs, by: str) -> Any:
    """The mean of what is known of each pair's protein or molecule."""
    own, wanted = getattr(seen, by), getattr(asked, by)
    total = np.bincount(own, seen.value, minlength=wanted.max() + 1)
    count = np.bincount(own, minlength=wanted.max() + 1)
    mean = np.where(count > 0, total / np.maximum(count, 1), seen.value.mean())
    return mean[wanted]


def _kernel(seen: Pairs, asked: Pairs, power: float = 4.0) -> Any:
    """Σ w y / Σ w over the protein's known molecules, w the fourth power of the similarity."""
    prints = [fingerprint(smiles) for smiles in seen.smiles]
    similar = np.array([DataStructs.BulkTanimotoSimilarity(p, prints) for p in prints]) ** power
    known = np.full((len(seen.smiles), len(seen.sequences)), np.nan)
    known[seen.molecule, seen.protein] = seen.value
    there = ~np.isnan(known)
    total = similar @ np.where(there, known, 0.0)
    weight = similar @ there
    mean = np.where(weight > 0, total / np.maximum(weight, 1e-12), seen.value.mean())
    return mean[asked.molecule, asked.protein]


def _squared(wanted: Any, found: Any) -> float:
    return float(((wanted - found) ** 2).mean())


def _judged(
    name: str, figure: Any, better: Any, wanted: Any, found: Any, unit: Any, resamples: int = 60
) -> Metric:
    """A figure, and its interval from resamples of the units (molecules or proteins)."""
    order = np.random.default_rng(0)
    several = [np.flatnonzero(unit == k) for k in np.unique(unit)]
    drawn = []
    for _ in range(resamples):
        chosen = np.concatenate(
            [several[i] for i in order.integers(len(several), size=len(several))]
        )
        drawn.append(figure(wanted[chosen], found[chosen]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    value = figure(wanted, found)
    return Metric(name, value, min(low, value), max(high, value), better, len(wanted))


def interactions(
    seeds: int = 3,
    searches: int = 1,
    ligands: int = 500,
    group: str = "merck",
    each: int = 2,
    exhaustiveness: int = 8,
) -> Iterator[Case]:
    """Crystal ligands, poses and affinities: an hour of one core.

    Args:
        seeds: of affinities' splits and trees.
        searches: of conformers and poses, seeds of them.
        ligands: crystal ligands held out.
        group, each, exhaustiveness: of the complexes and of Vina, see `Poses`.
    """
    for seed in range(searches):
        yield Torsions("molecules/crystal ligands", "k = 10", seed, 10, ligands)
        yield Poses("molecules/poses", "suffuse, Vina", seed, group, each, exhaustiveness)
    for seed in range(seeds):
        for held_out in ("pairs", "molecules", "proteins"):
            yield Affinities(f"molecules/affinities, new {held_out}", "boosted", seed, held_out)
