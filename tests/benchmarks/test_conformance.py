"""The plugin keeps what the contracts promise: see `suffuse.testing`."""

from suffuse.testing import parametrize_with_checks


@parametrize_with_checks("benchmarks")
def test_conformance(check):
    check()
