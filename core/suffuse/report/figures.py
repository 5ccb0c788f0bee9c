"""Charts as SVG, drawn by matplotlib, in one small palette.

Each function takes arrays and returns the text of an SVG file. Its colours and its font are CSS
variables with fixed values to fall back on: inside a page (`suffuse.report.page`) a chart takes the
page's light or dark colours, and on its own it is a light chart on a transparent ground.

Charts are drawn at one size, about half the width of a page and the whole width of a telephone, so
that their letters are as large as those of the text around them on both.

matplotlib is imported at the first chart, and its global state (pyplot) is never touched.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "PALETTE",
    "coefficients",
    "curve",
    "distances",
    "histogram",
    "line",
    "log_ratio",
    "loss",
    "loss_by_level",
    "smooth",
    "strips",
    "table",
]

PALETTE: Mapping[str, tuple[str, str]] = {
    "ink": ("#1b1e24", "#e7e9ec"),
    "muted": ("#5d6673", "#9aa5b3"),
    "line": ("#d9dde3", "#333a44"),
    "paper": ("#fcfcfb", "#14171b"),
    "card": ("#f3f4f6", "#1c2026"),
    "blue": ("#2456c7", "#85aeff"),
    "orange": ("#b6500b", "#f5a15c"),
    "green": ("#17734a", "#5fd0a0"),
    "faint": ("#a9bbe6", "#3d5488"),
    "level0": ("#0b7a8c", "#46c3d6"),
    "level1": ("#1f6fb0", "#5bb0ee"),
    "level2": ("#3a5fc4", "#86a3ff"),
    "level3": ("#6650c4", "#a997ff"),
    "level4": ("#8b43b4", "#c990f2"),
    "level5": ("#a93a94", "#e88bd3"),
    "level6": ("#bb3868", "#f58cac"),
    "level7": ("#b6500b", "#f5a15c"),
}
"""Each colour in light and in dark; level0 to level7 run from little noise to much."""

Array = NDArray[np.float64]


def _colour(name: str) -> str:
    return PALETTE[name][0]


def _array(values: ArrayLike) -> Array:
    return np.asarray(values, dtype=np.float64)


@contextmanager
def _chart(xlabel: str, ylabel: str) -> Iterator[tuple[Axes, list[str]]]:
    """Axes to draw on, and a list that receives the SVG's text at the end of the block."""
    with _charts(1, (5.0, 3.2)) as ([axes], out):
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        yield axes, out


@contextmanager
def _charts(rows: int, size: tuple[float, float]) -> Iterator[tuple[list[Axes], list[str]]]:
    """Axes below each other, which share what is across; else as `_chart`."""
    import matplotlib
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "suffuse",
        "font.family": ["DejaVu Sans"],
        "font.size": 10.5,
        "axes.edgecolor": _colour("muted"),
        "axes.labelcolor": _colour("muted"),
        "axes.linewidth": 0.8,
        "axes.axisbelow": True,
        "axes.unicode_minus": True,
        "axes.formatter.use_mathtext": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": _colour("line"),
        "grid.linewidth": 0.8,
        "xtick.color": _colour("muted"),
        "ytick.color": _colour("muted"),
        "text.color": _colour("ink"),
        "lines.linewidth": 1.8,
        "lines.solid_capstyle": "round",
    }
    out: list[str] = []
    with matplotlib.rc_context(style):
        figure = Figure(figsize=size, layout="constrained")
        found = list(figure.subplots(rows, sharex=True, squeeze=False)[:, 0])
        for axes in found:
            axes.grid(axis="y")
            axes.tick_params(which="both", length=0, pad=5)
        yield found, out
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    out.append(_themed(buffer.getvalue()))


