"""Models whose states are several parts, ragged, or tokens, and those that are given a state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from suffuse import plugins
from suffuse.diffusion import Noise
from suffuse.diffusion import categorical as tokens
from suffuse.diffusion.bridge import Bridge
from suffuse.diffusion.noise import Stream
from suffuse.diffusion.process import gaussian
from suffuse.diffusion.product import Product
from suffuse.errors import SuffuseError
from suffuse.model import Model, load
from suffuse.plugins import hookimpl
from suffuse.plugins.contracts import Condition, Example
from suffuse.recipe import Recipe
from suffuse.training import train

LONGEST = 6
LETTERS = 4
LENGTHS = {2: 0.25, 3: 0.5, 6: 0.25}

Chain = list[tuple[int, float]]
"""Letters, each with a weight: the letter itself, standardised and a little off."""


class Chains:
    """Chains of one letter alone, of lengths 2, 3 and 6."""

    conditions: Mapping[str, Condition] = {}

    def __init__(self, split: str) -> None:
        del split
        rng = np.random.default_rng(0)
        sizes = rng.choice([*LENGTHS], size=256, p=[*LENGTHS.values()])
        letters = rng.integers(LETTERS, size=256)
        self.rows = [
            [(int(k), float(k - 1.5 + rng.normal(0, 0.05))) for _ in range(n)]
            for k, n in zip(letters, sizes, strict=True)
        ]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Example:
        return Example(self.rows[index])


class ChainEncoder:
    shape = {"letters": (LONGEST,), "weights": (LONGEST,)}  # noqa: RUF012
    categories = LETTERS

    def __init__(self, *, lengths: tuple[float, ...] = ()) -> None:
        self.lengths = torch.tensor(lengths, dtype=torch.float64)

    def fit(self, dataset: Any) -> Mapping[str, Any]:
        count = np.bincount(
            [len(dataset[i].data) for i in range(len(dataset))], minlength=LONGEST + 1
        )
        return {"lengths": (count / count.sum()).tolist()}

    def sizes(self, objects: Sequence[Chain]) -> Tensor:
        return torch.tensor([len(chain) for chain in objects])

    def mask(self, sizes: Tensor) -> dict[str, Tensor]:
        own = torch.arange(LONGEST, device=sizes.device) < sizes[:, None]
        return {"letters": own, "weights": own}

    def draw_sizes(self, noise: Noise) -> Tensor:
        u = noise.uniform((1,), step=0, stream=Stream.LEVEL)
        return torch.searchsorted(self.lengths.cumsum(0), u[:, 0].contiguous())

    def encode(self, objects: Sequence[Chain]) -> dict[str, Tensor]:
        letters = torch.zeros(len(objects), LONGEST, dtype=torch.int64)
        weights = torch.zeros(len(objects), LONGEST)
        for i, chain in enumerate(objects):
            for j, (letter, weight) in enumerate(chain):
                letters[i, j], weights[i, j] = letter, weight
        return {"letters": letters, "weights": weights}

    def decode(self, x: dict[str, Tensor], sizes: Tensor) -> list[Chain]:
        return [
            [(int(x["letters"][i, j]), float(x["weights"][i, j])) for j in range(n)]
            for i, n in enumerate(sizes.tolist())
        ]


class ChainNetwork(nn.Module):
    def __init__(self, shape: Any, encoder: ChainEncoder, *, width: int = 64) -> None:
        super().__init__()
        self.width, self.letters = width, encoder.categories
        n = LONGEST * (LETTERS + 3)
        self.layers = nn.Sequential(
            nn.Linear(n + 2, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )
        self.leave = nn.Linear(width, LONGEST * (LETTERS + 1))

    def forward(self, x: Any, level: Any, mask: Any = None) -> dict[str, Tensor]:
        own = mask["letters"]
        parts = [
            one_hot(x["letters"], LETTERS + 1).float().flatten(1) * own.repeat_interleave(5, 1),
            x["weights"],
            own.float(),
            torch.stack([level["letters"], level["weights"]], 1).float(),
        ]
        h = self.leave(self.layers(torch.cat(parts, 1))).unflatten(1, (LONGEST, -1))
        return {"letters": h[..., :-1], "weights": h[..., -1]}


def chain_process(schedule: Any, encoder: ChainEncoder) -> Product:
    letters = tokens.categorical(schedule, encoder.categories)
    return Product({"letters": (letters, 1.0), "weights": (gaussian(schedule), 1.0)})


class Pairs:
    """Points, with where they were before they were moved by (1, −2)."""

    conditions: Mapping[str, Condition] = {"before": Condition("state")}

    def __init__(self, split: str) -> None:
        rng = np.random.default_rng(split == "test")
        self.points = rng.normal(size=(256, 2)).astype(np.float32)

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: int) -> Example:
        before = self.points[index] - np.float32([1, -2])
        return Example(self.points[index], {"before": before})


class Plain:
    shape = (2,)

    def fit(self, dataset: Any) -> Mapping[str, Any]:
        return {}

    def encode(self, objects: Sequence[Any]) -> Tensor:
        return torch.from_numpy(np.stack(objects)).float()

    def decode(self, x: Tensor) -> list[Any]:
        return list(x.numpy())


class Beside(nn.Module):
    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.width = 8
        self.layers = nn.Sequential(nn.Linear(5, 32), nn.SiLU(), nn.Linear(32, 2))

    def forward(self, x: Tensor, level: Tensor, concat: Tensor) -> Tensor:
        out: Tensor = self.layers(torch.cat([x, concat, level[:, None].float()], 1))
        return out


class Nothing:
    suffixes = (".txt",)

    def sheet(self, objects: Any, captions: Any = None, columns: int = 0) -> bytes:
        return b""


def _plugin() -> Any:
    @hookimpl
    def register_datasets(register: Any) -> None:
        register("mixed/chains", Chains)
        register("mixed/pairs", Pairs)

    @hookimpl
    def register_encoders(register: Any) -> None:
        register("mixed/chain", ChainEncoder)
        register("mixed/plain", Plain)

    @hookimpl
    def register_denoisers(register: Any) -> None:
        register("mixed/chain", ChainNetwork)
        register("mixed/beside", Beside)

    @hookimpl
    def register_processes(register: Any) -> None:
        register("mixed/chain", chain_process)
        register("mixed/bridge", _bridge)

    @hookimpl
    def register_renderers(register: Any) -> None:
        register("mixed/nothing", Nothing)

    module = ModuleType("mixed_plugin")
    module.__dict__.update(locals(), suffuse_api=1)
    return module


def _bridge(schedule: Any) -> Bridge:
    return Bridge(schedule, "before")


@pytest.fixture(autouse=True)
def mixed(core_alone: plugins.Manager) -> Iterator[None]:
    manager = plugins.Manager([plugins.Candidate("mixed", _plugin, version="1.0")])
    assert [status.message for status in manager.statuses] == [""]
    with plugins.using(manager):
        yield


def chains(**training: Any) -> Recipe:
    return Recipe(
        renderer={"name": "mixed/nothing"},
        dataset={"name": "mixed/chains"},
        encoder={"name": "mixed/chain"},
        process={"name": "mixed/chain"},
        denoiser={"name": "mixed/chain"},
        sampling={
            "solver": {"letters": {"name": "ancestral"}, "weights": {"name": "ddpm"}},
            "steps": 16,
        },
        training={"sample_every": 0, "checkpoint_every": 0, **training},
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("chains") / "run"
    with plugins.using(plugins.Manager([plugins.Candidate("mixed", _plugin, version="1.0")])):
        train(chains(steps=600, batch=64, learning_rate=3e-3), run, progress=False)
    return run


def test_a_product_of_ragged_tokens_and_numbers_is_learned(trained: Path) -> None:
    made: list[Chain] = load(trained).sample(400, seed=3)
    sizes = np.array([len(chain) for chain in made])
    for n, share in LENGTHS.items():  # five deviations of a share of 400
        assert abs((sizes == n).mean() - share) < 5 * np.sqrt(share * (1 - share) / 400) + 0.05
    one = np.mean([len({letter for letter, _ in chain}) == 1 for chain in made])
    assert one > 0.8  # by chance: under 0.15
    off = np.concatenate([[w - (k - 1.5) for k, w in chain] for chain in made])
    assert np.median(np.abs(off)) < 0.4  # by chance: 1.25


def test_a_sample_does_not_depend_on_its_batch(trained: Path) -> None:
    model = load(trained)
    whole = model.sample(6, seed=5, batch=6)
    for one, other in zip(whole, model.sample(6, seed=5, batch=4), strict=True):
        assert [k for k, _ in one] == [k for k, _ in other]
        np.testing.assert_allclose([w for _, w in one], [w for _, w in other], atol=1e-5)
    assert [len(c) for c in model.sample(3, sizes=[2, 4, 6])] == [2, 4, 6]
    with pytest.raises(SuffuseError, match="one number for each"):
        model.sample(3, sizes=[2])


def test_what_is_beyond_a_ragged_state_changes_nothing(trained: Path) -> None:
    model = load(trained)
    x, mask = model.encode([[(1, -0.5)] * 3]), model.mask(torch.tensor([3]))
    other = {name: torch.where(mask[name], part, part + 1) for name, part in x.items()}
    noise = model.process.noise(Noise(0, 1), x, step=0, stream=Stream.CORRUPT)
    t = torch.full((1,), 0.5, dtype=torch.float64)
    with torch.no_grad():
        losses = [model.process.loss(model.network, y, t, noise, mask=mask) for y in (x, other)]
    assert losses[0] == losses[1]


def test_scores_of_states_that_are_no_numbers_are_refused(trained: Path) -> None:
    model = load(trained)
    with pytest.raises(SuffuseError, match="are for states of numbers"):
        model.score([[(1, 0.0)] * 3], reference=[[(0, 0.0)] * 2])


def test_variations_keep_the_size(trained: Path) -> None:
    chain = [(2, 0.5)] * 3
    varied = load(trained).vary([chain, chain], 0.3, seed=1)
    assert [len(c) for c in varied] == [3, 3]
    assert [k for k, _ in load(trained).vary([chain], 0.01)[0]] == [2, 2, 2]
    with pytest.raises(SuffuseError, match="strength"):
        load(trained).vary([chain], 0.0)


def test_a_run_of_mappings_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    train(chains(steps=12, batch=8, decay="constant"), tmp_path / "a", progress=False)
    train(chains(steps=5, batch=8, decay="constant"), tmp_path / "b", progress=False)
    train(chains(steps=12, batch=8, decay="constant"), tmp_path / "b", resume=True, progress=False)
    one, other = ((tmp_path / d / "model.safetensors").read_bytes() for d in "ab")
    assert one == other


@pytest.mark.parametrize(
    ("solver", "said"),
    [
        ({"letters": "ancestral", "weights": "ancestral"}, "ancestral"),
        ({"letters": "ancestral"}, "name"),
        ("ddpm", "ddpm"),
    ],
)
def test_solvers_that_do_not_fit_the_parts_are_refused(
    trained: Path, solver: Any, said: str
) -> None:
    with pytest.raises(SuffuseError, match=said):
        load(trained).sample(1, solver=solver)


def test_a_bridge_takes_its_start_from_a_condition(tmp_path: Path) -> None:
    recipe = Recipe(
        renderer={"name": "mixed/nothing"},
        dataset={"name": "mixed/pairs"},
        encoder={"name": "mixed/plain"},
        schedule={"name": "edm", "sigma_max": 1.0, "rho": 0.5},
        process={"name": "mixed/bridge"},
        denoiser={"name": "mixed/beside"},
        conditions={"before": {"name": "state"}},
        sampling={"solver": {"name": "bridge"}, "steps": 4, "guidance": 2.0},
        training={
            "steps": 400, "batch": 64, "learning_rate": 1e-2, "sample_every": 0,
            "condition_dropout": 0.5,
        },
    )  # fmt: skip
    train(recipe, tmp_path / "run", progress=False)
    model = load(tmp_path / "run")
    assert model.droppable == []
    start = np.float32([[0.3, 0.1], [-1.0, 1.0]])
    made = np.stack(model.sample(2, before=list(start)))
    np.testing.assert_allclose(made, start + np.float32([1, -2]), atol=0.15)


def test_an_encoder_whose_parts_are_others_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        ChainEncoder, "encode", lambda self, objects: {"letters": torch.zeros(len(objects), 6)}
    )
    with pytest.raises(SuffuseError, match=r"made \['x.letters'\]"):
        train(chains(steps=1), tmp_path / "run", progress=False)


def test_a_model_without_ragged_states_refuses_sizes() -> None:
    recipe = chains().model_copy(
        update={
            "encoder": {"name": "mixed/plain"},
            "process": {"name": "gaussian"},
            "dataset": {"name": "mixed/pairs"},
            "denoiser": {"name": "mixed/beside"},
            "sampling": Recipe.model_fields["sampling"].default,
            "conditions": {"before": {"name": "state"}},
        }
    )
    model = Model.untrained(recipe, Pairs("train"))
    with pytest.raises(SuffuseError, match="one size"):
        model.sample(2, sizes=[1, 2])
