"""Weights, gradients and moments split among the processes (FSDP2).

Each process keeps a slice of every tensor; a block's weights are gathered while it computes. What
is written is whole: tensors are gathered one after the other on the first process's host, so that a
checkpoint of several processes is that of one, and any number of them goes on from it.

Source: Zhao et al., "PyTorch FSDP" (2023), arXiv 2304.11277; torch.distributed.fsdp.fully_shard.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from suffuse.errors import SuffuseError
from suffuse.nn import magnitude

__all__ = ["local", "normalize", "shard", "split_like", "whole"]


def shard(network: nn.Module, device: torch.device) -> Any:
    """Split a network's weights among all processes, block by block; the same network.

    Raises:
        SuffuseError: for a weight without axes, which has no slices.
    """
    for name, weight in network.named_parameters():
        if not weight.ndim:
            raise SuffuseError(
                f"training.sharded splits weights along their first axis, and {name!r} of this "
                "network has none; train whole copies, or make it a tensor of one element"
            )
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for module in network.modules():
        if isinstance(module, nn.ModuleList):
            for block in module:
                fully_shard(block, mesh=mesh)
    return fully_shard(network, mesh=mesh)


@torch.no_grad()
def normalize(network: nn.Module) -> None:
    """Bring the rows of magnitude-preserving layers to their length, on the process that has them.

    A layer does so itself in the forward pass of training, which is here on a gathered copy that is
    thrown away.
    """
    for layer in network.modules():
        if isinstance(layer, magnitude.Layer):
            rows = local(layer.weight.detach())
            rows.copy_(magnitude.normalized(rows))


def whole(tensors: Mapping[str, Tensor], keep: bool) -> dict[str, Tensor]:
    """Whole tensors on the host; all processes call this, and those that do not `keep` get none."""
    out = {}
    for name, tensor in tensors.items():
        full = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
        if keep:
            out[name] = full.detach().cpu()
    return out


def local(tensor: Tensor) -> Tensor:
    """This process's slice of a split tensor; another tensor as it is."""
    part: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return part


def split_like(tensor: Tensor, like: Any) -> Tensor:
    """A whole tensor, split as `like` is where that is split and of the same shape."""
    if not hasattr(like, "device_mesh") or tensor.shape != like.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    split: Tensor = distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)
    return split
