"""What the conformance kit needs to know of this plugin."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import SkipTest

from suffuse.testing import Conformance


def _scored(folder: Path) -> dict[str, Any]:
    raise SkipTest("it judges scored things with labels, and no recipe makes these")


CONFORMANCE = Conformance(
    settings={
        f"evaluator anomaly/{name}": _scored
        for name in ("detection", "moments", "localisation", "uniformity")
    }
)
