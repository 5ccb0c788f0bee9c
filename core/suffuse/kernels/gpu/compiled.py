"""The kernels compiled ahead of time, on a machine without a GPU, and what their code asks for.

    python -m suffuse.kernels.gpu.compiled      # the table of the documentation

Triton's own compiler and NVIDIA's assembler, which Triton brings with it, make the machine code;
its header is read back. Bytes are counted from the arguments: what is read and written, each once,
over the least that the operation needs.
"""

from __future__ import annotations

import functools
import math
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeVar

import triton
from triton.backends import nvidia
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from suffuse.kernels import ada_norm, categorical_step, norm_silu
from suffuse.kernels.gpu import ada_norm as adas
from suffuse.kernels.gpu import categorical_step as categoricals
from suffuse.kernels.gpu import norm_silu as norms
from suffuse.kernels.gpu.guided_step import MOMENTS, moments_kernel
from suffuse.kernels.gpu.plan_step import BLOCK, plan_step_kernel

S = TypeVar("S")

__all__ = ["CASES", "Case", "Resources", "every_case", "resources"]


@dataclass(frozen=True)
class Case:
    """A kernel with the constants it is compiled for.

    Attributes:
        name: for people.
        kernel: the function.
        types: of the arguments that are no tensors of `dtype`.
        constants: its tl.constexpr arguments.
        several: the argument that is several tensors, and how many.
        dtype: of the tensors.
        reads, writes: how often the data go through memory.
        least: the fewest times that they could.
        wide: whether its accesses can be of 128 bits.
        warps: that a program runs on.
    """

    name: str
    kernel: Any
    types: dict[str, str]
    constants: dict[str, Any]
    several: tuple[str, int] = ("", 0)
    dtype: str = "fp32"
    reads: float = 1
    writes: float = 1
    least: float = 2
    wide: bool = True
    warps: int = 4


@dataclass(frozen=True)
class Resources:
    """What the code of a kernel asks of a GPU.

    Attributes:
        registers: of a thread.
        spills: instructions that move registers to memory and back.
        stack, shared: bytes of a thread, and of a block.
        load, store: the widest accesses to global memory, in bits.
    """

    registers: int
    spills: int
    stack: int
    shared: int
    load: int
    store: int


_PLAN = {
    "table": "*fp32", "rows": "i32", "n": "i32", "channels": "i32", "source": "*i64",
    "step": "*i64", "stream": "i32", "kept": "*i1", "low": "fp32", "high": "fp32",
}  # fmt: skip
_NORM = {
    "stats": "*fp32", "rows": "i32", "channels": "i32", "spatial": "i32", "eps": "fp32",
    "dweight": "*fp32", "dbias": "*fp32",
}  # fmt: skip
_ADA = {"stats": "*fp32", "n": "i32", "width": "i32", "each": "i32", "eps": "fp32"}
_DISCRETE = {
    "out": "*i64", "x_t": "*i64", "table": "*fp64", "rows": "i32", "stationary": "*fp64",
    "uniform": "*fp64", "mask": "*i1", "count": "i32", "n": "i32", "categories": "i32",
    "states": "i32",
}  # fmt: skip


def _plan(name: str, terms: int, dtype: str = "fp32", **on: bool) -> Case:
    off = dict.fromkeys(("NOISE", "LAST", "BLEND", "CLAMP", "ALSO"), False)
    constants = {"TERMS": terms, **off, **on, "BLOCK": BLOCK}
    reads = terms + 1.25 * on.get("BLEND", False)
    writes = 1 + on.get("ALSO", False)
    return Case(
        name,
        plan_step_kernel,
        _PLAN,
        constants,
        ("tensors", terms),
        dtype,
        reads,
        writes,
        least=reads + writes,
    )


def _norm(dtype: str, *shape: int, last: bool = False) -> list[Case]:
    """Forward and backward for groups of channels of so many elements: (channels, *space)."""
    channels = shape[0]
    tile = norms.launch(channels, math.prod(shape[1:]), last)
    warps = tile.pop("num_warps")
    constants = {"CHANNELS": channels, "CENTRE": True, "SILU": True, "LAST": last, **tile}
    what = f"{'x'.join(map(str, shape))}{', channels last' if last else ''}, {dtype}"
    passes = 1 if tile["ONCE"] else 2
    kinds = ("", norms.norm_silu_kernel, 1), (" backward", norms.norm_silu_backward_kernel, 2)
    return [
        Case(
            f"norm_silu{name}, {what}", kernel, _NORM, constants, dtype=dtype,
            reads=passes * reads, least=reads + 1, warps=warps, wide=not last or dtype == "bf16",
        )
        for name, kernel, reads in kinds
    ]  # fmt: skip


