"""A language model of SMILES: the baseline that generative models of molecules are held to.

Characters are told one after the other by an LSTM of two layers, trained by cross-entropy (Segler,
Kogej, Tyrchan, Waller, "Generating focused molecule libraries for drug discovery with recurrent
neural networks" (2018), doi 10.1021/acscentsci.7b00512; MOSES's CharRNN has three layers). It is
no diffusion model and is there for benchmarks alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from suffuse.errors import SuffuseError

__all__ = ["SmilesLSTM", "train"]

_END = 0
"""Before the first character and after the last."""


class SmilesLSTM(nn.Module):
    """The distribution of the next character.

    Args:
        characters: of the training data.
        width: of the characters' vectors and of both layers.
    """

    def __init__(self, characters: Sequence[str], width: int = 256) -> None:
        super().__init__()
        self.characters = tuple(characters)
        self.embedding = nn.Embedding(len(self.characters) + 1, width)
        self.lstm = nn.LSTM(width, width, 2, batch_first=True)
        self.out = nn.Linear(width, len(self.characters) + 1)

    def forward(self, tokens: Tensor, state: object = None) -> tuple[Tensor, object]:
        """Logits [B, L, characters + 1] after each of the tokens [B, L], and the state to go on."""
        hidden, state = self.lstm(self.embedding(tokens), state)
        return self.out(hidden), state

    def loss(self, tokens: Tensor) -> Tensor:
        """Mean negative log-likelihood of a character, in nats; tokens [B, L] as of `encode`."""
        logits, _ = self(tokens[:, :-1])
        after = tokens[:, 1:]
        # the first end is told, and nothing after it
        counted = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], 1) != _END
        return nn.functional.cross_entropy(logits[counted].float(), after[counted])

    def encode(self, smiles: Sequence[str]) -> Tensor:
        """Tokens [B, L]: an end, the characters, and ends up to the length of all."""
        place = {character: k + 1 for k, character in enumerate(self.characters)}
        out = np.full((len(smiles), max(map(len, smiles)) + 2), _END, dtype=np.uint8)
        for row, text in enumerate(smiles):
            out[row, 1 : len(text) + 1] = [place[character] for character in text]
        return torch.from_numpy(out)

    @torch.no_grad()
    def sample(self, n: int, longest: int, seed: int = 0) -> list[str]:
        """n texts of at most `longest` characters, drawn at the temperature 1."""
        source = torch.Generator().manual_seed(seed)
        tokens, state = torch.full((n, 1), _END), None
        drawn = []
        for _ in range(longest):
            logits, state = self(tokens, state)
            tokens = torch.multinomial(logits[:, -1].softmax(-1), 1, generator=source)
            drawn.append(tokens)
        rows = torch.cat(drawn, 1).tolist()
        texts = [row[: row.index(_END)] if _END in row else row for row in rows]
        return ["".join(self.characters[token - 1] for token in row) for row in texts]


def train(
    smiles: Sequence[str],
    seconds: float,
    *,
    width: int = 256,
    batch: int = 64,
    rate: float = 2e-3,
    seed: int = 0,
) -> tuple[SmilesLSTM, int]:
    """A model of these SMILES after so many seconds of the processors, and its steps.

    Adam, in bf16; the rate rises over the first hundredth of the time and falls to 0 along a
    cosine.

    Raises:
        SuffuseError: for no SMILES, more than 255 characters, or no time.
    """
    characters = sorted(set("".join(smiles)))
    if not characters or len(characters) > 255 or not seconds > 0:
        raise SuffuseError(
            f"a language model needs SMILES of at most 255 characters and seconds above 0; given "
            f"{len(smiles)} SMILES of {len(characters)} characters and {seconds} s"
        )
    torch.manual_seed(seed)
    model = SmilesLSTM(characters, width)
    tokens = model.encode(smiles)
    lengths = (tokens != _END).sum(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    source = np.random.default_rng(seed)
    order: list[int] = []
    begin, step = time.process_time(), 0
    while (spent := (time.process_time() - begin) / seconds) < 1:
        if not order:
            order = source.permutation(len(tokens)).tolist()
        rows, order = order[:batch], order[batch:]
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, 100 * spent + 0.01) * 0.5 * (1 + np.cos(np.pi * spent))
        several = tokens[rows, : int(lengths[rows].max()) + 2].long()
        with torch.autocast("cpu", torch.bfloat16):
            loss = model.loss(several)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
    return model.eval(), step
