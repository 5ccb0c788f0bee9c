"""The network that learns: a copy of the model's, made ready for how the run is to train it.

It may learn as a whole or by matrices of low rank, keep or compute again what its blocks made, be
compiled, be the same on every process or split among them; and the uncertainty of the loss may
learn beside it.
"""

from __future__ import annotations

import copy
import functools
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from suffuse.errors import SuffuseError
from suffuse.nn import Uncertainty, lora
from suffuse.recipe import Training
from suffuse.training import sharding
from suffuse.training.checkpoint import optimizer_state, restore_optimizer
from suffuse.training.optimizer import adamw
from suffuse.training.ranks import Ranks

__all__ = ["COMPILING_PAYS", "Learner", "compiler"]

COMPILING_PAYS = 3600.0
"""Seconds of training from which torch.compile is tried: it took one to three minutes on a CPU."""

UNCERTAINTY = "uncertainty/"


def compiler() -> bool:
    """Whether torch.compile finds what it needs for a CPU: a C++ compiler."""
    return any(shutil.which(name) for name in ("c++", "g++", "clang++", "cl"))


class Learner:
    """The weights that learn, their optimiser, and what the training step calls.

    Args:
        network: the model's; it is copied.
        training: the recipe's settings.
        accelerator: accelerate's, which makes data-parallel copies agree.
        ranks: the processes.
        compiled: whether the network is compiled.

    Attributes:
        network: the copy.
        prepared: what is called, with gradients averaged over processes behind it.
        uncertainty: of the loss, by u; None where it is not learned.
    """

    def __init__(
        self, network: nn.Module, training: Training, accelerator: Any, ranks: Ranks, compiled: bool
    ) -> None:
        self._accelerator, self._ranks = accelerator, ranks
        self._sharded = training.sharded and ranks.count > 1
        self.network = copy.deepcopy(network).train()
        if training.lora:
            if self._sharded:
                raise SuffuseError("training.lora and training.sharded exclude each other")
            lora.adapt(self.network, training.lora)
        if training.recompute:
            recompute_blocks(self.network)
        self.uncertainty = Uncertainty().to(accelerator.device) if training.uncertainty else None
        # The optimiser is left as it is: accelerate's wrapper serves loss scaling, which bf16 needs
        # none of, and costs as much as a small step.
        if self._sharded:
            self.prepared: Any = sharding.shard(self.network, accelerator.device)
        else:
            with warnings.catch_warnings():  # of torch: accelerate knows the setting's old name
                warnings.filterwarnings("ignore", ".*broadcast_buffers", FutureWarning)
                self.prepared = accelerator.prepare(self.network)
        if compiled:
            self.prepared = torch.compile(self.prepared)
        self.parameters = [p for p in self.network.parameters() if p.requires_grad]
        self.optimizer = adamw(
            self.parameters, training, self.uncertainty.parameters() if self.uncertainty else ()
        )

    def _named(self) -> Iterator[tuple[str, nn.Parameter]]:
        yield from ((n, p) for n, p in self.network.named_parameters() if p.requires_grad)
        if self.uncertainty is not None:
            yield from self.uncertainty.named_parameters(UNCERTAINTY.rstrip("/"))

    def weighed(self, losses: Tensor, u: Tensor, weight: Tensor | None) -> Tensor:
        """What is minimised, [b], of the losses at u."""
        if self.uncertainty is not None:
            losses = self.uncertainty(losses, u)
        return losses if weight is None else losses * weight

    def begin(self) -> None:
        """Make ready for a step: no gradients; weights of unit length where layers keep it."""
        self.optimizer.zero_grad()
        if self._sharded:
            sharding.normalize(self.network)

    @contextmanager
    def part_of_batch(self, last: bool) -> Iterator[None]:
        """Gradients are only exchanged after the last part of a batch."""
        if self._sharded:
            self.network.set_requires_gradient_sync(last)  # type: ignore[operator]
            yield
        elif last:
            yield
        else:
            with self._accelerator.no_sync(self.prepared):
                yield

    def clip(self, most: float) -> Tensor:
        """The norm of the whole gradient, which is at most `most` afterwards."""
        if self.uncertainty is not None and self._ranks.count > 1:
            for p in self.uncertainty.parameters():
                p.grad = self._accelerator.reduce(p.grad, "mean")
        found = torch.nn.utils.clip_grad_norm_(self.parameters, most or float("inf"))
        return found.full_tensor() if hasattr(found, "full_tensor") else found

    def state(self, keep: bool) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The weights and the optimiser's moments, whole; all processes call this.

        Those that do not `keep` get none of split ones.
        """
        weights: dict[str, Tensor] = dict(self.network.state_dict())
        if self.uncertainty is not None:
            weights |= {UNCERTAINTY + n: k for n, k in self.uncertainty.state_dict().items()}
        moments = optimizer_state(self.optimizer, dict(self._named()))
        if self._sharded:
            return sharding.whole(weights, keep), sharding.whole(moments, keep)
        return weights, moments

    @torch.no_grad()
    def load(self, weights: Mapping[str, Tensor], moments: Mapping[str, Tensor]) -> None:
        """Put back what `state` told."""
        mine: dict[str, Tensor] = dict(self.network.state_dict())
        if self.uncertainty is not None:
            mine |= {UNCERTAINTY + n: k for n, k in self.uncertainty.state_dict().items()}
        if mine.keys() != weights.keys():
            differing = sorted(mine.keys() ^ weights.keys())
            raise SuffuseError(
                f"the checkpoint is of another network than this recipe's: {differing[0]!r} is in "
                "one of them alone"
            )
        for name, tensor in mine.items():
            sharding.local(tensor).copy_(sharding.local(sharding.split_like(weights[name], tensor)))
        restore_optimizer(self.optimizer, dict(self._named()), moments)


def recompute_blocks(network: nn.Module) -> None:
    """Have each block of a network's lists computed again on the way back, instead of kept.

    Memory for activations falls to about that of one block, for a third more time (Chen et al.,
    "Training deep nets with sublinear memory cost" (2016), arXiv 1604.06174).
    """
    for module in network.modules():
        if isinstance(module, nn.ModuleList):
            for block in module:
                block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)
