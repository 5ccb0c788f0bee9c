"""Named emoji in seven styles, drawn at 32x32 pixels over white: what is shown x how it is drawn.

1,052 concepts and 6,775 pictures of the sets of ATTRIBUTION.md, all of them free to use, change
and pass on. `make.py` draws the set anew. ``concepts = "common"`` are the 259 of ``common.txt``
that anyone can name at this size; these are there at 64x64 as well.

Two splits are fixed and published. By pair: a (concept, style) is held out if the SHA-256 digest of
``"image/emoji/CONCEPT/STYLE"``, as a fraction, is below 0.08; its concept is seen in other styles,
its style with other concepts. By concept: all pictures of a concept are held out if the digest of
``"image/emoji/CONCEPT"`` is below 0.08.

A picture's caption is the concept's name; with ``views`` above 1 it occurs that many times, also
with a longer sentence and with further words for the thing (from emojibase). From the fourth view
on it is another picture as well, by turns mirrored ("fox mirrored") and in another colour ("a blue
fox"): see `variants`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Condition, Example, Split
from suffuse_image.emoji.variants import COLOURS, MIRRORED, hue, mirrored, named, recoloured

__all__ = ["HELD_OUT", "STYLES", "Emoji"]

HELD_OUT = 0.08
SIZE, LARGE = 32, 64
"""Pixels a side, of all pictures and of those of the common concepts."""
CAPTIONS = 3
"""So many views show a picture as it was drawn."""
STYLES = (
    "noto",
    "fxemoji",
    "fluent",
    "fluent-flat",
    "fluent-high-contrast",
    "twemoji",
    "emojione",
)
_HERE = Path(__file__).parent


class Emoji:
    """One split of the emoji.

    Args:
        split: "train" or "test".
        concepts: "common" for the 259 that are easy to name, or "all".
        held_out: what the test split holds: "pair" or "concept".
        styles: only these; all where None.
        size: pixels a side, 32; or 64, of the common concepts.
        views: how often each picture occurs in the training split, each time with another caption;
            beyond `CAPTIONS`, mirrored or in another colour.

    >>> test = Emoji("test")
    >>> test[0].data.size, sorted(test.conditions)
    ((32, 32), ['prompt', 'style'])
    """

    licence = "Apache-2.0, MIT and CC BY 4.0, by style: see suffuse_image/emoji/ATTRIBUTION.md"
    source = "Noto Emoji, FxEmojis, Fluent Emoji, Twemoji and Emoji One, as drawn by resvg"

    def __init__(
        self,
        split: Split = "train",
        concepts: Literal["common", "all"] = "common",
        held_out: Literal["pair", "concept"] = "pair",
        styles: list[str] | None = None,
        size: Literal[32, 64] = 32,
        views: int = 1,
    ) -> None:
        if split not in ("train", "test"):
            raise ValueError(f"split is 'train' or 'test', not {split!r}")
        for style in styles or ():
            if style not in STYLES:
                raise SuffuseError(f"there is no style {style!r}; there are {', '.join(STYLES)}")
        if size != SIZE and (size != LARGE or concepts != "common"):
            raise SuffuseError(
                f"the common concepts are drawn at {SIZE} and {LARGE} pixels and all of them at "
                f"{SIZE}; given {size}, and concepts {concepts!r}"
            )
        if views < 1:
            raise SuffuseError(f"a picture occurs once or more, and not {views} times")
        self._index = index()
        wanted = common() if concepts == "common" else frozenset(self._index["concepts"])
        chosen = []
        vocabulary = set()
        for i, (concept, style) in enumerate(self._index["pictures"]):
            if concept not in wanted or (styles and style not in styles):
                continue
            vocabulary.add(concept)
            if self._held_out(concept, style, held_out) == (split == "test"):
                chosen.append(i)
        self._size = size
        self.views = views if split == "train" else 1
        self._chosen = chosen
        self._words = _vocabulary(vocabulary, self._index["concepts"], views)

    @property
    def conditions(self) -> Mapping[str, Condition]:
        """The text "prompt", with the words that captions use, and the category "style"."""
        return {"prompt": Condition("text", self._words), "style": Condition("category", STYLES)}

    def __len__(self) -> int:
        return len(self._chosen) * self.views

    def __getitem__(self, index: int) -> Example:
        if not -len(self) <= index < len(self):
            raise IndexError(f"picture {index} of {len(self)}")
        view, row = divmod(index % len(self), len(self._chosen))
        which = self._chosen[row]
        concept, style = self._index["pictures"][which]
        if self._size == SIZE:
            image = Image.fromarray(_pixels(SIZE)[which])
        else:
            image = Image.fromarray(_pixels(LARGE)[_place_at_64()[which]])
        if view < CAPTIONS:
            captions = _captions(concept, self._index["concepts"][concept]["tags"])
            return Example(image, {"prompt": captions[view % len(captions)], "style": style})
        image, caption = _variant(image, concept, style, view - CAPTIONS)
        return Example(image, {"prompt": caption, "style": style})

    def concept(self, index: int) -> str:
        """The concept of an example."""
        name: str = self._index["pictures"][self._chosen[index % len(self._chosen)]][0]
        return name

    @staticmethod
    def _held_out(concept: str, style: str, by: str) -> bool:
        name = f"{concept}/{style}" if by == "pair" else concept
        return _fraction(f"image/emoji/{name}") < HELD_OUT


@lru_cache(maxsize=1)
def index() -> Any:
    """What index.json holds: "concepts" with category and tags, and "pictures" in order."""
    return json.loads((_HERE / "index.json").read_text(encoding="utf-8"))


@lru_cache(maxsize=2)
def _pixels(size: int) -> np.ndarray:
    """The pictures of a sheet in order, uint8 [N, size, size, 3], with what fills its last row."""
    with Image.open(_HERE / ("sheet.webp" if size == SIZE else f"sheet-{size}.webp")) as file:
        sheet = np.asarray(file.convert("RGB"))
    rows, columns = len(sheet) // size, sheet.shape[1] // size
    cells = sheet.reshape(rows, size, columns, size, 3).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(cells.reshape(-1, size, size, 3))


@lru_cache(maxsize=1)
def _place_at_64() -> Mapping[int, int]:
    """Of the pictures of common concepts: the place in the sheet of the larger ones."""
    which = [i for i, (concept, _) in enumerate(index()["pictures"]) if concept in common()]
    return {number: place for place, number in enumerate(which)}


@lru_cache(maxsize=1)
def common() -> frozenset[str]:
    """The concepts that anyone can name."""
    lines = (_HERE / "common.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(word for line in lines if line[:1] != "#" for word in line.split())


def _fraction(name: str) -> float:
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _captions(concept: str, tags: list[str]) -> list[str]:
    """What a picture of a concept is called: its name, a sentence, and further words."""
    name = concept.replace("-", " ")
    article = "an" if name[0] in "aeiou" else "a"
    out = [name, f"{article} {name}"]
    if tags:
        out.append(f"{name} {' '.join(tags[:3])}")
    return out


def _variant(image: Image.Image, concept: str, style: str, which: int) -> tuple[Image.Image, str]:
    """The mirrored picture by an even number, one in another colour, if it has any, by an odd."""
    name = concept.replace("-", " ")
    if which % 2 == 0:
        return mirrored(image), f"{name} {MIRRORED}"
    own = hue(image)
    if own is None or not COLOURS.keys().isdisjoint(name.split()):
        return image, name
    others = [colour for colour in COLOURS if colour != named(own)]
    first = int(_fraction(f"image/emoji/{concept}/{style}/colour") * len(others))
    colour = others[(first + which // 2) % len(others)]
    return recoloured(image, colour), f"a {colour} {name}"


def _vocabulary(concepts: set[str], about: Any, views: int) -> tuple[str, ...]:
    """The words of the captions, sorted; without the articles."""
    found = {
        word
        for concept in concepts
        for caption in _captions(concept, about[concept]["tags"])[:views]
        for word in re.findall(r"[^\W_]+", caption.casefold())
    }
    if views > CAPTIONS:
        found |= {MIRRORED, *COLOURS}
    return tuple(sorted(found - {"a", "an", "and", "of", "in", "on", "with", "the", "to", "at"}))
