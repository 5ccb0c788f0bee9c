"""Drug-like molecules by MOSES's figures: a model of graphs, a language model, and the floor.

Every row is of as many molecules, against the same test set: the weights, an LSTM of SMILES that is
trained in the same run for as many seconds of the processors on the same file, training molecules
(the floor: what real molecules come to), and training molecules with one carbon more.

    suffuse bench run molecules/drug-like --set data=moses.csv --set seconds=660
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from rdkit import Chem

import suffuse
from suffuse import stats
from suffuse.bench import Case, Context, Result
from suffuse.errors import MissingExtra, SuffuseError
from suffuse.plugins.contracts import Metric

from .bench import share
from .chemistry import canonical, known, parse, problem
from .datasets import Smiles
from .evaluators import chemnet, wasserstein
from .files import is_valid
from .graph import RAW
from .language import train
from .moses import (
    add_carbon,
    cosine,
    described,
    divergence,
    fragments,
    mean_similarities,
    nearest,
    passes,
    scaffolds,
    shipped,
)
from .properties import property_of
from .reading import read

__all__ = ["DrugLike", "druglike"]

_AT = 1000
"""Uniqueness is also told among so many of the first valid molecules."""

_LARGEST = 27
"""Heavy atoms, as in the recipe molecules/moses."""


@dataclass(frozen=True)
class DrugLike:
    """One set of molecules by MOSES's figures, each with its interval.

    Args:
        source: where the molecules come from.
        data: the file that was trained on.
        test: real molecules not trained on: a file, or None for MOSES's test set where `molsets`
            is installed, and else what is held out of `data`.
        weights, steps: of the model of graphs.
        seconds: of the processors, that the language model is trained for.
        n: molecules made.
        real: at most so many molecules of the test set.
    """

    task: str
    model: str
    seed: int
    source: Literal["graphs", "language", "training", "carbon"]
    data: str | None
    test: str | None = None
    weights: str = "molecules/moses"
    steps: int = 100
    seconds: float = 660.0
    n: int = 1000
    real: int = 10_000
    measures: ClassVar[Sequence[str]] = ("suffuse_molecules", "suffuse.diffusion", "rdkit", "fcd")

    def run(self, context: Context) -> Result:
        """Shares, similarities and distances; FCD from 600 valid molecules on."""
        if self.data is None:
            return Result([], note="needs the file that was trained on: --set data=FILE")
        known_as = (self.data, self.test, self.real)
        data = self.data
        training = context.once(
            ("smiles", data), lambda: Smiles("train", data, largest=_LARGEST).smiles()
        )
        real = context.once(("real", *known_as), lambda: self._real(data))
        metrics, mols, note = self._made(training)
        if len(mols) < 20:
            raise SuffuseError(f"{len(mols)} of {self.n} molecules are valid, and figures take 20")
        metrics += _figures(mols, real, training, self.seed)
        try:
            net = context.once("chemnet", chemnet)
        except MissingExtra as error:
            return Result(metrics, note=f"{note} {error}".strip())
        if min(len(mols), len(real)) >= 600:
            beside = context.once(
                ("activations", *known_as), lambda: net([canonical(m) for m in real])
            )
            found = stats.frechet_interval(
                net([canonical(m) for m in mols]), beside, groups=10, seed=self.seed
            )
            metrics.append(Metric.of("FCD", found, "lower", len(mols)))
        return Result(metrics, note=note)

    def _real(self, data: str) -> list[Chem.Mol]:
        path = self.test or shipped("test.csv.gz")
        if path is None:
            smiles = Smiles("test", data, largest=_LARGEST).smiles()
        else:
            smiles = [record.smiles for record in read(path).records]
        return [known(smiles[i]) for i in stats.evenly(len(smiles), self.real)]

    def _made(self, training: list[str]) -> tuple[list[Metric], list[Chem.Mol], str]:
        """Figures of what was made, the valid molecules, and a note."""
        if self.source == "graphs":
            model = suffuse.load(self.weights)
            made = model.sample(self.n, seed=self.seed, steps=self.steps, batch=100)
            raw = [mol.GetProp(RAW) for mol in made]
            mols = [mol for mol in made if is_valid(mol)]
            sane, valid = sum(r in ("valid", "fragments") for r in raw), raw.count("valid")
            metrics = [share("valid as decoded", len(mols), self.n)]
            return [*_raw(sane, valid, self.n), *metrics], mols, ""
        note = ""
        if self.source == "language":
            model, steps = train(training, self.seconds, seed=self.seed)
            texts = model.sample(self.n, max(map(len, training)) + 10, self.seed)
            note = f"{steps} steps of 64 SMILES"
        elif self.source == "training":
            texts = random.Random(self.seed).sample(training, min(self.n, len(training)))
        else:
            texts = add_carbon(training, self.n, self.seed)
        whole = [mol for mol in map(parse, texts) if mol is not None and mol.GetNumAtoms()]
        mols = [mol for mol in whole if problem(mol) is None]
        return _raw(len(whole), len(mols), len(texts)), mols, note


def _raw(sane: int, valid: int, n: int) -> list[Metric]:
    return [share("raw sanitised", sane, n), share("raw valid", valid, n)]


def _figures(
    mols: list[Chem.Mol], real: list[Chem.Mol], training: list[str], seed: int
) -> list[Metric]:
    n, names = len(mols), [canonical(mol) for mol in mols]
    metrics = [
        share("unique", len(set(names)), n),
        share(f"unique@{_AT}", len(set(names[:_AT])), min(n, _AT), f"Of {min(n, _AT)} valid ones."),
    ]
    metrics.append(share("novel", len(set(names) - set(training)), len(set(names))))
    if shipped("mcf.csv") is not None:
        metrics.append(share("pass the filters", sum(map(passes, mols)), n))
    near = stats.mean(nearest(mols, real)[1], seed=seed, resamples=500)
    metrics.append(Metric.of("SNN", near, "higher", n))
    for p, name in ((1, "diversity"), (2, "diversity, squared")):
        alike = mean_similarities(mols, p)
        # of a mean over pairs, in which each molecule is twice
        value, half = 1 - alike.mean(), 2 * 1.96 * alike.std() / np.sqrt(n)
        note = "IntDiv" if p == 1 else "IntDiv2"
        metrics.append(Metric(name, value, value - half, value + half, "higher", n, note=note))
    for name, counted in (("scaffolds", scaffolds), ("fragments", fragments)):
        each, beside = [counted([mol]) for mol in mols], counted(real)

        def shared(rows: Any, each: Any = each, beside: Any = beside) -> float:
            total: Counter[str] = Counter()
            for i in rows:
                total.update(each[int(i)])
            return float(np.nan_to_num(cosine(total, beside)))

        found = stats.jackknife(shared, np.arange(n), seed=seed, bounds=(0, 1))
        metrics.append(Metric.of(f"{name}, cosine", found, "higher", n))
    for name in ("logp", "sa", "qed", "weight"):
        ours, theirs = (np.array([property_of(m, name) for m in part]) for part in (mols, real))
        # both sides are samples
        found = stats.jackknife(wasserstein, ours, theirs, seed=seed, bounds=(0, math.inf))
        metrics.append(Metric.of(f"distance of {name}", found, "lower", n))
    made, there = described(mols, real)
    rows = np.arange(len(made.bits))
    if len(rows) < 20:
        return metrics
    found = stats.jackknife(
        lambda a, b: divergence(made.of(a.astype(int)), there.of(b.astype(int))),
        *(rows, rows),
        seed=seed,
        bounds=(0, 1),
    )
    return [*metrics, Metric.of("KL", found, "higher", len(rows), note="GuacaMol's mean of e^-KL")]


def druglike(
    data: str | None = None,
    test: str | None = None,
    weights: str = "molecules/moses",
    seconds: float = 660.0,
    steps: int = 100,
    n: int = 1000,
    real: int = 10_000,
    seeds: int = 3,
    trainings: int = 1,
) -> Iterator[Case]:
    """The weights, a language model, training molecules, and added carbons, by MOSES's figures.

    Args:
        data: the file that the weights were trained on (.csv, .smi), of canonical SMILES; without
            it the cases have a note and no figure.
        test: real molecules: a file, or MOSES's own where the package `molsets` is installed, and
            else what is held out of `data`.
        weights: a model's name, or the folder of one or of a run.
        seconds: of the processors, that the language model is trained for: as long as the weights.
        steps: of the weights' sampler.
        n: molecules a row.
        real: at most so many test molecules.
        seeds: of sampling.
        trainings: language models, each with a seed of its own.
    """
    for path in (data, test):
        if path is not None and not Path(path).is_file():
            raise SuffuseError(f"{path!r} is no file; --set data=FILE wants one with SMILES")
    if n < 100 or seeds < 1 or steps < 1 or not seconds > 0 or real < 100:
        raise SuffuseError(
            f"n and real are 100 or more, seeds and steps 1 or more, seconds above 0; given {n}, "
            f"{real}, {seeds}, {steps} and {seconds}"
        )
    rows: list[tuple[str, Any]] = [
        (f"{weights}, {steps} steps", "graphs"),
        (f"SMILES-LSTM, {seconds:g} s", "language"),
        ("training molecules", "training"),
        ("one carbon more", "carbon"),
    ]
    for seed in range(seeds):
        for name, source in rows:
            if source == "language" and seed >= trainings:
                continue
            yield DrugLike(
                *("molecules/drug-like", name, seed, source, data, test, weights),
                *(steps, seconds, n, real),
            )
