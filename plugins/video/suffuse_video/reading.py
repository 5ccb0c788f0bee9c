"""Reading video files that may be anything: of uneven rate, cut short, without frames, or no video.

Frames come one by one with the moment they are shown at; a film is never in memory as a whole.
Transparency is laid over white, deep colour and grey brought to 8 bits, and a file's rotation
applied, a picture's too.
"""

from __future__ import annotations

import logging
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, ImageSequence

from suffuse.errors import SuffuseError

from .clip import Clip, fitted, shrunk

__all__ = ["DAMAGE", "PICTURES", "VIDEOS", "as_seen", "holds_frames", "length", "read", "stream"]

logger = logging.getLogger("suffuse_video")

VIDEOS = frozenset(
    {".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".ogv", ".gif", ".webp"}
)
"""File suffixes, in lower case, that count as clips."""

ANIMATIONS = frozenset({".gif", ".webp"})
"""Those of pictures that move, which tell how long each frame is shown."""

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})
"""Those of the frames in a folder of frames."""

DAMAGE = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    IndexError,
    struct.error,
    Image.DecompressionBombError,
)
"""What Pillow raises for pictures that are none, cut short, broken or said to be enormous."""

MOST_BYTES = 2**29
"""A clip that is read as a whole has no more than this many bytes."""

MOST_SIDE = 512
"""Its frames are shrunk to so many pixels on their longer side, as they come."""

FOLDER_FPS = 12.0
"""The rate of a folder of frames, which tells none."""

Frame = NDArray[np.uint8]


def stream(path: Path, start: float = 0.0) -> Iterator[tuple[float, Frame]]:
    """The moment in seconds and the pixels [h, w, 3] of each frame, from about `start` on.

    Moments count from the first frame of the file. Where a file is damaged, what is before the
    damage comes, with a warning.

    Args:
        path: a video file, or a folder of pictures in the order of the numbers in their names.
        start: in seconds; frames before it may come too.

    Raises:
        SuffuseError: naming the file, where it has no readable frame.
    """
    if path.is_dir():
        yield from _pictures(path, start)
    elif path.suffix.lower() in ANIMATIONS:
        yield from _animation(path)
    else:
        yield from _video(path, start)


def read(path: Path, fps: float | None = None) -> Clip:
    """The whole clip in a file or a folder of frames, at an even rate, its longer side 512 at most.

    Args:
        path: of a file, or of a folder of pictures.
        fps: frames per second; the file's own mean rate where None.

    Raises:
        SuffuseError: naming the file, where it cannot be read or is larger than 512 MB of pixels.
    """
    moments: list[float] = []
    frames: list[Frame] = []
    size = 0
    for moment, frame in stream(path):
        frame = shrunk(frame, MOST_SIDE)
        if frames and frame.shape != frames[0].shape:
            frame = _same_size(frame, frames[0].shape)
        moments.append(moment)
        frames.append(frame)
        size += frame.nbytes
        if size > MOST_BYTES:
            raise _too_long(path)
    if path.suffix.lower() in ANIMATIONS:
        # Frames that are equal are stored once, and GIF rounds to hundredths of a second: the rate
        # is that of the short ones.
        durations = _durations(path)
        total = sum(durations)
        short = [d for d in durations if d < 1.5 * min(durations)]
        count = max(1, round(total * (fps or len(short) / sum(short))))
        rate = count / total
    else:
        rate = fps or _rate(moments)
        count = max(1, round(moments[-1] * rate) + 1)
    if count * frames[0].nbytes > MOST_BYTES:  # few frames may be shown for long
        raise _too_long(path)
    return Clip(np.stack([frames[i] for i in shown(moments, rate, count)]), rate)


def _too_long(path: Path) -> SuffuseError:
    return SuffuseError(
        f"cannot read {path}: it is longer than what is read at once ({MOST_BYTES >> 20} MB of "
        "pixels); cut it, or train on its folder, which is read piece by piece"
    )


