r"""Surprisal by masked diffusion: how little the other columns let one expect of a value.

Each column is a token: of a category its value, of a number or a date one of 16 bins of equally
many training rows, with a token beyond either end; unseen values and gaps have tokens of their own.
A network learns, under the absorbing kernel of `suffuse.diffusion.categorical`, to tell hidden
tokens from those that are left. A row is scored at several shares of hidden tokens: at the share
1/m its columns are dealt into m groups, each of which is hidden once, and the score is

    Σ_j −log p(x_j | the columns outside of the group of j)

averaged over some ways to deal. The mean over all shares would be the bound on −log p(x) that the
network was trained on; at the share of one column it is the pseudo-likelihood. What a column adds
is what its own surprisal has above the mean of training rows.

Sources: Sahoo et al., "Simple and effective masked diffusion language models" (2024),
arXiv 2406.07524; for scores by hidden columns: Besag, "Statistical analysis of non-lattice data"
(1975).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from suffuse.diffusion import schedules
from suffuse.diffusion.categorical import NEVER, categorical
from suffuse_anomaly.blocks import by_block
from suffuse_anomaly.member import Floats, Member, Rows, even
from suffuse_anomaly.table import Table

__all__ = ["Surprisal"]

BINS = 16
WIDTH, BATCH, RATE = 128, 256, 2e-3
DEALS = {2: 4, 4: 2, 8: 1}
"""Numbers of groups, and how many ways to deal the columns into so many."""
SINGLES = 32
"""With at most so many columns each is also hidden by itself."""


class Surprisal(Member):
    """The score, with a trained network.

    Attributes:
        table: of the columns.
        edges: of the bins of numbers, [C, BINS + 1]; NaN for categories.
        network: from tokens [B, C] to logits [B, C, K].
        usual: the mean surprisal of training rows at each level, [L, C].
    """

    def __init__(self, table: Table, edges: Floats, network: _Network, usual: Floats) -> None:
        self.table, self.edges, self.network, self.usual = table, edges, network, usual

    @classmethod
    def fit(
        cls,
        name: str,
        rows: Rows,
        table: Table,
        *,
        seed: int,
        steps: int,
        k: int,
        start: Any = None,
    ) -> Self:
        edges = np.full((len(table.columns), BINS + 1), np.nan)
        for j, column in enumerate(table.columns):
            if column.kind != "category":
                known = rows[~_gaps(rows, table, j), table.first[j]]
                known = known if len(known) else np.zeros(1)
                edges[j] = np.quantile(known, np.linspace(0, 1, BINS + 1))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = _Network(_sizes(table))
        if start is not None:
            edges = start.edges
            network.load_state_dict(start.network.state_dict())
        found = cls(table, edges, network, np.zeros((1, 1)))
        x = found.tokens(rows)
        process = categorical(schedules.flow(), network.states, weighting="elbo")
        optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.01)
        rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
        batch = min(BATCH, max(32, len(x)))
        generator = torch.Generator().manual_seed(seed)
        for _ in range(steps):
            chosen = torch.randint(len(x), (batch,), generator=generator)
            u = (torch.arange(batch) + torch.rand(1, generator=generator)) / batch
            noise = torch.rand(batch, x.shape[1], generator=generator, dtype=torch.float64)
            loss = process.loss(network, x[chosen], process.levels(u.clamp(0.02, 1 - 1e-4)), noise)
            optimizer.zero_grad(set_to_none=True)
            loss.mean().backward()
            optimizer.step()
            rate.step()
        network.eval()
        found.usual = found.elements(rows).mean(0)
        return found

    @classmethod
    def load(cls, name: str, tensors: Mapping[str, Tensor], table: Table) -> Self:
        with torch.random.fork_rng(devices=[]):
            network = _Network(_sizes(table))
        network.load_state_dict({k[8:]: v for k, v in tensors.items() if k.startswith("network.")})
        edges, usual = tensors["edges"].numpy(), tensors["usual"].numpy()
        return cls(table, edges, network.eval(), usual)

    def tensors(self) -> dict[str, Any]:
        kept: dict[str, Any] = {"edges": self.edges, "usual": self.usual}
        return kept | {f"network.{k}": v for k, v in self.network.state_dict().items()}

    def tokens(self, rows: Rows) -> Tensor:
        """Encoded rows [N, D] as tokens, int64 [N, C]."""
        found = np.empty((len(rows), len(self.table.columns)), np.int64)
        for j, column in enumerate(self.table.columns):
            start = self.table.first[j]
            if column.kind == "category":
                found[:, j] = rows[:, start : start + len(column.values) + 1].argmax(1)
                last = len(column.values) + 1
            else:
                edges, values = self.edges[j], rows[:, start].astype(np.float64)
                inside = 1 + np.searchsorted(edges[1:-1], values, "right")
                found[:, j] = np.where(
                    values < edges[0], 0, np.where(values > edges[-1], BINS + 1, inside)
                )
                last = BINS + 2
            found[_gaps(rows, self.table, j), j] = last
        return torch.from_numpy(found)

    def _deals(self) -> list[list[npt.NDArray[np.intp]]]:
        """For each level the groups of columns that are hidden together, of all its deals."""
        columns, rng = len(self.table.columns), np.random.default_rng(0)
        levels = {min(m, columns): n for m, n in DEALS.items()}
        if columns <= SINGLES:
            levels[columns] = 1
        return [
            [g for _ in range(n) for g in np.array_split(rng.permutation(columns), m)]
            for m, n in sorted(levels.items())
        ]

    def elements(self, rows: Rows) -> Floats:
        """The surprisal of each column at each level, in nats, [N, L, C]."""
        deals, mask = self._deals(), self.network.states

        def surprisals(x: Tensor) -> Tensor:
            levels = []
            for groups in deals:
                total = torch.zeros(x.shape)
                for group in groups:
                    hidden = x.clone()
                    hidden[:, group] = mask
                    log_p = self.network.columns(hidden, group).log_softmax(-1)
                    total[:, group] -= log_p.gather(2, x[:, group, None])[..., 0]
                levels.append(total * (x.shape[1] / sum(len(group) for group in groups)))
            return torch.stack(levels, 1)

        with torch.no_grad():
            return by_block(surprisals, self.tokens(rows)).double().numpy()

    def raw(self, rows: Rows) -> Floats:
        return self.elements(rows).mean(2)

    def shares(self, rows: Rows) -> Floats:
        excess = even(np.maximum(self.elements(rows) - self.usual, 0))
        found = np.zeros((*excess.shape[:2], rows.shape[1]))
        found[:, :, self.table.first] = excess
        return found


class _Network(nn.Module):
    """Tokens [B, C], with K for hidden, to logits [B, C, K]; column j has sizes[j] tokens.

    It needs no level: that is the share of hidden tokens, which it sees.
    """

    never: Tensor

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.states = max(*sizes, 2)
        self.embedding = nn.Embedding(len(sizes) * (self.states + 1), WIDTH)
        nn.init.normal_(self.embedding.weight, std=len(sizes) ** -0.5)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH)
            )
            for _ in range(2)
        )
        self.norm = nn.LayerNorm(WIDTH)
        self.weight = nn.Parameter(torch.zeros(len(sizes), self.states, WIDTH))
        self.bias = nn.Parameter(torch.zeros(len(sizes), self.states))
        never = torch.arange(self.states) >= torch.tensor(sizes)[:, None]
        self.register_buffer("never", NEVER * never, persistent=False)

    def _features(self, x: Tensor) -> Tensor:
        start = (self.states + 1) * torch.arange(x.shape[1])
        h: Tensor = self.embedding(x + start).sum(1)
        for block in self.blocks:
            h = h + block(h)
        return silu(self.norm(h))

    def columns(self, x: Tensor, chosen: Any) -> Tensor:
        """The logits of some columns, [B, len(chosen), K]."""
        weight = self.weight[chosen]
        flat = self._features(x) @ weight.flatten(0, 1).T
        return flat.reshape(len(x), *weight.shape[:2]) + self.bias[chosen] + self.never[chosen]

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        return self.columns(x, slice(None))


def _sizes(table: Table) -> list[int]:
    """How many tokens each column has; the last is for gaps."""
    return [len(c.values) + 2 if c.kind == "category" else BINS + 3 for c in table.columns]


def _gaps(rows: Rows, table: Table, j: int) -> npt.NDArray[np.bool_]:
    """Where the column j is missing in encoded rows."""
    column, start = table.columns[j], table.first[j]
    if column.gaps:
        return np.asarray(rows[:, start + column.size - 1] > 0)
    if column.kind == "category":
        return np.asarray(rows[:, start : start + column.size].max(1) == 0)
    return np.zeros(len(rows), bool)
