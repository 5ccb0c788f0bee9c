"""Clips as files that say how they were made, and as contact strips.

MP4 (H.264) and WebM (VP9) lose a little; WebP is lossless; GIF has 256 colours. Frames of fewer
than 128 pixels a side are enlarged by a whole factor, so that any player shows them and their
colours, which MP4 keeps at half the resolution, stay sharp. What made a clip is kept as metadata in
MP4 and WebM, as a comment in GIF and in EXIF's UserComment in WebP.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from suffuse.errors import SuffuseError
from suffuse.stats import evenly
from suffuse.storage import write_bytes

from .clip import Clip
from .reading import VIDEOS, holds_frames, read, stream

__all__ = ["ClipFiles", "animation", "strip"]

_LEAST = 128
_RATES = (0.01, 1000.0)
_EXIF_FOLDER, _USER_COMMENT, _ASCII = 0x8769, 0x9286, b"ASCII\0\0\0"
_STRIP = 16  # frames of a clip on a strip, at most
_CELL = 40  # pixels of a frame on a strip, at least
_CAPTION = 12


class ClipFiles:
    """Renderer of clips: MP4 by default, WebM, GIF and WebP by suffix; many on a page (.html)."""

    collections = (".html",)
    reads = tuple(sorted(VIDEOS))

    @property
    def suffixes(self) -> tuple[str, ...]:
        return (".mp4", ".webm", ".gif", ".webp")

    def write(self, data: Clip, path: Path, metadata: Mapping[str, str]) -> None:
        """Write a clip, atomically, with `metadata` inside.

        Raises:
            SuffuseError: for an unknown suffix, or a clip that the format cannot hold.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix not in self.suffixes:
            raise SuffuseError(
                f"cannot write {path}: clips are written as {', '.join(self.suffixes)}"
            )
        if not _RATES[0] <= data.fps <= _RATES[1]:
            raise SuffuseError(
                f"cannot write {path}: clips are written at {_RATES[0]:g} to {_RATES[1]:g} frames "
                f"a second, and this one has {data.fps:g}"
            )
        if suffix in (".gif", ".webp"):
            write_bytes(path, animation(data, suffix[1:].upper(), metadata))
        else:
            write_bytes(path, _film(data, suffix, metadata))

    def compose(self, model: Any, names: Iterable[str]) -> Any:
        """What makes clips of another length or rate, where such conditions are asked for."""
        from .sampling import composed

        return composed(model, names)

    def unasked(self, model: Any, n: int, seed: int) -> Mapping[str, list[Any]]:
        """What clips show of which nothing was asked: see `sampling.unasked`."""
        from .sampling import unasked

        return unasked(model, n, seed)

    def write_all(
        self, objects: Sequence[Clip], path: Path, metadata: Sequence[Mapping[str, str]]
    ) -> None:
        """A page on which all clips play, with what each was made from.

        Args:
            objects: clips; metadata: the text entries of each.
        """
        from .page import page

        captions = [_caption(entries) for entries in metadata]
        write_bytes(Path(path), page(objects, captions, Path(path).stem).encode("utf-8"))

    def whole(self, path: Path) -> bool:
        """Whether a folder is one of frames, and not of clips."""
        clips = any(p.suffix.lower() in VIDEOS for p in path.rglob("*.*"))
        return holds_frames(path) and not clips

    def read(self, path: Path) -> Clip:
        """The clip in a file, or in a folder of frames.

        Raises:
            SuffuseError: naming the file, where it cannot be read.
        """
        return read(Path(path))

    def metadata(self, path: Path) -> Mapping[str, str]:
        """The text entries of a file of this renderer's formats; empty where there are none.

        Raises:
            SuffuseError: naming the file, where it is no readable clip.
        """
        path = Path(path)
        next(stream(path))
        if path.suffix.lower() in (".gif", ".webp"):
            with Image.open(path) as image:
                comment = image.info.get("comment", b"")
                if path.suffix.lower() == ".webp":
                    comment = image.getexif().get_ifd(_EXIF_FOLDER).get(_USER_COMMENT, b"")
            return _entries(comment)
        import av

        with av.open(str(path)) as container:
            found = {key.lower(): text for key, text in container.metadata.items()}
        return _entries(found.get("comment", ""))

    def sheet(
        self, objects: Sequence[Clip], captions: Sequence[str] | None = None, columns: int = 0
    ) -> bytes:
        """A PNG with a strip for each clip, its caption below: up to 16 frames, evenly spaced.

        Args:
            objects: clips.
            captions: a line for each.
            columns: how many strips stand side by side; one where 0.
        """
        strips = [strip(clip) for clip in objects]
        columns = min(columns or 1, len(strips)) if len(strips) > 4 else 1
        below = _CAPTION if captions is not None else 0
        width, height = (max(s.shape[i] for s in strips) for i in (1, 0))
        rows = -(-len(strips) // columns)
        gap = 4
        size = (columns * (width + gap) + gap, rows * (height + below + gap) + gap)
        sheet = Image.new("RGB", size, "white")
        draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(10)
        for i, each in enumerate(strips):
            left = gap + (i % columns) * (width + gap)
            top = gap + (i // columns) * (height + below + gap)
            sheet.paste(Image.fromarray(each), (left, top))
            if captions is not None:
                line = " ".join(str(captions[i])[:1000].split())
                while line and draw.textlength(line, font=font) > width:
                    line = line[:-1]
                draw.text((left, top + height), line, fill="black", font=font)
        file = io.BytesIO()
        sheet.save(file, "PNG")
        return file.getvalue()


def animation(
    clip: Clip, kind: str = "WEBP", metadata: Mapping[str, str] | None = None, least: int = 1
) -> bytes:
    """The clip as an endless GIF or lossless WebP."""
    frames = [Image.fromarray(frame) for frame in _enlarged(clip.frames, least)]
    options: dict[str, Any] = {}
    text = json.dumps(dict(metadata)) if metadata else ""
    if kind == "WEBP":
        options = {"lossless": True, "minimize_size": len(frames) < 100}
        if text:
            exif = Image.Exif()
            exif.get_ifd(_EXIF_FOLDER)[_USER_COMMENT] = _ASCII + text.encode("ascii")
            options["exif"] = exif.tobytes()
    elif text:
        options = {"comment": text.encode("ascii")}
    # GIF counts in hundredths of a second; each frame ends where the true clock is.
    unit = 10 if kind == "GIF" else 1
    ends = [round(1000 * i / clip.fps / unit) * unit for i in range(len(frames) + 1)]
    durations = [max(unit, b - a) for a, b in pairwise(ends)]
    file = io.BytesIO()
    try:
        frames[0].save(
            file,
            kind,
            save_all=True,
            append_images=frames[1:],
            duration=durations,
            loop=0,
            **options,
        )
    except (ValueError, OSError) as error:
        raise SuffuseError(f"cannot write a clip as {kind}: {error}") from error
    return file.getvalue()


def _film(clip: Clip, suffix: str, metadata: Mapping[str, str]) -> bytes:
    import av

    frames = _even(_enlarged(clip.frames, _LEAST))
    file = io.BytesIO()
    codec = "libvpx-vp9" if suffix == ".webm" else "libx264"
    if codec not in av.codecs_available:
        codec = "mpeg4" if suffix == ".mp4" else codec
    rate = Fraction(clip.fps).limit_denominator(1001)
    try:
        with av.open(file, "w", format=suffix[1:]) as container:
            if metadata:
                container.metadata["comment"] = json.dumps(dict(metadata))
            stream: Any = container.add_stream(codec, rate=rate)
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = "yuv420p"
            quality = {"crf": "14"} if codec == "libx264" else {"crf": "16", "b": "0"}
            stream.options = {} if codec == "mpeg4" else quality
            for pixels in frames:
                for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                    container.mux(packet)
            for packet in stream.encode():
                container.mux(packet)
    except (av.FFmpegError, ValueError) as error:
        raise SuffuseError(f"cannot write a clip as {suffix}: {error}") from error
    return file.getvalue()


def _caption(entries: Mapping[str, str]) -> str:
    """What was asked of a clip, as `suffuse sample` tells it: numbers with their names."""
    for text in entries.values():
        with suppress(ValueError, AttributeError):
            told = json.loads(text).get("conditions") or {}
            told = {key: value for key, value in told.items() if value is not None}
            return ", ".join(
                f"{k} {v:.3g}" if isinstance(v, float) else str(v) for k, v in told.items()
            )
    return ""


def _entries(comment: bytes | str) -> Mapping[str, str]:
    if isinstance(comment, bytes):
        comment = comment.removeprefix(_ASCII).decode("ascii", "replace")
    try:
        entries = json.loads(comment)
    except ValueError:  # a comment of someone else's, or none
        return {}
    if not isinstance(entries, dict):
        return {}
    return {str(k): v for k, v in entries.items() if isinstance(v, str)}


def _enlarged(frames: NDArray[np.uint8], least: int) -> NDArray[np.uint8]:
    factor = math.ceil(least / min(frames.shape[1:3]))
    return frames.repeat(factor, 1).repeat(factor, 2) if factor > 1 else frames


def _even(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Odd sizes get their last row or column twice: half-resolution colour needs pairs."""
    odd = [(0, 0), *((0, n % 2) for n in frames.shape[1:3]), (0, 0)]
    return np.pad(frames, odd, mode="edge")


def strip(clip: Clip) -> NDArray[np.uint8]:
    """Up to 16 of its frames, evenly spaced, side by side."""
    frames = _enlarged(clip.frames[evenly(len(clip), _STRIP)], _CELL)
    while max(frames.shape[1:3]) > 3 * _CELL:
        frames = frames[:, ::2, ::2]
    spaced = np.pad(frames, [(0, 0), (0, 0), (0, 1), (0, 0)], constant_values=255)
    return np.ascontiguousarray(np.concatenate(list(spaced), axis=1)[:, :-1])
