"""Three libraries' own ways to train on small pictures, each brought to one form at the edge.

A trainer is a function (subject, pictures, seed, looks) -> a generator that trains for so many
core-seconds, and yields what it has spent on training so far and how to draw samples. Setting up
and drawing are no training. All learn without labels or words; each has its own defaults for what a
user would not set (rates, batches, precision, schedules of noise and of the rate, averaging), and a
network of the size that the subject says.

    suffuse                       the subject's recipe, without its conditions
    diffusers                     the loop of examples/unconditional_image_generation with its
                                  default arguments, UNet2DModel
    denoising-diffusion-pytorch   its Trainer with its default arguments, without mirroring, which
                                  digits do not bear, for all subjects; Unet and GaussianDiffusion

The other libraries' examples draw in 1,000 steps; here they draw by DDIM, each its own, in `CALLS`.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from suffuse import recipe as recipes
from suffuse import training
from suffuse.model import Model
from suffuse.recipe import Recipe
from suffuse.training import checkpoint

__all__ = ["DIGITS", "EMOJI", "TRAINERS", "Look", "Subject", "as_image", "as_tensor"]

CALLS = 50
"""Steps in which the other libraries' models are sampled."""


@dataclass(frozen=True)
class Subject:
    """What is to be learned, and by which networks.

    Attributes:
        name: in words.
        recipe: ours; its data set is what all are given.
        changes: to the recipe.
        features: of `image/kid`, on which pictures are compared.
        samples: that are judged, beside the test split.
        steps: of ours, after which its learning rate is 0; the last `checkpoints` of twenty are
            looked at.
        looks: shares of `limit` after which the other libraries' models are.
        level: of KID, at or below which pictures are good unless another is asked for.
        limit: core-seconds after which the other libraries are given up, unless others are.
        widths: of the levels of diffusers' UNet2DModel, with attention from level `attention` on.
        dim, multipliers: of denoising-diffusion-pytorch's Unet.
    """

    name: str
    recipe: str
    changes: Mapping[str, Any]
    features: str
    samples: int
    steps: int
    checkpoints: int
    looks: tuple[float, ...]
    level: float
    limit: float
    widths: tuple[int, ...]
    attention: int
    dim: int
    multipliers: tuple[int, ...]

    def asked(self, **training: Any) -> Recipe:
        """The recipe without conditions, with these settings of training."""
        changes = {"evaluators": [], "sampling.guidance": 1.0} | dict(self.changes)
        changes |= {f"training.{name}": value for name, value in training.items()}
        return recipes.load(self.recipe, changes).model_copy(update={"conditions": {}})


DIGITS = Subject(
    "digits",
    "image/digits",
    {"training.precision": "fp32"},
    features="classifier",
    samples=539,
    steps=1000,
    checkpoints=10,
    looks=(0.25, 0.5, 0.75, 1.0),
    level=0.2,
    limit=250.0,
    widths=(24, 48),
    attention=1,
    dim=24,
    multipliers=(1, 2),
)
"""1,258 pictures, 8x8; about half a million parameters."""

EMOJI = Subject(
    "emoji",
    "image/emoji",
    {
        "dataset.concepts": "all",
        "dataset.views": 1,
        "denoiser.context": 0,
        "training.precision": "bf16",
    },
    features="dual",
    samples=256,
    steps=600,
    checkpoints=4,
    looks=(0.5, 1.0),
    level=0.006,
    limit=400.0,
    widths=(32, 64, 96),
    attention=2,
    dim=32,
    multipliers=(1, 2, 3),
)
"""6,244 pictures, RGB, 32x32; two to three million parameters. Ours in bf16, as it would choose."""


@dataclass(frozen=True)
class Look:
    """A model under way.

    Attributes:
        seconds: of training until now, by the clock.
        cores: the same in seconds of processor cores.
        draw: n -> pictures [n, C, H, W] in [0, 1].
    """

    seconds: float
    cores: float
    draw: Callable[[int], Tensor]


class _Watch:
    """Counts the time inside its blocks."""

    def __init__(self) -> None:
        self.seconds = self.cores = 0.0

    def __enter__(self) -> None:
        self._since = time.perf_counter(), time.process_time()

    def __exit__(self, *error: object) -> None:
        self.seconds += time.perf_counter() - self._since[0]
        self.cores += time.process_time() - self._since[1]


