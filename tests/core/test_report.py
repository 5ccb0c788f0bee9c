"""The page of a run: one file, whole, honest about its numbers, for any domain."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from suffuse import plugins, recipe, storage
from suffuse.demo import run_demo
from suffuse.errors import SuffuseError
from suffuse.model import Model
from suffuse.plugins import hookimpl
from suffuse.plugins.contracts import Condition, Example, Metric
from suffuse.report import figures, pictures, record, stages, walkthrough
from suffuse.report.blocks import Cell, Chart, Table, number
from suffuse.report.intervals import Metrics
from suffuse.report.page import Page
from suffuse.report.walkthrough import write_report
from suffuse.training import train

SMALL: dict[str, Any] = {
    "dataset.n": 60,
    "denoiser.width": 8,
    "denoiser.depth": 1,
    "sampling.steps": 4,
    "training.steps": 20,
    "training.batch": 20,
    "training.warmup": 5,
    "training.log_every": 2,
    "training.sample_every": 10,
    "training.precision": "fp32",
}
WICKED = '<script>alert("1")</script>'
VOID = {"meta", "img", "br", "line", "circle", "rect", "path", "use", "link", "col", "hr", "input"}


class Reader(HTMLParser):
    """A page as a browser's parser sees it, with what should not be in it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def read(path: Path) -> Reader:
    """The page, after what holds for every page has been checked."""
    html = path.read_text(encoding="utf-8")
    page = Reader(html)
    assert not page.all("script")
    assert not page.all("link")
    assert not re.search(r"@import|url\((?!#)", html)
    for _, attrs in page.tags:
        for name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
            assert (attrs.get(name) or "#").startswith(("#", "data:image/png;base64,"))
        assert not any(name.startswith("on") for name in attrs)
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for image in page.all("img"):
        assert image["alt"]
        drawn = decoded(str(image["src"]))
        assert (image["width"], image["height"]) == (str(drawn.shape[1]), str(drawn.shape[0]))
    for link in page.all("a") + page.all("use"):
        assert str(link["href"]).removeprefix("#") in ids
    for chart in (attrs for attrs in page.all("svg") if attrs.get("role") == "img"):
        assert chart["aria-label"]
    return page


def decoded(source: str) -> np.ndarray:
    data = base64.b64decode(source.removeprefix("data:image/png;base64,"), validate=True)
    return np.asarray(matplotlib.image.imread(io.BytesIO(data), format="png"))


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    matplotlib.image.imsave(file, np.repeat(pixels[..., None], 3, axis=2), format="png")
    return file.getvalue()


# Numbers


@pytest.mark.parametrize(
    ("value", "spread", "text"),
    [
        (0.98765, 0.012, "0.988"),
        (98.76, 1.2, "98.8"),
        (0.00123, 0.0004, "0.00123"),
        (-0.5, 0.25, "−0.50"),
        (1234.0, None, "1,234"),
        (0.0, None, "0"),
        (0.25, None, "0.250"),
        (3.2e-7, None, "3.20e−07"),
        (1.0, 0.0, "1"),
        (-0.001, 0.5, "0.00"),
        (float("nan"), None, "–"),
        (float("inf"), 1.0, "∞"),
        (2.5, float("nan"), "2.50"),
    ],
)
def test_a_number_has_the_decimals_that_mean_something(
    value: float, spread: float | None, text: str
) -> None:
    assert number(value, spread) == text


# The page


