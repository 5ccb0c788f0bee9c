"""The training data as the network sees it: encoded once, kept in files, mapped into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from suffuse import storage
from suffuse.diffusion.process import State
from suffuse.errors import SuffuseError
from suffuse.model import Model
from suffuse.plugins.contracts import Dataset

__all__ = ["States", "encode", "load"]

CHUNK = 256
"""How many examples are decoded and encoded at once."""

SIZES = "sizes"

Tables = Mapping[str, Any]
"""Arrays with a row an example, by name: "x", or "x.PART" for each part of a mapping; "sizes" for
ragged states; "condition.NAME" for the prepared values of each condition."""


@dataclass(frozen=True)
class States:
    """The training split.

    Attributes:
        tables: see `Tables`; files mapped into memory.
    """

    tables: Tables

    def __len__(self) -> int:
        return len(next(iter(self.tables.values())))

    def x(self, chosen: list[int]) -> State:
        """Clean states of these examples: float32, or int64 for tokens."""
        if "x" in self.tables:
            return self._rows("x", chosen)
        return self._named("x.", chosen)

    def sizes(self, chosen: list[int]) -> Tensor | None:
        """The sizes of ragged states, int64 [B]; None where states are not ragged."""
        return self._rows(SIZES, chosen) if SIZES in self.tables else None

    def conditions(self, chosen: list[int]) -> dict[str, Tensor]:
        """The prepared values of each condition."""
        return self._named("condition.", chosen)

    def _named(self, prefix: str, chosen: list[int]) -> dict[str, Tensor]:
        names = [name for name in self.tables if name.startswith(prefix)]
        return {name.removeprefix(prefix): self._rows(name, chosen) for name in names}

    def _rows(self, name: str, chosen: list[int]) -> Tensor:
        rows = torch.from_numpy(self.tables[name][chosen])
        return rows if rows.dtype.is_floating_point else rows.to(torch.int64)


def _folder(model: Model, dataset: Dataset, cache: Path) -> Path:
    # What the contents follow from; other contents get another name.
    key = storage.fingerprint(
        {
            "dataset": model.recipe.dataset,
            "encoder": model.recipe.encoder,
            "conditions": model.recipe.conditions,
            "names": {name: c.names for name, c in model.conditions.items()},
            "examples": len(dataset),
        }
    )[:16]
    return cache / f"states-{key}"


def load(model: Model, dataset: Dataset, cache: Path) -> States | None:
    """The states that `encode` wrote; None where there are none, or not all."""
    folder = _folder(model, dataset, cache)
    try:
        tables = {
            path.stem: np.load(path, mmap_mode="r", allow_pickle=False)
            for path in sorted(folder.glob("*.npy"))
        }
    except (OSError, ValueError, EOFError):
        return None
    found = {name: (len(dataset), *row) for name, row in _shapes(model).items()}
    whole = all(name in tables and tables[name].shape == shape for name, shape in found.items())
    whole &= all(f"condition.{name}" in tables for name in model.conditions)
    return (
        States(tables) if whole and all(len(t) == len(dataset) for t in tables.values()) else None
    )


def encode(
    model: Model,
    dataset: Dataset,
    cache: Path,
    bar: Callable[[str, int], AbstractContextManager[Callable[[int], None]]],
) -> None:
    """Decode and encode every example, once, into files that `load` finds.

    Args:
        model: whose encoder and conditioners are used.
        dataset: the training split.
        cache: the folder of the files.
        bar: shows progress: given a description and a total, a context with "so many are done".

    Raises:
        SuffuseError: for a state of another shape than the encoder tells, or one that is not
            finite, naming the example; and where the files cannot be written.
    """
    with (
        storage.replacing_folder(_folder(model, dataset, cache)) as folder,
        ExitStack() as stack,
        bar("encoding", len(dataset)) as done,
    ):
        files: dict[str, Any] = {}
        for chunk in _chunks(len(dataset)):
            for name, rows in _tables(model, dataset, chunk).items():
                if name not in files:
                    files[name] = stack.enter_context((folder / f"{name}.npy").open("wb"))
                    header = {
                        "descr": np.lib.format.dtype_to_descr(rows.dtype),
                        "fortran_order": False,
                        "shape": (len(dataset), *rows.shape[1:]),
                    }
                    np.lib.format.write_array_header_1_0(files[name], header)
                files[name].write(np.ascontiguousarray(rows).tobytes())
            done(chunk.stop)


def _chunks(n: int) -> Iterator[range]:
    for start in range(0, n, CHUNK):
        yield range(start, min(start + CHUNK, n))


def _shapes(model: Model) -> dict[str, tuple[int, ...]]:
    """The shape of one state by the name of its table."""
    if isinstance(model.shape, Mapping):
        return {f"x.{part}": tuple(shape) for part, shape in model.shape.items()}
    return {"x": model.shape}


def _tables(model: Model, dataset: Dataset, chunk: range) -> dict[str, Any]:
    """The rows of a chunk for each table."""
    examples = [dataset[i] for i in chunk]
    objects = [example.data for example in examples]
    x = model.encode(objects)
    parts = {f"x.{part}": rows for part, rows in x.items()} if isinstance(x, Mapping) else {"x": x}
    wanted = _shapes(model)
    if parts.keys() != wanted.keys():
        raise SuffuseError(f"the encoder made {list(parts)}, and tells of {list(wanted)}")
    tables = {name: _plain(rows) for name, rows in parts.items()}
    for name, rows in tables.items():
        _check(rows, wanted[name], chunk)
    sizes = model.sizes(objects)
    if sizes is not None:
        tables[SIZES] = _plain(sizes)
    raw = {name: [e.conditions.get(name) for e in examples] for name in model.conditions}
    for name, values in model.prepare(raw, len(chunk)).items():
        tables[f"condition.{name}"] = _plain(values)
    return tables


def _plain(x: Tensor) -> Any:
    x = x.detach().cpu()
    return (x.to(torch.float32) if x.is_floating_point() else x).numpy()


def _check(x: Any, shape: tuple[int, ...], chunk: range) -> None:
    if x.shape != (len(chunk), *shape):
        raise SuffuseError(
            f"the encoder made states of shape {list(x.shape)} of {len(chunk)} examples, and tells "
            f"of {[len(chunk), *shape]}"
        )
    broken = ~np.isfinite(x).reshape(len(chunk), -1).all(1)
    if broken.any():
        which = chunk[int(broken.nonzero()[0][0])]
        raise SuffuseError(f"training example {which} encodes to numbers that are not finite")
