"""Every Triton kernel compiled to machine code for sm_80 and sm_90, with no GPU, and read back."""

import pytest

pytest.importorskip("triton", reason="Triton is not installed")

from suffuse.kernels.gpu.compiled import CASES, every_case, resources


def check(case, capability):
    found = resources(case, capability)
    assert (found.spills, found.stack) == (0, 0)
    assert found.registers <= 128
    assert found.shared <= 48 * 1024
    return found


@pytest.mark.parametrize("capability", [pytest.param(80, marks=pytest.mark.slow), 90])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_no_spills_wide_accesses_and_few_bytes(case, capability):
    found = check(case, capability)
    if case.wide:
        assert (found.load, found.store) == (128, 128 if case.writes else 32)
    if "step" in case.name:
        assert case.reads + case.writes <= 1.05 * case.least


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("case", list(every_case()), ids=lambda case: case.name)
def test_no_block_that_follows_from_a_shape_spills(case, capability):
    check(case, capability)
