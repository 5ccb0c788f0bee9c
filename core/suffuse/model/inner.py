r"""What a model's network holds inside, read and moved: probes, directions, sliders, maps.

The bottleneck of a U-Net is a space in which a shift changes what a sample means and leaves the
rest (Kwon, Jeong, Uh, "Diffusion models already have a semantic latent space" (2022), arXiv
2210.10960, whose name for it is h-space); the middle block of a transformer serves alike. A reading
is the mean of its features over all positions, at a time t, of objects that are noised to it.

    direction = learn(model, objects, wanted)            # wanted: one truth value an object
    with moved(model, direction, 1.5):
        model.sample(8, seed=0)                          # with more of what was wanted

For objects with and without an attribute the direction at t is the difference of their mean
features, position by position, so that an empty border stays empty; moved by `amount` times it,
samples get the attribute, or by less than 0 lose it.
Whether the attribute can be read off at all is told by a linear probe, regularised least squares,
on objects that it was not fitted to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from suffuse import stats
from suffuse.diffusion import Noise
from suffuse.diffusion.noise import Stream
from suffuse.diffusion.process import network_level
from suffuse.errors import SuffuseError
from suffuse.model.making import Making
from suffuse.model.rows import batches, repeated
from suffuse.nn.dit import TransformerBlock

__all__ = ["TIMES", "Direction", "learn", "learn_apart", "middle", "moved", "principal", "read"]

TIMES = (0.25, 0.4, 0.55, 0.7, 0.85)
"""Where readings are taken; in between, and beyond, the nearest counts."""

FOLDS, RIDGE, BATCH = 5, 1.0, 64


@dataclass(frozen=True)
class Direction:
    """A way to move, learned by `learn`.

    Attributes:
        layer: the dotted name of the module of the network.
        levels: c_noise of the times, [T].
        shifts: the differences of mean features, [T, ...] of the shape that the layer gives.
        accuracy: of the linear probe at the best time, on objects that it was not fitted to, with
            the interval of 95 %: value, low, high.
    """

    layer: str
    levels: Tensor
    shifts: Tensor
    accuracy: tuple[float, float, float]


def middle(model: Making) -> str:
    """The layer that is read unless told otherwise.

    That is the last of a U-Net's middle blocks, and of a transformer the block behind two thirds of
    them, where directions flipped more and spilled less than in its middle (docs/images.md).

    Raises:
        SuffuseError: for a network with neither a `middle` nor `blocks`.
    """
    backbone: Any = model.network.backbone
    if hasattr(backbone, "middle"):
        return f"backbone.middle.{len(backbone.middle) - 1}"
    if hasattr(backbone, "blocks"):
        return f"backbone.blocks.{2 * len(backbone.blocks) // 3}"
    names = [name for name, _ in model.network.named_children()]
    raise SuffuseError(
        f"this network has no middle block: name a layer of its own, within {', '.join(names)}"
    )


def read(
    model: Making,
    objects: Sequence[Any],
    t: float = 0.55,
    *,
    layer: str | None = None,
    seed: int = 0,
    **conditions: Any,
) -> Tensor:
    """Readings [N, D], float32, of raw objects that are noised to the time t.

    Args:
        model: whose states are tensors.
        objects: as the model's encoder takes them.
        t: in (0, 1).
        layer: a module of the network; `middle` where None.
        seed: of the noise.
        conditions: raw values by name, one for all objects or a list; not given where missing.
    """
    name = layer or middle(model)
    h = _features(model, objects, t, name, seed, conditions)
    return _mean(_module(model, name), h).float()


def _features(
    model: Making,
    objects: Sequence[Any],
    t: float,
    layer: str,
    seed: int,
    conditions: dict[str, Any],
) -> Tensor:
    """What a layer gives for objects that are noised to t, [N, ...]."""
    if not 0 < t < 1 or not isinstance(model.shape, tuple):
        raise SuffuseError(f"readings are of states that are tensors, at t in (0, 1); given t {t}")
    n = len(objects)
    found: list[Tensor] = []
    prepared = model.prepare({k: repeated(k, v, n) for k, v in conditions.items()}, n)
    noise = Noise(seed, n, device=model.device)
    denoise = model.denoiser(1.0)
    with torch.inference_mode(), _hooked(model, layer, found.append):
        for part in batches(n, BATCH):
            x_0 = model.encode(objects[part])
            times = torch.full((len(x_0),), t, dtype=torch.float64, device=model.device)
            drawn = model.process.noise(noise[part], x_0, step=0, stream=Stream.CORRUPT)
            x_t = model.process.corrupt(x_0, times, drawn)
            denoise(x_t, times, **{key: value[part] for key, value in prepared.items()})
    return torch.cat([h.cpu() for h in found])


def learn(
    model: Making,
    objects: Sequence[Any],
    wanted: Sequence[bool],
    *,
    layer: str | None = None,
    times: Sequence[float] = TIMES,
    apart: Sequence[Sequence[float]] = (),
    seed: int = 0,
    **conditions: Any,
) -> Direction:
    """The direction from objects without an attribute to those with it.

    Args:
        wanted: whether each object has the attribute; ten at least have it, and ten have not.
        apart: other attributes, each a number or truth value an object, that should stay: the
            direction is then the attribute's part in a linear fit of the readings by all of them.
        model, objects, layer, seed, conditions: as for `read`. Conditions that go together with the
            attribute should be given, so that the direction is not theirs.
        times: at which readings are taken.

    Raises:
        SuffuseError: for too few objects of a kind, or another number of truth values.
    """
    truth = torch.as_tensor([bool(value) for value in wanted])
    if len(truth) != len(objects) or min(int(truth.sum()), int((~truth).sum())) < 10:
        raise SuffuseError(
            "a direction is learned from ten objects or more with an attribute, and ten without: "
            f"given {len(objects)} objects, {int(truth.sum())} with it of {len(truth)}"
        )
    name = layer or middle(model)
    fitted = torch.linalg.pinv(_table(truth, apart))[-1].float()
    shifts, right = [], []
    for t in times:
        h = _features(model, objects, t, name, seed, conditions)
        shifts.append(torch.tensordot(fitted, h.float(), 1))
        right.append(_probed(_mean(_module(model, name), h).float(), truth, seed))
    best = stats.proportion(max(right), len(truth))
    at = torch.tensor(times, dtype=torch.float64)
    levels = network_level(model.schedule.at(at).lam).float()
    accuracy = (best.value, best.low, best.high)
    return Direction(name, levels, torch.stack(shifts), accuracy)


def learn_apart(
    model: Making, objects: Sequence[Any], values: Sequence[Sequence[float]], **settings: Any
) -> list[Direction]:
    """A direction for each of several attributes, towards more than the median of it.

    Each is kept apart from the other attributes, which are given to `learn` in their deviations.

    Args:
        values: of each attribute a number an object.
        model, objects, settings: as for `learn`.
    """
    table = [torch.as_tensor(column, dtype=torch.float64) for column in values]
    standard = [((x - x.mean()) / x.std(correction=0)).tolist() for x in table]
    return [
        learn(
            model,
            objects,
            (x > x.quantile(0.5)).tolist(),
            apart=standard[:k] + standard[k + 1 :],
            **settings,
        )
        for k, x in enumerate(table)
    ]


@contextmanager
def moved(model: Making, direction: Direction, amount: float | Tensor) -> Iterator[None]:
    """Within the block, the model's readings are moved by `amount` times the direction.

    An amount for each sample, [n], is for batches of n.
    """
    shifts = direction.shifts.to(model.device)
    levels = direction.levels.to(model.device)
    module = _module(model, direction.layer)
    now: list[Tensor] = []

    def note(_: nn.Module, args: tuple[Any, ...]) -> None:
        now[:] = [args[1]]

    def shift(_: nn.Module, args: Any, h: Tensor) -> Tensor:
        nearest = (now[0].float()[:, None] - levels).abs().argmin(1)
        by = amount
        if isinstance(by, Tensor):  # guidance asks for several estimates of the batch at once
            by = by.to(h).repeat(len(h) // len(by)).reshape(-1, *[1] * (h.ndim - 1))
        return h + by * shifts[nearest].to(h)

    handles = [
        model.network.backbone.register_forward_pre_hook(note),
        module.register_forward_hook(shift),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def principal(h: Tensor, k: int = 2) -> tuple[Tensor, Tensor]:
    """The k principal components of readings [N, D], for a map: [N, k], and their shares [k]."""
    if not 1 <= k <= min(h.shape):
        raise SuffuseError(f"{min(h.shape)} components at most can be told apart here, not {k}")
    centred = (h - h.mean(0)).double()
    u, s, _ = torch.linalg.svd(centred, full_matrices=False)
    return (u[:, :k] * s[:k]).float(), (s**2 / (s**2).sum())[:k].float()


def _module(model: Making, name: str) -> nn.Module:
    try:
        return model.network.get_submodule(name)
    except AttributeError:
        raise SuffuseError(f"the network has no layer {name!r}; it has {middle(model)!r}") from None


@contextmanager
def _hooked(model: Making, name: str, take: Any) -> Iterator[None]:
    handle = _module(model, name).register_forward_hook(lambda _, args, h: take(h))
    try:
        yield
    finally:
        handle.remove()


def _mean(module: nn.Module, h: Tensor) -> Tensor:
    """The mean over positions: of tokens [B, N, D] or of maps [B, D, *size]."""
    if isinstance(module, TransformerBlock):
        return h.mean(1)
    return h.flatten(2).mean(2) if h.ndim > 2 else h


def _table(truth: Tensor, apart: Sequence[Sequence[float]]) -> Tensor:
    """The columns that readings are fitted by: 1, the other attributes, the wanted one."""
    others = [torch.as_tensor([float(value) for value in column]) for column in apart]
    if any(len(column) != len(truth) for column in others):
        raise SuffuseError(
            f"each attribute that should stay has a value an object, {len(truth)}; given "
            f"{', '.join(str(len(column)) for column in others)}"
        )
    return torch.stack([torch.ones(len(truth)), *others, truth.float()], 1).double()


def _probed(h: Tensor, truth: Tensor, seed: int) -> int:
    """How many of the objects a probe gets right, each by one that was not fitted to it."""
    generator = torch.Generator().manual_seed(seed)
    fold = torch.randperm(len(h), generator=generator) % FOLDS
    x = torch.cat([(h - h.mean(0)) / h.std(0).clamp(min=1e-6), torch.ones(len(h), 1)], 1).double()
    y = torch.where(truth, 1.0, -1.0).double()
    right = 0
    for k in range(FOLDS):
        a, b = x[fold != k], y[fold != k]
        ridge = RIDGE * len(a) * torch.eye(a.shape[1], dtype=a.dtype)
        weights = torch.linalg.solve(a.T @ a + ridge, a.T @ b)
        right += int(((x[fold == k] @ weights > 0) == truth[fold == k]).sum())
    return right