def _ada(dtype: str, width: int) -> list[Case]:
    """Forward and backward for tokens of so many features."""
    constants: dict[str, Any] = {"GATED": True, **adas.launch(width)}
    warps = constants.pop("num_warps")
    return [
        Case(
            f"ada_norm with a gate, {width}, {dtype}", adas.ada_norm_kernel, _ADA, constants,
            dtype=dtype, reads=2, writes=2, least=4, warps=warps,
        ),
        Case(
            f"ada_norm backward, {width}, {dtype}", adas.ada_norm_backward_kernel,
            _ADA | {"dsteer": "*fp32", "tokens": "i32"}, constants,
            dtype=dtype, reads=4, writes=2, least=6, warps=warps,
        ),
    ]  # fmt: skip


def _categorical(states: int, dtype: str = "fp32", masked: bool = True) -> Case:
    constants: dict[str, Any] = {"MASKED": masked, **categoricals.launch(states)}
    warps = constants.pop("num_warps")
    return Case(
        f"categorical_step, {states} values, {dtype}{', masked' if masked else ''}",
        categoricals.categorical_step_kernel, _DISCRETE, constants,
        dtype=dtype, wide=False, warps=warps,
    )  # fmt: skip


def _moments(terms: int, dtype: str = "fp32") -> Case:
    return Case(
        f"guided_step, moments of {terms}, {dtype}", moments_kernel,
        {"sums": "*fp32", "weights": "*fp32", "n": "i32"},
        {"TERMS": terms, "BLOCK": MOMENTS["BLOCK"]}, ("estimates", terms), dtype,
        reads=terms, writes=0, least=terms, warps=MOMENTS["num_warps"],
    )  # fmt: skip


CASES: list[Case] = [
    _plan("plan_step, 2 terms", 2),
    _plan("plan_step, 4 terms", 4),
    _plan("plan_step, 4 terms, bf16", 4, "bf16"),
    _plan("plan_step, 8 terms", 8),
    _plan("plan_step, 3 terms and noise", 3, NOISE=True),
    _plan("plan_step, 3 terms and noise, channels last", 3, NOISE=True, LAST=True),
    _plan("plan_step, 3 terms, noise, clamp, blend", 3, NOISE=True, CLAMP=True, BLEND=True),
    _plan("guided_step, 2 estimates", 4, ALSO=True),
    _moments(2),
    *_norm("fp32", 8, 32, 32),
    *_norm("bf16", 8, 32, 32),
    *_norm("fp32", 8, 128, 128),
    *_norm("bf16", 8, 128, 128),
    *_norm("bf16", 8, 32, 32, last=True),
    *_norm("fp32", 8, 32, 32, last=True),
    *_norm("fp32", 32, 8, 8),
    *_ada("fp32", 384),
    *_ada("bf16", 384),
    _categorical(16),
]
"""The kernels for usual shapes: the table of the documentation."""

REGISTERS = 9
"""Tensors of the longest row of a plan: four states and five estimates."""


def every_case() -> Iterator[Case]:
    """A case for every block size and number of warps that follows from any shape, with elements of
    4 and of 2 bytes; and plan_step with every set of its options.

    The launching functions are asked about sizes at both sides of every power of two up to what the
    kernels take, since they round sizes up to those. Of the shapes that lead to one block, the
    largest that does not fill it stands for all, as masks only add to what the code needs; the
    SiLU, the mean and the gate are on for the same reason.
    """
    either = (False, True)
    for terms, noise, blend, clamp in product(range(1, REGISTERS + 1), either, either, either):
        for last in either if noise else (False,):
            on = {"NOISE": noise, "LAST": last, "BLEND": blend, "CLAMP": clamp}
            what = "".join(f", {name.lower()}" for name, value in on.items() if value)
            for dtype in ("fp32", "bf16"):
                yield _plan(f"plan_step, {terms} terms{what}, {dtype}", terms, dtype, **on)
    for terms, dtype in product(range(2, REGISTERS + 1), ("fp32", "bf16")):
        yield _plan(f"guided_step, {terms} terms, {dtype}", terms, dtype, ALSO=True)
        yield _moments(terms, dtype)
    for last, dtype in product(either, ("fp32", "bf16")):
        shapes = product(_sizes(norm_silu.WIDEST), _sizes(2**20))
        tiles = _of_each(functools.partial(_norm_tile, last), shapes, lambda s: _full(s[0]))
        for shape in tiles:
            yield from _norm(dtype, *shape, last=last)
    for dtype in ("fp32", "bf16"):
        for width in _of_each(adas.launch, _sizes(ada_norm.WIDEST), _full):
            yield from _ada(dtype, width)
        for states in _of_each(categoricals.launch, _sizes(categorical_step.WIDEST), _full):
            for masked in either:
                yield _categorical(states, dtype, masked)