def full_page(rng: np.random.Generator) -> Page:
    page = Page(f"a {WICKED} title", f"a {WICKED} subtitle")
    page.fact(WICKED, WICKED, WICKED)
    section = page.section(f"Data {WICKED}", number=1, lead=WICKED)
    section.prose(f"text {WICKED} and `code {WICKED}`")
    section.formula(WICKED)
    section.formula("x_0 = E_{a}^2", WICKED)
    section.code(f"print('{WICKED}')  # {WICKED}", WICKED)
    chart = figures.histogram(rng.normal(size=500), WICKED, normal=True)
    picture = png(rng.uniform(size=(8, 8)))
    section.figure(chart, WICKED, WICKED)
    section.side(Chart(chart, "again"), Chart(picture, WICKED))
    section.tiles([(WICKED, [Cell(picture, WICKED, WICKED), Cell(None)])], [WICKED], WICKED)
    section.table(["", "n"], [[WICKED, 1.5], ["b", 2]], WICKED)
    section.metrics([Metric(WICKED, 1.0, 0.5, 1.5, "lower", 10, unit=WICKED, note=WICKED)])
    page.section(f"Data {WICKED}").prose("the same heading again")
    return page


def test_a_page_is_one_file_without_references(rng: np.random.Generator, tmp_path: Path) -> None:
    full_page(rng).write(tmp_path / "page.html")
    page = read(tmp_path / "page.html")
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]
    assert len(page.all("img")) == 2
    assert len([s for s in page.all("svg") if "chart" in str(s.get("class"))]) == 2
    assert page.all("html")[0]["lang"] == "en"
    assert any(m.get("name") == "viewport" for m in page.all("meta"))


