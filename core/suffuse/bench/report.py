"""Results for people: the tables of a folder as Markdown and as HTML; two folders compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from suffuse import plugins
from suffuse.bench.case import Record, Table
from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Metric
from suffuse.report.blocks import number
from suffuse.report.page import Page

__all__ = ["Ratio", "compare", "markdown", "page", "tables"]


def _mean(metrics: Sequence[Metric]) -> Metric:
    """One metric for several seeds: their mean, whose error is that of independent measurements."""
    if len(metrics) == 1:
        return metrics[0]
    value = sum(m.value for m in metrics) / len(metrics)

    def side(name: str) -> float:
        gaps = (getattr(m, name) - m.value for m in metrics)
        return math.sqrt(sum(gap**2 for gap in gaps)) / len(metrics)

    first = metrics[0]
    return Metric(
        first.name,
        value,
        value - side("low"),
        value + side("high"),
        first.better,
        n=sum(m.n for m in metrics),
        unit=first.unit,
        note=first.note,
    )


def _by_model(records: Sequence[Record]) -> dict[str, dict[str, Metric]]:
    """Metrics by model and name, over all seeds."""
    found: dict[str, dict[str, list[Metric]]] = {}
    for record in records:
        names = found.setdefault(record.model, {})
        for m in record.metrics:
            names.setdefault(m.name, []).append(m)
    return {
        model: {name: _mean(each) for name, each in names.items()} for model, names in found.items()
    }


def _cell(m: Metric | None) -> str:
    if m is None:
        return ""
    spread = (m.high - m.low) / 2
    text = number(m.value, spread if spread > 0 else None)
    if spread > 0:
        text += f" ({number(m.low, spread)} to {number(m.high, spread)})"
    return text


def _rank(m: Metric | None) -> float:
    """By which models are sorted, the best first."""
    return math.inf if m is None else (m.value if m.better == "lower" else -m.value)


def tables(records: Sequence[Record]) -> list[Table]:
    """What the suites say of their records, then a table for every task, and the failures."""
    out: list[Table] = []
    for suite in dict.fromkeys(r.suite for r in records):
        entry = next((e for e in plugins.entries("benchmark") if e.name == suite), None)
        summary = getattr(entry.load(), "summary", None) if entry else None
        if summary is not None:
            out += summary([r for r in records if r.suite == suite and r.error is None])
    good = [r for r in records if r.error is None]
    for task in dict.fromkeys(r.task for r in good):
        out.append(_of_task(task, [r for r in good if r.task == task]))
    bad = [
        (r.task, r.model, r.seed, f"{r.error['type']}: {r.error['message']}")
        for r in records
        if r.error is not None
    ]
    if bad:
        out.append(Table("Failed", ("task", "model", "seed", "error"), bad))
    return out


def _of_task(task: str, records: Sequence[Record]) -> Table:
    models = _by_model(records)
    names = list(dict.fromkeys(name for found in models.values() for name in found))
    units = {name: m.unit for found in models.values() for name, m in found.items()}
    head = ["", *(f"{n} ({units[n]})" if units[n] else n for n in names)]
    order = sorted(models, key=lambda m: _rank(models[m].get(names[-1]))) if names else []
    rows = [[model, *(_cell(models[model].get(n)) for n in names)] for model in order]
    sampled = {m.n for found in models.values() for m in found.values()}
    seeds = len({r.seed for r in records})
    caption = "95 % intervals in brackets"
    caption += f"; n = {sampled.pop():,}" if len(sampled) == 1 else ""
    caption += f"; means over {seeds} seeds" if seeds > 1 else ""
    notes = dict.fromkeys(f"{r.model}: {r.note}" for r in records if r.note)
    return Table(task, head, rows, ". ".join([caption, *notes]) + ".")


def _environments(records: Sequence[Record]) -> Table:
    """What the runs were made on; values that differ between them stand side by side."""
    rows: dict[str, dict[str, None]] = {}
    for record in records:
        for name, value in record.environment.items():
            found = value.items() if isinstance(value, dict) else [(name, value)]
            for inner, each in found:
                rows.setdefault(str(inner), {})[str(each)] = None

    def told(name: str, values: dict[str, None]) -> str:
        if name.startswith("load"):
            loads = [float(v) for v in values if v != "None"]
            return f"{min(loads)} to {max(loads)}" if loads else "unknown"
        return ", ".join(values)

    return Table("Environment", ("", ""), [(name, told(name, v)) for name, v in rows.items()])


def markdown(records: Sequence[Record], title: str = "Benchmarks") -> str:
    """A report as Markdown."""
    lines = [f"# {title}", ""]
    for table in [*tables(records), _environments(records)]:
        lines += [f"## {table.title}", ""]
        lines.append("| " + " | ".join(_escaped(h) or " " for h in table.head) + " |")
        lines.append("|" + "|".join(" --- " for _ in table.head) + "|")
        lines += ["| " + " | ".join(_escaped(c) for c in row) + " |" for row in table.rows]
        lines += ["", *([table.caption, ""] if table.caption else [])]
    return "\n".join(lines)


def _escaped(cell: str | float) -> str:
    text = cell if isinstance(cell, str) else number(cell)
    return text.replace("|", "\\|").replace("\n", " ")


def page(records: Sequence[Record], title: str = "Benchmarks") -> Page:
    """A report as one HTML page that needs nothing beside itself."""
    suites = ", ".join(dict.fromkeys(r.suite for r in records))
    made = Page(title, f"{suites}: {len(records)} cases")
    for table in [*tables(records), _environments(records)]:
        section = made.section(table.title)
        section.table(table.head, [list(row) for row in table.rows], table.caption)
    return made


@dataclass(frozen=True)
class Ratio:
    """A metric of B over the same one of A, with its 95 % interval.

    Attributes:
        task, model, metric: what is compared, over all seeds that both have.
        a, b: the two values.
        value, low, high: b / a. The interval takes the logarithms of both as normal and
            independent, with deviations from the width of their intervals.
        verdict: "better" or "worse" where the interval does not hold 1, else "".
    """

    task: str
    model: str
    metric: str
    a: float
    b: float
    value: float
    low: float
    high: float
    verdict: str


def compare(a: Sequence[Record], b: Sequence[Record]) -> list[Ratio]:
    """Every metric, greater than 0, that both have of the same task, model and seed.

    Raises:
        SuffuseError: where there is none.
    """
    before = {r.identity: r for r in a if r.error is None}
    after = {r.identity: r for r in b if r.error is None}
    shared = [name for name in before if name in after]
    found = []
    for task, model in dict.fromkeys((task, model) for task, model, _ in shared):
        seeds = [name for name in shared if name[:2] == (task, model)]
        old = _by_model([before[name] for name in seeds])[model]
        new = _by_model([after[name] for name in seeds])[model]
        for name in old:
            if name in new and min(old[name].value, new[name].value) > 0:
                found.append(_ratio(task, model, old[name], new[name]))
    if not found:
        raise SuffuseError("the two folders have no metric of the same task, model and seed")
    return found


def _ratio(task: str, model: str, a: Metric, b: Metric) -> Ratio:
    value = b.value / a.value
    below = math.hypot(_log_gap(b.value, b.low), _log_gap(a.high, a.value))
    above = math.hypot(_log_gap(b.high, b.value), _log_gap(a.value, a.low))
    low, high = value * math.exp(-below), value * math.exp(above)
    verdict = ""
    if low > 1 or high < 1:
        verdict = "better" if (high < 1) == (a.better == "lower") else "worse"
    return Ratio(task, model, a.name, a.value, b.value, value, low, high, verdict)


def _log_gap(upper: float, lower: float) -> float:
    """log(upper/lower); an interval that reaches 0 is taken as wide as a factor of 100."""
    return math.log(upper / lower) if lower > upper / 100 else math.log(100.0)
