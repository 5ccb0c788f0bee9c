"""Fine-tuning by matrices of low rank, beside weights that are kept.

    W = W_0 + B A,      A [rank, in],  B [out, rank],  B = 0 to begin with

Only A and B learn. A convolution's kernel counts as one matrix, [out, in · volume].

Source: Hu et al., "LoRA: low-rank adaptation of large language models" (2021), arXiv 2106.09685,
section 4.1 (with α equal to the rank).
"""

from __future__ import annotations

from torch import Tensor, nn, randn, zeros
from torch.nn.utils import parametrize

from suffuse.errors import SuffuseError

__all__ = ["adapt"]


class _LowRank(nn.Module):
    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        rows, columns = len(weight), weight[0].numel()
        self.a = nn.Parameter(randn(rank, columns) * columns**-0.5)
        self.b = nn.Parameter(zeros(rows, rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.b @ self.a).reshape(weight.shape)


def adapt(network: nn.Module, rank: int) -> None:
    """Have only matrices of this rank learn, beside a network's linear layers and convolutions.

    A layer none of whose sides is longer than `rank` stays as it is. The layer's `weight` is then
    the sum, so that what reads it sees the merged weights.

    Raises:
        SuffuseError: where no layer is large enough.

    >>> layer = nn.Linear(8, 6)
    >>> adapt(layer, 2)
    >>> [tuple(p.shape) for p in layer.parameters() if p.requires_grad]
    [(2, 8), (6, 2)]
    """
    layers = [
        layer
        for layer in network.modules()
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
        and min(len(layer.weight), layer.weight[0].numel()) > rank
    ]
    if not layers:
        raise SuffuseError(
            f"training.lora is {rank}, and no layer of this network is larger; give a lower rank"
        )
    network.requires_grad_(False)
    for layer in layers:
        parametrize.register_parametrization(layer, "weight", _LowRank(layer.weight, rank))
