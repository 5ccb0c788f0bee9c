"""Cases that are run once and kept, reports of them, and two folders compared."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest
from click.testing import CliRunner

from suffuse import bench, plugins
from suffuse.bench import Context, Result, Table, environment, report
from suffuse.bench.launching import Processes
from suffuse.bench.runner import read
from suffuse.cli.bench import bench as command
from suffuse.errors import SuffuseError
from suffuse.plugins import hookimpl
from suffuse.plugins.contracts import Metric

RUNS: list[tuple[str, str, int]] = []
"""What was run, in order."""


@dataclass(frozen=True)
class Halving:
    """How far from 0 a number is after some halvings; "broken" raises."""

    measures: ClassVar = ("suffuse.errors",)
    task: str
    model: str
    seed: int
    calls: int = 4
    options: dict[str, Any] = field(default_factory=dict)

    def run(self, context: Context) -> Result:
        RUNS.append((self.task, self.model, self.seed))
        if self.model == "broken":
            raise ValueError("this one fails")
        if self.model == "infinite":
            return Result([Metric("error", float("inf"), 0.0, 1.0, "lower", n=1)])
        value = 2.0 ** -(self.calls + self.seed)
        return Result([Metric("error", value, value * 0.9, value * 1.1, "lower", n=10)])


def halving(seeds: int = 2, calls: int = 4) -> Iterator[Halving]:
    for model in ("good", "broken", "infinite"):
        for seed in range(seeds):
            yield Halving("toy/halving", model, seed, calls)


def _summary(records: Any) -> list[Table]:
    return [Table("In short", ("records",), [(len(records),)])]


halving.summary = _summary  # type: ignore[attr-defined]


class Here:
    """A launcher that does it itself."""

    def launch(self, commands, tell):
        statuses = []
        for words in commands:
            done = CliRunner().invoke(command, list(words[1:]))
            for line in done.output.splitlines():
                tell(line)
            statuses.append(done.exit_code)
        return statuses


@pytest.fixture(autouse=True)
def suite() -> Iterator[None]:
    """The suite ``toy/halving`` as the only one, and nothing run yet."""
    module = ModuleType("suffuse_toy_benchmarks")

    @hookimpl
    def register_benchmarks(register: plugins.Register) -> None:
        register("toy/halving", halving, summary="numbers cut in half")

    @hookimpl
    def register_launchers(register: plugins.Register) -> None:
        register("toy/here", Here, summary="one after the other, in this process")

    module.suffuse_api = 1  # type: ignore[attr-defined]
    module.register_launchers = register_launchers  # type: ignore[attr-defined]
    module.register_benchmarks = register_benchmarks  # type: ignore[attr-defined]
    manager = plugins.Manager([plugins.Candidate("toy", lambda: module, version="1.0")])
    assert [status.message for status in manager.statuses] == [""]
    RUNS.clear()
    with plugins.using(manager):
        yield


def invoke(*words: str, code: int = 0):
    done = CliRunner().invoke(command, list(words))
    assert done.exit_code == code, done.output
    return done


def test_a_key_tells_cases_apart_by_all_that_decides_the_answer():
    case = Halving("toy/halving", "good", 0)
    others = [
        replace(case, seed=1),
        replace(case, model="better"),
        replace(case, task="toy/thirds"),
        replace(case, calls=5),
        replace(case, options={"a": 1}),
    ]
    keys = [bench.key(c) for c in (case, *others)]
    assert len(set(keys)) == len(keys)
    assert all(re.fullmatch(r"[0-9a-f]{64}", key) for key in keys)
    assert bench.key(Halving("toy/halving", "good", 0)) == keys[0]


def test_a_key_follows_the_source_of_what_is_measured(tmp_path, monkeypatch):
    (tmp_path / "measured_toy.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    @dataclass(frozen=True)
    class Case(Halving):
        measures = ("measured_toy", "numpy", "not-installed-anywhere")

    case = Case("toy/halving", "good", 0)
    bench.case._code.cache_clear()
    before, told = bench.key(case), bench.case.code(case)
    assert told["numpy"] == np.__version__
    assert told["not-installed-anywhere"] == "absent"
    (tmp_path / "measured_toy.py").write_text("x = 2\n")
    bench.case._code.cache_clear()
    assert bench.key(case) != before


def test_a_case_with_a_field_that_json_cannot_hold_is_named():
    case = Halving("toy/halving", "good", 0, options={"x": object()})
    with pytest.raises(SuffuseError, match=r"toy/halving.*good.*JSON"):
        bench.key(case)


def test_done_cases_are_kept_and_failed_ones_run_again(tmp_path):
    first = bench.run(halving(), tmp_path, "toy/halving")
    assert [o.state for o in first] == ["done", "done", "failed", "failed", "failed", "failed"]
    assert len(list(tmp_path.glob("*.json"))) == 6
    RUNS.clear()
    second = bench.run(halving(), tmp_path, "toy/halving")
    assert [o.state for o in second] == ["kept", "kept", *["failed"] * 4]
    assert {model for _, model, _ in RUNS} == {"broken", "infinite"}
    RUNS.clear()
    bench.run(halving(seeds=1), tmp_path, "toy/halving", force=True)
    assert ("toy/halving", "good", 0) in RUNS


def test_a_record_tells_where_and_by_what_it_was_made(tmp_path):
    (done,) = bench.run([Halving("toy/halving", "good", 1)], tmp_path, "toy/halving")
    (path,) = tmp_path.glob("*.json")
    record = read(path)
    assert record == done.record
    assert record.metrics == (Metric("error", 2**-5, 0.9 * 2**-5, 1.1 * 2**-5, "lower", n=10),)
    assert record.parameters == {"calls": 4, "options": {}}
    assert record.key == bench.key(done.case)
    assert {"python", "processor", "cores", "threads", "versions", "commit", "dirty"} <= set(
        record.environment
    )
    assert record.environment["versions"]["torch"]
    assert record.seconds >= 0
    assert record.code["suffuse.errors"] == bench.case._code("suffuse.errors")


def test_a_failure_is_told_with_its_traceback_and_infinity_is_one(tmp_path):
    broken, infinite = bench.run(
        [Halving("toy/halving", m, 0) for m in ("broken", "infinite")], tmp_path, "toy/halving"
    )
    assert broken.record.error["type"] == "ValueError"
    assert "raise ValueError" in broken.record.error["traceback"]
    assert "'error' has the value inf" in infinite.record.error["message"]


def test_an_interrupt_keeps_what_is_done(tmp_path):
    @dataclass(frozen=True)
    class Stopped(Halving):
        def run(self, context):
            raise KeyboardInterrupt

    cases = [Halving("toy/halving", "good", 0), Stopped("toy/halving", "good", 1)]
    with pytest.raises(KeyboardInterrupt):
        bench.run(cases, tmp_path, "toy/halving")
    assert len(bench.load(tmp_path)) == 1


def test_of_two_records_of_a_case_the_newer_one_counts(tmp_path):
    bench.run(halving(calls=4), tmp_path, "toy/halving")
    for path in tmp_path.glob("*.json"):
        data = json.loads(path.read_text())
        path.write_text(json.dumps(data | {"started": "2020-01-01T00:00:00+00:00"}))
    bench.run(halving(calls=5), tmp_path, "toy/halving")
    good = {r.seed: r for r in bench.load(tmp_path) if r.model == "good"}
    assert good[0].parameters["calls"] == 5


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 1}', '{"format": 2}'])
def test_damaged_records_are_named_when_read_and_made_again_when_run(tmp_path, text):
    (done,) = bench.run([Halving("toy/halving", "good", 0)], tmp_path, "toy/halving")
    (path,) = tmp_path.glob("*.json")
    path.write_text(text)
    with pytest.raises(SuffuseError, match=path.name):
        bench.load(tmp_path)
    (again,) = bench.run([done.case], tmp_path, "toy/halving")
    assert again.state == "done"


def test_a_folder_without_results_says_what_makes_them(tmp_path):
    with pytest.raises(SuffuseError, match="suffuse bench run"):
        bench.load(tmp_path)


def test_what_is_shared_is_made_once():
    made = []
    context = bench.Context()
    for _ in range(3):
        context.once("a", lambda: made.append(1))
    assert made == [1]


@dataclass(frozen=True)
class Answering(Halving):
    """A case that answers what it is asked for, of things that no JSON file can hold."""

    def run(self, context: Context) -> Result:
        value: Any = {"float32": np.float32(0.5), "nan": np.float32("nan"), "text": "0.5"}.get(
            self.model, 0.5
        )
        detail = {"array": {"x": np.zeros(2)}, "detail-nan": {"x": float("nan")}}
        metric = Metric("error", value, 0.0, np.float64(1.0), "lower", n=np.int64(3))
        return Result([metric], detail.get(self.model, {}))


def test_a_result_that_json_cannot_hold_is_an_error_of_its_case_alone(tmp_path):
    models = ("float32", "nan", "text", "array", "detail-nan", "last")
    cases = [Answering("toy/answers", model, 0) for model in models]
    outcomes = bench.run(cases, tmp_path, "toy/halving")
    assert [o.state for o in outcomes] == ["done", *["failed"] * 4, "done"]
    read_again = {r.model: r for r in bench.load(tmp_path)}
    assert read_again["float32"].metrics == (Metric("error", 0.5, 0.0, 1.0, "lower", n=3),)
    assert "has the value nan" in read_again["nan"].error["message"]
    assert "a str, which is no number" in read_again["text"].error["message"]


def test_a_case_without_a_key_stops_the_run_before_the_first_case(tmp_path):
    for wrong in (Halving("toy/halving", "bad", 0, options={"x": np.zeros(1)}), object()):
        with pytest.raises(SuffuseError, match=r"JSON cannot hold|is no case"):
            bench.run([Halving("toy/halving", "good", 0), wrong], tmp_path, "toy/halving")
    assert RUNS == []


def test_a_folder_that_cannot_be_made_stops_the_run_before_the_first_case(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SuffuseError, match="cannot write"):
        bench.run([Halving("toy/halving", "good", 0)], tmp_path / "file", "toy/halving")
    assert RUNS == []


def test_of_a_b_and_a_again_the_report_shows_a(tmp_path):
    for calls in (4, 5, 4):
        bench.run([Halving("toy/halving", "good", 0, calls)], tmp_path, "toy/halving")
    (record,) = bench.load(tmp_path)
    assert record.parameters["calls"] == 4
    assert record.used > record.started
    report_of = invoke("report", str(tmp_path))
    assert "wrote" in report_of.output
    for name in ("report.md", "report.html"):
        assert "1 older record" in (tmp_path / name).read_text()


def test_a_file_of_before_there_was_a_field_used_counts_from_its_start(tmp_path):
    bench.run([Halving("toy/halving", "good", 0)], tmp_path, "toy/halving")
    (path,) = tmp_path.glob("*.json")
    data = json.loads(path.read_text())
    del data["used"]
    path.write_text(json.dumps(data))
    assert read(path).used == data["started"]


def test_two_suites_that_share_a_case_do_not_hide_each_other(tmp_path):
    for suite, calls in (("toy/halving", 4), ("toy/other", 5)):
        bench.run([Halving("toy/halving", "good", 0, calls)], tmp_path, suite)
    records = bench.load(tmp_path)
    assert {r.suite for r in records} == {"toy/halving", "toy/other"}
    text = report.markdown(records)
    assert "## toy/halving (toy/halving)" in text
    assert "## toy/halving (toy/other)" in text
    assert "means over" not in text


def test_a_forced_run_that_fails_leaves_the_good_record(tmp_path, monkeypatch):
    invoke("run", "halving", "--out", str(tmp_path), "--only", "good")
    monkeypatch.setattr(Halving, "run", lambda self, context: 1 / 0)
    words = ("run", "halving", "--out", str(tmp_path), "--only", "good", "--force")
    done = invoke(*words, code=1)
    assert "2 failed" in done.output
    assert "stays" in done.output
    assert [r.error for r in bench.load(tmp_path)] == [None, None]


@pytest.mark.parametrize(
    ("field", "value"),
    [("seed", "0"), ("metrics", "none"), ("error", "bad"), ("started", 3), ("environment", [])],
)
def test_a_field_of_a_record_that_is_of_another_type_is_named(tmp_path, field, value):
    bench.run([Halving("toy/halving", "good", 0)], tmp_path, "toy/halving")
    (path,) = tmp_path.glob("*.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(SuffuseError, match="is damaged"):
        read(path)


@pytest.mark.parametrize("name", ["suffuse.erors", "measured_nowhere.part", "numpy.nothing", "sys"])
def test_a_misspelt_name_of_what_is_measured_is_no_absent_peer(name):
    with pytest.raises(SuffuseError, match=name):
        bench.case._code(name)


def test_the_source_of_a_package_is_its_tables_of_settings_too(tmp_path, monkeypatch):
    (tmp_path / "tabled_toy").mkdir()
    (tmp_path / "tabled_toy" / "__init__.py").write_text("")
    (tmp_path / "tabled_toy" / "a.toml").write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    bench.case._code.cache_clear()
    before = bench.case._code("tabled_toy")
    (tmp_path / "tabled_toy" / "a.toml").write_text("x = 2\n")
    bench.case._code.cache_clear()
    assert bench.case._code("tabled_toy") != before


def test_a_case_of_a_script_is_known_by_the_file_of_the_script(tmp_path, monkeypatch):
    script = tmp_path / "script.py"
    script.write_text("x = 1\n")
    module = ModuleType("script_toy")  # without a specification, as __main__ is
    module.__file__ = str(script)
    monkeypatch.setitem(sys.modules, "script_toy", module)
    bench.case._code.cache_clear()
    assert re.fullmatch(r"[0-9a-f]{16}", bench.case._code("script_toy"))
    del module.__file__
    bench.case._code.cache_clear()
    with pytest.raises(SuffuseError, match="without a source file"):
        bench.case._code("script_toy")


# Reports


def test_a_summary_that_raises_is_left_out_with_a_note(tmp_path, monkeypatch):
    bench.run(halving(seeds=1), tmp_path, "toy/halving")
    monkeypatch.setattr(halving, "summary", lambda records: 1 / 0)
    text = report.markdown(bench.load(tmp_path))
    assert "summary is left out: ZeroDivisionError" in text
    assert "## toy/halving" in text


def test_the_interval_of_a_mean_over_seeds_is_the_wider_of_two():
    values = [1.0, 1.2, 0.9, 1.3, 1.1]
    student = 2.776445 * np.std(values, ddof=1) / np.sqrt(5)
    narrow = report._mean([Metric("e", v, v - 1e-3, v + 1e-3, "lower", n=1) for v in values])
    assert narrow.high - narrow.value == pytest.approx(student, rel=1e-3)
    wide = report._mean([Metric("e", v, v - 2.0, v + 3.0, "lower", n=1) for v in values])
    assert wide.high - wide.value == pytest.approx(3 / np.sqrt(5))
    assert wide.value - wide.low == pytest.approx(2 / np.sqrt(5))


def test_a_ratio_over_seeds_is_as_uncertain_as_the_seeds_differ():
    pairs = [(2.0, 1.0), (4.0, 2.0), (1.0, 0.5)]
    exact = [[replace(record_of(pair[i], 1e-6), seed=s) for s, pair in enumerate(pairs)]
             for i in (0, 1)]  # fmt: skip
    (ratio,) = report.compare(*exact)
    assert ratio.high / ratio.low == pytest.approx(1.0, abs=1e-4)  # the same ratio at every seed
    exact[1][0] = replace(record_of(2.0, 1e-6), seed=0)
    (ratio,) = report.compare(*exact)
    assert ratio.verdict == ""


def test_what_is_not_compared_is_named_with_the_reason():
    broken = replace(record_of(1, 0.1, model="broken"), error={"type": "E", "message": "m"})
    a = [record_of(1, 0.1), record_of(1, 0.1, model="a"), broken, record_of(0, 0.1, model="zero")]
    b = [record_of(1, 0.1), record_of(1, 0.1, model="b"), broken, record_of(1, 0.1, model="zero")]
    told = {each.model: each.reason for each in report.left_out(a, b)}
    assert told["a"] == "it is in A only"
    assert told["b"] == "it is in B only"
    assert told["broken"] == "it failed in A and in B"
    assert told["zero"].startswith("a ratio needs values above 0")
    assert set(told) == {"a", "b", "broken", "zero"}


def test_a_report_has_the_summary_the_means_over_seeds_and_the_failures(tmp_path):
    bench.run(halving(), tmp_path, "toy/halving")
    text = report.markdown(bench.load(tmp_path), "Halves")
    assert "## In short" in text
    assert "| 2 |" in text  # the summary is told of records without error
    mean = (2**-4 + 2**-5) / 2
    half = 12.7062 * (2**-4 - 2**-5) / 2  # Student's t(1) s / √2, wider than each seed's own
    low, high = re.search(r"good . \S+ \((\S+) to (\S+)\)", text).groups()
    assert float(low.replace("\u2212", "-")) == pytest.approx(mean - half, abs=0.006)
    assert float(high) == pytest.approx(mean + half, abs=0.006)
    assert "means over 2 seeds" in text
    assert "ValueError: this one fails" in text


def test_a_page_stands_alone(tmp_path):
    bench.run(halving(), tmp_path, "toy/halving")
    path = tmp_path / "page.html"
    report.page(bench.load(tmp_path)).write(path)
    html = path.read_text()
    assert "In short" in html
    assert not re.search(r'(src|href)="(https?:)?//', html)


def record_of(value: float, width: float, better: str = "lower", model: str = "good"):
    case = Halving("toy/halving", model, 0)
    metric = Metric("error", value, value * (1 - width), value * (1 + width), better, n=10)
    return bench.Record(
        *("k", "toy/halving", case.task, case.model, case.seed, {}, {}, {}, "2026", 0.0, 0.0),
        metrics=(metric,),
    )


@pytest.mark.parametrize(
    ("a", "b", "better", "verdict"),
    [
        (1.0, 0.5, "lower", "better"),
        (1.0, 2.0, "lower", "worse"),
        (1.0, 2.0, "higher", "better"),
        (1.0, 0.5, "higher", "worse"),
        (1.0, 1.05, "lower", ""),
    ],
)
def test_a_verdict_needs_an_interval_without_1(a, b, better, verdict):
    (ratio,) = report.compare([record_of(a, 0.1, better)], [record_of(b, 0.1, better)])
    assert ratio.value == pytest.approx(b / a)
    assert ratio.low < ratio.value < ratio.high
    assert ratio.verdict == verdict


def test_ratios_hold_the_truth_in_95_percent_of_repeats(rng):
    held = 0
    for _ in range(400):
        a, b = 2.0 * np.exp(0.05 * rng.normal()), 3.0 * np.exp(0.08 * rng.normal())
        records = [record_of(a, 1.96 * 0.05), record_of(b, 1.96 * 0.08)]
        (ratio,) = report.compare(records[:1], records[1:])
        held += ratio.low <= 1.5 <= ratio.high
    assert held / 400 == pytest.approx(0.95, abs=0.04)


def test_folders_with_nothing_in_common_are_refused():
    with pytest.raises(SuffuseError, match="no metric of the same"):
        report.compare([record_of(1, 0.1)], [record_of(1, 0.1, model="another")])


# Times


def test_times_are_taken_in_turns_and_divided_by_their_work():
    order = []
    metrics, rounds = bench.interleaved(
        {name: (lambda name=name: order.append(name)) for name in "ab"},
        per={"b": 1000},
        prepare={"b": lambda: order.append("prepare")},
        repeats=8,
        seconds=0.0,
    )
    assert [m.name for m in metrics] == ["a", "b"]
    assert all(m.low <= m.value <= m.high for m in metrics)
    assert order[:6] == ["a", "prepare", "b", "prepare", "b", "a"]
    assert len(rounds["a"]) == 7
    assert np.median(rounds["b"]) < np.median(rounds["a"])


def test_times_are_read_from_the_clock_that_is_given():
    ticks = iter(range(0, 10**6, 250))
    _, rounds = bench.interleaved(
        {"a": lambda: None}, repeats=7, seconds=0.0, clock=lambda: next(ticks)
    )
    assert rounds["a"] == pytest.approx([0.25] * 7)


def test_the_environment_knows_the_checkout_of_the_core():
    rows = environment.environment(["numpy"])
    assert rows["versions"]["numpy"] == np.__version__
    assert rows["commit"] is None or re.fullmatch(r"[0-9a-f]{40}", rows["commit"])
    assert rows["dirty"] in (None, True, False)


def test_an_answer_about_the_environment_that_is_no_mapping_is_passed_over():
    module = ModuleType("suffuse_toy_environment")

    @hookimpl
    def environment_info() -> Any:
        return "words"

    module.suffuse_api = 1  # type: ignore[attr-defined]
    module.environment_info = environment_info  # type: ignore[attr-defined]
    manager = plugins.Manager([plugins.Candidate("toy", lambda: module, version="1.0")])
    with plugins.using(manager):
        assert "versions" in environment.environment()


# The command line


def test_a_share_without_cases_ends_well(tmp_path):
    words = ["run", "halving", "--out", str(tmp_path), "--share", "9/9"]
    for jobs in ("1", "2"):
        assert "has no case" in invoke(*words, "--jobs", jobs).output
    assert RUNS == []


def test_a_page_that_is_no_html_is_refused(tmp_path):
    bench.run(halving(seeds=1), tmp_path, "toy/halving")
    done = CliRunner().invoke(command, ["report", str(tmp_path), "-o", str(tmp_path / "x.md")])
    assert isinstance(done.exception, SuffuseError)
    assert ".html" in str(done.exception)
    assert not (tmp_path / "x.md").exists()


def test_a_suite_that_raises_is_answered_with_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(Halving, "__init__", lambda *args: 1 / 0)
    done = CliRunner().invoke(command, ["run", "halving", "--out", str(tmp_path)])
    assert isinstance(done.exception, SuffuseError)
    assert "failed while it made its cases: ZeroDivisionError" in str(done.exception)


def test_the_command_line_from_suite_to_comparison(tmp_path):
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    assert invoke("ls").output == "toy/halving  numbers cut in half\n"
    assert invoke("ls", "halving", "--only", "good").output.count("toy/halving  good") == 2
    listed = json.loads(invoke("ls", "toy/halving", "--json", "--set", "seeds=1").output)
    assert [row["model"] for row in listed] == ["good", "broken", "infinite"]
    assert {"name", "task", "seed", "parameters", "key"} <= set(listed[0])
    invoke("run", "halving", "--out", a, "--only", "good")
    kept = invoke("run", "halving", "--out", a, "--only", "good", "--only", "halving")
    assert "2 kept" in kept.output
    invoke("run", "halving", "--out", b, "--only", "good", "--set", "calls=5")
    failed = invoke("run", "halving", "--out", b, "--only", "broken", code=1)
    assert "ValueError: this one fails" in failed.output
    invoke("report", a)
    assert (tmp_path / "a" / "report.html").exists()
    assert "toy/halving" in (tmp_path / "a" / "report.md").read_text()
    told = json.loads(invoke("compare", a, b, "--json").output)
    (row,) = told["compared"]
    assert [each["reason"] for each in told["left_out"]] == ["it is in B only"] * 2
    assert row["value"] == pytest.approx(0.5)
    assert row["verdict"] == "better"
    plain = invoke("compare", a, b).output
    assert "0.500" in plain
    assert "toy/halving  broken  seed 0: it is in B only" in plain


def test_shares_are_all_cases_and_none_twice(tmp_path):
    for share in ("1/3", "2/3", "3/3"):
        before = len(RUNS)
        invoke("run", "halving", "--out", str(tmp_path), "--share", share, code=1)
        assert len(RUNS) - before == 2
    assert len(set(RUNS)) == 6
    for wrong in ("0/3", "4/3", "2", "a/b", "-1/3"):
        done = CliRunner().invoke(command, ["run", "halving", "--share", wrong])
        assert "for instance 2/4" in str(done.exception)


def test_jobs_are_shares_of_the_share_that_a_launcher_runs(tmp_path):
    words = ["run", "halving", "--out", str(tmp_path), "--launcher", "toy/here", "--jobs", "8"]
    done = invoke(*words, "--share", "2/2", "--set", "seeds=4", code=1)
    whole = list(halving(seeds=4))[1::2]
    assert sorted(RUNS) == sorted((c.task, c.model, c.seed) for c in whole)
    assert "ValueError: this one fails" in done.output
    invoke(*words, "--only", "good")
    refused = CliRunner().invoke(command, ["run", "halving", "--jobs", "0"])
    assert "1 or more" in str(refused.exception)


def test_processes_of_this_machine_answer_with_their_statuses_and_lines():
    told: list[str] = []
    statuses = Processes().launch([["--version"], ["recipes", "lost"]], told.append)
    assert statuses[0] == 0
    assert statuses[1] != 0
    assert any(line.startswith("suffuse") for line in told)
    assert any("lost" in line for line in told)


def test_what_a_process_prints_need_not_be_utf_8(tmp_path, monkeypatch):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nprintf 'a\\377b\\n'\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    told: list[str] = []
    assert Processes().launch([["ls"]], told.append) == [0]
    assert told == ["a\ufffdb"]


def test_names_that_are_no_suites_and_no_cases_are_answered_with_a_sentence(tmp_path):
    for words, match in (
        (["run", "halvings", "--out", str(tmp_path)], "did you mean"),
        (["ls", "halving", "--only", "nothing like it"], "no such case"),
        (["ls", "halving", "--set", "sedes=1"], "sedes"),
    ):
        done = CliRunner().invoke(command, words)
        assert isinstance(done.exception, SuffuseError)
        assert re.search(match, str(done.exception)), done.exception
