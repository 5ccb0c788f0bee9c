"""`suffuse audio ...`: cleaning and completing sound files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from suffuse.errors import SuffuseError

if TYPE_CHECKING:
    from suffuse_audio.sound import Sound

_PATH = click.Path(path_type=Path)
_OUT = click.option(
    "-o", "--out", type=_PATH, required=True, help="A sound file; for a folder, a folder."
)


@click.group()
def audio() -> None:
    """Clean and complete sounds, play melodies, say digits."""


@audio.command()
@click.argument("source", type=_PATH)
@_OUT
@click.option("--model", help="A run, a model directory or a name.  [audio/enhance]")
@click.option("--strength", type=float, default=1.0, show_default=True, help="0 leaves all as is.")
@click.option(
    "--steps", type=int, default=1, show_default=True, help="Network calls; 1 is the mean."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of draws, with --steps 2.")
@click.option("--report", type=_PATH, help="Write a page with players and spectrograms.")
def enhance(
    source: Path,
    out: Path,
    model: str | None,
    strength: float,
    steps: int,
    seed: int,
    report: Path | None,
) -> None:
    """Take the noise out of SOURCE, a sound file or a folder of them.

    Any rate, any number of channels, any length; length, rate and kind of samples stay.

    \b
    suffuse audio enhance noisy.mp3 -o clean.wav --report page.html
    suffuse audio enhance recordings/ -o clean/
    """
    import suffuse
    from suffuse_audio import files
    from suffuse_audio.enhance import MODEL, Enhancer
    from suffuse_audio.streaming import file_blocks

    worker = Enhancer(suffuse.load(model or MODEL), steps, seed, strength)
    done: list[tuple[Path, Path]] = []

    def work(path: Path, to: Path) -> None:
        with files.opened(path) as file:
            form = files.form_for(to, files.Form(file.format, file.subtype))
            rate, channels = file.samplerate, file.channels
            if not file.frames:
                raise SuffuseError(f"{path} holds no samples: its length is zero")
        files.checked_rate(to, rate)
        with files.writing(to, rate, channels, form) as write:
            for part in worker.stream(lambda: file_blocks(path), rate):
                write(part)
        done.append((path, to))

    _each(source, out, work)
    if report is not None:
        from suffuse_audio.page import write_comparison

        write_comparison(report, "Enhanced sounds", done[:20], worker)
        click.echo(f"a page to listen to is in {report}")


def _pairs(source: Path, out: Path) -> Iterator[tuple[Path, Path]]:
    """The files to work on and where each goes."""
    from suffuse_audio import files
    from suffuse_audio.folder import sounds_in

    if source.is_dir():
        if out.is_file() or out.suffix.lower() in files.SUFFIXES:
            raise SuffuseError(f"{source} is a folder, so -o is a folder, too; {out} is none")
        found = sounds_in(source)
        if not found:
            raise SuffuseError(
                f"there is no sound file in {source}; known are {', '.join(files.SUFFIXES)}"
            )
        for path in found:
            yield path, out / path.relative_to(source)
        return
    if not source.exists():
        raise SuffuseError(f"there is no file {source}")
    yield source, out / source.name if out.is_dir() else out


def _each(source: Path, out: Path, work: Callable[[Path, Path], Any]) -> None:
    """Do one file or all of a folder; a bad one costs no other, and is named at the end."""
    pairs = list(_pairs(source, out))
    failed = []
    for path, to in pairs:
        if to.exists() and path.samefile(to):
            raise SuffuseError(f"{path} would be written over: give another -o")
        try:
            work(path, to)
        except SuffuseError as error:
            if not source.is_dir():
                raise
            failed.append(str(error))
    if source.is_dir():
        click.echo(f"{len(pairs) - len(failed)} of {len(pairs)} sounds are in {out}")
    else:
        click.echo(f"{pairs[0][1]} is written")
    if failed:
        raise SuffuseError("left out: " + "; ".join(failed))


def _apply(source: Path, out: Path, change: Callable[[Sound], Sound]) -> None:
    """Change files that are read whole; the kind of samples stays."""
    from suffuse_audio import files

    def work(path: Path, to: Path) -> None:
        sound, form = files.read_with_form(path)
        made = change(sound)
        files.write(to, made, files.form_for(to, form))

    _each(source, out, work)
