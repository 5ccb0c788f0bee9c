"""What a section of a page is made of: prose, formulas, code, pictures, charts and tables.

Whatever is passed as a `str` is text, and is escaped; only `Html` takes trusted HTML. In prose,
`backticks` mark code.
"""

from __future__ import annotations

import base64
import math
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from markupsafe import Markup, escape

__all__ = [
    "Block",
    "Cell",
    "Chart",
    "Code",
    "Formula",
    "Html",
    "Prose",
    "Side",
    "Table",
    "Tiles",
    "number",
]


def number(value: float, spread: float | None = None) -> str:
    """A number for people: as many decimals as its uncertainty leaves meaning to.

    Args:
        value: the number.
        spread: half the width of its interval, of which two digits are kept; without one the
            number gets three digits.

    >>> number(0.012345, 0.0021), number(98.42, 0.6), number(-3), number(1234567.0)
    ('0.0123', '98.42', '−3', '1,234,567')
    >>> number(0.0000123)
    '1.23e−05'
    """
    if spread is not None and not (math.isfinite(spread) and spread > 0):
        spread = None
    if not math.isfinite(value):
        return "–" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    size = abs(value)
    if size and size < 1e-4 and (spread is None or spread < 1e-4):
        text = f"{value:.2e}"
    elif value == int(value) and spread is None:
        text = f"{int(value):,}"
    else:
        scale = spread or size
        digits = (1 if spread else 2) - math.floor(math.log10(scale)) if scale else 2
        text = f"{value:,.{min(max(digits, 0), 6)}f}"
    if not text.strip("-0.,"):
        text = text.removeprefix("-")
    return text.replace("-", "−")


def _prose(text: str) -> Markup:
    """Escaped text, with `code` between backticks."""
    parts = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if i % 2 else escape(part)
        for i, part in enumerate(parts)
    )


@dataclass(frozen=True)
class Block:
    """A piece of a section; `kind` picks the part of the template that writes it."""

    kind: ClassVar[str] = ""


@dataclass(frozen=True)
class Prose(Block):
    """A paragraph."""

    text: str
    kind: ClassVar[str] = "prose"

    @property
    def html(self) -> Markup:
        return _prose(self.text)


_MATHS = re.compile(
    r"(?P<mark>[_^])(?:\{(?P<long>[^}]*)\}|(?P<short>.))|\{(?P<upright>[^}]*)\}"
    r"|(?P<word>[A-Za-z]{2,})|(?P<letter>[A-Za-zα-ωϵ]\u0302?)"
)


def _maths(text: str) -> Markup:
    """A line of mathematics: `_` and `^` lower and raise what follows, single letters are italic.

    >>> print(_maths("x_0 = log(α_{t, s})"))
    <i>x</i><sub>0</sub> = log(<i>α</i><sub><i>t</i>, <i>s</i></sub>)
    """
    parts: list[str | Markup] = []
    end = 0
    for found in _MATHS.finditer(text):
        parts.append(escape(text[end : found.start()]))
        end = found.end()
        if found["mark"]:
            inner = _maths(found["long"] if found["long"] is not None else found["short"])
            element = "<sub>{}</sub>" if found["mark"] == "_" else "<sup>{}</sup>"
            parts.append(Markup(element).format(inner))
        elif found["letter"]:
            parts.append(Markup("<i>{}</i>").format(found["letter"]))
        else:
            parts.append(escape(found["word"] or found["upright"] or ""))
    return Markup("").join([*parts, escape(text[end:])])


@dataclass(frozen=True)
class Formula(Block):
    """A line of mathematics, in letters and Unicode signs: `x_t = α_t x_0 + σ_t ε`.

    Attributes:
        text: `_` lowers and `^` raises the next sign or {group}; single letters are italic, words
            and {groups} upright.
        where: what goes with it, smaller, in the same notation.
    """

    text: str
    where: str = ""
    kind: ClassVar[str] = "formula"

    @property
    def html(self) -> Markup:
        return _maths(self.text)

    @property
    def note(self) -> Markup:
        return _maths(self.where)


@dataclass(frozen=True)
class Html(Block):
    """Trusted HTML of whoever wrote it: a plugin's section of a report."""

    html: Markup
    kind: ClassVar[str] = "html"


@dataclass(frozen=True)
class Code(Block):
    """Lines of code, with comments at their ends dimmed and aligned, or text such as a recipe."""

    text: str
    label: str = ""
    kind: ClassVar[str] = "code"

    @property
    def html(self) -> Markup:
        lines = [line.partition("  #") for line in self.text.strip("\n").splitlines()]
        column = max((len(code.rstrip()) for code, mark, _ in lines if mark), default=0)
        return Markup("\n").join(
            escape(f"{code.rstrip():<{column}}") + Markup("<i>{}</i>").format(f"  #{comment}")
            if mark
            else escape(code)
            for code, mark, comment in lines
        )


