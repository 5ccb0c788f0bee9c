"""What every network of this package is: a module with a fixed call, and its cost.

    network(x [B, C, *size], level [B], vector=None, concat=None, tokens=None, token_mask=None)
    -> [B, C, *size]

`level` tells how noisy x is: c_noise, a bounded function of log(α / σ). `vector` [B, width] is the
sum of the embeddings of the conditions, of the width that the network asks for; `concat`
[B, context, *size] are further channels of the input, for instance a picture to go by; `tokens`
[B, L, tokens] are what the network may attend to, for instance the words of a prompt, with
`token_mask` [B, L] False where one is padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from suffuse.errors import SuffuseError

__all__ = ["Network", "flops", "params"]


def params(module: nn.Module) -> int:
    """How many numbers training adjusts."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def flops(module: nn.Module, *inputs: Any, **given: Any) -> int:
    """Floating-point operations of a call on such inputs: two for each multiply-add.

    Counted by torch.utils.flop_counter over the matrix products and the convolutions of a call on
    shapes alone (nothing is computed).

    Args:
        inputs, given: what the module is called with; tensors on the device "meta".

    >>> flops(nn.Linear(3, 5), torch.empty(2, 3, device="meta"))
    60
    """
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    outline = {name: torch.empty_like(k, device="meta") for name, k in tensors.items()}
    counter = FlopCounterMode(display=False)
    # The mathematical form of attention: the fused kernels of the CPU have no formula.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        functional_call(module, outline, inputs, given)
    return counter.get_total_flops()


class Network(nn.Module):
    """A denoiser's backbone for states of shape [C, *size] with one to three axes of space or time.

    Attributes:
        shape: the shape of one state, without the batch axis. Other sizes are legal in a call; the
            number of channels and of axes are not to change.
        width: the width of the condition vector.
        context: how many further channels the input has.
        tokens: features of the tokens that it attends to; 0 where it takes none.
        axes: the least and the most axes of size that states of this class have.

    Raises:
        SuffuseError: where the shape has fewer or more axes.
    """

    axes: ClassVar[tuple[int, int]] = (1, 3)

    def __init__(self, shape: Sequence[int], width: int, context: int = 0, tokens: int = 0) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.width, self.context, self.tokens = width, context, tokens
        least, most = self.axes
        if not least <= len(self.shape) - 1 <= most or min(self.shape) < 1:
            sizes = ", size, ...] with one to three sizes" if most else "]"
            raise SuffuseError(
                f"a {type(self).__name__} takes states of shape [channels{sizes}, "
                f"and this one is {list(self.shape)}"
            )

    def params(self) -> int:
        """How many numbers training adjusts."""
        return params(self)

    def flops(self, batch: int = 1, size: Sequence[int] | None = None, length: int = 0) -> int:
        """Floating-point operations of one call; see `suffuse.nn.network.flops`.

        A training step costs about three times as many.

        Args:
            batch: how many states the call has.
            size: the size of a state; that of `shape` where None.
            length: how many tokens conditions bring, for a network that attends to them.
        """
        size = self.shape[1:] if size is None else tuple(size)
        dtype = next(self.parameters()).dtype

        def outline(*shape: int) -> Tensor:
            return torch.empty(shape, device="meta", dtype=dtype)

        given = {"vector": outline(batch, self.width)}
        if self.context:
            given["concat"] = outline(batch, self.context, *size)
        if length:
            given["tokens"] = outline(batch, length, self.tokens)
        return flops(self, outline(batch, self.shape[0], *size), outline(batch), **given)

    def _told(self, tokens: Tensor | None) -> None:
        """Refuse tokens that the network does not take.

        Raises:
            SuffuseError: saying which option has to change.
        """
        if tokens is not None and tokens.shape[-1] != self.tokens:
            raise SuffuseError(
                f"this {type(self).__name__} attends to tokens of {self.tokens} features, and is "
                f"given tokens of {tokens.shape[-1]}: set the denoiser's option tokens to that"
            )

    def _input(self, x: Tensor, level: Tensor, concat: Tensor | None) -> Tensor:
        """x with its further channels, [B, C + context, *size], when all of it fits."""
        if x.ndim != len(self.shape) + 1 or x.shape[1] != self.shape[0]:
            raise SuffuseError(
                f"this {type(self).__name__} takes states of {self.shape[0]} channels and "
                f"{len(self.shape) - 1} further axes after the batch; given {list(x.shape)}"
            )
        if level.shape != x.shape[:1]:
            raise SuffuseError(
                f"level is one number for each of the {x.shape[0]} states; "
                f"given the shape {list(level.shape)}"
            )
        given = 0 if concat is None else concat.shape[1]
        if given != self.context:
            raise SuffuseError(
                f"this {type(self).__name__} takes {self.context} further channels, and is given "
                f"{given}: set the denoiser's option context to what the conditions bring"
            )
        return x if concat is None else torch.cat([x, concat.to(x)], dim=1)