def _themed(svg: str) -> str:
    """Fixed colours and the fixed font become CSS variables that fall back on them."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    for name, (light, _) in PALETTE.items():
        svg = re.sub(rf"(?<=: ){light}\b", f"var(--{name}, {light})", svg)
    return re.sub(r"'DejaVu Sans'[^;\"]*", "var(--sans, 'DejaVu Sans', sans-serif)", svg)


def _label_ends(axes: Axes, labels: Sequence[tuple[float, str, str]]) -> None:
    """Write (height in data, text, colour) beside the right edge, moved apart where they collide.

    Call it when the limits of the axes are final.
    """
    to_axes = axes.transData + axes.transAxes.inverted()
    left = axes.get_xlim()[1]
    heights = [float(to_axes.transform((left, height))[1]) for height, _, _ in labels]
    order = sorted(range(len(labels)), key=heights.__getitem__)
    gap = 0.075
    placed: list[float] = []
    for i in order:
        placed.append(max(heights[i], placed[-1] + gap) if placed else heights[i])
    overflow = max(0.0, placed[-1] - 1.0) if placed else 0.0
    ceiling = math.inf
    for rank in reversed(range(len(placed))):
        placed[rank] = min(placed[rank], placed[rank] if not overflow else 1.0, ceiling)
        ceiling = placed[rank] - gap
    for rank, i in enumerate(order):
        _, text, colour = labels[i]
        axes.text(1.02, placed[rank], text, color=colour, va="center", transform=axes.transAxes)


def smooth(values: ArrayLike, span: float) -> Array:
    """An exponential average over about `span` values, without bias at the start.

    Weights are (1 − 1/span)^age, normalised by their sum.

    >>> smooth([2.0, 2.0, 2.0], span=10).tolist()
    [2.0, 2.0, 2.0]
    """
    keep = 1 - 1 / max(span, 1.0)
    total = weight = 0.0
    out = []
    for value in _array(values).tolist():
        if math.isfinite(value):
            total, weight = keep * total + value, keep * weight + 1
        out.append(total / weight if weight else math.nan)
    return np.array(out)


def _bins(values: Array, most: int = 48) -> Array:
    """Edges of bins: one bin a value where there are few different ones, else equal widths.

    What differs by its rounding alone is one value.
    """
    levels = np.unique(values)
    step = np.diff(levels, prepend=-np.inf)
    levels = levels[step > 1e-9 * np.abs(levels).max()]
    if 1 < len(levels) <= most:
        middles = (levels[1:] + levels[:-1]) / 2
        first, last = 2 * levels[0] - middles[0], 2 * levels[-1] - middles[-1]
        return np.concatenate([[first], middles, [last]])
    low, high = float(values.min()), float(values.max())
    if len(levels) == 1:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, most + 1)


def histogram(values: ArrayLike, xlabel: str, *, normal: bool = False) -> str:
    """How often each value occurs, as a density.

    Args:
        values: numbers of any shape; infinite and missing ones are left out.
        xlabel: what the values are.
        normal: draw the standard normal density over it.
    """
    x = _array(values).ravel()
    x = x[np.isfinite(x)]
    with _chart(xlabel, "density") as (axes, out):
        peak = 0.0
        if len(x):
            edges = _bins(x)
            density, _ = np.histogram(x, bins=edges, density=True)
            peak = float(density.max())
            axes.stairs(density, edges, fill=True, color=_colour("blue"), alpha=0.25)
            axes.stairs(density, edges, color=_colour("blue"), linewidth=1.4)
        if normal:
            grid = np.linspace(-4, 4, 201)
            bell = np.exp(-(grid**2) / 2) / math.sqrt(2 * math.pi)
            axes.plot(grid, bell, color=_colour("orange"), linestyle=(0, (4, 2)))
            axes.annotate(
                "standard normal",
                (1.25, math.exp(-(1.25**2) / 2) / math.sqrt(2 * math.pi)),
                xytext=(2.0, max(0.3, 0.45 * peak)),
                color=_colour("orange"),
                arrowprops={"arrowstyle": "-", "color": _colour("orange"), "linewidth": 0.8},
            )
        axes.set_ylim(bottom=0)
    return out[0]


def loss(steps: ArrayLike, values: ArrayLike, *, ylabel: str = "loss") -> str:
    """The training loss over steps: as logged, and its running average; a logarithmic axis."""
    x, y = _array(steps), _array(values)
    good = np.isfinite(y) & (y > 0)
    x, y = x[good], y[good]
    with _chart("step", ylabel) as (axes, out):
        axes.set_yscale("log")
        _plain_log(axes)
        if len(x):
            running = smooth(y, max(len(y) / 20, 3))
            axes.plot(x, y, color=_colour("faint"), linewidth=1.0)
            axes.plot(x, running, color=_colour("blue"), linewidth=2.2)
            axes.margins(x=0)
            _focus(axes, y)
            _label_ends(axes, [(float(running[-1]), f"{running[-1]:.3g}", _colour("blue"))])
    return out[0]


def loss_by_level(steps: ArrayLike, values: ArrayLike, *, ylabel: str = "loss") -> str:
    """The loss over steps in each of K bins of the noise level t, from blue-green to orange.

    Args:
        steps: [N].
        values: [N, K]; NaN where a bin got no example. Bin k covers t from k/K to (k+1)/K.
        ylabel: the name of the vertical axis.
    """
    x, y = _array(steps), np.atleast_2d(_array(values))
    with _chart("step", ylabel) as (axes, out):
        axes.set_yscale("log")
        _plain_log(axes)
        ends: list[tuple[float, str, str]] = []
        smoothed = []
        for k in range(y.shape[1]):
            good = np.isfinite(y[:, k]) & (y[:, k] > 0)
            if not good.any():
                continue
            running = smooth(y[good, k], max(good.sum() / 12, 4))
            smoothed.append(running)
            colour = _colour(f"level{round(7 * k / max(y.shape[1] - 1, 1))}")
            axes.plot(x[good], running, color=colour, linewidth=1.5)
            low, high = k / y.shape[1], (k + 1) / y.shape[1]
            name = f"t {low:.2f}–{high:.2f}" if not ends else f"{low:.2f}–{high:.2f}"
            ends.append((float(running[-1]), name, colour))
        axes.margins(x=0)
        if smoothed:
            _focus(axes, np.concatenate(smoothed))
        _label_ends(axes, ends)
    return out[0]


def _focus(axes: Axes, y: Array) -> None:
    """Limits of a logarithmic axis that leave out a few wild values at the start."""
    low, high = float(np.quantile(y, 0.002)), float(np.quantile(y, 0.995))
    room = max(high / low, 1.2) ** 0.06
    axes.set_ylim(low / room, high * room)


def _plain_log(axes: Axes) -> None:
    """Numbers such as 0.2 instead of powers of ten along a logarithmic axis."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def line(x: ArrayLike, y: ArrayLike, xlabel: str, ylabel: str) -> str:
    """One quantity over another, from zero up: a learning rate, a throughput."""
    across, up = _array(x), _array(y)
    good = np.isfinite(up)
    with _chart(xlabel, ylabel) as (axes, out):
        axes.plot(across[good], up[good], color=_colour("blue"))
        axes.margins(x=0)
        axes.set_ylim(bottom=0)
        if good.any() and 0 < float(up[good].max()) < 0.01:
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    return out[0]


