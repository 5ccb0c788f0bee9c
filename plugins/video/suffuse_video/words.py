"""What a prompt from a closed vocabulary asks of each part of a clip.

    asked[i] = W_2 SiLU(W_1 SiLU(Σ_words embedding[word, phrase] + part[i]))

A word is embedded by the phrase that it stands in, so that "left, then up" differs from "up, then
left", and the sum lets known words meet in sentences that were never seen. Part i of the clip has
an embedding of its own, so that the second direction is asked of the second half alone. Without a
prompt nothing is asked, of any part: the network then does not know where in a clip a frame stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from suffuse.errors import SuffuseError, unknown
from suffuse.nn.conditioning import Condition

from .shapes import words

__all__ = ["Words"]

OPENERS = ("then", "camera")
"""Words that begin a phrase."""


class Words(nn.Module):
    """Conditioner of prompts whose words are all known.

    Args:
        condition: of kind "text"; its names are the vocabulary.
        width: features of the vectors.
        longest: the most words of a prompt.
        parts: into how many equal parts a prompt sees a clip.

    Raises:
        SuffuseError: where the condition is no text with a vocabulary.
    """

    def __init__(
        self, condition: Condition, width: int, *, longest: int = 16, parts: int = 16
    ) -> None:
        super().__init__()
        if condition.kind != "text" or not condition.names or min(longest, parts) < 1:
            raise SuffuseError(
                "video/words takes a condition of kind text with a vocabulary, prompts of one word "
                f"or more, and one part or more; given a {condition.kind} with "
                f"{len(condition.names)} words, {longest} and {parts}"
            )
        self.names, self.longest = tuple(condition.names), longest
        self.embedding = nn.Embedding(len(self.names) * (len(OPENERS) + 1), width)
        self.parts = nn.Parameter(torch.randn(parts, width))
        self.linear_0, self.linear_1 = nn.Linear(width, width), nn.Linear(width, width)
        self.nothing = nn.Parameter(torch.zeros(width))

    def prepare(self, values: Sequence[Any]) -> Tensor:
        """Indices of words in their phrases [n, longest], int64, -1 behind the last and for None.

        Raises:
            SuffuseError: for an unknown word, with the nearest known one, and for too many words.
        """
        return torch.tensor([self._row(value) for value in values], dtype=torch.int64)

    def forward(self, prepared: Tensor) -> Mapping[str, Tensor]:
        """What is asked, for the network's slot "moments": [n, parts, width]."""
        there = (prepared >= 0)[..., None]
        h = torch.where(there, self.embedding(prepared.clamp(min=0)), 0).sum(1)
        h = silu(h[:, None] + self.parts.to(h.dtype))
        h = self.linear_1(silu(self.linear_0(h)))
        return {"moments": torch.where(there.any(1)[:, None], h, self.nothing.to(h.dtype))}

    def null(self, n: int, device: torch.device | str | None = None) -> Tensor:
        """What `prepare` makes of n values that are not given."""
        return torch.full((n, self.longest), -1, dtype=torch.int64, device=device)

    def _row(self, value: Any) -> list[int]:
        if value is None:
            return [-1] * self.longest
        said = words(str(value))
        if not 1 <= len(said) <= self.longest:
            raise SuffuseError(
                f"a prompt for this model has 1 to {self.longest} words, and {str(value)!r} has "
                f"{len(said)}"
            )
        row, phrase = [], 0
        for word in said:
            if word not in self.names:
                raise unknown("word of this model", word, self.names)
            phrase = OPENERS.index(word) + 1 if word in OPENERS else phrase
            row.append(phrase * len(self.names) + self.names.index(word))
        return row + [-1] * (self.longest - len(row))
