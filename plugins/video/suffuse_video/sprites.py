"""Characters that act, put together from layers: the sheets of the Liberated Pixel Cup.

    "walk left, body-1 bottomwear-5 topwear-2 hair-3"

A character is a body with trousers, a shirt and hair, one of each; it acts in five ways, seen from
four sides, or is hurt: 21 actions. The sheets are a zip file or a folder of the user's own, with

    body/0.png ... bottomwear/0.png ... topwear/0.png ... hair/0.png ...

each of 21 rows of cells of 64x64 pixels: spellcast, thrust, walk, slash and shoot, each from the
back, the left, the front and the right, and hurt. They are not part of the plugin: they are CC
BY-SA 3.0 or GPL 3.0, as is what is made from them (Li, Mandt, "Disentangled sequential autoencoder"
(2018), arXiv 1803.02991, use them so).

A fifth of the characters, by the SHA-256 digest of their parts, are the test split alone.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from suffuse import stats
from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Condition, Example, Split

from .clip import Clip
from .reading import DAMAGE
from .splits import checked, fraction

__all__ = ["ACTIONS", "Sprites"]

LAYERS = ("body", "bottomwear", "topwear", "hair")
VIEWS = ("back", "left", "front", "right")
LENGTHS = {"spellcast": 7, "thrust": 8, "walk": 9, "slash": 6, "shoot": 13}
"""Frames of each kind of action."""

ACTIONS = (*((kind, view) for kind in LENGTHS for view in VIEWS), ("hurt", "front"))
CELL = 64
TEST_SHARE = 0.2

Pixels = NDArray[np.uint8]


class Sprites:
    """One split of the characters, each in all of its actions.

    Args:
        split: "train" or "test"; characters of one are not in the other.
        path: the zip file or the folder of the sheets.
        frames: of a clip; an action goes round, in its own frames, evenly spread over these.
        fps: frames per second.
        test_clips: at most so many, spread evenly, in the test split.

    Raises:
        SuffuseError: where the sheets are missing or are none.
    """

    licence = "CC BY-SA 3.0 or GPL 3.0, sheets of the Liberated Pixel Cup"
    source = "video/sprites"

    def __init__(
        self,
        split: Split = "train",
        path: str | None = None,
        frames: int = 8,
        fps: float = 8.0,
        test_clips: int = 512,
    ) -> None:
        if not path:
            raise SuffuseError(
                "video/sprites needs the sheets of the Liberated Pixel Cup, which are not part of "
                "the plugin: --data sprites.zip, or dataset.path=sprites.zip"
            )
        if min(frames, test_clips) < 1 or not fps > 0:
            raise SuffuseError(
                "a clip has 1 frame or more at a rate above 0, and a test split 1 clip or more; "
                f"given {frames}, {fps} and {test_clips}"
            )
        self.split, self.frames, self.fps = checked(split), frames, fps
        self.path = str(Path(path).resolve())
        names = _names(self.path)
        characters = [
            (a, b, c, d)
            for a in names["body"]
            for b in names["bottomwear"]
            for c in names["topwear"]
            for d in names["hair"]
        ]
        self._characters = [who for who in characters if _held_out(who) == (split == "test")]
        # Neighbours differ in who they are, so that a few examples show many characters.
        count = len(self._characters) * len(ACTIONS)
        self._places = stats.evenly(count, test_clips if split == "test" else count)
        parts = tuple(f"{layer}-{name}" for layer in LAYERS for name in names[layer])
        self.vocabulary = (*LENGTHS, "hurt", *VIEWS, *parts)
        told = {"action": [" ".join(action) for action in ACTIONS]}
        told |= {layer: [f"{layer}-{name}" for name in names[layer]] for layer in LAYERS}
        self._categories = {k: Condition("category", tuple(v)) for k, v in told.items()}

    @property
    def conditions(self) -> Mapping[str, Condition]:
        return {"prompt": Condition("text", self.vocabulary), **self._categories}

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Example:
        n = len(self)
        if not -n <= index < n:
            raise IndexError(index)
        action, who = divmod(self._places[index % n], len(self._characters))
        kind, view = ACTIONS[action]
        character = self._characters[who]
        count = LENGTHS.get(kind, 6)
        chosen = np.arange(self.frames) * min(count, self.frames) // self.frames
        if count > self.frames:
            chosen = np.linspace(0, count - 1, self.frames).round().astype(int)
        out = np.full((self.frames, CELL, CELL, 3), 255.0)
        for layer, name in zip(LAYERS, character, strict=True):
            sheet = _sheet(self.path, layer, name)
            row = sheet[CELL * action : CELL * (action + 1)]
            cells = np.stack([row[:, CELL * k : CELL * (k + 1)] for k in chosen]).astype(float)
            alpha = cells[..., 3:] / 255
            out = alpha * cells[..., :3] + (1 - alpha) * out
        parts = {layer: f"{layer}-{name}" for layer, name in zip(LAYERS, character, strict=True)}
        clip = Clip(np.rint(out).astype(np.uint8), self.fps)
        told = f"{kind} {view}"
        prompt = f"{told}, {' '.join(parts.values())}"
        return Example(clip, {"prompt": prompt, "action": told, **parts})


def _held_out(character: tuple[str, ...]) -> bool:
    return fraction("/".join(character)) < TEST_SHARE


@cache
def _names(path: str) -> dict[str, list[str]]:
    """The names of the sheets of each layer."""
    root = Path(path)
    if root.is_dir():
        files = [p.relative_to(root).as_posix() for p in root.glob("*/*.png")]
    else:
        try:
            with zipfile.ZipFile(root) as archive:
                files = archive.namelist()
        except FileNotFoundError:
            raise SuffuseError(f"there are no sheets {path!r}") from None
        except (OSError, zipfile.BadZipFile) as error:
            raise SuffuseError(f"{path!r} is no zip file of sheets: {error}") from None
    found = {
        layer: sorted(f[len(layer) + 1 : -4] for f in files if f.startswith(f"{layer}/"))
        for layer in LAYERS
    }
    missing = [layer for layer, names in found.items() if not names]
    if missing:
        raise SuffuseError(
            f"{path!r} holds no sheets {missing[0]}/*.png; the sheets of characters are "
            f"{', '.join(f'{layer}/*.png' for layer in LAYERS)}"
        )
    return found


@cache
def _sheet(path: str, layer: str, name: str) -> Pixels:
    """RGBA [1344, w, 4]."""
    root, file = Path(path), f"{layer}/{name}.png"
    try:
        if root.is_dir():
            data = (root / file).read_bytes()
        else:
            with zipfile.ZipFile(root) as archive:
                data = archive.read(file)
        with Image.open(io.BytesIO(data)) as image:
            pixels = np.asarray(image.convert("RGBA"))
    except (*DAMAGE, zipfile.BadZipFile) as error:
        raise SuffuseError(f"cannot read the sheet {file} of {path}: {error}") from None
    least = (CELL * len(ACTIONS), CELL * max(LENGTHS.values()))
    if pixels.shape[0] < least[0] or pixels.shape[1] < least[1]:
        raise SuffuseError(
            f"the sheet {file} of {path} is {pixels.shape[1]}x{pixels.shape[0]}, and 21 rows of 13 "
            f"cells are {least[1]}x{least[0]}"
        )
    return pixels
