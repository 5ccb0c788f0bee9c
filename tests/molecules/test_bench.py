"""The suite's cases, each at its smallest."""

import pytest

from suffuse.bench import Context, key
from suffuse_molecules import bench
from suffuse_molecules.datasets import NCI


def found(case):
    return {metric.name: metric for metric in case.run(Context()).metrics}


def test_a_round_trip_counts_what_is_refused():
    result = bench.RoundTrip("t", "nci", 0, "nci", every=25).run(Context())
    metrics = {metric.name: metric for metric in result.metrics}
    assert metrics["come back"].value == 100
    assert set(result.detail["reasons"]) >= {"unreadable", "radical", "metal"}


def test_without_data_there_is_a_note_and_no_figure(monkeypatch):
    monkeypatch.delenv("SUFFUSE_DATA", raising=False)
    for case in (
        bench.RoundTrip("t", "qm9", 0, "qm9"),
        bench.Shapes("t", "m", 0),
    ):
        result = case.run(Context())
        assert not result.metrics
        assert "SUFFUSE_DATA" in result.note


def test_shapes_are_near_those_that_are_given(data_folder):
    case = bench.Shapes("t", "ETKDG", 0, k=10, n=8)
    metrics = found(case)
    assert metrics["median deviation"].value < 0.5
    assert metrics["under 0.5 Å"].value > 50


def test_a_step_is_timed_in_both_precisions():
    for precision in ("fp32", "bf16"):
        case = bench.Step("t", precision, 0, precision, atoms=4, batch=2, repeats=2)
        assert found(case)["step"].value > 0


def test_scaffolds_have_one_attachment_point_each():
    parts = bench._parts(NCI("test", largest=12), 12)
    assert len(parts) == 12
    assert all(part.count("*") == 1 for part in parts)


@pytest.mark.parametrize("suite", [bench.molecules, bench.short])
def test_every_case_has_a_key_of_its_own(suite):
    cases = [*suite()]
    assert len({key(case) for case in cases}) == len(cases)
