"""The processes of one run, each a rank, and what they tell each other on the host.

Gradients travel by accelerate's own group (NCCL on GPUs). What is said here goes over a group on
the host with a very long time limit: while rank 0 encodes a data set or evaluates, the others wait,
for hours if need be, and no GPU is held up by a flag.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from suffuse.errors import SuffuseError

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["Ranks"]

T = TypeVar("T")


class Ranks:
    """This process's place among those of the run.

    Attributes:
        index: from 0; rank 0 writes the files.
        count: how many there are.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.index: int = accelerator.process_index
        self.count: int = accelerator.num_processes
        self._group: Any = None
        if self.count > 1:
            self._group = dist.new_group(backend="gloo", timeout=timedelta(days=7))

    def share(self, batch: int) -> range:
        """This rank's positions in a global batch. Raises SuffuseError where some rank has none."""
        if batch < self.count:
            raise SuffuseError(
                f"training.batch is {batch}, less than the {self.count} processes that share it"
            )
        return range(batch * self.index // self.count, batch * (self.index + 1) // self.count)

    def same_parts(self, batch: int, size: int) -> None:
        """Refuse parts of a batch, of at most `size`, of which some ranks would have more.

        Raises:
            SuffuseError: saying which sizes of a batch are even.
        """
        counts = {-(-share // size) for share in (batch // self.count, -(-batch // self.count))}
        if len(counts) > 1:
            raise SuffuseError(
                f"split weights are gathered anew for each part of a batch, so every process needs "
                f"as many; {batch} examples on {self.count} processes, {size} at once, are "
                f"{' or '.join(map(str, sorted(counts)))}: give a training.batch that is a "
                f"multiple of {self.count}, or another training.micro_batch"
            )

    def sum(self, values: Tensor) -> Tensor:
        """The sum over ranks, on the CPU."""
        values = values.detach().cpu()
        if self.count > 1:
            values = values.clone()
            dist.all_reduce(values, group=self._group)
        return values

    def least(self, value: int) -> int:
        """The least of the ranks' values."""
        if self.count == 1:
            return value
        values = torch.tensor(value)
        dist.all_reduce(values, op=dist.ReduceOp.MIN, group=self._group)
        return int(values)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on some rank."""
        return self.least(int(not flag)) == 0

    def lead(self, work: Callable[[], T]) -> T | None:
        """Let rank 0 do something while the others wait for it; None on those.

        Raises:
            SuffuseError: on the others, where rank 0 failed; its own error says why.
        """
        result, done = None, self.index != 0
        try:
            if self.index == 0:
                result = work()
                done = True
        finally:
            failed = self.any(not done)
        if failed and self.index != 0:
            raise SuffuseError("the first process of this run stopped; its message says why")
        return result
