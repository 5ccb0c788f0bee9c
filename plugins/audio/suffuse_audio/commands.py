"""`suffuse audio ...`: cleaning and completing sound files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from suffuse.errors import SuffuseError

if TYPE_CHECKING:
    from suffuse_audio.sound import Sound

_PATH = click.Path(path_type=Path)
_OUT = click.option(
    "-o",
    "--out",
    type=_PATH,
    help="A sound file; for a folder, a folder.  [beside SOURCE, its name with what was done]",
)
_REPORT = click.option("--report", type=_PATH, help="Write a page with players and spectrograms.")


@click.group()
def audio() -> None:
    """Clean, complete and take apart sounds, play melodies, say digits."""


@audio.command()
@click.argument("source", type=_PATH)
@_OUT
@click.option("--model", help="A run, a model directory or a name.  [audio/enhance]")
@click.option("--strength", type=float, default=1.0, show_default=True, help="0 leaves all as is.")
@click.option(
    "--steps", type=int, default=1, show_default=True, help="Network calls; 1 is the mean."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of draws, with --steps 2.")
@_REPORT
@click.option("--reference", type=_PATH, help="The clean sound: figures of quality on the page.")
def enhance(
    source: Path,
    out: Path | None,
    model: str | None,
    strength: float,
    steps: int,
    seed: int,
    report: Path | None,
    reference: Path | None,
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

    if reference is not None and report is None:
        raise SuffuseError("--reference is for the figures of a --report, and none is asked for")
    if reference is not None:
        files.opened(reference).close()
        _apart(report, [reference])
    worker = Enhancer(suffuse.load(model or MODEL), steps, seed, strength)

    def work(path: Path, to: Path) -> None:
        with files.opened(path) as file:
            form = files.form_for(to, files.Form(file.format, file.subtype))
            rate, channels = file.samplerate, file.channels
            if not file.frames:
                raise SuffuseError(f"{path} holds no samples: its length is zero")
        files.checked_rate(to, rate)
        with files.writing(to, rate, channels, form) as write:
            first = iter([True])  # the file is gone through three times, and told of once
            for part in worker.stream(lambda: file_blocks(path, next(first, False)), rate):
                write(part)

    shown = {"worker": worker, "reference": reference}
    _each(source, out or _beside(source, "clean"), work, report, "Enhanced sounds", shown)


def _beside(source: Path, done: str) -> Path:
    """The file or folder beside a source whose name says what was done: a.wav, a-clean.wav."""
    if source.name in ("", ".."):  # the folder that one is in, or the one around it
        source = source.resolve()
    return source.parent / f"{source.stem}-{done}{source.suffix}"


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


def _each(
    source: Path,
    out: Path,
    work: Callable[[Path, Path], Any],
    report: Path | None,
    title: str,
    shown: Mapping[str, Any] | None = None,
) -> None:
    """Do one file or all of a folder; a bad one costs no other, and is named at the end.

    The page is written before that, so that a bad file does not cost it, either.
    """
    pairs = list(_pairs(source, out))
    for path, to in pairs:
        if to.exists() and path.samefile(to):
            raise SuffuseError(f"{path} would be written over: give another -o")
    _apart(report, [path for pair in pairs for path in pair])
    done, failed = [], []
    for path, to in pairs:
        try:
            work(path, to)
        except SuffuseError as error:
            if not source.is_dir():
                raise
            failed.append(str(error))
        else:
            done.append((path, to))
    if source.is_dir():
        click.echo(f"{len(done)} of {len(pairs)} sounds are in {out}")
    else:
        click.echo(f"{pairs[0][1]} is written")
    if done:
        _reported(report, title, done, shown or {})
    if failed:
        raise SuffuseError("left out: " + "; ".join(failed))


def _apart(report: Path | None, sounds: Iterable[Path]) -> None:
    """Refuse a page in the place of a sound."""
    if report is not None and report.resolve() in {path.resolve() for path in sounds}:
        raise SuffuseError(f"{report} would be written over by the page: give another --report")


def _reported(
    report: Path | None, title: str, done: Sequence[tuple[Path, Path]], shown: Mapping[str, Any]
) -> None:
    """The page, where one is asked for; of a folder the first 20 sounds."""
    if report is None:
        return
    from suffuse_audio.page import write_comparison

    write_comparison(report, title, done[:20], **shown)
    click.echo(f"a page to listen to is in {report}")


def _apply(
    source: Path,
    out: Path,
    change: Callable[[Sound], Sound],
    report: Path | None,
    title: str,
) -> None:
    """Change files that are read whole; the kind of samples stays."""
    from suffuse_audio import files

    def work(path: Path, to: Path) -> None:
        sound, form = files.read_with_form(path)
        made = change(sound)
        files.write(to, made, files.form_for(to, form))

    _each(source, out, work, report, title)


_PRIOR = click.option(
    "--model", help="A run or model of audio/spectra that draws what is missing.  [none]"
)
_GIVEN = click.option(
    "--set", "given", multiple=True, metavar="KEY=VALUE", help="A condition of the model."
)
_DRAWS = click.option("--draws", type=int, default=4, show_default=True, help="Averaged.")


def _conditions(model: Any, given: tuple[str, ...], option: str = "--set") -> dict[str, Any]:
    """Conditions of a model, from KEY=VALUE given by an option."""
    from suffuse.errors import unknown

    out = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals:
            raise SuffuseError(f"{option} takes KEY=VALUE, not {text!r}")
        if key not in model.conditions:
            raise unknown("condition of the model", key, model.conditions)
        out[key] = value
    return out


def _restorer(model: str, seed: int, draws: int, given: tuple[str, ...]) -> Any:
    import suffuse
    from suffuse_audio.restoring import Restorer

    loaded = suffuse.load(model)
    return Restorer(loaded, seed=seed, draws=draws, conditions=_conditions(loaded, given))


@audio.command()
@click.argument("source", type=_PATH)
@click.option(
    "--gap", required=True, help="START-STOP in seconds, for instance 1.20-1.28; or more."
)
@click.option("--texture", type=float, default=0.5, show_default=True, help="0 smooth, 1 a draw.")
@_PRIOR
@_GIVEN
@_DRAWS
@click.option("--seed", type=int, default=0, show_default=True)
@_OUT
@_REPORT
def fill(
    source: Path,
    gap: str,
    texture: float,
    model: str | None,
    given: tuple[str, ...],
    draws: int,
    seed: int,
    out: Path | None,
    report: Path | None,
) -> None:
    """Fill gaps; the rest stays as it is.

    Without a model by autoregression, for gaps of up to about a tenth of a second.

    \b
    suffuse audio fill gaps.wav --gap 1.20-1.28,2.5-2.55 -o whole.wav
    suffuse audio fill word.wav --gap 0.20-0.35 --model runs/digits --set digit=seven
    """
    from suffuse_audio.completing import fill as work
    from suffuse_audio.completing import gaps

    if not 0 <= texture <= 1:
        raise SuffuseError(f"--texture lies between 0 and 1, and {texture:g} does not")
    restorer = None if model is None else _restorer(model, seed, draws, given)

    def change(sound: Sound) -> Sound:
        places = gaps(gap, sound)
        if restorer is not None:
            made: Sound = restorer.fill(sound, places)
            return made
        return work(sound, places, texture=texture, seed=seed)

    _apply(source, out or _beside(source, "filled"), change, report, "Filled gaps")


@audio.command()
@click.argument("source", type=_PATH)
@click.option("--rate", type=int, help="Hz, above that of the sound.  [the model's]")
@_PRIOR
@_GIVEN
@_DRAWS
@click.option("--seed", type=int, default=0, show_default=True)
@_OUT
@_REPORT
def extend(
    source: Path,
    rate: int | None,
    model: str | None,
    given: tuple[str, ...],
    draws: int,
    seed: int,
    out: Path | None,
    report: Path | None,
) -> None:
    """Give a narrow sound a band above its own, at a higher rate.

    \b
    suffuse audio extend narrow.wav --rate 16000 -o wide.wav
    """
    from suffuse_audio.completing import extend as work

    if rate is None and model is None:
        raise SuffuseError("extend needs --rate, or a --model, whose rate it then is")
    if rate is not None and not 0 < rate <= 768_000:
        raise SuffuseError(f"--rate is above 0 and at most 768000 Hz, and {rate} is not")
    restorer = None if model is None else _restorer(model, seed, draws, given)
    if restorer is not None and rate not in (None, restorer.encoder.rate):
        raise SuffuseError(
            f"{model} makes sounds of {restorer.encoder.rate} Hz, and --rate asks for {rate}: "
            "leave --rate out"
        )

    def change(sound: Sound) -> Sound:
        if restorer is not None:
            made: Sound = restorer.extend(sound)
            return made
        assert rate is not None
        return work(sound, rate, seed=seed)

    _apply(source, out or _beside(source, "wide"), change, report, "Extended sounds")


@audio.command()
@click.argument("source", type=_PATH)
@_OUT
@_REPORT
@click.option("--taps", type=int, default=10, show_default=True, help="Frames of 8 ms.")
@click.option("--strength", type=float, default=1.0, show_default=True, help="0 leaves all as is.")
def dereverb(
    source: Path, out: Path | None, report: Path | None, taps: int, strength: float
) -> None:
    """Take late reverberation out of speech, by weighted prediction error.

    \b
    suffuse audio dereverb hall.wav -o dry.wav
    """
    from suffuse_audio.dereverb import dereverberate

    _apply(
        source,
        out or _beside(source, "dry"),
        lambda sound: dereverberate(sound, taps=taps, strength=strength),
        report,
        "Sounds without reverberation",
    )


@audio.command()
@click.argument("source", type=_PATH)
@click.option("--model", required=True, help="A run or model of audio/spectra.")
@click.option(
    "--source",
    "given",
    multiple=True,
    metavar="KEY=VALUE,...",
    help="Conditions of one source; given once for each.  [two of which nothing is known]",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("-o", "--out", type=_PATH, required=True, help="A folder.")
@_REPORT
def separate(
    source: Path,
    model: str,
    given: tuple[str, ...],
    seed: int,
    out: Path,
    report: Path | None,
) -> None:
    """Take a mixture of two sounds apart, as a model of such sounds hears it.

    \b
    suffuse audio separate both.wav --model runs/digits -o apart/
    suffuse audio separate both.wav --model RUN --source digit=one --source digit=six -o apart/
    """
    import suffuse
    from suffuse_audio import files
    from suffuse_audio.restoring import Restorer

    sound = files.read(source)
    if out.is_file() or out.suffix.lower() in files.SUFFIXES:
        raise SuffuseError(f"the sources go into a folder, and -o {out} is none")
    loaded = suffuse.load(model)
    each = [
        _conditions(loaded, tuple(text.split(",")), "--source") if text else {} for text in given
    ]
    parts = Restorer(loaded, seed=seed).separate(sound, each or [{}, {}])
    made = [out / f"{source.stem}-{number}.wav" for number in range(1, len(parts) + 1)]
    _apart(report, [source, *made])
    for path, part in zip(made, parts, strict=True):
        files.write(path, part)
    click.echo(f"{len(parts)} sources are in {out}/")
    _reported(report, "Separated sounds", [(source, path) for path in made], {})


@audio.command()
@click.argument("source", type=_PATH)
@_OUT
@_REPORT
def declip(source: Path, out: Path | None, report: Path | None) -> None:
    """Round out peaks that were cut off.

    \b
    suffuse audio declip loud.wav -o round.wav
    """
    from suffuse_audio.completing import declip as work

    _apply(source, out or _beside(source, "round"), work, report, "Declipped sounds")