def _of_each(
    launch: Callable[[S], dict[str, Any]], shapes: Iterable[S], full: Callable[[S], bool]
) -> list[S]:
    """Of the shapes with one launch, the last that is not full, or else the last."""
    found: dict[tuple[Any, ...], S] = {}
    for shape in shapes:
        tile = tuple(launch(shape).values())
        if tile not in found or not full(shape):
            found[tile] = shape
    return list(found.values())


def _sizes(most: int) -> list[int]:
    around = {2**i + j for i in range(most.bit_length()) for j in (-1, 0, 1)}
    return sorted(size for size in around if 1 <= size <= most)


def _full(size: int) -> bool:
    return size & (size - 1) == 0


def _norm_tile(last: bool, shape: tuple[int, int]) -> dict[str, Any]:
    return norms.launch(*shape, last)


def resources(case: Case, capability: int) -> Resources:
    """Compile a kernel for a compute capability (80, 90) and read what its code says.

    Pointers and sizes are taken to be multiples of 16 bytes, as torch's allocator makes them.
    """
    names = list(case.kernel.arg_names)
    types: dict[str, Any] = {
        name: "constexpr" if name in case.constants else case.types.get(name, f"*{case.dtype}")
        for name in names
    }
    even: dict[tuple[int, ...], Any] = {
        (i,): [["tt.divisibility", 16]]
        for i, name in enumerate(names)
        if types[name].startswith("*") or name in ("n", "channels", "spatial", "width")
    }
    several, count = case.several
    if count:
        i = names.index(several)
        types[several] = (types[several],) * count
        even |= {(i, j): even[i,] for j in range(count)}
        del even[i,]
    constants = {(names.index(name),): value for name, value in case.constants.items()}
    source = ASTSource(case.kernel, types, constexprs=constants, attrs=even)
    found = triton.compile(
        source, target=GPUTarget("cuda", capability, 32), options={"num_warps": case.warps}
    )
    header, code = (_dumped(found.asm["cubin"], option) for option in ("-res-usage", "-sass"))
    usage = dict(re.findall(r"(\w+):(\d+)", header.split("Function")[-1]))
    return Resources(
        registers=int(usage["REG"]),
        spills=len(re.findall(r"\b(?:LDL|STL)\b", code)),
        stack=int(usage["STACK"]),
        shared=int(found.metadata.shared),
        load=_widest(found.asm["ptx"], "ld"),
        store=_widest(found.asm["ptx"], "st"),
    )


def _dumped(cubin: bytes, option: str) -> str:
    tool = os.path.join(os.path.dirname(nvidia.__file__), "bin", "cuobjdump")
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        run = subprocess.run([tool, option, file.name], capture_output=True, text=True, check=True)
    return run.stdout


def _widest(ptx: str, kind: str) -> int:
    """The widest access, in bits: ld.global.v4.b32 has 128."""
    found = re.findall(rf"{kind}\.global[\w.:]*?(?:\.v(\d))?\.[bfsu](\d+)", ptx)
    return max((int(count or 1) * int(bits) for count, bits in found), default=0)


def main() -> None:
    """Print what every kernel asks for, as a table in Markdown."""
    print(
        "| kernel | registers, sm_80 | sm_90 | spills | shared, bytes | widest load, bits | store "
        "| passes / least |\n|---|---:|---:|---:|---:|---:|---:|---:|"
    )
    for case in CASES:
        older, newer = (resources(case, capability) for capability in (80, 90))
        columns = (
            case.name, older.registers, newer.registers, older.spills + newer.spills,
            f"{newer.shared:,}", newer.load, newer.store,
            f"{(case.reads + case.writes) / case.least:.3g}",
        )  # fmt: skip
        print("|", " | ".join(map(str, columns)), "|", flush=True)


if __name__ == "__main__":
    main()
