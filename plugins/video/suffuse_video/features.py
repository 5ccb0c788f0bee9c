"""Features of clips, in space and time, for distances between sets of clips.

`Reader` is a small network of the project's own: it learned to read the colour, the thing and the
motion of clips of video/shapes, and where the thing is in each frame; its last layer before the
answers, 32 numbers, are the features. It sees 16 frames of 16x16; other clips are brought to that.
Its weights ship with the plugin, and are made again, in some minutes, by

    python -m suffuse_video.features reader.safetensors

For other clips than moving shapes a network that has seen the world serves better: `VideoMAE` takes
the weights of one from a local folder (Tong et al., "VideoMAE" (2022), arXiv 2203.12602), and `i3d`
those of I3D from a file.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss, silu

from suffuse.errors import SuffuseError

from . import i3d
from .clip import Clip, fitted
from .shapes import COLOURS, MOTIONS, THINGS, Shapes, drawn

__all__ = ["Reader", "VideoMAE", "encoder", "pixels", "reader"]

WEIGHTS = Path(__file__).parent / "pretrained" / "reader.safetensors"
FRAMES, SIZE, WIDTH = 16, 16, 32


class Reader(nn.Module):
    """Clips [B, 16, 3, 16, 16] in [0, 1] -> features [B, 32], or what it reads of them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_0 = nn.Conv2d(3, 16, 3, 2, 1)
        self.conv_1 = nn.Conv2d(16, 32, 3, 2, 1)
        self.frame = nn.Linear(512, 64)
        self.time_0 = nn.Conv1d(64, 64, 3, 2, 1)
        self.time_1 = nn.Conv1d(64, 64, 3, 2, 1)
        self.place = nn.Linear(64, 2)
        self.last = nn.Linear(256, WIDTH)
        self.answers = nn.ModuleList(
            nn.Linear(WIDTH, n) for n in (len(COLOURS), len(THINGS), len(MOTIONS))
        )

    def features(self, x: Tensor) -> Tensor:
        """[B, 32]."""
        return self._over_time(self._of_frames(x))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Logits of the colour, the thing and the motion; and places [B, 16, 2], x and y, from -1
        at the left or top to 1."""
        seen = self._of_frames(x)
        h = silu(self._over_time(seen))
        return [*(answer(h) for answer in self.answers), self.place(seen)]

    def _of_frames(self, x: Tensor) -> Tensor:
        h = silu(self.conv_1(silu(self.conv_0(x.flatten(0, 1)))))
        out: Tensor = silu(self.frame(h.flatten(1))).unflatten(0, x.shape[:2])
        return out

    def _over_time(self, seen: Tensor) -> Tensor:
        h = silu(self.time_1(silu(self.time_0(seen.transpose(1, 2)))))
        out: Tensor = self.last(h.flatten(1))
        return out


class VideoMAE:
    """Features of a VideoMAE model in a local folder: the mean of its last tokens.

    Args:
        path: a folder in the layout of Hugging Face's transformers, with safetensors weights.

    Raises:
        SuffuseError: where transformers is not installed, or the folder holds no such model.
    """

    def __init__(self, path: str) -> None:
        try:
            from transformers import VideoMAEModel  # type: ignore[import-not-found,unused-ignore]
        except ImportError:
            raise SuffuseError(
                "features of VideoMAE need transformers: pip install 'suffuse-video[videomae]'"
            ) from None
        try:
            self.model = VideoMAEModel.from_pretrained(
                path, local_files_only=True, use_safetensors=True
            ).eval()
        except (OSError, ValueError) as error:
            raise SuffuseError(f"there is no VideoMAE model in {path}: {error}") from None

    def __call__(self, clips: Sequence[Clip]) -> Tensor:
        """[n, hidden]."""
        config = self.model.config
        mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
        std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
        found = []
        with torch.inference_mode():
            for clip in clips:
                x = pixels(clip, config.num_frames, config.image_size)
                found.append(self.model(((x - mean) / std)[None]).last_hidden_state.mean(1)[0])
        return torch.stack(found)


@cache
def reader() -> Reader:
    """The network that ships, ready to read."""
    network = Reader()
    network.load_state_dict(load_file(WEIGHTS))
    return network.eval()


def encoder(name: str) -> Any:
    """Clips -> features [n, D]: "reader", a safetensors file with the weights of I3D, or a folder
    with a VideoMAE model."""
    if name == "reader":
        return _looking(reader().features, FRAMES, SIZE, 64)
    if Path(name).suffix == ".safetensors":
        inflated = i3d.read(name)
        return _looking(lambda x: inflated(2 * x.transpose(1, 2) - 1), i3d.FRAMES, i3d.SIZE, 1)
    return VideoMAE(name)


def _looking(
    features: Callable[[Tensor], Tensor], frames: int, size: int, batch: int
) -> Callable[[Sequence[Clip]], Tensor]:
    def look(clips: Sequence[Clip]) -> Tensor:
        found = []
        with torch.inference_mode():
            for begin in range(0, len(clips), batch):
                part = [pixels(clip, frames, size) for clip in clips[begin : begin + batch]]
                found.append(features(torch.stack(part)))
        return torch.cat(found)

    return look


def pixels(clip: Clip, frames: int, size: int) -> Tensor:
    """[frames, 3, size, size] in [0, 1], of frames evenly spread over the clip."""
    chosen = np.linspace(0, len(clip) - 1, frames).round().astype(int)
    shown = fitted(clip.frames[chosen], size, size)
    return torch.from_numpy(np.ascontiguousarray(shown)).permute(0, 3, 1, 2).float() / 255


def train(path: Path, steps: int = 3000, batch: int = 64) -> list[float]:
    """Teach a reader and write its weights; the shares of colours, things and motions that it then
    reads rightly on held-out clips, and the root mean square error of places in pixels."""
    torch.manual_seed(0)
    network = Reader().train()
    data = Shapes("train", clips=12288, strengths=0.0)
    x, wanted, places = _examples(data, len(data))
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3, weight_decay=1e-3)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
    for _ in range(steps):
        chosen = torch.randint(len(x), (batch,))
        clean = x[chosen].float() / 255
        *answers, seen = network(
            clean + 0.1 * torch.rand(batch, 1, 1, 1, 1) * torch.randn_like(clean)
        )
        loss = 4 * mse_loss(seen, places[chosen])
        for i, answer in enumerate(answers):
            loss = loss + cross_entropy(answer, wanted[chosen, i], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
    network.eval()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, path)
    test = Shapes("test", strengths=0.0)
    x, wanted, places = _examples(test, len(test))
    with torch.inference_mode():
        *answers, seen = network(x.float() / 255)
    right = [float((a.argmax(1) == wanted[:, i]).float().mean()) for i, a in enumerate(answers)]
    return [*right, float((seen - places).square().sum(-1).mean().sqrt()) * (SIZE - 1) / 2]


def _examples(data: Shapes, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels [n, 16, 3, 16, 16], uint8; colour, thing and motion [n, 3]; places [n, 16, 2]."""
    clips, wanted, places = [], [], []
    does = [(m.directions, m.slowly, m.camera, m.bounces) for m in MOTIONS]
    for i in range(n):
        scene = data.scene(i)
        motion = scene.motion
        asked = (motion.directions, motion.slowly, motion.camera, motion.bounces)
        names = (list(COLOURS).index(motion.colour), THINGS.index(motion.thing))
        frames = drawn(scene, data.size)
        clips.append(torch.from_numpy(frames).permute(0, 3, 1, 2))
        wanted.append([*names, does.index(asked)])
        places.append(torch.from_numpy(2 * scene.at / (data.size - 1) - 1).float())
    return torch.stack(clips), torch.tensor(wanted), torch.stack(places)


if __name__ == "__main__":
    read = train(Path(sys.argv[1] if len(sys.argv) > 1 else WEIGHTS))
    names = ("colour", "thing", "motion")
    print(", ".join(f"{k} {100 * v:.1f} %" for k, v in zip(names, read[:3], strict=True)))
    print(f"place {read[3]:.2f} px")
