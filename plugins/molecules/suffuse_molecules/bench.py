"""The suite of benchmarks: round trips, sampling, conditions, edits, shapes, and speed.

What needs QM9 or other files of SUFFUSE_DATA says so in its note, and has no figures without them.
"""

from __future__ import annotations

import gzip
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from rdkit import Chem
from rdkit.Chem import rdMolAlign
from rdkit.Chem.Scaffolds import MurckoScaffold

import suffuse
from suffuse import recipe, stats
from suffuse.bench import Case, Context, Result
from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Dataset, Example, Metric
from suffuse.report.record import log
from suffuse.training import train

from .bench_step import Step
from .chemistry import canonical, implicit, known, quiet
from .conformers import conformers
from .datasets import NCI, QM9
from .editing import decorate, link
from .evaluators import FCD, Distinct, Validity
from .graph import RAW, Graph
from .properties import property_of

__all__ = ["Edits", "asked", "molecules", "share", "short", "training"]

Kind = Literal["scaffold", "R-groups", "linker"]
KINDS: tuple[Kind, ...] = ("scaffold", "R-groups", "linker")
MODEL = "molecules/qm9"
_PACKAGE = "suffuse_molecules"


def _exact(name: str, value: float, better: Any, n: int, unit: str = "", note: str = "") -> Metric:
    return Metric(name, value, value, value, better, n, unit=unit, note=note)


def share(name: str, count: int, n: int, note: str = "") -> Metric:
    """A part of n in percent, with its interval."""
    found = stats.proportion(count, n)
    return Metric.of(name, found, "higher", n, scale=100, unit="%", note=note)


def _split(name: str, split: Any) -> Dataset:
    return QM9(split) if name == "qm9" else NCI(split, held_out=0, largest=10_000)


@dataclass(frozen=True)
class RoundTrip:
    """Molecules that come back from their graphs, of those that are taken."""

    task: str
    model: str
    seed: int
    data: str
    every: int = 1
    measures: ClassVar[Sequence[str]] = (_PACKAGE,)

    def run(self, context: Context) -> Result:
        """The share that is taken, and of these the share that comes back."""
        try:
            dataset = _split(self.data, "train")
        except SuffuseError as error:
            return Result([], note=str(error))
        mols = [dataset[i].data for i in range(0, len(dataset), self.every)]
        encoder = Graph()
        encoder.fit([Example(mol) for mol in mols])  # type: ignore[arg-type]
        same = 0
        for start in range(0, len(mols), 256):
            part = mols[start : start + 256]
            back = encoder.decode(encoder.encode(part), encoder.sizes(part))
            same += sum(canonical(a) == canonical(b) for a, b in zip(part, back, strict=True))
        skipped: Any = getattr(dataset, "skipped", ())
        return Result(
            [
                share("taken", len(mols), len(mols) + len(skipped)),
                share("come back", same, len(mols)),
            ],
            detail={"reasons": dict(Counter(s.reason for s in skipped))},
        )


@dataclass(frozen=True)
class Sampling:
    """A shipped model by one sampler: validity, uniqueness, novelty, seconds; FCD for many.

    Novelty and FCD are of models of QM9, whose data SUFFUSE_DATA has.

    Args:
        solver: for the network alone; where None, the model's own, with what guides it.
    """

    task: str
    model: str
    seed: int
    solver: str | None = "renoise"
    steps: int = 50
    n: int = 1000
    fcd: bool = False
    weights: str = MODEL
    measures: ClassVar[Sequence[str]] = (_PACKAGE, "suffuse.diffusion", "fcd")

    def run(self, context: Context) -> Result:
        """The figures of n molecules, without conditions."""
        model = context.once(self.weights, lambda: suffuse.load(self.weights))
        how = {} if self.solver is None else {"solver": self.solver, "guidance_by": []}
        begin = time.perf_counter()
        made = model.sample(self.n, seed=self.seed, steps=self.steps, batch=256, **how)
        seconds = time.perf_counter() - begin
        samples = [Example(mol) for mol in made]
        metrics: list[Metric] = []
        none: Any = []
        metrics += Validity().evaluate(samples, test=none, train=none, seed=0)
        per = 1000 * seconds / self.n
        metrics.append(_exact("seconds per 1,000", per, "lower", self.n, "s"))
        if self.weights == "molecules/moses":
            return Result(metrics)
        note = ""
        try:
            train = context.once("qm9 train", lambda: QM9("train"))
            metrics += Distinct().evaluate(samples, test=none, train=train, seed=0)
            if self.fcd:
                metrics += FCD().evaluate(samples, test=none, train=train, seed=0)
        except SuffuseError as error:
            note = str(error)
        return Result(metrics, note=note)


