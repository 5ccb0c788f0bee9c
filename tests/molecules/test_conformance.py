"""The plugin is held to the conformance kit."""

from suffuse.testing import parametrize_with_checks


@parametrize_with_checks("molecules")
def test_conformance(check):
    check()
