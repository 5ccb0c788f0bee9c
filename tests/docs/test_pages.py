"""The code in the documentation runs: each page is a session, from its first block to its last.

Blocks of ``python`` are executed. Blocks of ``console`` hold commands after "$ ", which are run,
with trainings cut to two steps. What a page's code needs and its reader does not, as small data,
stands in a comment: ``<!-- python`` ... ``-->``. Blocks of ``sh`` are for the reader's own machine
and are not run.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from suffuse.cli import main

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))
BLOCK = re.compile(r"^(?:```|<!-- )(\w*)\n(.*?)^(?:```|-->)$", re.MULTILINE | re.DOTALL)
TINY = [
    *("--set", "training.steps=2", "--set", "denoiser.width=16", "--set", "evaluators=[]"),
    *("--set", "training.precision=fp32"),
]


def command(text: str) -> None:
    """Run a command of Suffuse here; it must end with status 0."""
    program, *words = shlex.split(text)
    assert program == "suffuse", f"{text!r} is to be in a block of sh"
    if words[0] == "train" and "--print-config" not in words:
        words += TINY
    with CliRunner().isolation() as (_, errors, _):
        code = 0
        try:
            main(words)
        except SystemExit as ended:
            code = int(ended.code or 0)
        assert code == 0, f"{text!r}: {errors.getvalue().decode()}"


def blocks(page: str) -> Iterator[tuple[str, str]]:
    for match in BLOCK.finditer((DOCS / page).read_text(encoding="utf-8")):
        yield match[1], match[2]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the digits as `make demo` leaves it, but after two steps."""
    run = tmp_path_factory.mktemp("docs") / "run"
    command(f"suffuse train image/digits --out {run}")
    return run


@pytest.mark.parametrize("page", PAGES)
def test_its_code_runs(
    page: str, demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [(kind, text) for kind, text in blocks(page) if kind in ("python", "console")]
    if not found:
        pytest.skip("the page has no code")
    shutil.copytree(demo, tmp_path / "demo" / "run")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for kind, text in found:
        if kind == "python":
            where = f"{page}: {text.splitlines()[0]}"
            exec(compile(text, where, "exec", dont_inherit=True), names)
        else:
            for line in text.splitlines():
                if line.startswith("$ "):
                    command(line.removeprefix("$ "))
    for picture in re.findall(r"!\[.*?\]\((img/\S+)\)", (DOCS / page).read_text()):
        assert (DOCS / picture).is_file()


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_what_it_is(page: str) -> None:
    assert all(kind for kind, _ in blocks(page))