@dataclass(frozen=True)
class Trained:
    """The recipe molecules/qm9, trained in this run by steps for five minutes, then judged.

    The network alone by renoise, and by the posterior sampler (ancestral) at as many steps; and
    as the recipe has it.

    Args:
        steps: of training. Five minutes on two cores, at 0.1 s a step in bf16 on one.
        sampled: steps of sampling.
        n, many: molecules of either sampler, and of the recipe's for FCD, which needs the extra
            `fcd`.
    """

    task: str
    model: str
    seed: int
    steps: int = 3000
    sampled: int = 100
    n: int = 1000
    many: int = 10_000
    measures: ClassVar[Sequence[str]] = (_PACKAGE, "suffuse.diffusion", "suffuse.training", "fcd")

    def run(self, context: Context) -> Result:
        """Minutes, with and without the reading of the data; and the figures of `Sampling`."""
        asked: dict[str, Any] = {
            "steps": self.steps,
            "precision": "bf16",
            "sample_every": 0,
            "seed": self.seed,
        }
        try:
            options = {f"training.{name}": k for name, k in asked.items()}
            found = recipe.load(MODEL, {**options, "evaluators": []})
            QM9("train")
        except SuffuseError as error:
            return Result([], note=str(error))
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter(), time.process_time()
            train(found, folder, progress=False)
            clock, own = time.perf_counter() - begin[0], time.process_time() - begin[1]
            steps = float(log(Path(folder)).seconds[-1]) / 60
            metrics = [
                _exact("training by the clock", clock / 60, "lower", self.steps, "min"),
                _exact("steps by the clock", steps, "lower", self.steps, "min"),
                _exact("training on processors", own / 60, "lower", self.steps, "min"),
            ]
            for solver, n in (("renoise", self.n), ("ancestral", self.n), (None, self.many)):
                name = solver or "as the recipe"
                case = Sampling(
                    *(self.task, name, self.seed, solver, self.sampled, n, solver is None, folder)
                )
                result = case.run(context)
                metrics += [replace(m, name=f"{name}, {m.name}") for m in result.metrics]
        return Result(metrics, note=result.note)


@dataclass(frozen=True)
class Wishes:
    """The shipped model asked for the properties of held-out molecules, one or several at once."""

    task: str
    model: str
    seed: int
    names: tuple[str, ...]
    guidance: float = 1.0
    resample: bool = False
    n: int = 500
    measures: ClassVar[Sequence[str]] = (_PACKAGE, "suffuse.diffusion")

    def run(self, context: Context) -> Result:
        """The mean absolute error of each property, and validity."""
        try:
            test = context.once("qm9 test", lambda: QM9("test"))
        except SuffuseError as error:
            return Result([], note=str(error))
        model = context.once(MODEL, lambda: suffuse.load(MODEL))
        order = np.random.default_rng(self.seed).permutation(len(test))[: self.n]
        wanted: dict[str, Any] = {
            name: [float(test[int(i)].conditions[name]) for i in order] for name in self.names
        }
        by = ["molecules/resample"] if self.resample else []
        made = model.sample(
            self.n,
            seed=self.seed,
            steps=50,
            guidance=self.guidance,
            guidance_by=by,
            batch=256,
            **wanted,
        )
        metrics = []
        for name, values in wanted.items():
            errors = [
                abs(property_of(mol, name) - value) for mol, value in zip(made, values, strict=True)
            ]
            found = stats.mean(np.array(errors), seed=self.seed)
            metrics.append(Metric.of(f"error of {name}", found, "lower", self.n))
        valid = sum(mol.GetProp(RAW) == "valid" for mol in made)
        return Result([*metrics, share("raw valid", valid, self.n)])


