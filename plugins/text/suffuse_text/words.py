"""A small encoder of prompts that is trained with its model, so that nothing else is needed.

A prompt is a set of words (`prompts.parse`), each with a learned embedding e_i. One transformer
layer lets words see each other ("hot" beside "dog"), and with the weights w_i of the prompt

    h = mean_i w_i · layer(e)_i

goes through a perceptron to the vector that is added to the noise level's embedding. Where a prompt
mixes several (`prompts.mixed`), words see those of their own alone, and h is the mean of theirs by
their shares.

Asked for `sketch` channels, the encoder also lays a learned picture of the prompt, a quarter of the
state's resolution, beside the input: a network that sees where things belong learns many concepts
in a fraction of the steps that the vector alone takes.
"""

from __future__ import annotations

import difflib
import logging
import zlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, silu

from suffuse.errors import SuffuseError
from suffuse_text.prompts import COLOURS, Word, mixed, parse

__all__ = ["Words"]

logger = logging.getLogger("suffuse_text")


class Words(nn.Module):
    """Prompts as embeddings of their words.

    Where the condition names its words, others are unknown to the model: they are left out with a
    warning, and a prompt of unknown words alone is refused. Else words are hashed into buckets.

    Args:
        condition: of kind "text"; its names, if any, are the words that the data use.
        width: of the vector for the network.
        encoder: of the model; its shape is the size of the sketch.
        features: of a word.
        heads: of the layer's attention.
        length: the most words of a prompt; the rest of a longer one is left out with a warning.
        buckets: for the words of data that do not name theirs.
        sketch: channels laid beside the input; the backbone's option `context` is the same number.
        tokens: whether the network attends to the words; its option `tokens` is then `features`.

    Raises:
        SuffuseError: for a condition of another kind, and a sketch where states are no pictures.
    """

    def __init__(
        self,
        condition: Any,
        width: int,
        encoder: Any = None,
        *,
        features: int = 128,
        heads: int = 4,
        length: int = 16,
        buckets: int = 4096,
        sketch: int = 0,
        tokens: bool = False,
    ) -> None:
        super().__init__()
        if condition.kind != "text":
            raise SuffuseError(f"text/words takes a condition of text, not of {condition.kind}")
        if min(features, heads, length, buckets) < 1 or features % heads or sketch < 0:
            raise SuffuseError(
                "features, heads, length and buckets are at least 1, features a multiple of heads, "
                f"and sketch at least 0; given {features}, {heads}, {length}, {buckets}, {sketch}"
            )
        self.names = tuple(condition.names)
        self.rows = {word: row for row, word in enumerate(self.names)}
        self.length, self.buckets, self.sketch, self.tokens = length, buckets, sketch, tokens
        self.embedding = nn.Embedding(len(self.names) or buckets, features)
        self.layer = nn.TransformerEncoderLayer(
            features, heads, 2 * features, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.linear_0 = nn.Linear(features, 2 * features)
        self.linear_1 = nn.Linear(2 * features, width)
        self.nothing = nn.Parameter(torch.randn(width))
        if sketch:
            shape = encoder.shape
            if not isinstance(shape, tuple) or len(shape) != 3:
                raise SuffuseError(f"a sketch is for states [C, H, W], and these are {shape}")
            self.size = shape[1:]
            self.coarse = tuple(-(-n // 4) for n in self.size)
            self.draw = nn.Linear(2 * features, sketch * self.coarse[0] * self.coarse[1])

    def prepare(self, values: Sequence[Any]) -> Tensor:
        """[n, length, 2] float32: the row of each word and its weight; weight 0 is padding.

        The words of the k-th of several prompts that are mixed have k times the number of rows
        added to theirs.

        Raises:
            SuffuseError: for a prompt that is no text, or has no word that the model knows.
        """
        out = torch.zeros(len(values), self.length, 2)
        for i, value in enumerate(values):
            if value is None:
                continue
            found = self._known(value)
            for j, (row, weight) in enumerate(found):
                out[i, j, 0], out[i, j, 1] = row, weight
        return out

    def forward(self, prepared: Tensor) -> dict[str, Tensor]:
        """The slot "vector" [n, width], and those that were asked for.

        These are "concat" [n, sketch, H, W], and "tokens" [n, length, features], each times its
        weight, with "token_mask" [n, length].
        """
        told, weights = prepared[..., 0].long(), prepared[..., 1]
        rows, part = told % self.embedding.num_embeddings, told // self.embedding.num_embeddings
        real = weights != 0
        given = real.any(1)
        # A row that is given nothing attends to its padding: what comes of it is not used.
        seen = (real | ~given[:, None])[:, None, :] & (part[:, :, None] == part[:, None, :])
        hidden = ~seen.repeat_interleave(self.layer.self_attn.num_heads, 0)
        h = self.layer(self.embedding(rows), src_mask=hidden)
        weights = weights.to(h.dtype)
        h = h * weights[..., None]
        pooled = h.sum(1) / real.sum(1, keepdim=True).clamp(min=1)
        pooled = silu(self.linear_0(pooled))
        vector = self.linear_1(pooled)
        slots = {"vector": torch.where(given[:, None], vector, self.nothing.to(vector.dtype))}
        if self.tokens:
            slots |= {"tokens": h, "token_mask": real}
        if self.sketch:
            drawn = self.draw(pooled).reshape(len(rows), self.sketch, *self.coarse)
            drawn = torch.where(given[:, None, None, None], drawn, 0)
            slots["concat"] = interpolate(drawn, size=self.size, mode="nearest")
        return slots

    def without(self, prompt: str | None, negative: str) -> tuple[str | None, str | None]:
        """The prompt without the colours of a negative one; and what else that says, or None.

        Led away from "red" as a whole, a strawberry stays red: that goes away from things that are
        red and no strawberries. But "(red:-1) strawberry" lies beyond a strawberry on the way from
        a red one, and is green or yellow. A colour that the prompt names stays. Other words say
        what a thing is: a thing less another is none, and guidance leads away from them.

        Raises:
            SuffuseError: for a negative prompt that is no text, or has no word that is known.
        """
        self._known(negative)
        parts = mixed(prompt) if isinstance(prompt, str) else []
        named = {word.text for text, _ in parts for word in parse(text)}
        told = [word for text, _ in mixed(negative) for word in parse(text)]
        away = "".join(
            f"({w.text}:{-w.weight:g}) " for w in told if w.text in COLOURS and w.text not in named
        )
        rest = " ".join(f"({w.text}:{w.weight:g})" for w in told if w.text not in COLOURS) or None
        kept = sorted({w.text for w in told if w.text in COLOURS and w.text in named})
        if kept:
            logger.warning("the prompt %r itself asks for %s: it stays", prompt, ", ".join(kept))
        if not away:
            return prompt, rest
        if len(parts) < 2:
            return away + (prompt or ""), rest
        return " ".join(f"{away}{text}::{share:g}" for text, share in parts), rest

    def null(self, n: int, device: torch.device | str | None = None) -> Tensor:
        """What `prepare` makes of n values that are not given."""
        return torch.zeros(n, self.length, 2, device=device)

    def _known(self, prompt: Any) -> list[tuple[int, float]]:
        if not isinstance(prompt, str):
            raise SuffuseError(f"a prompt is text, and {prompt!r} is none")
        several = [
            (share, [word for word in parse(text) if word.weight]) for text, share in mixed(prompt)
        ]
        found = [word for _, part in several for word in part]
        shown = prompt if len(prompt) <= 60 else f"{prompt[:60]}..."
        if not found and prompt.strip():
            logger.warning("%r has no words that count: it is as no prompt", shown)
        if self.names:
            unknown = sorted({word.text for word in found if word.text not in self.rows})
            known = [word for word in found if word.text in self.rows]
            if found and not known:
                raise SuffuseError(
                    f"the model knows no word of the prompt {shown!r}{self._near(unknown)}"
                )
            if unknown:
                names = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
                logger.warning("the model does not know %s; left out of %r", names, shown)
            several = [(s, [w for w in part if w.text in self.rows]) for s, part in several]
            found = known
        if len(found) > self.length:
            logger.warning("only the first %d words of %r are used", self.length, shown)
        return self._rows([(share, part) for share, part in several if part])

    def _rows(self, several: Sequence[tuple[float, Sequence[Word]]]) -> list[tuple[int, float]]:
        """Rows and weights, by which the mean over all words is that of the parts by shares."""
        left = self.length
        kept: list[tuple[float, Sequence[Word]]] = []
        for share, part in several:
            if part[:left]:
                kept.append((share, part[:left]))
            left -= len(part[:left])
        total, size = sum(len(part) for _, part in kept), self.embedding.num_embeddings
        return [
            (k * size + self._row(word.text), word.weight * share * total / len(part))
            for k, (share, part) in enumerate(kept)
            for word in part
        ]

    def _row(self, word: str) -> int:
        return self.rows[word] if self.names else zlib.crc32(word.encode()) % self.buckets

    def _near(self, unknown: Sequence[str]) -> str:
        near = [n for word in unknown for n in difflib.get_close_matches(word, self.names, 1, 0.6)]
        if near:
            return f"; did you mean {near[0]!r}?"
        letters = [name for name in self.names if name.isalpha()] or list(self.names)
        some = letters[:: -(-len(letters) // 8)]
        return f"; it knows {len(self.names)}, for instance {', '.join(some)}"