def ours(subject: Subject, pictures: Tensor, seed: int, looks: Sequence[float]) -> Iterator[Look]:
    """`suffuse.training.train`, looked at afterwards by its checkpoints; the data are the recipe's.

    Writing checkpoints is in its core-seconds.
    """
    asked = subject.asked(
        steps=subject.steps,
        seed=seed,
        sample_every=0,
        checkpoint_every=max(1, subject.steps // 20),
        keep=20,
    )
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        model = training.train(asked, run, progress=False)
        for path in sorted((run / "checkpoints").iterdir())[-subject.checkpoints :]:
            found = checkpoint.load(path)
            model.network.load_state_dict(dict(found.ema))
            facts = found.facts
            yield Look(facts["seconds"], facts["core_seconds"], lambda n: _drawn(model, n, seed))


def _drawn(model: Model, n: int, seed: int) -> Tensor:
    return as_tensor(model.sample(n, seed=seed, batch=128))


def diffusers(
    subject: Subject, pictures: Tensor, seed: int, looks: Sequence[float]
) -> Iterator[Look]:
    """The unconditional example of diffusers, which plans 100 epochs."""
    from diffusers import DDIMPipeline, DDIMScheduler, DDPMScheduler, UNet2DModel
    from diffusers.optimization import get_scheduler
    from diffusers.training_utils import EMAModel

    torch.manual_seed(seed)
    channels, size = pictures.shape[1:3]
    levels, plain = len(subject.widths), subject.attention
    network = UNet2DModel(
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        layers_per_block=2,
        block_out_channels=subject.widths,
        down_block_types=("DownBlock2D",) * plain + ("AttnDownBlock2D",) * (levels - plain),
        up_block_types=("AttnUpBlock2D",) * (levels - plain) + ("UpBlock2D",) * plain,
        norm_num_groups=8,
    )
    average = EMAModel(
        network.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=3 / 4
    )
    noising = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear")
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8
    )
    batches = _batches(pictures * 2 - 1, 16)
    planned = 100 * -(-len(pictures) // 16)
    rate: Any = get_scheduler(
        "cosine", optimizer=optimizer, num_warmup_steps=500, num_training_steps=planned
    )

    def step() -> None:
        clean = next(batches)
        noise = torch.randn(clean.shape)
        timesteps = torch.randint(0, 1000, (len(clean),))
        noisy = noising.add_noise(clean, noise, timesteps)
        loss = torch.nn.functional.mse_loss(network(noisy, timesteps).sample.float(), noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
        average.step(network.parameters())

    def draw(n: int) -> Tensor:
        average.store(network.parameters())
        average.copy_to(network.parameters())
        pipeline = DDIMPipeline(network, DDIMScheduler.from_config(noising.config))
        pipeline.set_progress_bar_config(disable=True)
        found: Any = pipeline(
            batch_size=n,
            generator=torch.Generator().manual_seed(seed),
            num_inference_steps=CALLS,
            output_type="np",
        )
        average.restore(network.parameters())
        return torch.from_numpy(found.images).permute(0, 3, 1, 2)

    yield from _looked(step, draw, looks)


def lucidrains(
    subject: Subject, pictures: Tensor, seed: int, looks: Sequence[float]
) -> Iterator[Look]:
    """The Trainer of denoising-diffusion-pytorch, which goes on where it stopped."""
    from denoising_diffusion_pytorch import GaussianDiffusion, Trainer, Unet

    torch.manual_seed(seed)
    channels, size = pictures.shape[1:3]
    network = Unet(dim=subject.dim, dim_mults=subject.multipliers, channels=channels)
    diffusion = GaussianDiffusion(network, image_size=size, sampling_timesteps=CALLS)
    with tempfile.TemporaryDirectory() as folder:
        for i, picture in enumerate(pictures):
            as_image(picture).save(Path(folder, f"{i:05d}.png"))
        trainer = Trainer(
            diffusion,
            folder,
            augment_horizontal_flip=False,
            calculate_fid=False,
            save_and_sample_every=10**9,
            results_folder=folder,
        )
        # The same pictures, but from memory: reading files in other processes would be counted.
        trainer.dl = _batches(pictures, trainer.batch_size)
        trainer.train_num_steps = 0

        def step() -> None:
            trainer.train_num_steps += 10  # the more at once, the less its bars cost
            with _silence():
                trainer.train()

        def draw(n: int) -> Tensor:
            averaged = trainer.ema.ema_model.eval()
            with torch.inference_mode(), torch.random.fork_rng([]), _silence():
                torch.manual_seed(seed)
                found: Tensor = averaged.sample(batch_size=n)
            return found.clone()

        yield from _looked(step, draw, looks)


def _silence() -> contextlib.AbstractContextManager[object]:
    """Its bars and lines are of no use here."""
    stack = contextlib.ExitStack()
    stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
    stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
    return stack


def _looked(
    step: Callable[[], None], draw: Callable[[int], Tensor], looks: Sequence[float]
) -> Iterator[Look]:
    watch = _Watch()
    for cores in looks:
        while watch.cores < cores:
            with watch:
                step()
        yield Look(watch.seconds, watch.cores, draw)


def _batches(pictures: Tensor, size: int) -> Iterator[Tensor]:
    """Shuffled batches for ever, as a DataLoader with shuffle=True gives them."""
    for _ in itertools.count():
        yield from pictures[torch.randperm(len(pictures))].split(size)


def as_tensor(images: Sequence[Image.Image]) -> Tensor:
    """Pictures as float32 [N, C, H, W] in [0, 1]."""
    values = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
    values = values[..., None] if values.ndim == 3 else values
    return values.permute(0, 3, 1, 2).float() / 255


def as_image(picture: Tensor) -> Image.Image:
    """A picture [C, H, W] in [0, 1], which it is held to, in 8 bits."""
    values = (picture.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return Image.fromarray(values[..., 0] if values.shape[-1] == 1 else values)


TRAINERS: dict[str, Callable[[Subject, Tensor, int, Sequence[float]], Iterator[Look]]] = {
    "suffuse": ours,
    "diffusers": diffusers,
    "denoising-diffusion-pytorch": lucidrains,
}
"""By the name of the distribution."""