@dataclass(frozen=True)
class Edits:
    """New molecules around parts of held-out molecules: see `asked`.

    Args:
        kind: "scaffold", "R-groups" or "linker".
        parts: how many are asked for; each: molecules for each of them.
    """

    task: str
    model: str
    seed: int
    kind: Kind = "scaffold"
    parts: int = 50
    each: int = 10
    measures: ClassVar[Sequence[str]] = (_PACKAGE, "suffuse.diffusion")

    def run(self, context: Context) -> Result:
        """Retention, raw and safe validity and different molecules, in one round."""
        try:
            test = context.once("qm9 test", lambda: QM9("test"))
        except SuffuseError as error:
            return Result([], note=str(error))
        model = context.once(MODEL, lambda: suffuse.load(MODEL))
        edit = link if self.kind == "linker" else decorate
        parts = asked(self.kind, test.smiles(), self.parts)
        made = [edit(model, part, self.each, seed=self.seed, rounds=1) for part in parts]
        tried = sum(one.tried for one in made)
        return Result(
            [
                share("retained", sum(one.retained or 0 for one in made), tried),
                share("raw valid", sum(one.raw for one in made), tried),
                share("valid as decoded", sum(one.safe for one in made), tried),
                share("different", sum(len(one.molecules) for one in made), tried),
            ],
            note=f"{len(parts)} parts",
        )


def asked(kind: Kind, smiles: Iterable[str], n: int) -> list[str]:
    """n different parts of molecules, with attachment points.

    Args:
        kind: "scaffold": ring systems (Murcko) of three to six atoms with a point on their first
            open atom; "R-groups": on their first two; "linker": two ends of two atoms or more,
            "A|B", of a molecule that is cut at two single bonds outside rings.
        smiles: of the molecules.
        n: how many, if there are as many.
    """
    found: dict[str, None] = {}
    for text in smiles:
        with quiet():
            part = _ends(known(text)) if kind == "linker" else _marked(known(text), kind)
        if part is not None:
            found[part] = None
        if len(found) == n:
            break
    return [*found]


def _marked(mol: Chem.Mol, kind: Kind) -> str | None:
    """The ring system with attachment points."""
    core = MurckoScaffold.GetScaffoldForMol(mol)  # type: ignore[no-untyped-call]
    if not 3 <= core.GetNumHeavyAtoms() <= 6:
        return None
    points = 1 if kind == "scaffold" else 2
    several = [atom.GetIdx() for atom in core.GetAtoms() if atom.GetTotalNumHs()][:points]
    if len(several) < points:
        return None
    marked = Chem.RWMol(core)
    for i in several:
        atom = marked.GetAtomWithIdx(i)
        left = max(0, atom.GetTotalNumHs() - 1)
        atom.SetNoImplicit(True)
        atom.SetNumExplicitHs(left)
        marked.AddBond(i, marked.AddAtom(Chem.Atom(0)), Chem.BondType.SINGLE)
    return None if Chem.SanitizeMol(marked, catchErrors=True) else Chem.MolToSmiles(marked)


def _ends(mol: Chem.Mol) -> str | None:
    """Both ends of a molecule whose middle is cut out, the first that there are."""
    Chem.RemoveStereochemistry(mol)
    bonds = [
        b.GetIdx() for b in mol.GetBonds() if not b.IsInRing() and b.GetBondTypeAsDouble() == 1
    ]
    for pair in combinations(bonds, 2):
        cut = Chem.FragmentOnBonds(mol, pair, dummyLabels=[(0, 0), (0, 0)])
        ends = [piece for piece in Chem.MolToSmiles(cut).split(".") if piece.count("*") == 1]
        if len(ends) == 2 and all(known(end).GetNumHeavyAtoms() >= 2 for end in ends):
            return "|".join(sorted(ends))
    return None


