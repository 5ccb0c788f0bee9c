"""Picture files that say how they were made, and contact sheets.

In a PNG each entry of the metadata is an iTXt chunk of its own (UTF-8, key and text as given); in
JPEG and WebP, which have no such chunks, all entries are one JSON object in EXIF's UserComment.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from suffuse.errors import SuffuseError
from suffuse.storage import write_bytes

from .modes import eight_bit
from .reading import SUFFIXES, read

__all__ = ["Png"]

_EXIF_FOLDER = 0x8769
_USER_COMMENT = 0x9286
_ASCII = b"ASCII\0\0\0"

_CELL_LEAST = 48  # pixels: what is smaller is enlarged by a whole factor
_CELL_MOST = 512  # pixels: what is larger is shrunk
_MARGIN = 4
_CAPTION = 12  # height of a line of text in pixels
_CAPTION_CELL = 64  # width of a cell with a caption, at least


class Png:
    """Renderer of PIL images: PNG by default, JPEG (quality 95) and lossless WebP by suffix."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        return (".png", ".jpg", ".jpeg", ".webp")

    @property
    def reads(self) -> frozenset[str]:
        """Suffixes of all files that it reads."""
        return SUFFIXES

    def write(self, data: Image.Image, path: Path, metadata: Mapping[str, str]) -> None:
        """Write a picture, atomically, with `metadata` inside.

        A PNG keeps any mode that PNG has, and turns others, like JPEG and WebP, into 8-bit grey or
        RGB with transparency laid over white.

        Raises:
            SuffuseError: for an unknown suffix, or metadata that the format cannot hold.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix not in self.suffixes:
            raise SuffuseError(
                f"cannot write {path}: pictures are written as {', '.join(self.suffixes)}"
            )
        file = io.BytesIO()
        try:
            if suffix == ".png":
                keeps = data.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
                picture = data if keeps else eight_bit(data)
                # Text that the picture itself came with is not repeated: what is given is all.
                picture.save(file, "PNG", pnginfo=_chunks(metadata))
            else:
                options = {"exif": _exif(metadata)} if metadata else {}
                if suffix == ".webp":
                    eight_bit(data).save(file, "WEBP", lossless=True, **options)
                else:
                    eight_bit(data).save(file, "JPEG", quality=95, subsampling=0, **options)
        except (ValueError, OSError) as error:
            raise SuffuseError(f"cannot write {path}: {error}") from error
        write_bytes(path, file.getvalue())

    def read(self, path: Path) -> Image.Image:
        """The picture in a file, upright.

        Raises:
            SuffuseError: naming the file, where it cannot be read.
        """
        return read(Path(path))

    def metadata(self, path: Path) -> Mapping[str, str]:
        """The text entries of a file of this renderer's formats; empty where there are none.

        Raises:
            SuffuseError: naming the file, where it is no readable picture.
        """
        path = Path(path)
        read(path)
        with Image.open(path) as image:
            image.load()
            if isinstance(image, PngImagePlugin.PngImageFile):
                return {str(key): str(text) for key, text in image.text.items()}
            comment = image.getexif().get_ifd(_EXIF_FOLDER).get(_USER_COMMENT, b"")
        try:
            entries = json.loads(bytes(comment).removeprefix(_ASCII))
        except (TypeError, ValueError):  # a comment of someone else's, or none
            return {}
        if not isinstance(entries, dict):
            return {}
        return {key: text for key, text in entries.items() if isinstance(text, str)}

    def sheet(
        self,
        objects: Sequence[Image.Image],
        captions: Sequence[str] | None = None,
        columns: int = 0,
    ) -> bytes:
        """All pictures on one PNG, row by row, on white.

        Small ones are enlarged by a whole factor without smoothing, to 48 pixels at least, so that
        each pixel of an 8x8 picture shows; large ones are shrunk to 512 pixels at most.

        Args:
            objects: pictures of any modes and sizes, at least one.
            captions: a line of text under each, cut off where it is too long.
            columns: pictures a row; 0 makes the sheet about square.
        """
        if not objects:
            raise ValueError("a sheet needs at least one picture")
        if captions is not None and len(captions) != len(objects):
            raise ValueError(f"{len(captions)} captions for {len(objects)} pictures")
        if columns < 0:
            raise ValueError(f"columns is 0 or a positive number, not {columns}")
        columns = min(columns or math.ceil(math.sqrt(len(objects))), len(objects))
        rows = math.ceil(len(objects) / columns)
        pictures = [_legible(eight_bit(image)) for image in objects]
        cell_w = max(picture.width for picture in pictures)
        cell_h = max(picture.height for picture in pictures)
        text_h = 0
        if captions is not None:
            cell_w, text_h = max(cell_w, _CAPTION_CELL), _CAPTION + 2
        step_w, step_h = cell_w + _MARGIN, cell_h + text_h + _MARGIN
        grey = all(picture.mode == "L" for picture in pictures)
        size = (columns * step_w + _MARGIN, rows * step_h + _MARGIN)
        sheet = Image.new("L" if grey else "RGB", size, 255 if grey else (255, 255, 255))
        draw = ImageDraw.Draw(sheet)
        font = ImageFont.load_default(_CAPTION - 1)
        for i, picture in enumerate(pictures):
            left = _MARGIN + (i % columns) * step_w
            top = _MARGIN + (i // columns) * step_h
            inset = ((cell_w - picture.width) // 2, (cell_h - picture.height) // 2)
            sheet.paste(picture, (left + inset[0], top + inset[1]))
            if captions is not None:
                line = _fitted(captions[i], font, cell_w)
                at = (left + (cell_w - font.getlength(line)) / 2, top + cell_h)
                draw.text(at, line, fill=0 if grey else (0, 0, 0), font=font)
        file = io.BytesIO()
        sheet.save(file, "PNG")
        return file.getvalue()


def _chunks(metadata: Mapping[str, str]) -> PngImagePlugin.PngInfo:
    chunks = PngImagePlugin.PngInfo()
    for key, text in metadata.items():
        printable = all(32 <= ord(c) < 127 or 161 <= ord(c) < 256 for c in key)
        if not 1 <= len(key) <= 79 or not printable or key != key.strip():
            raise ValueError(f"a PNG cannot hold text under the key {key!r}: 1 to 79 Latin letters")
        chunks.add_itxt(key, text)
    return chunks


def _exif(metadata: Mapping[str, str]) -> bytes:
    exif = Image.Exif()
    exif.get_ifd(_EXIF_FOLDER)[_USER_COMMENT] = _ASCII + json.dumps(dict(metadata)).encode("ascii")
    return exif.tobytes()


def _legible(picture: Image.Image) -> Image.Image:
    factor = math.ceil(_CELL_LEAST / max(picture.size))
    if factor > 1:
        size = (picture.width * factor, picture.height * factor)
        return picture.resize(size, Image.Resampling.NEAREST)
    if max(picture.size) > _CELL_MOST:
        scale = _CELL_MOST / max(picture.size)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        return picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    return picture


def _fitted(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int) -> str:
    line = " ".join(str(text)[:1000].split())
    if not isinstance(font, ImageFont.FreeTypeFont):  # Pillow built without FreeType
        line = line.encode("latin-1", "replace").decode("latin-1")
    if font.getlength(line) <= width:
        return line
    dots = "…" if isinstance(font, ImageFont.FreeTypeFont) else "..."
    while line and font.getlength(line + dots) > width:
        line = line[:-1]
    return line + dots
