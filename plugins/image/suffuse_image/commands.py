"""Commands of the image plugin."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from suffuse.errors import SuffuseError

__all__ = ["search"]


@click.command(short_help="Find pictures in a folder by words or by a picture.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--text", help="Words for what is to be seen.")
@click.option("--image", type=click.Path(path_type=Path), help="A picture, or a part of one.")
@click.option("-n", "n", type=int, default=10, show_default=True, help="How many to name.")
@click.option("--index", type=click.Path(path_type=Path), help="The index file.  [in FOLDER]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="A contact sheet, .png.")
def search(
    folder: Path,
    text: str | None,
    image: Path | None,
    n: int,
    index: Path | None,
    as_json: bool,
    out: Path | None,
) -> None:
    """Find the pictures in FOLDER that fit words or another picture, the best first.

    \b
    suffuse search ./pictures --text "birthday cake"
    suffuse search ./pictures --image crop.png -n 3
    """
    from suffuse_image.png import Png
    from suffuse_image.reading import read
    from suffuse_image.search import Index

    if (text is None) == (image is None):
        raise SuffuseError("search takes --text WORDS or --image FILE, one of them")
    if out is not None and out.suffix.lower() != ".png":
        raise SuffuseError(f"a contact sheet is written as .png, and {str(out)!r} is none")
    query = None if image is None else read(image)

    def progress(done: int, total: int) -> None:
        if sys.stderr.isatty():
            click.echo(f"\rlooked at {done} of {total} pictures", nl=done == total, err=True)

    found = Index(folder, index, progress)
    for name, reason in found.skipped.items():
        click.echo(f"left out {name}: {reason}", err=True)
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