@dataclass(frozen=True)
class Shapes:
    """The nearest of k conformers to a molecule's given geometry (SUFFUSE_DATA's gdb1k_3d)."""

    task: str
    model: str
    seed: int
    k: int = 10
    n: int = 200
    relax: bool = True
    measures: ClassVar[Sequence[str]] = (_PACKAGE, "rdkit")

    def run(self, context: Context) -> Result:
        """The median deviation of heavy atoms in Å, the share under 0.5 Å, and time."""
        folder = os.environ.get("SUFFUSE_DATA")
        path = Path(folder or ".") / "molecules" / "gdb1k_3d.sdf.gz"
        if not folder or not path.is_file():
            return Result([], note="needs SUFFUSE_DATA with molecules/gdb1k_3d.sdf.gz in it")
        with gzip.open(path) as file, quiet():
            given = [mol for mol in Chem.ForwardSDMolSupplier(file, removeHs=False) if mol]
        chosen = [mol for mol in given if mol.GetNumHeavyAtoms() > 3]
        chosen = chosen[:: max(1, len(chosen) // self.n)][: self.n]
        deviations = []
        begin = time.perf_counter()
        for mol in chosen:
            Chem.AssignStereochemistryFrom3D(mol)
            try:
                made = conformers(Chem.RemoveHs(mol), self.k, seed=self.seed, relax=self.relax)
            except SuffuseError:
                deviations.append(np.inf)
                continue
            heavy, reference = implicit(made.mol), implicit(mol)
            deviations.append(
                min(
                    rdMolAlign.GetBestRMS(heavy, reference, prbId=c.GetId(), maxMatches=1000)
                    for c in heavy.GetConformers()
                )
            )
        seconds = (time.perf_counter() - begin) / len(chosen)
        middle = stats.bootstrap(
            np.median, np.minimum(deviations, 10.0), method="percentile", seed=self.seed
        )
        near = sum(d < 0.5 for d in deviations)
        return Result(
            [
                Metric(
                    "median deviation",
                    middle.value,
                    middle.low,
                    middle.high,
                    "lower",
                    len(chosen),
                    unit="Å",
                ),
                share("under 0.5 Å", near, len(chosen)),
                _exact("seconds a molecule", seconds, "lower", len(chosen), "s"),
            ]
        )


def molecules(seeds: int = 3, n: int = 1000, many: int = 10_000) -> Iterator[Case]:
    """All of it.

    Args:
        seeds: of sampling.
        n: molecules a case.
        many: molecules for FCD, which needs the extra `fcd`.
    """
    yield RoundTrip("molecules/round trip", "nci", 0, "nci")
    yield RoundTrip("molecules/round trip", "qm9", 0, "qm9")
    for seed in range(seeds):
        for solver in ("renoise", "ancestral", "tau-leaping", "reveal"):
            for steps in (25, 50, 100):
                name = f"{solver}, {steps} steps"
                yield Sampling("molecules/sampling", name, seed, solver, steps, n)
        for names in (("logp",), ("tpsa",), ("logp", "tpsa")):
            asked = " and ".join(names)
            yield Wishes("molecules/conditions", f"{asked}, plain", seed, names)
            yield Wishes("molecules/conditions", f"{asked}, guidance 2", seed, names, 2.0)
            yield Wishes("molecules/conditions", f"{asked}, resampled", seed, names, 1.0, True)
        for kind in KINDS:
            yield Edits("molecules/edits", f"50 of {kind}", seed, kind)
    yield Sampling("molecules/many", "as it ships, 100 steps", 0, None, 100, many, True)
    for steps in (50, 100):
        name = f"moses, renoise, {steps} steps"
        yield Sampling(
            "molecules/drug-like", name, 0, "renoise", steps, n, weights="molecules/moses"
        )
    for k in (1, 10):
        yield Shapes("molecules/shapes", f"ETKDG and MMFF, k = {k}", 0, k)
        yield Shapes("molecules/shapes", f"ETKDG, k = {k}", 0, k, relax=False)
    yield from _steps(compiled=True)


def training(seeds: int = 3, steps: int = 3000, many: int = 10_000) -> Iterator[Case]:
    """Long: five minutes of training on QM9 for each seed, and as long again to judge it.

    Args:
        seeds: of training.
        steps: of training.
        many: molecules made.
    """
    for seed in range(seeds):
        yield Trained("molecules/training", f"{steps} steps", seed, steps, many=many)


def short() -> Iterator[Case]:
    """A minute: one seed, few molecules."""
    yield RoundTrip("molecules/round trip", "nci", 0, "nci", every=10)
    for solver in ("renoise", "ancestral"):
        yield Sampling("molecules/sampling", f"{solver}, 25 steps", 0, solver, 25, 200)
    yield from _steps()


def _steps(compiled: bool = False) -> Iterator[Case]:
    for edge in (32, 64):
        for precision in ("fp32", "bf16"):
            name = f"{edge} of an edge, {precision}"
            yield Step("molecules/step", name, 0, edge, precision, compiled)
