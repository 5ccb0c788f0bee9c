"""Results for people: the tables of a folder as Markdown and as HTML; two folders compared."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from suffuse import plugins
from suffuse.bench.case import Record, Table
from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Metric
from suffuse.report.blocks import number
from suffuse.report.page import Page
from suffuse.stats.intervals import t_quantile

__all__ = ["LeftOut", "Ratio", "compare", "left_out", "markdown", "page", "tables"]


def _mean(metrics: Sequence[Metric]) -> Metric:
    """One metric for several seeds: their mean, for the seeds that there might have been.

    The interval is the wider, on each side, of that of independent measurements and Student's for
    the spread between the seeds.
    """
    mean = _fixed(metrics)
    half = _student([m.value for m in metrics])
    return replace(
        mean, low=min(mean.low, mean.value - half), high=max(mean.high, mean.value + half)
    )


_FEW = {1: 12.70620474, 2: 4.30265273, 3: 3.18244631}
"""The quantile 0.975 of Student's t, where the series of `t_quantile` does not hold yet."""


def _student(values: Sequence[float]) -> float:
    """t(k - 1) s / √k of k values, half of the 95 % interval of their mean; 0 for one value."""
    k = len(values)
    if k == 1:
        return 0.0
    t = _FEW[k - 1] if k - 1 in _FEW else t_quantile(0.95, k - 1)
    return t * statistics.stdev(values) / math.sqrt(k)


def _fixed(metrics: Sequence[Metric]) -> Metric:
    """The mean over just these seeds, whose error is that of independent measurements."""
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


def _by_model(records: Sequence[Record]) -> dict[str, dict[str, list[Metric]]]:
    """Metrics by model and name, one for each seed."""
    found: dict[str, dict[str, list[Metric]]] = {}
    for record in records:
        names = found.setdefault(record.model, {})
        for m in record.metrics:
            names.setdefault(m.name, []).append(m)
    return found


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
        if entry is None:
            continue
        try:
            summary = getattr(entry.load(), "summary", None)
            if summary is not None:
                out += summary([r for r in records if r.suite == suite and r.error is None])
        except Exception as error:  # a plugin's; the tables of its tasks are still to be had
            why = f"The suite's own summary is left out: {type(error).__name__}: {error}"
            out.append(Table(f"Summary of {suite}", ("",), [(why,)]))
    good = [r for r in records if r.error is None]
    for task in dict.fromkeys(r.task for r in good):
        found = [r for r in good if r.task == task]
        suites = dict.fromkeys(r.suite for r in found)
        if len({(r.model, r.seed) for r in found}) == len(found):
            out.append(_of_task(task, found))
        else:  # one case of two suites, measured on different code
            for suite in suites:
                each = [r for r in found if r.suite == suite]
                out.append(_of_task(f"{task} ({suite})", each))
    bad = [
        (r.task, r.model, r.seed, f"{r.error['type']}: {r.error['message']}")
        for r in records
        if r.error is not None
    ]
    if bad:
        out.append(Table("Failed", ("task", "model", "seed", "error"), bad))
    return out


def _of_task(title: str, records: Sequence[Record]) -> Table:
    models = {
        model: {name: _mean(each) for name, each in found.items()}
        for model, found in _by_model(records).items()
    }
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
    return Table(title, head, rows, ". ".join([caption, *notes]) + ".")


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


def _older(count: int) -> str:
    """What a report says of records that it leaves out; empty where there are none."""
    if count == 0:
        return ""
    told = "1 older record of the same case is" if count == 1 else f"{count} older records are"
    return f"{told} left out"


def markdown(records: Sequence[Record], title: str = "Benchmarks", older: int = 0) -> str:
    """A report as Markdown, which says how many `older` records of the same cases it leaves out."""
    lines = [f"# {title}", "", *([f"{_older(older)}.", ""] if older else [])]
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


def page(records: Sequence[Record], title: str = "Benchmarks", older: int = 0) -> Page:
    """A report as one HTML page that needs nothing beside itself; `older` as for `markdown`."""
    suites = ", ".join(dict.fromkeys(r.suite for r in records))
    told = f"{suites}: {len(records)} cases"
    made = Page(title, f"{told}; {_older(older)}" if older else told)
    for table in [*tables(records), _environments(records)]:
        section = made.section(table.title)
        section.table(table.head, [list(row) for row in table.rows], table.caption)
    return made


