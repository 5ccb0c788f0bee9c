"""Commands of the image plugin."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from suffuse.errors import SuffuseError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["describe", "search"]


@click.command(short_help="Find pictures in a folder by words or by a picture.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--text", help="Words for what is to be seen.")
@click.option("--image", type=click.Path(path_type=Path), help="A picture, or a part of one.")
@click.option("--duplicates", is_flag=True, help="Groups of pictures that show the same.")
@click.option("-n", "n", type=int, default=10, show_default=True, help="How many to name.")
@click.option("--index", type=click.Path(path_type=Path), help="The index file.  [in FOLDER]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="A contact sheet, .png.")
def search(
    folder: Path,
    text: str | None,
    image: Path | None,
    duplicates: bool,
    n: int,
    index: Path | None,
    as_json: bool,
    out: Path | None,
) -> None:
    """Find the pictures in FOLDER that fit words or another picture, the best first; or those
    that are there twice.

    \b
    suffuse search ./pictures --text "birthday cake"
    suffuse search ./pictures --image crop.png -n 3
    suffuse search ./pictures --duplicates
    """
    from suffuse_image.png import Png
    from suffuse_image.reading import read
    from suffuse_image.search import Index

    if (text is not None) + (image is not None) + duplicates != 1:
        raise SuffuseError(
            "search takes --text WORDS or --image FILE, one of them, or --duplicates"
        )
    if out is not None and out.suffix.lower() != ".png":
        raise SuffuseError(f"a contact sheet is written as .png, and {str(out)!r} is none")
    query = None if image is None else read(image)

    def progress(done: int, total: int) -> None:
        if sys.stderr.isatty():
            click.echo(f"\rlooked at {done} of {total} pictures", nl=done == total, err=True)

    found = Index(folder, index, progress)
    for name, reason in found.skipped.items():
        click.echo(f"left out {name}: {reason}", err=True)
    if duplicates:
        _tell_groups(found.duplicates(), as_json)
        return
    hits = found.by_text(text, n) if text is not None else found.by_image(query, n)  # type: ignore[arg-type]
    if as_json:
        rows = [{"name": hit.name, "score": round(hit.score, 4)} for hit in hits]
        click.echo(json.dumps(rows, indent=2))
    else:
        for hit in hits:
            click.echo(f"{hit.score:6.3f}  {hit.name}")
    if out is not None:
        from suffuse import storage

        pictures = [read(folder / hit.name, 128) for hit in hits]
        storage.write_bytes(out, Png().sheet(pictures, [hit.name for hit in hits]))


def _tell_groups(groups: list[list[str]], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([{"names": names} for names in groups], indent=2))
        return
    for names in groups:
        click.echo("  ".join(names))
    if not groups:
        click.echo("no two pictures show the same")


@click.command(short_help="Words for a picture: the nearest captions.")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-n", "n", type=int, default=5, show_default=True, help="How many captions.")
@click.option(
    "--captions",
    type=click.Path(path_type=Path),
    help="A text file to choose from, a caption a line.  [the names of 1,052 emoji]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def describe(images: tuple[Path, ...], n: int, captions: Path | None, as_json: bool) -> None:
    """Name the captions that fit each of the IMAGES best: files, or folders of them.

    The encoder was trained on emoji: of photographs it knows little.

    \b
    suffuse describe fox.png
    suffuse describe ./pictures
    suffuse describe *.png -n 3 --captions names.txt
    """
    from suffuse.cli import files
    from suffuse_image import emoji, search
    from suffuse_image.png import Png
    from suffuse_image.reading import read

    class Small(Png):
        """Reads pictures no larger than the encoder needs them."""

        def read(self, path: Path) -> Image.Image:
            return read(path, 128)

    if captions is None:
        told = [name.replace("-", " ") for name in emoji.index()["concepts"]]
    else:
        try:
            told = captions.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SuffuseError(f"cannot read the captions in {captions}: {error}") from None
    paths, pictures = files.read(files.found(images, Small()), Small())
    found = search.describe(pictures, told, n)
    if as_json:
        rows = [
            {"name": str(path), "captions": [{"text": t, "score": round(s, 4)} for t, s in best]}
            for path, best in zip(paths, found, strict=True)
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    for path, best in zip(paths, found, strict=True):
        click.echo(f"{path}: " + ", ".join(f"{text} ({score:.2f})" for text, score in best))