def shown(moments: list[float], fps: float, count: int = 0, start: float = 0.0) -> list[int]:
    """Which frame is shown at each tick of an even clock, from moments that may be uneven.

    >>> shown([0.0, 0.1, 0.5], 10.0)
    [0, 1, 1, 1, 1, 2]
    """
    last = moments[-1] - start
    count = count or max(1, round(last * fps) + 1)
    ticks = start + np.arange(count) / fps + 0.25 / fps
    found = np.searchsorted(np.asarray(moments), ticks, side="right") - 1
    return [int(i) for i in found.clip(min=0)]


def length(path: Path) -> tuple[float, int]:
    """Seconds from the first frame to the last, and how many frames, without decoding them.

    Raises:
        SuffuseError: naming the file, where it has no frame.
    """
    if path.is_dir():
        n = len(_listed(path))
        return (n - 1) / FOLDER_FPS, n
    if path.suffix.lower() in ANIMATIONS:
        durations = _durations(path)
        return sum(durations) - min(durations), len(durations)
    moments = []
    with _opened(path) as (container, video), _told(path, bool):
        for packet in container.demux(video):
            if packet.pts is not None and packet.size:
                moments.append(float(packet.pts * packet.time_base))
    if not moments:
        raise SuffuseError(f"cannot read {path}: it has no frames")
    return max(moments) - min(moments), len(moments)


def _video(path: Path, start: float) -> Iterator[tuple[float, Frame]]:
    import av

    with _opened(path) as (container, video):
        begin: float | None = None
        if start > 0 and video.start_time is not None and video.time_base:
            begin = float(video.start_time * video.time_base)
            try:
                container.seek(int((start + begin) / video.time_base), stream=video)
            except av.FFmpegError:
                container.seek(0)
        count = 0
        rate = float(video.average_rate or FOLDER_FPS)
        with _told(path, lambda: count > 0):
            for frame in _decoded(container, video):
                moment = frame.time if frame.time is not None else count / rate
                begin = moment if begin is None else begin
                yield max(0.0, moment - begin), _rgb(frame)
                count += 1
    if not count and start <= 0:
        raise SuffuseError(f"cannot read {path}: it has no frames")


def _decoded(container: Any, video: Any) -> Iterator[Any]:
    """Frames; of WebM with transparency, which FFmpeg's own decoders leave out, by libvpx."""
    import av

    library = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(video.codec_context.name)
    told = {key.lower(): value for key, value in video.metadata.items()}
    if told.get("alpha_mode") != "1" or library not in av.codecs_available:
        yield from container.decode(video)
        return
    decoder: Any = av.CodecContext.create(library, "r")
    for packet in container.demux(video):
        yield from decoder.decode(packet if packet.size else None)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    import av

    if not path.exists():
        raise SuffuseError(f"cannot read {path}: there is no such file")
    if path.is_file() and not path.stat().st_size:
        raise SuffuseError(f"cannot read {path}: it is empty")
    try:
        container = av.open(str(path))
    except (av.FFmpegError, ValueError, OSError) as error:
        raise SuffuseError(
            f"cannot read {path}: it is no video, or its end is missing ({_why(error)})"
        ) from None
    with container:
        if not container.streams.video:
            kinds = sorted({stream.type for stream in container.streams} - {"data"})
            raise SuffuseError(
                f"cannot read {path}: it has no pictures, only {', '.join(kinds)}"
                if kinds
                else f"cannot read {path}: there are no pictures in it; its end may be missing"
            )
        yield container, container.streams.video[0]


@contextmanager
def _told(path: Path, some: Any) -> Iterator[None]:
    """Damage behind the first frame is a warning, else an error."""
    import av

    try:
        yield
    except (av.FFmpegError, ValueError) as error:
        if not some():
            raise SuffuseError(f"cannot read {path}: it is damaged ({_why(error)})") from None
        logger.warning("%s is damaged (%s): only what is before that is used", path, _why(error))


def _why(error: Exception) -> str:
    """What FFmpeg says, without its number."""
    return str(getattr(error, "strerror", None) or error)


