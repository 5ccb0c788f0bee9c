"""One self-contained HTML page: sections of blocks, in a style that is inside the file.

Everything is in the one file: the style, the charts (inline SVG) and the pictures (data URIs). It
needs no script, no network and no font of its own; it follows the reader's light or dark setting,
fits a telephone, and prints.

>>> page = Page("A run", "what it did")
>>> section = page.section("Data", number=1)
>>> section.prose("Files named `<a>.png` were read.")
>>> "<code>&lt;a&gt;.png</code>" in page.html()
True
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Literal

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from suffuse.plugins.contracts import Metric
from suffuse.report.blocks import Block, Cell, Chart, Code, Formula, Prose, Side, Table, Tiles
from suffuse.report.figures import PALETTE
from suffuse.report.intervals import Metrics
from suffuse.storage import write_text

__all__ = ["Page", "Section"]


@dataclass
class Section:
    """A part of the page under one heading; its blocks stand in the order they were added."""

    heading: str
    number: int | None = None
    lead: str = ""
    blocks: list[Block] = field(default_factory=list)

    @property
    def anchor(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self.heading.lower()).strip("-") or "section"

    def add(self, block: Block) -> None:
        """Append a block."""
        self.blocks.append(block)

    def prose(self, text: str) -> None:
        """A paragraph of text; `backticks` mark code."""
        self.add(Prose(text))

    def formula(self, text: str, where: str = "") -> None:
        """A line of mathematics, in the notation of `Formula`."""
        self.add(Formula(text, where))

    def code(self, text: str, label: str = "") -> None:
        """Lines of code under a small label."""
        self.add(Code(text, label))

    def figure(self, image: str | bytes, alt: str, caption: str = "") -> None:
        """One chart (SVG text) or picture (PNG bytes)."""
        self.add(Chart(image, alt, caption))

    def side(self, *charts: Chart) -> None:
        """Charts side by side."""
        self.add(Side(charts))

    def tiles(
        self,
        rows: Sequence[tuple[str, Sequence[Cell]]],
        columns: Sequence[str] = (),
        caption: str = "",
        corner: str = "",
    ) -> None:
        """Rows of small pictures."""
        self.add(Tiles(rows, columns, caption, corner))

    def table(
        self,
        head: Sequence[str],
        rows: Iterable[Sequence[str | float | int]],
        caption: str = "",
    ) -> None:
        """A table; numbers stand at the right."""
        self.add(Table(head, list(rows), caption))

    def metrics(self, metrics: Sequence[Metric]) -> None:
        """Measured figures, with their intervals drawn."""
        self.add(Metrics(metrics))


class Page:
    """A page in the making.

    Args:
        title: of the page, on top and in the browser's tab.
        subtitle: the sentence under it; `backticks` mark code.
        refresh: seconds after which a browser reads the file again; 0 is never.
    """

    def __init__(self, title: str, subtitle: str = "", refresh: int = 0) -> None:
        self.title = title
        self.refresh = refresh
        self.subtitle = subtitle
        self.hero: Tiles | None = None
        self.facts: list[tuple[str, str, str]] = []
        self.sections: list[Section] = []

    @property
    def subtitled(self) -> Markup:
        return Prose(self.subtitle).html

    def fact(self, value: str, name: str, note: str = "") -> None:
        """One of the few figures that stand on top of the page."""
        self.facts.append((value, name, note))

    def section(self, heading: str, *, number: int | None = None, lead: str = "") -> Section:
        """Begin a section; what is added to the section returned stands in it."""
        section = Section(heading, number, lead)
        self.sections.append(section)
        return section

    def html(self) -> str:
        """The whole file."""
        environment = Environment(
            autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        source = resources.files("suffuse.report").joinpath("page.html").read_text("utf-8")
        anchors: dict[str, int] = {}
        placed = []
        for section in self.sections:
            anchors[section.anchor] = count = anchors.get(section.anchor, 0) + 1
            placed.append((section.anchor + (f"-{count}" if count > 1 else ""), section))
        return environment.from_string(source).render(
            page=self, sections=placed, colours=_colours()
        )

    def write(self, path: Path) -> None:
        """Write the page to a file, whole or not at all."""
        write_text(path, self.html())


def _colours() -> Mapping[Literal["light", "dark"], Markup]:
    """The palette as CSS declarations; names and values are our own."""
    light, dark = (
        "".join(f"--{name}:{pair[i]};" for name, pair in PALETTE.items()) for i in (0, 1)
    )
    return {"light": Markup(light), "dark": Markup(dark)}
