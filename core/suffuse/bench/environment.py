"""What a figure depends on beside the code: interpreter, libraries, machine, checkout."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import suffuse
from suffuse import plugins

__all__ = ["environment", "load"]


def load() -> float | None:
    """How many processes wanted a processor over the last minute; None where nobody counts."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None


def environment(distributions: Iterable[str] = ()) -> dict[str, Any]:
    """The environment of this process, as plain JSON values.

    Args:
        distributions: whose versions are wanted beside those of the plugins and of torch.
    """
    import torch

    names = {"suffuse", "torch", "numpy", *distributions}
    names |= {status.distribution for status in plugins.statuses()}
    rows: dict[str, Any] = {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": load(),
        "versions": {name: v for name in sorted(names) if (v := _version(name))},
    }
    if torch.cuda.is_available():
        rows["device"] = torch.cuda.get_device_name()
    rows |= plugins.current().environment()
    return rows | _checkout(Path(suffuse.__file__).parent)


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _checkout(folder: Path) -> dict[str, Any]:
    """The commit, and whether files differ from it, where the core lies in a git checkout."""

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=20
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    if not commit or git("ls-files", "__init__.py") != "__init__.py":
        return {"commit": None, "dirty": None}  # perhaps installed inside somebody's checkout
    return {"commit": commit, "dirty": bool(git("status", "--porcelain"))}