def _rgb(frame: Any) -> Frame:
    alpha = any(component.is_alpha for component in frame.format.components)
    # A palette may hold transparency, and PyAV's name for it is no component of the format.
    if alpha or frame.format.name == "pal8":
        pixels = _over_white(frame.to_ndarray(format="rgba"))
    else:
        pixels = frame.to_ndarray(format="rgb24")
    turns = round((getattr(frame, "rotation", 0) or 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def as_seen(image: Image.Image) -> Image.Image:
    """A picture turned as its EXIF entry says, its grey of 16 bits brought to 8."""
    turned = ImageOps.exif_transpose(image)
    if not turned.mode.startswith("I"):
        return turned
    grey = np.rint(np.asarray(turned) / 257).clip(0, 255)
    return Image.fromarray(grey.astype(np.uint8))


def _over_white(rgba: NDArray[np.uint8]) -> Frame:
    alpha = rgba[..., 3:].astype(np.uint16)
    if alpha.min() == 255:
        return np.ascontiguousarray(rgba[..., :3])
    mixed = (rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255
    return mixed.astype(np.uint8)


def _animation(path: Path) -> Iterator[tuple[float, Frame]]:
    durations = _durations(path)
    moment = 0.0
    pixels: Frame | None = None
    with Image.open(path) as image:
        for i, duration in enumerate(durations):
            try:
                image.seek(i)
                pixels = _over_white(np.asarray(image.convert("RGBA")))
            except DAMAGE as error:
                if pixels is None:
                    raise SuffuseError(f"cannot read {path}: it is damaged ({error})") from None
                logger.warning("%s is damaged (%s): only what is before that is used", path, error)
                return
            yield moment, pixels
            moment += duration
    last = moment - min(durations)
    if pixels is not None and last > moment - durations[-1]:  # it is shown for longer than others
        yield last, pixels


def _durations(path: Path) -> list[float]:
    """How long each frame is shown, in seconds, as far as the file is whole."""
    found: list[float] = []
    try:
        with Image.open(path) as image:
            for frame in ImageSequence.Iterator(image):
                frame.load()
                found.append((frame.info.get("duration") or 1000 / FOLDER_FPS) / 1000)
    except FileNotFoundError:
        raise SuffuseError(f"cannot read {path}: there is no such file") from None
    except DAMAGE as error:
        if not found:
            raise SuffuseError(f"cannot read {path}: it is no picture ({error})") from None
    return found


def holds_frames(path: Path) -> bool:
    """Whether it is a folder with pictures, which are the frames of one clip."""
    return path.is_dir() and any(p.suffix.lower() in PICTURES for p in path.iterdir())


def _listed(folder: Path) -> list[Path]:
    def natural(path: Path) -> list[Any]:
        return [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", path.name.lower())]

    found = sorted((p for p in folder.iterdir() if p.suffix.lower() in PICTURES), key=natural)
    if not found:
        raise SuffuseError(f"cannot read {folder}: there is no picture in this folder")
    return found


def _pictures(folder: Path, start: float) -> Iterator[tuple[float, Frame]]:
    size: tuple[int, ...] | None = None
    for i, path in enumerate(_listed(folder)):
        if size is not None and i / FOLDER_FPS < start - 0.5:
            continue
        try:
            with Image.open(path) as image:
                pixels = _over_white(np.asarray(as_seen(image).convert("RGBA")))
        except DAMAGE as error:
            raise SuffuseError(f"cannot read {path}: it is no picture ({error})") from None
        size = size or pixels.shape
        yield i / FOLDER_FPS, pixels if pixels.shape == size else _same_size(pixels, size)


def _same_size(frame: Frame, shape: tuple[int, ...]) -> Frame:
    return fitted(frame[None], shape[0], shape[1])[0]


def _rate(moments: list[float]) -> float:
    if len(moments) < 2 or moments[-1] <= moments[0]:
        return FOLDER_FPS
    rate = (len(moments) - 1) / (moments[-1] - moments[0])
    return round(rate) if abs(rate - round(rate)) < 0.02 * rate and rate >= 1 else rate
