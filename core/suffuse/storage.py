"""Files that are whole or not there at all.

Whatever a run or a model keeps is written beside its place under another name, brought to the disk
(fsync) and renamed, which a file system does at once: a reader, or a run that goes on after a
crash, finds the old contents or the new ones, never a part. Tensors are safetensors files; nothing
is ever unpickled.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suffuse.errors import SuffuseError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "TEMPORARY",
    "digest",
    "ensure_writable",
    "fingerprint",
    "load_tensors",
    "read_json",
    "replacing",
    "replacing_folder",
    "save_tensors",
    "unwritable",
    "write_bytes",
    "write_json",
    "write_text",
]

TEMPORARY = ".partial-"
"""How the name of an unfinished file or folder begins; what a crash leaves may be removed."""


def unwritable(path: Path, error: OSError) -> SuffuseError:
    """The sentence for a file that cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return SuffuseError(f"cannot write {path}: the disk is full; free some space and try again")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return SuffuseError(f"cannot write {path}: no permission to write there")
    return SuffuseError(f"cannot write {path}: {error.strerror or error}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _beside(path: Path) -> Path:
    return path.parent / f"{TEMPORARY}{secrets.token_hex(4)}-{path.name}"


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path that takes the place of `path` when the block ends without an error.

    Missing parent folders are made. When anything fails, `path` is as it was.

    Raises:
        SuffuseError: for an OSError in the block or after it, as a sentence that names `path`.
    """
    path = Path(path)
    temporary = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    except SuffuseError as error:
        if str(temporary) not in str(error):
            raise
        raise SuffuseError(str(error).replace(str(temporary), str(path))) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder that takes the place of `path` when the block ends without an error.

    As `replacing`, for a folder of files that belong together. A folder that was at `path` is
    removed once the new one is there.
    """
    path = Path(path)
    temporary, old = _beside(path), _beside(path)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for file in temporary.iterdir():
            _sync(file)
        _sync(temporary)
        if path.exists():
            os.replace(path, old)
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    except SuffuseError as error:  # of a file inside, told by its temporary name
        raise SuffuseError(str(error).replace(str(temporary), str(path))) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def ensure_writable(path: str | Path) -> None:
    """Try whether a file can be written at `path`, before the work that it is to hold.

    Raises:
        SuffuseError: where it cannot.
    """
    path = Path(path)
    if path.is_dir():
        raise SuffuseError(f"cannot write {path}: it is a folder; name a file")
    temporary = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file atomically. Raises SuffuseError where it cannot be written."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file atomically, as UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, value: object) -> None:
    """Write a JSON file atomically: indented, keys in their order, no NaN or infinity."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """The value in a JSON file. Raises SuffuseError, naming it, where there is none."""
    try:
        return json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        raise SuffuseError(f"there is no file {path}") from None
    except OSError as error:
        raise SuffuseError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise SuffuseError(f"{path} is damaged: it is not JSON ({error})") from error


def digest(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(value: object) -> str:
    """The SHA-256 of a JSON value, in hexadecimal; the order of keys does not matter.

    >>> fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def save_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors to a safetensors file, atomically.

    The same tensors and metadata give the same bytes: there is no time stamp, and keys are sorted.
    The header holds a digest of the tensors, by which `load_tensors` finds a flipped bit.

    Args:
        path: the file.
        tensors: by name; any device, dtype and layout. Tensors that share memory are written apart.
        metadata: text for the file's header.

    Raises:
        SuffuseError: where the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path, apart, seen = Path(path), dict[str, "Tensor"](), set[int]()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        memory = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.clone() if memory in seen else tensor
        seen.add(memory)
    with replacing(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode
        try:
            save_file(apart, temporary, {**(metadata or {}), _SEAL: _content(apart)})
        except SafetensorError as error:
            number = re.search(r"os error (\d+)", str(error))  # so the library tells of a full disk
            if number is None:
                raise SuffuseError(f"cannot write {path}: {error}") from error
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
        temporary.chmod(mode)  # the library makes files that only their owner may read
        if metadata:
            _sort_metadata(temporary)


_SEAL = "sha256"


def _content(tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 of tensors on the CPU, with their names, dtypes and shapes."""
    import torch

    found = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        found.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        if tensor.numel():
            found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _sort_metadata(path: Path) -> None:
    """Put the metadata into the order of their keys: the library writes them in a random one."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= size:
            file.seek(8)
            file.write(text.ljust(size))


def load_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU.

    Raises:
        SuffuseError: where there is no such file, it is damaged, or it is a pickle.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    path = Path(path)
    try:
        tensors = load_file(path)
        with safe_open(path, "pt") as file:
            sealed = (file.metadata() or {}).get(_SEAL)
        if sealed is not None and sealed != _content(tensors):
            raise SuffuseError(f"{path} is damaged: its tensors are not what was written")
        return tensors
    except FileNotFoundError:
        raise SuffuseError(f"there is no file {path}") from None
    except OSError as error:
        raise SuffuseError(f"cannot read {path}: {error.strerror or error}") from error
    except (SafetensorError, ValueError, KeyError) as error:
        if _is_pickle(path):
            raise SuffuseError(
                f"{path} is a pickle, as torch.save writes it: opening one can run any code, so "
                "Suffuse reads safetensors files only; ask its author for one"
            ) from None
        raise SuffuseError(f"{path} is damaged: {error}") from error


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(4)
    return start == b"PK\x03\x04" or (
        start[:1] == b"\x80" and start[1:2] in b"\x01\x02\x03\x04\x05"
    )