@dataclass(frozen=True)
class Chart(Block):
    """A chart or a picture.

    Attributes:
        image: the text of an SVG (put inline, so that it follows the page's colours), or the bytes
            of a PNG.
        alt: what it shows, in a sentence, for those who cannot see it.
        caption: the line under it.
    """

    image: str | bytes
    alt: str
    caption: str = ""
    kind: ClassVar[str] = "chart"

    def html(self, key: str) -> Markup:
        """The element; `key` makes the ids inside an SVG unique on the page."""
        if isinstance(self.image, bytes):
            return _img(self.image, self.alt)
        return _inline_svg(self.image, self.alt, key)

    @property
    def captioned(self) -> Markup:
        return _prose(self.caption)


@dataclass(frozen=True)
class Side(Block):
    """Charts side by side where there is room, below each other where there is not."""

    charts: Sequence[Chart]
    kind: ClassVar[str] = "side"


@dataclass(frozen=True)
class Cell:
    """A picture among others: PNG bytes, None for an empty place, with a short caption."""

    image: bytes | None
    caption: str = ""
    alt: str = ""


@dataclass(frozen=True)
class Tiles(Block):
    """Rows of small pictures, with names for rows and columns.

    Attributes:
        rows: (name, cells) each.
        columns: names of the columns; empty where they have none.
        caption: the line under them.
        corner: what the columns' names are, for instance "t".
    """

    rows: Sequence[tuple[str, Sequence[Cell]]]
    columns: Sequence[str] = ()
    caption: str = ""
    corner: str = ""
    kind: ClassVar[str] = "tiles"

    @property
    def captioned(self) -> Markup:
        return _prose(self.caption)

    @property
    def named(self) -> bool:
        return bool(self.corner) or any(name for name, _ in self.rows)

    @property
    def width(self) -> int:
        return max([len(self.columns), *(len(cells) for _, cells in self.rows)])

    @property
    def least(self) -> int:
        """The least width of a tile on a narrow screen, in pixels: more for wide pictures."""
        ratios = [1.0]
        for _, cells in self.rows:
            for cell in cells:
                if cell.image is not None:
                    width, height = _png_size(cell.image)
                    ratios.append(width / max(height, 1))
        return round(30 * min(max(ratios), 12))

    def image(self, cell: Cell) -> Markup:
        if cell.image is None:
            return Markup("")
        return _img(cell.image, cell.alt or cell.caption or "picture")


_NUMBER = re.compile(r"[-−]?[\d.,]+(?:e[-+−]?\d+)?|–|")


@dataclass(frozen=True)
class Table(Block):
    """A table of text; columns whose cells are all numbers stand at the right."""

    head: Sequence[str]
    rows: Sequence[Sequence[str | float | int]]
    caption: str = ""
    kind: ClassVar[str] = "table"

    @property
    def captioned(self) -> Markup:
        return _prose(self.caption)

    @property
    def numeric(self) -> list[bool]:
        return [
            bool(self.rows) and all(_NUMBER.fullmatch(str(row[i])) for row in self.rows)
            for i in range(len(self.head))
        ]

    @staticmethod
    def text(value: str | float) -> Markup:
        return _prose(value) if isinstance(value, str) else escape(number(value))


def _png_size(png: bytes) -> tuple[int, int]:
    if len(png) < 24 or png[:8] != b"\x89PNG\r\n\x1a\n":
        return (1, 1)
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def _img(png: bytes, alt: str) -> Markup:
    width, height = _png_size(png)
    data = base64.b64encode(png).decode("ascii")
    small = Markup(' class="pixels"') if max(width, height) <= 96 else Markup("")
    return Markup('<img src="data:image/png;base64,{}" alt="{}" width="{}" height="{}"{}>').format(
        data, alt, width, height, small
    )


def _inline_svg(svg: str, alt: str, key: str) -> Markup:
    """An SVG file's text as an element of the page."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", body, flags=re.DOTALL)
    body = re.sub(r'\s(?:xmlns(?::\w+)?|version)="[^"]*"', "", body)
    body = re.sub(r'\bid="([^"]+)"', rf'id="{key}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{key}-\1)", body)
    body = re.sub(r'(?:xlink:)?href="#([^"]+)"', rf'href="#{key}-\1"', body)
    body = re.sub(r'^<svg([^>]*?)\s(?:width|height)="[^"]*"', r"<svg\1", body)
    body = re.sub(r'^<svg([^>]*?)\s(?:width|height)="[^"]*"', r"<svg\1", body)
    body = re.sub(r">\s+<", "><", body)
    label = escape(alt)
    return Markup(f'<svg class="chart" role="img" aria-label="{label}"' + body[len("<svg") :])
