"""The plugin keeps what Suffuse's contracts promise."""

from suffuse.testing import parametrize_with_checks


@parametrize_with_checks("myplugin")
def test_conformance(check):
    check()
