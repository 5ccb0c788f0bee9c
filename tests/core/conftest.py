"""The core's own tests: no plugin is loaded, or the toy domain of tests/fixtures in memory."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from suffuse import plugins

TOY = Path(__file__).parents[1] / "fixtures" / "suffuse-toy"


@pytest.fixture(autouse=True)
def core_alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[plugins.Manager]:
    """The core with no plugin, here and in the processes that a test starts."""
    monkeypatch.setenv("SUFFUSE_PLUGINS", "")
    with plugins.using(plugins.Manager()) as manager:
        yield manager


@pytest.fixture
def toy(core_alone: plugins.Manager) -> Iterator[ModuleType]:
    """The core with the toy domain: points in the plane, recipe ``toy/spiral``. No installing."""
    if str(TOY) not in sys.path:
        sys.path.append(str(TOY))
    module = importlib.import_module("suffuse_toy.plugin")
    manager = plugins.Manager([plugins.Candidate("toy", lambda: module, version="1.0")])
    assert [status.message for status in manager.statuses] == [""]
    with plugins.using(manager):
        yield module


@pytest.fixture
def toy_environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a process in which the toy domain is the only plugin installed."""
    info = tmp_path / "installed" / "suffuse_toy-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: suffuse-toy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[suffuse.plugins]\ntoy = suffuse_toy.plugin\n")
    path = os.pathsep.join([str(info.parent), str(TOY), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path.rstrip(os.pathsep), "SUFFUSE_PLUGINS": "toy"}


class Chance:
    """Claims about what is drawn afresh; one that is true is denied once in ten million runs."""

    risk = 1e-7

    def share(self, hits: int, of: int, *, least: float = 0.0, most: float = 1.0) -> bool:
        """Each of so many independent trials may be a hit with a probability from least to most."""
        from scipy.stats import binom

        few, many = binom.cdf(hits, of, least), binom.sf(hits - 1, of, most)
        return bool(min(few, many) > self.risk)

    def mean(self, values: Any, truth: float) -> bool:
        """Independent values, about normal in the mean, may have this expectation: Student's t."""
        from scipy.stats import t

        x = np.asarray(values, float)
        bound = t.isf(self.risk / 2, len(x) - 1) * x.std(ddof=1) / len(x) ** 0.5
        return bool(abs(x.mean() - truth) <= bound)

    def deviation(self, values: Any, *, least: float, most: float) -> bool:
        """Independent, about normal values may have a deviation from least to most: χ²."""
        from scipy.stats import chi2

        x = np.asarray(values, float)
        squares = ((x - x.mean()) ** 2).sum()
        low, high = chi2.ppf(self.risk, len(x) - 1), chi2.isf(self.risk, len(x) - 1)
        return bool(low * least**2 <= squares <= high * most**2)


@pytest.fixture
def chance() -> Chance:
    """See `Chance`."""
    return Chance()
