"""The conformance kit on this plugin."""

from suffuse.testing import parametrize_with_checks


@parametrize_with_checks("video")
def test_conforms(check):
    check()
