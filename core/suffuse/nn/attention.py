"""Attention of tokens to each other, and to the tokens of conditions.

Queries and keys have unit mean square, which bounds the logits, so that no head saturates (Dehghani
et al., "Scaling vision transformers to 22 billion parameters" (2023), arXiv 2302.05442, section
2.1). One learned gain a feature suffices: only the product of the queries' and the keys' counts.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm, scaled_dot_product_attention

from suffuse.errors import SuffuseError

__all__ = ["Attention", "CrossAttention", "among", "attend", "unit", "zeroed"]

EPS = 1e-6

Layer = TypeVar("Layer", bound=nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear)


def zeroed(layer: Layer) -> Layer:
    """The layer with its weights and biases set to zero."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q kᵀ / √d) v over [B, heads, N, d].

    Args:
        mask: bool, [B or 1, heads or 1, N or 1, keys], True where a query looks; every query looks
            somewhere. Everywhere where None.

    torch's fused kernel, except in bfloat16 on a CPU: there two plain products measured 2 to 9
    times faster for 16 to 256 tokens (in float32 the fused kernel was the faster one at all sizes).
    """
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and q.shape[-2] <= 256:
        logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        if mask is not None:
            logits = logits.masked_fill(~mask, -torch.inf)
        return torch.matmul(logits.softmax(-1), v)
    return scaled_dot_product_attention(q, k, v, attn_mask=mask)


def among(there: Tensor) -> Tensor:
    """Who looks where if some are not there: [B, 1, N, N] of [B, N], True for those that are.

    All look at those that are there, and each at itself, so that every one looks somewhere.
    """
    own = torch.eye(there.shape[-1], dtype=torch.bool, device=there.device)
    return (there[:, None, :] | own)[:, None]


def unit(x: Tensor, gain: Tensor | None = None) -> Tensor:
    """x / sqrt(mean square + 1e-6) over the last axis, times the gain [d].

    On a CPU by `_Unit`: torch takes twice its time there for the way back, in a dozen passes.
    """
    gain = None if gain is None else gain.to(x.dtype)
    if x.device.type == "cpu":
        return _Unit.apply(x, gain)  # type: ignore[no-any-return]
    return rms_norm(x, x.shape[-1:], gain, EPS)


class _Unit(torch.autograd.Function):
    """With r = (mean x² + eps)^{-1/2} and g = gain · dy, the way back is r g − r³ mean(x g) x."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, gain: Tensor | None) -> Tensor:
        y = x * _scale(x)
        return y if gain is None else y.mul_(gain)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor | None], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor | None]:
        x, gain = ctx.saved_tensors
        r, d_gain = _scale(x), None
        if gain is not None:
            d_gain = (dy * x * r).flatten(0, -2).sum(0)
            dy = dy * gain
        return torch.addcmul(dy * r, x, _slope(x, dy, r), value=-1), d_gain

    @staticmethod
    def jvp(ctx: Any, dx: Tensor | None, d_gain: Tensor | None) -> Tensor:
        x, gain = ctx.saved_tensors
        r = _scale(x)
        out = torch.zeros_like(x)
        if dx is not None:
            along = dx * r - x * _slope(x, dx, r)
            out = along if gain is None else along * gain
        return out if d_gain is None else out + x * r * d_gain


def _scale(x: Tensor) -> Tensor:
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=_wide(x))
    scale: Tensor = (norm * norm / x.shape[-1] + EPS).rsqrt().to(x.dtype)
    return scale


def _slope(x: Tensor, g: Tensor, r: Tensor) -> Tensor:
    """r³ mean(x g)."""
    wide = _wide(x)
    mean = (x * g).sum(-1, keepdim=True, dtype=wide) / x.shape[-1]
    slope: Tensor = (mean * r.to(wide) ** 3).to(x.dtype)
    return slope


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _heads(x: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """Features [B, N, parts · heads · d] as `parts` tensors [B, heads, N, d].

    On a CPU they are laid out anew at once, which all products and passes over them would else do.
    """
    split = x.view(*x.shape[:2], parts, heads, -1).permute(2, 0, 3, 1, 4)
    return torch.unbind(split.contiguous() if x.device.type == "cpu" else split)


class Attention(nn.Module):
    """Self-attention over tokens [B, N, width]. A fresh layer adds nothing."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise SuffuseError(f"attention of width {width} cannot be split into {heads} heads")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.gain = nn.Parameter(torch.ones(width // heads))
        self.out = zeroed(nn.Linear(width, width))

    def forward(self, x: Tensor, there: Tensor | None = None) -> Tensor:
        """What attention adds to tokens [B, N, width].

        Args:
            there: [B, N], False where a token is padding, which others do not look at; all count
                where None.
        """
        q, k, v = _heads(self.qkv(x), 3, self.heads)
        h = attend(unit(q, self.gain), unit(k), v, None if there is None else among(there))
        out: Tensor = self.out(h.transpose(1, 2).flatten(2))
        return out


class CrossAttention(nn.Module):
    """Attention of tokens [B, N, width] to what a condition says, [B, L, features].

    Beside the condition's tokens there is a learned one, so that a state without any has something
    to attend to, and any state may attend to nothing. A fresh layer adds nothing.
    """

    def __init__(self, width: int, features: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise SuffuseError(f"attention of width {width} cannot be split into {heads} heads")
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(features, 2 * width)
        self.gain = nn.Parameter(torch.ones(width // heads))
        self.nothing = nn.Parameter(torch.randn(features))
        self.out = zeroed(nn.Linear(width, width))

    def forward(self, x: Tensor, tokens: Tensor | None, mask: Tensor | None = None) -> Tensor:
        """What attention adds to x [B, N, width].

        Args:
            tokens: [B, L, features]; none where None.
            mask: [B, L], False where a token is padding; all count where None.
        """
        told = self.nothing.to(x.dtype).expand(len(x), 1, -1)
        shown = torch.ones(len(x), 1, dtype=torch.bool, device=x.device)
        if tokens is not None:
            told = torch.cat([told, tokens.to(x.dtype)], dim=1)
            known = shown.expand(-1, tokens.shape[1]) if mask is None else mask
            shown = torch.cat([shown, known], dim=1)
        (q,) = _heads(self.q(x), 1, self.heads)
        k, v = _heads(self.kv(told), 2, self.heads)
        h = attend(unit(q, self.gain), unit(k), v, shown[:, None, None])
        out: Tensor = self.out(h.transpose(1, 2).flatten(2))
        return out
