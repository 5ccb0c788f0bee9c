"""Prompts as states of a frozen text encoder.

The encoder knows words that the data do not have, and which of them are alike. It is asked once
for each caption, when the data are prepared; what is trained, and kept with the model, are two
linear maps. Pooled vectors are scaled to unit mean square first: MiniLM's have one of about 1/384,
and left as they are they are drowned by the embedding of the noise level; the states of CLIP and T5
have other sizes again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from suffuse.errors import SuffuseError
from suffuse_text.prompts import mixed, segments

__all__ = ["Encoder", "Frozen"]

logger = logging.getLogger("suffuse_text")


class Encoder(Protocol):
    """What reads texts; not a module, since its weights belong to no model of ours.

    Attributes:
        features: of a token's state.
        longest: the most tokens of a text, with the marks of its ends.
        begin, end: the ids that stand before and behind a text.
        pooled: the first token that counts in the mean over a text.
        identity: the beginning of the SHA-256 of the weights.
    """

    features: int
    longest: int
    begin: list[int]
    end: list[int]
    pooled: int
    identity: str

    def tokens(self, text: str) -> list[int]:
        """The ids of a text's word pieces, without the marks of its ends."""

    def states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token states [B, L, features] of ids [B, L] with the ends; mask False is padding."""


class Frozen(nn.Module):
    """Prompts by a frozen encoder: a vector, and tokens to attend to.

    Args:
        name: of the conditioner, for what is told.
        condition: of kind "text".
        width: of the vector for the network.
        encoder: what reads texts.
        length: the most word pieces of a prompt; the rest of a longer one is left out, with a
            warning.
        tokens: features of the tokens that the network attends to; 0 for none.
        identity: the beginning of the SHA-256 of the encoder's weights, "" for any: a model that
            was trained with one encoder is not used with another.

    Raises:
        SuffuseError: for a condition of another kind, and where the encoder is another.
    """

    def __init__(
        self,
        name: str,
        condition: Any,
        width: int,
        encoder: Encoder,
        *,
        length: int,
        tokens: int,
        identity: str,
    ) -> None:
        super().__init__()
        if condition.kind != "text":
            raise SuffuseError(f"{name} takes a condition of text, not of {condition.kind}")
        if identity and identity != encoder.identity:
            raise SuffuseError(
                f"this model was trained with the encoder {identity}, and the one here is "
                f"{encoder.identity}"
            )
        self.encoder = encoder
        self.ends = len(encoder.begin) + len(encoder.end)
        self.length = min(length, encoder.longest - self.ends)
        if self.length < 1 or tokens < 0:
            raise SuffuseError(
                f"length is 1 or more and tokens 0 or more; given {length}, {tokens}"
            )
        self.vector = nn.Linear(encoder.features, width)
        self.token = nn.Linear(encoder.features, tokens) if tokens else None
        self.nothing = nn.Parameter(torch.randn(width))

    def prepare(self, values: Sequence[Any]) -> Tensor:
        """[n, length + ends, features + 1] float32: states of the tokens, and the weight of each.

        Raises:
            SuffuseError: for a prompt that is no text.
        """
        out = self.null(len(values))
        for i, value in enumerate(values):
            if value is not None:
                told = self._told(value)
                out[i, : len(told)] = told
        return out

    def forward(self, prepared: Tensor) -> dict[str, Tensor]:
        """The slot "vector" [n, width], and where asked for "tokens" with "token_mask"."""
        states, weights = prepared[..., :-1], prepared[..., -1:]
        real = weights[..., 0] != 0
        given = real.any(1, keepdim=True)
        counted = slice(self.encoder.pooled, None)
        plain = states[:, counted].sum(1)
        pooled = (states * weights)[:, counted].sum(1)
        # Its direction at unit mean square; a weight on all of it stays as its length.
        length = pooled.norm(dim=1, keepdim=True) / plain.norm(dim=1, keepdim=True).clamp(min=1e-6)
        pooled = normalize(pooled, dim=1) * length * self.encoder.features**0.5
        vector = self.vector(pooled.to(self.vector.weight.dtype))
        slots = {"vector": torch.where(given, vector, self.nothing.to(vector.dtype))}
        if self.token is not None:
            told = self.token((states * weights).to(self.token.weight.dtype))
            slots |= {"tokens": told, "token_mask": real}
        return slots

    def null(self, n: int, device: torch.device | str | None = None) -> Tensor:
        """What `prepare` makes of n values that are not given."""
        return torch.zeros(n, self.length + self.ends, self.encoder.features + 1, device=device)

    def _told(self, prompt: Any) -> Tensor:
        """What `prepare` says of one prompt, without padding, [L, features + 1].

        Of several that are mixed the weights are such that the mean over all tokens is that of the
        prompts by their shares.
        """
        if not isinstance(prompt, str):
            raise SuffuseError(f"a prompt is text, and {prompt!r} is none")
        encoder, parts, left = self.encoder, [], self.length
        for text, share in mixed(prompt):
            # What stands before the first token that counts is kept of the first prompt alone.
            skipped = encoder.pooled if parts else 0
            room = left - (self.ends - skipped if parts else 0)
            pieces = self._pieces(text)
            if len(pieces) > room:
                logger.warning("only the first %d word pieces of a prompt are used", self.length)
                pieces = pieces[: max(0, room)]
            if not pieces:
                continue
            ids = [*encoder.begin, *(piece for piece, _ in pieces), *encoder.end]
            states = encoder.states(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.bool))
            weights = torch.tensor(
                [
                    *(1.0 for _ in encoder.begin),
                    *(w for _, w in pieces),
                    *(1.0 for _ in encoder.end),
                ]
            )
            counted = len(ids) - encoder.pooled
            told = torch.cat([states[0].float().cpu(), weights[:, None]], 1)[skipped:]
            parts.append((share, counted, told))
            left = room - len(pieces)
        if not parts:
            return self.null(1)[0, :0]
        total = sum(counted for _, counted, _ in parts)
        for share, counted, told in parts:
            told[:, -1] *= share * total / counted
        return torch.cat([told for _, _, told in parts])

    def _pieces(self, text: str) -> list[tuple[int, float]]:
        """The word pieces of a text, with their weights; those of weight 0 are left out."""
        return [(p, w) for part, w in segments(text) if w for p in self.encoder.tokens(part)]
