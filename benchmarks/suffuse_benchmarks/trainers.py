"""Three libraries' own ways to train on small pictures, each brought to one form at the edge.

A trainer is a function (pictures, seed, looks) -> a generator that trains for so many core-seconds,
and yields what it has spent on training so far and how to draw samples. Setting up and drawing are
no training. All learn without labels; each has its own defaults for what a user
would not set (rates, batches, schedules of noise and of the rate, averaging), in float32, and
networks of about half a million parameters.

    suffuse                       the recipe image/digits, without its labels, in `STEPS` steps
    diffusers                     the loop of examples/unconditional_image_generation with its
                                  default arguments, UNet2DModel
    denoising-diffusion-pytorch   its Trainer with its default arguments, without mirroring, which
                                  digits do not bear; Unet and GaussianDiffusion

The other libraries' examples draw in 1,000 steps; here they draw by DDIM, each its own, in `CALLS`.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from suffuse import recipe as recipes
from suffuse import training
from suffuse.model import Model
from suffuse.training import checkpoint

__all__ = ["TRAINERS", "Look"]

CALLS = 50
"""Steps in which the other libraries' models are sampled."""

STEPS, EVERY = 1000, 50
"""Of ours: how many it plans, after which its learning rate is 0, and between checkpoints, of which
the last ten are looked at."""

SIZE = 8


@dataclass(frozen=True)
class Look:
    """A model under way.

    Attributes:
        seconds: of training until now, by the clock.
        cores: the same in seconds of processor cores.
        draw: n -> pictures [n, 1, 8, 8] in [0, 1].
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


def ours(pictures: Tensor, seed: int, looks: Sequence[float]) -> Iterator[Look]:
    """`suffuse.training.train`, looked at afterwards by its checkpoints; the data are the recipe's.

    Writing checkpoints is in its core-seconds.
    """
    asked = recipes.load(
        "image/digits",
        {
            "evaluators": [],
            "sampling.guidance": 1.0,
            "training.steps": STEPS,
            "training.seed": seed,
            "training.precision": "fp32",
            "training.sample_every": 0,
            "training.checkpoint_every": EVERY,
            "training.keep": STEPS,
        },
    ).model_copy(update={"conditions": {}})
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        model = training.train(asked, run, progress=False)
        for path in sorted((run / "checkpoints").iterdir())[-10:]:
            found = checkpoint.load(path)
            model.network.load_state_dict(dict(found.ema))
            facts = found.facts
            yield Look(facts["seconds"], facts["core_seconds"], lambda n: _drawn(model, n, seed))


def _drawn(model: Model, n: int, seed: int) -> Tensor:
    made = model.sample(n, seed=seed, batch=n)
    return torch.stack([torch.from_numpy(np.array(picture))[None] for picture in made]) / 255


def diffusers(pictures: Tensor, seed: int, looks: Sequence[float]) -> Iterator[Look]:
    """The unconditional example of diffusers, which plans 100 epochs."""
    from diffusers import DDIMPipeline, DDIMScheduler, DDPMScheduler, UNet2DModel
    from diffusers.optimization import get_scheduler
    from diffusers.training_utils import EMAModel

    torch.manual_seed(seed)
    network = UNet2DModel(
        sample_size=SIZE,
        in_channels=1,
        out_channels=1,
        layers_per_block=2,
        block_out_channels=(24, 48),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
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


def lucidrains(pictures: Tensor, seed: int, looks: Sequence[float]) -> Iterator[Look]:
    """The Trainer of denoising-diffusion-pytorch, which goes on where it stopped."""
    from denoising_diffusion_pytorch import GaussianDiffusion, Trainer, Unet
    from PIL import Image

    torch.manual_seed(seed)
    network = Unet(dim=24, dim_mults=(1, 2), channels=1)
    diffusion = GaussianDiffusion(network, image_size=SIZE, sampling_timesteps=CALLS)
    with tempfile.TemporaryDirectory() as folder:
        for i, picture in enumerate(pictures):
            values = (picture[0] * 255).round().to(torch.uint8).numpy()
            Image.fromarray(values).save(Path(folder, f"{i:05d}.png"))
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


TRAINERS: dict[str, Callable[[Tensor, int, Sequence[float]], Iterator[Look]]] = {
    "suffuse": ours,
    "diffusers": diffusers,
    "denoising-diffusion-pytorch": lucidrains,
}
"""By the name of the distribution."""
