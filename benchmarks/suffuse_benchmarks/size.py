"""How long the code is: ours that makes samples, and others'."""

from __future__ import annotations

import ast
import importlib.util
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from suffuse.bench import Context, Result
from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Metric

__all__ = ["SOURCES", "Lines", "cases"]

SOURCES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "suffuse.diffusion": ("suffuse", "suffuse", ("diffusion",)),
    "diffusers.schedulers": ("diffusers", "diffusers", ("schedulers",)),
    "azula: noise, denoise, sample": ("azula", "azula", ("noise.py", "denoise.py", "sample.py")),
    "k-diffusion: sampling, external": (
        "k-diffusion",
        "k_diffusion",
        ("sampling.py", "external.py"),
    ),
}
"""The distribution, the package, and the files and folders in it."""


@dataclass(frozen=True)
class Lines:
    """Lines of Python, in all and of code: without empty lines, comments and docstrings."""

    task: str
    model: str
    seed: int
    source: str

    @property
    def measures(self) -> tuple[str, ...]:
        """Whose code is counted."""
        distribution, package, parts = SOURCES[self.source]
        return (f"{package}.{parts[0]}",) if distribution == "suffuse" else (distribution,)

    def run(self, context: Context) -> Result:
        """Count."""
        _, package, parts = SOURCES[self.source]
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise SuffuseError(f"{package} is not installed")
        files: list[Path] = []
        for part in parts:
            path = Path(spec.submodule_search_locations[0]) / part
            files += sorted(path.rglob("*.py")) if path.is_dir() else [path]
        texts = [file.read_text("utf-8") for file in files]
        figures = {
            "lines": sum(len(text.splitlines()) for text in texts),
            "of code": sum(map(code_lines, texts)),
            "files": len(files),
        }
        return Result([Metric(n, v, v, v, "lower", n=len(files)) for n, v in figures.items()])


def code_lines(text: str) -> int:
    r"""Lines that hold code.

    >>> code_lines("'What this is.'\n\n# why\nx = 1\n")
    1
    """
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            first = node.body[0]
            docstrings |= set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    silent = (
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    )
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in silent:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines - docstrings)


def cases() -> Iterator[Lines]:
    """Ours, and of the others those that are installed."""
    for name, (_, package, _) in SOURCES.items():
        if importlib.util.find_spec(package) is not None:
            yield Lines("size/lines of Python", name, 0, name)