def curve(
    x: ArrayLike,
    values: ArrayLike,
    intervals: ArrayLike,
    floors: ArrayLike,
    xlabel: str,
    ylabel: str,
) -> str:
    """A measured figure over one quantity, from zero up, with real against real as a band.

    Args:
        x, values: [N] each.
        intervals, floors: the figure's bounds and those of its floor, [N, 2] each.
        xlabel, ylabel: the names of the axes.
    """
    across, up = _array(x), _array(values)
    ends, band = _array(intervals), _array(floors)
    with _chart(xlabel, ylabel) as (axes, out):
        axes.fill_between(
            across, band[:, 0], band[:, 1], color=_colour("orange"), alpha=0.25, linewidth=0
        )
        axes.errorbar(
            across,
            up,
            yerr=np.abs(ends.T - up),
            color=_colour("blue"),
            elinewidth=1.2,
            marker="o",
            markersize=4.5,
        )
        axes.locator_params(axis="x", integer=True)
        axes.set_ylim(bottom=0)
        labels = [("made", up[-1], "blue"), ("real", band[-1].mean(), "orange")]
        _label_ends(axes, [(float(y), name, _colour(colour)) for name, y, colour in labels])
    return out[0]


def strips(x: Any, rows: Mapping[str, ArrayLike], marked: ArrayLike, xlabel: str = "") -> str:
    """Quantities over one axis, below each other over the width of a page; marked parts shaded.

    Args:
        x: [N], rising numbers or datetime64.
        rows: of each quantity's name its values, [N].
        marked: which of the N are shaded.
        xlabel: what is across.
    """
    across, on = np.asarray(x), np.concatenate([[False], np.asarray(marked, bool), [False]])
    begins, ends = np.flatnonzero(on[1:] & ~on[:-1]), np.flatnonzero(~on[1:] & on[:-1]) - 1
    half = (across[1:] - across[:-1]).min() / 2 if len(across) > 1 else 0
    with _charts(len(rows), (9.2, 0.7 + 1.45 * len(rows))) as (found, out):
        for axes, (name, values) in zip(found, rows.items(), strict=True):
            axes.plot(across, _array(values), color=_colour("blue"), linewidth=1.1)
            for a, b in zip(across[begins] - half, across[ends] + half, strict=True):
                axes.axvspan(a, b, color=_colour("orange"), alpha=0.3, linewidth=0.8)
            axes.set_title(name, loc="left", fontsize=10.5, color=_colour("muted"))
            axes.margins(x=0)
        found[-1].set_xlabel(xlabel)
    return out[0]


def _mark_grid(axes: Axes, t: Array, y: Array, colour: str) -> None:
    axes.plot(
        t, y, linestyle="none", marker="o", markersize=4.5, color=colour, clip_on=False, zorder=3
    )


def coefficients(t: ArrayLike, alpha: ArrayLike, sigma: ArrayLike, grid: ArrayLike = ()) -> str:
    """α and σ of a schedule over t, with the times of a sampler's grid marked on both curves.

    Args:
        t, alpha, sigma: [N] each.
        grid: the sampler's times, [M].
    """
    x, a, s, marks = (_array(k) for k in (t, alpha, sigma, grid))
    with _chart("t", "") as (axes, out):
        for y, name in ((a, "blue"), (s, "orange")):
            axes.plot(x, y, color=_colour(name))
            _mark_grid(axes, marks, np.interp(marks, x, y), _colour(name))
        axes.set_xlim(0, 1)
        axes.set_ylim(0, None)
        ends = [(float(a[-1]), "α  signal", _colour("blue"))]
        _label_ends(axes, [*ends, (float(s[-1]), "σ  noise", _colour("orange"))])
    return out[0]