@dataclass(frozen=True)
class Ratio:
    """A metric of B over the same one of A, with its 95 % interval.

    Attributes:
        suite, task, model, metric: what is compared, over all seeds that both have.
        a, b: the two values.
        value, low, high: b / a. The interval takes the logarithms of both as normal and
            independent, with deviations from the width of their intervals; with several seeds it
            is at least Student's for the spread between seeds of b minus a times the ratio.
        verdict: "better" or "worse" where the interval does not hold 1, else "".
    """

    suite: str
    task: str
    model: str
    metric: str
    a: float
    b: float
    value: float
    low: float
    high: float
    verdict: str


@dataclass(frozen=True)
class LeftOut:
    """What two folders do not have to compare.

    Attributes:
        suite, task, model, metric: what; no metric where it is the whole case.
        seed: of the case.
        reason: why.
    """

    suite: str
    task: str
    model: str
    seed: int
    metric: str
    reason: str


def compare(a: Sequence[Record], b: Sequence[Record]) -> list[Ratio]:
    """Every metric, greater than 0, that both have of the same suite, task, model and seed.

    Raises:
        SuffuseError: where there is none.
    """
    before, after = _metrics(a), _metrics(b)
    pairs: dict[tuple[str, str, str, str], list[tuple[Metric, Metric]]] = {}
    for (suite, task, model, seed, name), m in before.items():
        other = after.get((suite, task, model, seed, name))
        if other is not None and min(m.value, other.value) > 0:
            pairs.setdefault((suite, task, model, name), []).append((m, other))
    if not pairs:
        raise SuffuseError("the two folders have no metric of the same task, model and seed")
    return [_ratio(*name[:3], each) for name, each in pairs.items()]


def left_out(a: Sequence[Record], b: Sequence[Record]) -> list[LeftOut]:
    """What `compare` does not compare, and why: cases that failed or that one folder lacks,
    metrics that one case lacks, and values that have no ratio."""
    found = []
    before, after = ({r.identity: r for r in records} for records in (a, b))
    for name in dict.fromkeys([*before, *after]):
        old, new = before.get(name), after.get(name)
        reason = ""
        if old is None or new is None:
            reason = f"it is in {'A' if new is None else 'B'} only"
        elif old.error is not None or new.error is not None:
            failed = [side for side, r in (("A", old), ("B", new)) if r.error is not None]
            reason = f"it failed in {' and in '.join(failed)}"
        if reason or old is None or new is None:
            found.append(LeftOut(*name, "", reason))
            continue
        for metric in dict.fromkeys(m.name for m in (*old.metrics, *new.metrics)):
            m, other = old.metric(metric), new.metric(metric)
            if m is None or other is None:
                reason = f"it is in {'A' if other is None else 'B'} only"
            elif min(m.value, other.value) <= 0:
                reason = f"a ratio needs values above 0, not {m.value:.4g} and {other.value:.4g}"
            else:
                continue
            found.append(LeftOut(*name, metric, reason))
    return found


def _metrics(records: Sequence[Record]) -> dict[tuple[str, str, str, int, str], Metric]:
    good = [r for r in records if r.error is None]
    return {(*r.identity, m.name): m for r in good for m in r.metrics}


def _ratio(suite: str, task: str, model: str, pairs: Sequence[tuple[Metric, Metric]]) -> Ratio:
    """Of the means over the seeds, which are the same on both sides."""
    a, b = _fixed([old for old, _ in pairs]), _fixed([new for _, new in pairs])
    value = b.value / a.value
    between = _student([new.value - value * old.value for old, new in pairs]) / b.value
    below = math.hypot(_log_gap(b.value, b.low), _log_gap(a.high, a.value))
    above = math.hypot(_log_gap(b.high, b.value), _log_gap(a.value, a.low))
    low = value * math.exp(-max(below, between))
    high = value * math.exp(min(max(above, between), 700.0))
    verdict = ""
    if low > 1 or high < 1:
        verdict = "better" if (high < 1) == (a.better == "lower") else "worse"
    return Ratio(suite, task, model, a.name, a.value, b.value, value, low, high, verdict)


def _log_gap(upper: float, lower: float) -> float:
    """log(upper/lower); an interval that reaches 0 is taken as wide as a factor of 100."""
    return math.log(upper / lower) if lower > upper / 100 else math.log(100.0)
