"""A prompt from a closed vocabulary as one vector.

    vector = W (Σ_i perceptron(word_i + place_i)) / n

Each word is embedded with its place in the sentence, so that "left, then up" differs from "up, then
left", and the sum lets known words meet in sentences that were never seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from suffuse.errors import SuffuseError, unknown
from suffuse.nn.conditioning import Condition
from suffuse.nn.embedding import sincos

__all__ = ["Words"]


class Words(nn.Module):
    """Conditioner of prompts whose words are all known.

    Args:
        condition: of kind "text"; its names are the vocabulary.
        width: features of the vector.
        longest: the most words of a prompt.

    Raises:
        SuffuseError: where the condition is no text with a vocabulary.
    """

    def __init__(self, condition: Condition, width: int, *, longest: int = 12) -> None:
        super().__init__()
        if condition.kind != "text" or not condition.names or longest < 1:
            raise SuffuseError(
                "video/words takes a condition of kind text with a vocabulary, and prompts of one "
                f"word or more; given a {condition.kind} with {len(condition.names)} words, and "
                f"{longest}"
            )
        self.names, self.longest = tuple(condition.names), longest
        self.embedding = nn.Embedding(len(self.names), width)
        self.linear_0, self.linear_1 = nn.Linear(width, width), nn.Linear(width, width)
        self.last = nn.Linear(width, width)
        self.nothing = nn.Parameter(torch.randn(width))
        self.register_buffer("places", sincos([longest], width), persistent=False)

    def prepare(self, values: Sequence[Any]) -> Tensor:
        """Indices of words [n, longest], int64, -1 behind the last; all -1 where a value is None.

        Raises:
            SuffuseError: for an unknown word, with the nearest known one, and for too many words.
        """
        return torch.tensor([self._row(value) for value in values], dtype=torch.int64)

    def forward(self, prepared: Tensor) -> Tensor:
        """Vectors [n, width] of indices [n, longest]."""
        there = (prepared >= 0)[..., None]
        places: Any = self.places
        h = self.embedding(prepared.clamp(min=0)) + places.to(self.embedding.weight.dtype)
        h = self.linear_1(silu(self.linear_0(h)))
        h = torch.where(there, h, 0).sum(1) / self.longest**0.5
        return torch.where(there.any(1), self.last(silu(h)), self.nothing.to(h.dtype))

    def null(self, n: int, device: torch.device | str | None = None) -> Tensor:
        """What `prepare` makes of n values that are not given."""
        return torch.full((n, self.longest), -1, dtype=torch.int64, device=device)

    def _row(self, value: Any) -> list[int]:
        if value is None:
            return [-1] * self.longest
        said = str(value).lower().replace(",", " ").replace(".", " ").split()
        if not 1 <= len(said) <= self.longest:
            raise SuffuseError(
                f"a prompt for this model has 1 to {self.longest} words, and {str(value)!r} has "
                f"{len(said)}"
            )
        for word in said:
            if word not in self.names:
                raise unknown("word of this model", word, self.names)
        row = [self.names.index(word) for word in said]
        return row + [-1] * (self.longest - len(row))
