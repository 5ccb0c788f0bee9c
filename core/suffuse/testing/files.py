"""Checks of renderers."""

from __future__ import annotations

from typing import Any

from suffuse import plugins
from suffuse.errors import SuffuseError
from suffuse.plugins import Entry
from suffuse.testing.workbench import Workbench, close, refused

METADATA = {"suffuse": '{"seed": 7, "text": "ä|b"}'}


def _renderer(bench: Workbench, entry: Entry) -> Any:
    return plugins.build("renderer", bench.options(entry))


def keeps_files(bench: Workbench, entry: Entry) -> None:
    """An object that is written is read back, with its text, in its first format; others open."""
    renderer, model, folder = _renderer(bench, entry), bench.model(entry), bench.folder()
    objects = bench.objects(entry, 2)
    for suffix in renderer.suffixes:
        assert suffix.startswith(".") and suffix == suffix.lower(), f"{suffix!r} is no suffix"
        path = folder / "new" / f"a{suffix}"
        renderer.write(objects[0], path, METADATA)
        back = renderer.read(path)
        if suffix == renderer.suffixes[0]:
            told = dict(renderer.metadata(path))
            assert told.get("suffuse") == METADATA["suffuse"], f"{suffix} keeps the text {told}"
            states = (model.encode([each]) for each in (objects[0], back))
            assert close(next(states), next(states), 0.1), f"what {suffix} keeps is another object"
    for suffix in getattr(renderer, "collections", ()):
        path = folder / f"all{suffix}"
        renderer.write_all(objects, path, [METADATA] * len(objects))
        assert path.stat().st_size, f"a collection {suffix} is empty"


def draws_sheets(bench: Workbench, entry: Entry) -> None:
    """One object and several become a PNG, with captions and without."""
    renderer, objects = _renderer(bench, entry), bench.objects(entry, 5)
    for some, captions in ((objects[:1], None), (objects, [f"Nr. {i}" for i in range(5)])):
        drawn = renderer.sheet(some, captions and captions[: len(some)])
        assert drawn[:8] == b"\x89PNG\r\n\x1a\n", f"a sheet of {len(some)} is no PNG"


def refuses_files(bench: Workbench, entry: Entry) -> None:
    """Files that are missing, empty, cut short or no such files are refused by name."""
    renderer, folder = _renderer(bench, entry), bench.folder()
    suffix = renderer.suffixes[0]
    whole = folder / f"whole{suffix}"
    renderer.write(bench.objects(entry, 1)[0], whole, METADATA)
    contents = {
        "empty": b"",
        "noise": bytes(range(256)) * 4,
        "cut": whole.read_bytes()[: whole.stat().st_size // 3],
    }
    for name, data in contents.items():
        path = folder / f"{name}{suffix}"
        path.write_bytes(data)
        _refused_by_name(renderer, path, name)
    _refused_by_name(renderer, folder / f"missing{suffix}", "missing")


def _refused_by_name(renderer: Any, path: Any, what: str) -> None:
    def read() -> None:
        try:
            renderer.read(path)
        except SuffuseError as error:
            assert path.name in str(error), f"the {what} file is not named: {error}"
            raise

    refused(read, f"reading a file that is {what}")
    try:
        renderer.metadata(path)
    except SuffuseError:
        return
    except Exception as error:
        raise AssertionError(
            f"metadata() of a file that is {what} raises {type(error).__name__}: {error}"
        ) from error