def test_what_a_user_wrote_is_text(rng: np.random.Generator, tmp_path: Path) -> None:
    full_page(rng).write(tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script" not in html.lower()
    assert read(tmp_path / "page.html").words.count(WICKED) >= 15


def test_writing_is_whole_or_not_at_all(
    rng: np.random.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "deep" / "page.html"
    Page("first").write(path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SuffuseError, match="disk is full"):
        Page("second").write(path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["page.html"]


def test_both_colour_schemes_are_in_the_page(rng: np.random.Generator) -> None:
    html = full_page(rng).html()
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html
    for name, (light, dark) in figures.PALETTE.items():
        assert f"--{name}:{light};" in html
        assert f"--{name}:{dark};" in html


def contrast(a: str, b: str) -> float:
    """The ratio of WCAG 2.1 between two colours."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1])
def test_text_and_lines_stand_out_from_the_paper(scheme: int) -> None:
    quiet = {"line", "paper", "card", "faint"}
    for name, pair in figures.PALETTE.items():
        if name not in quiet:
            for ground in ("paper", "card"):
                assert contrast(pair[scheme], figures.PALETTE[ground][scheme]) >= 4.5, name


def test_a_table_puts_numbers_at_the_right() -> None:
    assert Table(["name", "n"], [["a", 1], ["b", 2.5]]).numeric == [False, True]
    assert Table(["name", "n"], []).numeric == [False, False]


def test_a_mark_stands_only_where_there_is_a_target() -> None:
    plain = Metric("kid", 0.1, 0.05, 0.2, "lower", 10)
    low = Metric("kid", 0.1, 0.05, 0.2, "lower", 10, target=0.3)
    high = Metric("accuracy", 96.0, 95.0, 97.0, "higher", 10, unit="%", target=97.0)
    page = Page("marks")
    page.section("plain").metrics([plain])
    assert "reached" not in (words := Reader(page.html()).words)
    assert "Target" not in words
    page.section("targets").metrics([plain, low, high])
    words = Reader(page.html()).words
    assert (words.count("reached ✓"), words.count("missed ✗")) == (1, 1)
    assert "at most 0.300" in words
    assert "at least 97.0" in words


def test_what_is_said_of_several_figures_is_said_once() -> None:
    shared = "The floor is 9 real pictures."
    notes = [f"the share of a. {shared}", f"the share of b. {shared}", ""]
    table = Metrics([Metric(f"m{i}", 1, 0, 2, "lower", 9, note=t) for i, t in enumerate(notes)])
    assert [table.remark(m) for m in table.metrics] == [
        "Lower is better. The share of a.",
        "Lower is better. The share of b.",
        "Lower is better.",
    ]
    assert table.foot == f"On 9 samples. {shared}"
    uneven = Metrics([Metric("a", 1, 0, 2, "higher", 9), Metric("b", 1, 0, 2, "lower", 1000)])
    assert uneven.remark(uneven.metrics[1]) == "Lower is better, n = 1,000."
    assert uneven.foot == ""


@pytest.mark.parametrize(
    "metric",
    [
        Metric("all the same", 1.0, 1.0, 1.0, "lower", 3, 1.0, 1.0, 1.0),
        Metric("zero", 0.0, 0.0, 0.0, "lower", 3),
        Metric("not finite", float("nan"), float("nan"), float("nan"), "lower", 3),
        Metric("negative", -2.0, -3.0, -1.0, "higher", 3, -2.5, -2.7, -2.3),
        Metric("endless", 1.0, 0.5, float("inf"), "lower", 3),
    ],
)
def test_any_interval_can_be_drawn(metric: Metric) -> None:
    (row,) = Metrics([metric]).rows
    assert "nan" not in row.bar
    assert "inf" not in row.bar
    for value in re.findall(r'\b(?:x1|x2|cx|x)="([^"]+)"', row.bar):
        assert 0 <= float(value) <= 240


# Charts


CHARTS: dict[str, Callable[[np.random.Generator], str]] = {
    "histogram": lambda r: figures.histogram(r.normal(size=(50, 3)), "value", normal=True),
    "histogram of levels": lambda r: figures.histogram(r.integers(0, 17, 300), "value"),
    "histogram of one value": lambda r: figures.histogram(np.ones(9), "value"),
    "histogram of rounding": lambda r: figures.histogram([0.0, 0.3, 0.1 + 0.2], "value"),
    "histogram of nothing": lambda r: figures.histogram([np.nan], "value"),
    "loss": lambda r: figures.loss(np.arange(60), r.uniform(0.1, 1.0, 60)),
    "loss of one step": lambda r: figures.loss([1], [0.3]),
    "loss of none": lambda r: figures.loss([], []),
    "loss not finite": lambda r: figures.loss([1, 2, 3], [0.5, np.nan, -1.0]),
    "levels": lambda r: figures.loss_by_level(np.arange(30), r.uniform(0.1, 1.0, (30, 8))),
    "levels of nothing": lambda r: figures.loss_by_level([1, 2], np.full((2, 8), np.nan)),
    "line": lambda r: figures.line(np.arange(9), r.uniform(size=9) * 1e-3, "step", "rate"),
    "line of none": lambda r: figures.line([], [], "step", "rate"),
    "strips": lambda r: figures.strips(
        np.arange(9) + np.datetime64("2026-01-01"), {"a": r.normal(size=9)}, np.arange(9) > 6
    ),
    "strips of one": lambda r: figures.strips([0], {"a": [1.0], "b": [np.nan]}, [True], "moment"),
    "coefficients": lambda r: figures.coefficients([0, 0.5, 1], [1, 0.7, 0], [0, 0.7, 1], [0.5]),
    "log ratio": lambda r: figures.log_ratio([0, 0.5, 1], [np.inf, 0, -np.inf], [1.0, 0.5]),
    "distances": lambda r: figures.distances(r.gamma(9, size=80), r.gamma(9, size=50), xlabel="d"),
    "distances of copies": lambda r: figures.distances(np.zeros(9), np.zeros(9), xlabel="d"),
    "distances of none": lambda r: figures.distances([], [], xlabel="d"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_is_an_svg_in_the_colours_of_the_page(name: str, rng: np.random.Generator) -> None:
    svg = CHARTS[name](rng)
    root = ET.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    fixed = re.sub(r"var\(--\w+, #[0-9a-f]{6}\)", "", svg)
    assert set(re.findall(r"(?:fill|stroke): (#[0-9a-f]+)", fixed)) <= {"#000000"}
    assert "DejaVu" not in svg.replace("var(--sans, 'DejaVu Sans', sans-serif)", "")
    assert CHARTS[name](np.random.default_rng(0)) == CHARTS[name](np.random.default_rng(0))


def test_charts_leave_no_global_figure_and_no_settings() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    figures.loss([1, 2], [0.5, 0.4])
    assert dict(matplotlib.rcParams) == before


def test_smoothing_is_a_weighted_mean_without_bias(rng: np.random.Generator) -> None:
    values, span = rng.normal(size=40), 7.0
    weights = (1 - 1 / span) ** np.arange(40)[::-1]
    expected = (weights * values).sum() / weights.sum()
    assert figures.smooth(values, span)[-1] == pytest.approx(expected, rel=1e-12)
    assert figures.smooth([np.nan, 3.0], span).tolist()[1:] == [3.0]


# Small pictures


def test_only_a_narrow_margin_is_cut_off_and_from_all_alike(rng: np.random.Generator) -> None:
    framed = np.ones((2, 56, 56))
    framed[0, 4:52, 4:52], framed[1, 4:52, 4:52] = rng.uniform(0, 0.9, (2, 48, 48))
    found = [matplotlib.image.imread(io.BytesIO(p)) for p in pictures.trim([*map(png, framed)])]
    assert [f.shape[:2] for f in found] == [(48, 48)] * 2
    np.testing.assert_allclose(found[1][..., 0], framed[1, 4:52, 4:52], atol=1 / 255)
    dot = np.ones((64, 64))
    dot[30, 40] = 0
    (far,) = pictures.trim([png(dot)])
    assert matplotlib.image.imread(io.BytesIO(far)).shape[:2] == (54, 54)
    uneven = [png(framed[0]), png(dot)]
    assert pictures.trim(uneven) == uneven
    full = [png(np.zeros((20, 20)))]
    assert pictures.trim(full) == full


# What a run recorded


def test_a_log_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    assert len(record.log(tmp_path)) == 0
    lines = [
        {"step": 20, "loss": 0.5, "levels": [0.1, None], "seconds": 2.0},
        {"step": 10, "loss": None},
        "damaged",
        {"step": 20, "loss": 0.4, "levels": [0.1, None], "seconds": 3.0},
    ]
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (tmp_path / "metrics.jsonl").write_text(text + '\n{"step": 30, "lo')
    log = record.log(tmp_path)
    assert log.step.tolist() == [10, 20]
    assert log.last("loss") == 0.4
    assert log.last("learning_rate") is None
    np.testing.assert_array_equal(log.levels, [[np.nan, np.nan], [0.1, np.nan]])


def test_the_newest_evaluation_counts(tmp_path: Path) -> None:
    assert record.evaluation(tmp_path) == []
    base = {"low": 1.0, "high": 3.0, "better": "lower", "n": 5}
    found = [
        {"step": 10, "name": "a", "value": 9.0, **base},
        {"step": 20, "name": "a", "value": 2.0, **base},
        {"step": 20, "name": "b", "value": None, "low": None, "high": None, "new": "key"},
    ]
    storage.write_json(tmp_path / "evaluation.json", found)
    a, b = record.evaluation(tmp_path)
    assert (a.name, a.value) == ("a", 2.0)
    assert np.isnan(b.value)
    storage.write_json(tmp_path / "evaluation.json", {"not": "a list"})
    with pytest.raises(SuffuseError, match=r"evaluation\.json is damaged"):
        record.evaluation(tmp_path)


def test_sheets_are_the_first_the_last_and_some_between(tmp_path: Path) -> None:
    assert record.sheets(tmp_path) == []
    for step in range(0, 1000, 50):
        storage.write_bytes(tmp_path / "samples" / f"step-{step:06d}.png", b"%d" % step)
    storage.write_bytes(tmp_path / "samples" / "step-other.png", b"")
    found = record.sheets(tmp_path, most=4)
    assert [step for step, _ in found] == [0, 300, 650, 950]
    assert found[1][1] == b"300"


# The page of a run


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workshop")


@pytest.fixture
def run(toy: ModuleType, workshop: Path, tmp_path: Path) -> Path:
    """A short run in the plane."""
    train(recipe.load("toy/spiral", SMALL), workshop / "run", resume=True, progress=False)
    return Path(shutil.copytree(workshop / "run", tmp_path / "run"))


@pytest.fixture
def written(run: Path, workshop: Path) -> Path:
    """Its page."""
    if not (workshop / "report.html").exists():
        write_report(run, workshop / "report.html")
    return workshop / "report.html"


def test_the_page_walks_the_stages(written: Path) -> None:
    page = read(written)
    html = written.read_text(encoding="utf-8")
    headings = re.findall(r"<h2>(.*?)</h2>", html)
    assert headings == [
        *("Data", "Forward diffusion", "Training", "Reverse diffusion"),
        *("Samples", "Metrics", "What was run"),
    ]
    assert "60 examples that the model learns from and 60 that it never sees" in page.words
    charts = [s["aria-label"] for s in page.all("svg") if "chart" in str(s.get("class"))]
    assert len(charts) == 2 + 2 + 4 + 1
    alts = [str(image["alt"]) for image in page.all("img")]
    assert sum(alt == "corrupted example" for alt in alts) == 2 * 9
    assert sum(alt == "state of the sampler" for alt in alts) == 2 * 2 * 5
    assert sum(alt == "clean estimate" for alt in alts) == 2 * 4
    assert sum(alt == "sample" for alt in alts) == 2 * 10 + 10
    assert sum(alt.startswith("nearest training example") for alt in alts) == 10
    assert [alt for alt in alts if alt.startswith("Samples after")] == [
        "Samples after 10 steps.",
        "Samples after 20 steps.",
    ]
    for fact in ("toy/mlp", "toy/spiral", "Python", "torch", "suffuse", "toy dimensions"):
        assert fact in page.words


def test_the_numbers_are_those_of_the_evaluation(run: Path, written: Path) -> None:
    rows = [t for t in read(written).all("tr") if "data-metric" in t]
    found = storage.read_json(run / "evaluation.json")
    assert [(r["data-metric"], float(str(r["data-value"]))) for r in rows] == [
        (m["name"], m["value"]) for m in found
    ]
    assert [(float(str(r["data-low"])), float(str(r["data-high"]))) for r in rows] == [
        (m["low"], m["high"]) for m in found
    ]
    words = read(written).words
    for m in found:
        spread = (m["high"] - m["low"]) / 2
        for key in ("value", "low", "high", "floor", "floor_low", "floor_high"):
            assert number(m[key], spread) in words


def test_the_recipe_on_the_page_is_the_recipe(run: Path, written: Path, tmp_path: Path) -> None:
    html = written.read_text(encoding="utf-8")
    blocks = re.findall(r"<pre[^>]*>(.*?)</pre>", html, re.DOTALL)
    text = re.sub(r"</?i>", "", blocks[-1])
    for sign, name in (("<", "&lt;"), (">", "&gt;"), ('"', "&#34;"), ("'", "&#39;")):
        text = text.replace(name, sign)
    (tmp_path / "again.toml").write_text(text.replace("&amp;", "&"))
    assert recipe.load(tmp_path / "again.toml") == Model.load(run).recipe


def test_the_code_on_the_page_runs(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_report(Path("run"), Path("report.html"))
    html = Path("report.html").read_text(encoding="utf-8")
    found = re.findall(r"<small>In Python.*?</small><pre[^>]*>(.*?)</pre>", html, re.DOTALL)
    assert len(found) == 4
    scope: dict[str, Any] = {}
    for block in found:
        text = re.sub(r"</?i>", "", block).replace("&#34;", '"').replace("&#39;", "'")
        exec(compile(text.replace("&gt;", ">").replace("&lt;", "<"), "page", "exec"), scope)
    assert scope["loss"].shape == (8,)
    assert len(scope["samples"]) == 16
    assert len(scope["steps"]) > 1
    assert Path("runs/mine/model.safetensors").exists()
    assert "network calls" in capsys.readouterr().out


def test_a_bare_model_directory_has_a_page(run: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("model.safetensors", "config.json"):
        shutil.copy(run / name, bare / name)
    write_report(bare, tmp_path / "report.html")
    page = read(tmp_path / "report.html")
    assert "There is no record of the training here" in page.words
    assert "was not evaluated" in page.words
    assert not [t for t in page.all("tr") if "data-metric" in t]


class Odd:
    """A plugin of wicked words: labels, and sections of a report."""

    suffuse_api = 1
    names: tuple[str, ...] = (WICKED, "a & b", "'quoted'")

    def __init__(self, section: object = None) -> None:
        self.section = section

    @hookimpl
    def register_datasets(self, register: Any) -> None:
        names = self.names

        class Dots:
            def __init__(self, split: str, *, known: bool = True, there: bool = True) -> None:
                if not there:
                    raise SuffuseError("the data has been moved away")
                self.known = known

            @property
            def conditions(self) -> dict[str, Condition]:
                return {"kind": Condition("category", names), "size": Condition("number")}

            def __len__(self) -> int:
                return 30

            def __getitem__(self, i: int) -> Example:
                values = {"kind": names[i % 3], "size": i / 7} if self.known else {}
                return Example(np.array([np.cos(i), np.sin(i)]), values)

        register("odd/dots", Dots)

    @hookimpl
    def report_section(self, run: Path) -> Any:
        if isinstance(self.section, Exception):
            raise self.section
        return self.section


@pytest.fixture
def odd(toy: ModuleType, tmp_path: Path) -> Callable[..., Path]:
    """A model of odd dots, untrained, with changes to its recipe."""

    def make(section: object = None, **changes: Any) -> Path:
        dotted = {key.replace("__", "."): value for key, value in changes.items()}
        manager = plugins.Manager(
            [
                plugins.Candidate("toy", lambda: toy, version="1.0"),
                plugins.Candidate("odd", lambda: Odd(section), version="1.0"),
            ]
        )
        context = plugins.using(manager)
        context.__enter__()
        managers.append(context)
        small = {k: v for k, v in SMALL.items() if not k.startswith("dataset")}
        asked = recipe.load(
            "toy/spiral", {**small, "dataset.name": "odd/dots", "conditions": {}, **dotted}
        )
        model = Model.untrained(asked, plugins.build("dataset", asked.dataset, split="train"))
        model.save(tmp_path / "odd")
        return tmp_path / "odd"

    managers: list[Any] = []
    yield make
    for context in reversed(managers):
        context.__exit__(None, None, None)


def test_labels_are_escaped_in_a_page(odd: Callable[..., Path], tmp_path: Path) -> None:
    run = odd(conditions={"kind": {"name": "label"}})
    write_report(run, tmp_path / "report.html")
    assert "<script" not in (tmp_path / "report.html").read_text(encoding="utf-8").lower()
    page = read(tmp_path / "report.html")
    for name in Odd.names:
        assert name in page.words


def test_a_model_without_conditions_has_a_page(odd: Callable[..., Path], tmp_path: Path) -> None:
    write_report(odd(dataset__known=False), tmp_path / "report.html")
    alts = [str(i["alt"]) for i in read(tmp_path / "report.html").all("img")]
    assert sum(alt == "sample" for alt in alts) == 30 + 10


def test_samples_are_played_beside_the_training_example_nearest_to_each(
    odd: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[tuple[Sequence[Any], Sequence[str]]] = []

    def players(self: Any, objects: Sequence[Any], captions: Sequence[str]) -> str:
        heard.append((objects, captions))
        return f"<p>heard {len(heard)} times</p>"

    run = odd()
    monkeypatch.setattr(type(Model.load(run).renderer), "players", players, raising=False)
    write_report(run, tmp_path / "report.html")
    assert "heard 10 times" in read(tmp_path / "report.html").words
    for i, ((made, near), (sample, told)) in enumerate(heard):
        assert sample == f"sample {i}"
        found = re.fullmatch(r"training example (\d+), at (.*)", told)
        assert found is not None
        dots = np.array([[np.cos(k), np.sin(k)] for k in range(30)])
        assert near == pytest.approx(dots[int(found[1])])
        assert np.linalg.norm(dots - np.asarray(made), axis=1).argmin() == int(found[1])


def test_a_model_without_its_data_has_a_page(odd: Callable[..., Path], tmp_path: Path) -> None:
    run = odd()
    config = storage.read_json(run / "config.json")
    config["recipe"]["dataset"]["there"] = False
    storage.write_json(run / "config.json", config)
    write_report(run, tmp_path / "report.html")
    page = read(tmp_path / "report.html")
    assert "is not to be had here" in page.words
    assert "nearest" not in page.words


def test_a_plugin_adds_a_section(odd: Callable[..., Path], tmp_path: Path) -> None:
    run = odd(("Dots & more", "<p>of <b>dots</b></p>"))
    write_report(run, tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<h2>Dots &amp; more</h2>" in html
    assert "<p>of <b>dots</b></p>" in html
    read(tmp_path / "report.html")


@pytest.mark.parametrize("answer", [RuntimeError("broken"), "a string", (1, 2), ("one",), None])
def test_a_broken_plugin_takes_no_page_away(
    odd: Callable[..., Path], answer: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for stage in ("data", "forward", "reverse"):
        monkeypatch.setattr(stages, stage, lambda page, view: None)
    monkeypatch.setattr(walkthrough, "_samples", lambda page, view: None)
    write_report(odd(answer), tmp_path / "report.html")
    headings = re.findall(r"<h2>(.*?)</h2>", (tmp_path / "report.html").read_text())
    assert headings == ["Training", "Metrics", "What was run"]


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SuffuseError, match="is no model"):
        write_report(tmp_path, tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


# The demo


def test_the_demo_goes_from_nothing_to_a_page(
    toy: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "demo"
    assert run_demo(out, "toy/spiral", SMALL) == out / "report.html"
    said = capsys.readouterr().out
    for place in ("1/4", "2/4", "3/4", "4/4", f"suffuse sample {out / 'run'} -n 16 --arm right"):
        assert place in said
    assert "distance: " in said
    read(out / "report.html")
    assert (out / "grid.png").read_bytes()[:4] == b"\x89PNG"
    weights = (out / "run" / "model.safetensors").stat().st_mtime_ns

    run_demo(out, "toy/spiral", SMALL)
    assert (out / "run" / "model.safetensors").stat().st_mtime_ns == weights

    # What training does not depend on may change; the figures are then measured anew.
    (out / "run" / "evaluation.json").write_text("[]")
    run_demo(out, "toy/spiral", {**SMALL, "evaluators.0.resamples": 50})
    assert (out / "run" / "model.safetensors").exists()
    assert "distance" in (out / "run" / "evaluation.json").read_text()

    with pytest.raises(SuffuseError, match="begun with another recipe"):
        run_demo(out, "toy/spiral", {**SMALL, "training.batch": 21})


def test_the_demo_needs_neither_conditions_nor_evaluators(
    toy: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("suffuse.demo.write_report", lambda run, out: None)
    run_demo(tmp_path / "demo", "toy/spiral", {**SMALL, "conditions": {}, "evaluators": []})
    said = capsys.readouterr().out
    assert "the recipe names no evaluators" in said
    assert "suffuse evaluate" not in said
    assert "-n 16 --seed 0" in said
    assert (tmp_path / "demo" / "grid.png").exists()
