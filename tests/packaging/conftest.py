"""Virtual environments in which plugins are installed as wheels."""

from __future__ import annotations

import os
import site
import subprocess
import venv
from pathlib import Path

import pytest


class Environment:
    """A virtual environment that finds everything of the host's, and has a place of its own."""

    def __init__(self, root: Path) -> None:
        venv.create(root, with_pip=False, symlinks=os.name != "nt")
        folder = "Scripts" if os.name == "nt" else "bin"
        self.python = root / folder / "python"
        paths = [path for path in site.getsitepackages() if Path(path).is_dir()]
        own = self._ask("import site; print(site.getsitepackages()[0])").strip()
        # addsitedir follows the host's own .pth files too, where its editable members are
        lines = [f"import site; site.addsitedir({path!r})\n" for path in paths]
        Path(own, "host.pth").write_text("".join(lines))

    def _ask(self, code: str) -> str:
        done = subprocess.run([self.python, "-c", code], capture_output=True, text=True, check=True)
        return done.stdout

    def suffuse(self, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess:
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in ("SUFFUSE_PLUGINS", "PYTHONPATH")
        }
        command = [self.python, "-m", "suffuse", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd)

    def install(self, wheel: Path) -> subprocess.CompletedProcess:
        return self.suffuse("plugins", "install", "--no-deps", "--no-index", "-q", wheel)


@pytest.fixture(scope="session")
def new_environment():
    """Path -> `Environment`."""
    return Environment