def log_ratio(t: ArrayLike, lam: ArrayLike, grid: ArrayLike = (), *, limit: float = 9.0) -> str:
    """λ = log(α/σ) of a schedule over t, with the times of a sampler's grid marked.

    λ runs to infinity at the ends; it is drawn within ± `limit`.
    """
    x, y, marks = (_array(k) for k in (t, lam, grid))
    finite = np.isfinite(y)
    with _chart("t", "λ") as (axes, out):
        axes.axhline(0, color=_colour("muted"), linewidth=0.8)
        inside = finite & (np.abs(y) <= limit)
        axes.plot(x[inside], y[inside], color=_colour("green"))
        if finite.any():
            at = np.interp(marks, x[finite], y[finite])
            seen = (np.abs(at) <= limit) & (marks >= x[finite][0]) & (marks <= x[finite][-1])
            _mark_grid(axes, marks[seen], at[seen], _colour("green"))
        axes.set_xlim(0, 1)
        axes.text(0.98, 0.15, "as much signal as noise", color=_colour("muted"), ha="right")
    return out[0]


def distances(made: ArrayLike, real: ArrayLike, *, xlabel: str) -> str:
    """Distances to the nearest training example: of made examples and of held-out real ones."""
    sets = [("made", _array(made), "blue"), ("real, held out", _array(real), "orange")]
    both = np.concatenate([values for _, values, _ in sets])
    with _chart(xlabel, "density") as (axes, out):
        if len(both):
            low, high = min(0.0, float(both.min())), float(both.max())
            edges = np.linspace(low, high + 0.02 * (high - low) or 1.0, 29)
            tops = []
            for name, values, colour in sets:
                if not len(values):
                    continue
                density, _ = np.histogram(values, bins=edges, density=True)
                axes.stairs(density, edges, fill=True, color=_colour(colour), alpha=0.16)
                axes.stairs(density, edges, color=_colour(colour), linewidth=1.8)
                axes.axvline(
                    float(np.median(values)), color=_colour(colour), linestyle=(0, (2, 2)), lw=1.0
                )
                tops.append((float(np.median(values)), name, colour))
            tops.sort()
            for rank, (middle, name, colour) in enumerate(tops):
                first = rank == 0 and len(tops) > 1
                axes.annotate(
                    f"{name}\nmedian {middle:.3g}",
                    (middle, 1.0),
                    xycoords=axes.get_xaxis_transform(),
                    xytext=(-5 if first else 5, 2),
                    textcoords="offset points",
                    ha="right" if first else "left",
                    va="bottom",
                    color=_colour(colour),
                )
            axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(bottom=0)
    return out[0]


def table(
    values: ArrayLike,
    columns: Sequence[str],
    rows: Sequence[str],
    ylabel: str,
    bars: Mapping[str, ArrayLike] = {},
) -> str:
    """Numbers as a heat map with the numbers in it: a sampler's coefficients.

    Args:
        values: [R, K]; zeros are left blank.
        columns, rows: K and R labels.
        bars: beside the rows, by title: R numbers each, of which those that are not finite are left
            out.
    """
    cells = _array(values)
    with _chart("", ylabel) as (axes, out):
        figure = cast("Figure", axes.figure)
        figure.set_size_inches(5.0 + 1.3 * len(bars), max(3.2, 0.24 * len(rows) + 0.8))
        top = float(np.abs(cells).max()) or 1.0
        axes.grid(visible=False)
        axes.imshow(cells, cmap="RdBu_r", vmin=-2 * top, vmax=2 * top, aspect="auto")
        axes.set_xticks(range(len(columns)), columns)
        axes.set_yticks(range(len(rows)), rows)
        for (i, j), value in np.ndenumerate(cells):
            if value:
                axes.text(j, i, f"{value:.3g}", ha="center", va="center", fontsize=8)
        places = figure.add_gridspec(1, 1 + len(bars), width_ratios=[4.0] + [1.0] * len(bars))
        axes.set_subplotspec(places[0])
        for k, (title, numbers) in enumerate(bars.items(), 1):
            beside = figure.add_subplot(places[k], sharey=axes)
            heights = np.nan_to_num(_array(numbers), nan=0.0, posinf=0.0, neginf=0.0)
            beside.barh(range(len(rows)), heights, height=0.6, color=_colour("blue"))
            beside.tick_params(which="both", length=0, labelleft=False)
            beside.set_xlabel(title)
            beside.locator_params(axis="x", nbins=3)
    return out[0]
