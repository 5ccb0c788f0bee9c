"""Draw the emoji set anew: ``python -m suffuse_image.emoji.make PACKAGES``.

PACKAGES is a folder with the unpacked npm packages ``@iconify-json/NAME`` of `STYLES` and
``emojibase-data``, each below ``NAME/package/`` as ``npm pack`` and ``tar`` leave it. Drawing needs
the library resvg-py. Written beside this file: ``sheet.webp``, one picture of 32x32 pixels after
the other, ``index.json``, which says what each of them is, and ``sheet-64.webp``, those of the
common concepts at 64x64.
"""

from __future__ import annotations

import io
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from PIL import Image

from suffuse_image.emoji import LARGE, SIZE, common

COLUMNS, LEAST = 128, 6
"""Pictures in a row of the sheet; a concept stands in so many styles at least."""

STYLES = {
    "noto": "noto",
    "fxemoji": "fxemoji",
    "fluent": "fluent-emoji",
    "fluent-flat": "fluent-emoji-flat",
    "fluent-high-contrast": "fluent-emoji-high-contrast",
    "twemoji": "twemoji",
    "emojione": "emojione",
}
"""The package of each style."""

CATEGORIES = (
    "Animals & Nature",
    "Food & Drink",
    "Travel & Places",
    "Activities",
    "Objects",
    "Smileys & Emotion",
    "People & Body",
    "Symbols",
)


def main(packages: Path) -> None:
    """Read the packages, draw, and write the sheet and its index."""
    sets = {style: _read(packages / name, "icons.json") for style, name in STYLES.items()}
    names = {style: _names(icons) for style, icons in sets.items()}
    # fxemoji writes its names without hyphens.
    joined = names["fxemoji"]
    every = Counter(name for style in names if style != "fxemoji" for name in names[style])
    for name in every:
        if name.replace("-", "") in joined:
            joined[name] = joined[name.replace("-", "")]
    category = _categories(packages)
    count = Counter(name for style in names for name in names[style] if name in category)
    concepts = sorted(name for name, styles in count.items() if styles >= LEAST)
    tags = _tags(packages)
    entries = []
    pictures, larger = [], []
    for concept in concepts:
        for style in STYLES:
            if concept in names[style]:
                drawn = _draw(sets[style], names[style][concept])
                if drawn is not None:
                    pictures.append(_resized(drawn, SIZE))
                    entries.append([concept, style])
                    if concept in common():
                        larger.append(_resized(drawn, LARGE))
    here = Path(__file__).parent
    _save(pictures, SIZE, here / "sheet.webp")
    _save(larger, LARGE, here / f"sheet-{LARGE}.webp")
    index = {
        "size": SIZE,
        "sources": {style: _version(packages / name) for style, name in STYLES.items()},
        "concepts": {
            name: {"category": category[name], "tags": tags.get(name, [])} for name in concepts
        },
        "pictures": entries,
    }
    text = json.dumps(index, ensure_ascii=False, separators=(",", ":"))
    (here / "index.json").write_text(text.replace('],["', '],\n["') + "\n", encoding="utf-8")
    print(f"{len(concepts)} concepts, {len(pictures)} pictures")


def _resized(drawn: Image.Image, size: int) -> Image.Image:
    return drawn.resize((size, size), Image.Resampling.BOX)


def _save(pictures: list[Image.Image], size: int, path: Path) -> None:
    """A sheet of pictures, row by row."""
    rows = -(-len(pictures) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * size, rows * size), "white")
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (i % COLUMNS * size, i // COLUMNS * size))
    sheet.save(path, lossless=True, quality=100, method=6)


def _read(folder: Path, file: str) -> Any:
    return json.loads((folder / "package" / file).read_text(encoding="utf-8"))


def _version(folder: Path) -> str:
    about = _read(folder, "package.json")
    return f"{about['name']} {about['version']}"


def _names(icons: Any) -> dict[str, str]:
    """Each name and alias with the icon that it stands for."""
    names = {name: name for name, icon in icons["icons"].items() if not icon.get("hidden")}
    for alias, target in icons.get("aliases", {}).items():
        names.setdefault(alias, target["parent"])
    return {name: icon for name, icon in names.items() if icon in icons["icons"]}


def _categories(packages: Path) -> dict[str, str]:
    groups = _read(packages / "noto", "metadata.json")["categories"]
    return {name: group for group in CATEGORIES for name in groups[group]}


def _tags(packages: Path) -> dict[str, list[str]]:
    """Further words for each concept, by the code of its character."""
    data = _read(packages / "emojibase-data", "en/data.json")
    words = {entry["hexcode"].lower(): entry.get("tags", []) for entry in data}
    codes = _read(packages / "noto", "chars.json")
    return {name: words[code] for code, name in codes.items() if code in words}


def _draw(icons: Any, name: str) -> Image.Image | None:
    """An icon over white, four times as large as it is kept; None where nothing would be seen."""
    import resvg_py  # type: ignore[import-untyped]

    icon = icons["icons"][name]
    width = icon.get("width", icons.get("width", 16))
    height = icon.get("height", icons.get("height", 16))
    left, top = icon.get("left", 0), icon.get("top", 0)
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{left} {top} {width} {height}" '
        f'width="{width}" height="{height}">{icon["body"].replace("currentColor", "#000")}</svg>'
    )
    drawn = resvg_py.svg_to_bytes(svg_string=svg, width=4 * SIZE, height=4 * SIZE)
    image = Image.open(io.BytesIO(bytes(drawn))).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    flat = Image.alpha_composite(white, image).convert("RGB")
    return None if _resized(flat, SIZE).getextrema() == ((255, 255),) * 3 else flat


if __name__ == "__main__":
    main(Path(sys.argv[1]))
