"""The suite `models`: what is unusual to models of other domains that ship with their plugins.

    images      digits of the model's test split, against such digits damaged: turned upside down,
                or with a bright patch of 3x3 points
    sounds      notes of the test split, against environmental sounds (audio/esc10_22k_ogg.zip in
                SUFFUSE_DATA), cut to the length of a note
    molecules   molecules of QM9 held out, against those of ESOL that are as small
                (molecules/*.csv.gz in SUFFUSE_DATA)

A half of the usual objects is learned from and calibrated on, the rest judged. The baseline is the
mean distance to five neighbours in the states of the same encoder. A case whose plugin or data are
not there fails by itself, with the reason.
"""

from __future__ import annotations

import gzip
import os
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.neighbors import NearestNeighbors

import suffuse
from suffuse.bench import Context, Result
from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Metric
from suffuse_anomaly.metrics import auroc
from suffuse_anomaly.tiles_benchmark import interval
from suffuse_anomaly.wrapping import AnomalyDetector

__all__ = ["Models", "models"]

NEAREST = "kNN in the encoder's states"
DOMAINS = {
    "images/turned": "image/digits",
    "images/patch": "image/digits",
    "sounds/environment": "audio/notes",
    "molecules/esol": "molecules/qm9",
}


@dataclass(frozen=True)
class Models:
    """One way to judge by one model."""

    measures: ClassVar = ("suffuse_anomaly",)
    task: str
    model: str
    seed: int
    objects: int

    def run(self, context: Context) -> Result:
        """The AUROC of unusual objects."""
        model = context.once(DOMAINS[self.task], lambda: suffuse.load(DOMAINS[self.task]))
        usual = self._usual(model)
        half = len(usual) // 2
        odd = self._odd(model, usual[half:])
        judged = [*usual[half:], *odd]
        labels = np.repeat([False, True], [len(usual) - half, len(odd)])
        if self.model == NEAREST:
            states = AnomalyDetector(model, "knn-time")
            near = NearestNeighbors(n_neighbors=5).fit(states.embed(usual[:half]))
            scores = near.kneighbors(states.embed(judged))[0].mean(1)
        else:
            detector = AnomalyDetector(model, self.model, seed=self.seed, batch=16)
            scores = detector.fit(usual[:half]).score(judged)
        low, high = interval(labels, scores, np.random.default_rng(self.seed))
        found = Metric("AUROC", auroc(labels, scores), low, high, "higher", len(judged))
        return Result([found], {})

    def _usual(self, model: Any) -> list[Any]:
        options = dict(model.recipe.dataset)
        if self.task.startswith("molecules"):
            options["path"] = str(_data("molecules/qm9_smiles.csv.gz"))
        test = suffuse.plugins.build("dataset", options, split="test")
        chosen = np.random.default_rng(self.seed).permutation(len(test))[: 2 * self.objects]
        return [test[int(i)].data for i in chosen]

    def _odd(self, model: Any, usual: Sequence[Any]) -> list[Any]:
        if self.task == "images/turned":
            return [picture.rotate(180) for picture in usual]
        if self.task == "images/patch":
            return [_patched(picture, i) for i, picture in enumerate(usual)]
        with tempfile.TemporaryDirectory() as folder:
            files = (_sounds if self.task.startswith("sounds") else _molecules)(Path(folder))
            return _encodable(model, files, self.objects, self.seed)


def _patched(picture: Any, i: int) -> Any:
    array = np.asarray(picture).copy()
    row, column = np.random.default_rng(i).integers(0, np.array(array.shape[:2]) - 3, 2)
    array[row : row + 3, column : column + 3] = 255
    return Image.fromarray(array)


def _data(name: str) -> Path:
    path = Path(os.environ.get("SUFFUSE_DATA", "")) / name
    if "SUFFUSE_DATA" not in os.environ or not path.is_file():
        raise SuffuseError(
            f"this case reads $SUFFUSE_DATA/{name}, and there is no such file: set SUFFUSE_DATA to "
            "where it is"
        )
    return path


def _sounds(folder: Path) -> list[Path]:
    with zipfile.ZipFile(_data("audio/esc10_22k_ogg.zip")) as archive:
        archive.extractall(folder)
    return sorted(folder.rglob("*.ogg"))


def _molecules(folder: Path) -> list[Path]:
    with gzip.open(_data("molecules/molnet_esol.csv.gz"), "rt") as file:
        table = pd.read_csv(file)
    column = next(name for name in table if name.lower() == "smiles")
    files = []
    for i, smiles in enumerate(table[column]):
        files.append(folder / f"{i}.smi")
        files[-1].write_text(f"{smiles}\n")
    return files


def _encodable(model: Any, files: list[Path], n: int, seed: int) -> list[Any]:
    """Objects of files that the model's encoder takes, at most n."""
    found: list[Any] = []
    for i in np.random.default_rng(seed).permutation(len(files)):
        try:
            thing = model.renderer.read(files[int(i)])
            model.encode([thing])
        except SuffuseError:
            continue
        found.append(thing)
        if len(found) == n:
            break
    return found


def models(seeds: int = 1, objects: int = 100) -> Iterator[Models]:
    """Every way to judge in every domain.

    Args:
        seeds: how many splits.
        objects: usual objects to learn from, to judge, and at most unusual ones.
    """
    for seed in range(seeds):
        for task in DOMAINS:
            other = "loss" if task.startswith("molecules") else "score-norm"
            for model in ("auto", "knn-time", other, NEAREST):
                yield Models(task, model, seed, objects)
