"""A dual encoder: pictures and words in one space, to search pictures and to judge samples.

Version 1 ships with the plugin, and its figures bear its name, ``dual/1``. Two towers map a picture
and a text to unit vectors of 128 numbers, whose product tells how well they fit. It was trained on
the captioned emoji of this plugin (`suffuse_image.emoji`, all concepts, the training split by
pair), so that it knows things as emoji show them. It is no CLIP, and no figure of it a CLIP score.

* Pictures, brought to 32x32 over white, go through seven convolutions.
* Texts are bags of words and of their trigrams, hashed into buckets (Bojanowski, Grave, Joulin,
  Mikolov, "Enriching word vectors with subword information" (2017), arXiv 1607.04606).

The loss is the sum of two contrastive ones: between a picture and its caption (Radford et al.,
"Learning transferable visual models from natural language supervision" (2021), arXiv 2103.00020),
and between two crops of a picture in other colours (Chen, Kornblith, Norouzi, Hinton, "A simple
framework for contrastive learning of visual representations" (2020), arXiv 2002.05709).

``python -m suffuse_image.dual`` trains it anew, as it ships.
"""

from __future__ import annotations

import math
import re
import sys
import zlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from suffuse import storage

from .modes import eight_bit
from .pixels import crop_to

__all__ = ["NAME", "Dual", "pretrained"]

NAME = "dual/1"
SIZE, FEATURES, BUCKETS, MOST = 32, 128, 4096, 64
_PATH = Path(__file__).parent / "pretrained" / "dual-1.safetensors"


class Dual(nn.Module):
    """Both towers; untrained. `pretrained` gives the one that ships."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()

        def block(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
            convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
            return [convolution, nn.GroupNorm(8, outputs), nn.SiLU()]

        w = width
        self.picture = nn.Sequential(
            *block(3, w),
            *block(w, 2 * w, 2),
            *block(2 * w, 2 * w),
            *block(2 * w, 4 * w, 2),
            *block(4 * w, 4 * w),
            *block(4 * w, 8 * w, 2),
            *block(8 * w, 8 * w),
        )
        self.leave = nn.Linear(2 * 8 * w, FEATURES)
        self.words = nn.EmbeddingBag(BUCKETS + 1, 64, mode="mean", padding_idx=BUCKETS)
        self.text = nn.Sequential(nn.Linear(64, 256), nn.SiLU(), nn.Linear(256, FEATURES))
        self.scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def embed_pictures(self, x: Tensor) -> Tensor:
        """Unit vectors [B, 128] of pictures [B, 3, 32, 32] in [0, 1]."""
        h = self.picture(2 * x - 1)
        h = torch.cat([h.mean((2, 3)), h.amax((2, 3))], 1)
        return functional.normalize(self.leave(h).float(), dim=1)

    def embed_words(self, rows: Tensor) -> Tensor:
        """Unit vectors [B, 128] of rows of words [B, L], see `hashed`."""
        return functional.normalize(self.text(self.words(rows)).float(), dim=1)

    # For raw objects

    @torch.inference_mode()
    def pictures(self, images: Sequence[Image.Image], batch: int = 256) -> Tensor:
        """Unit vectors [N, 128], float32, of pictures of any kind."""
        parts = [images[i : i + batch] for i in range(0, len(images), batch)]
        found = [self.embed_pictures(as_tensor(part)) for part in parts]
        return torch.cat([torch.zeros(0, FEATURES), *found])

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors [N, 128], float32, of texts."""
        return self.embed_words(torch.stack([hashed(text) for text in texts]))


def as_tensor(images: Sequence[Image.Image]) -> Tensor:
    """Pictures as [N, 3, 32, 32] in [0, 1], scaled to cover and cropped around the centre."""
    rows = [np.asarray(crop_to(eight_bit(image, 3), (SIZE, SIZE))) for image in images]
    return torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2).float() / 255


@lru_cache(maxsize=65536)
def hashed(text: str) -> Tensor:
    """The buckets of a text's words and of their trigrams, int64 [64], padded.

    >>> int((hashed("fox") < BUCKETS).sum())  # <fox> and <fo, fox, ox>
    4
    """
    rows = [zlib.crc32(piece.encode()) % BUCKETS for piece in _pieces(text)][:MOST]
    return torch.tensor(rows + [BUCKETS] * (MOST - len(rows)))


def _pieces(text: str) -> list[str]:
    """Each word of a text, marked, with its trigrams."""
    out: list[str] = []
    for word in re.findall(r"[^\W_]+", text[:10_000].casefold()):
        marked = f"<{word}>"
        out += sorted({marked, *(marked[i : i + 3] for i in range(len(marked) - 2))})
    return out


def known(text: str) -> bool:
    """Whether a text has a word, or three letters of one, that names or keywords of emoji have.

    >>> known("foxes"), known("лиса")
    (True, False)
    """
    return not _seen().isdisjoint(_pieces(text))


@lru_cache(maxsize=1)
def _seen() -> frozenset[str]:
    from .emoji import index

    names = index()["concepts"].items()
    return frozenset(_pieces(" ".join(" ".join([name, *about["tags"]]) for name, about in names)))


@lru_cache(maxsize=1)
def pretrained() -> Dual:
    """The encoder that ships, version 1, on the CPU."""
    dual = Dual()
    dual.load_state_dict(storage.load_tensors(_PATH))
    return dual.eval().requires_grad_(False)


# Training


def _looks(x: Tensor, generator: torch.Generator) -> Tensor:
    """Crops of a half to all of each side, in other colours, with noise, mirrored in half."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(len(x), *shape, generator=generator)

    side = uniform(0.5, 1.05)
    at = [uniform(-1, 1) * (1 - side).clamp(min=0) for _ in range(2)]
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    zero = torch.zeros_like(side)
    top = torch.stack([side * mirror, zero, at[0]], 1)
    bottom = torch.stack([zero, side, at[1]], 1)
    grid = functional.affine_grid(torch.stack([top, bottom], 1), list(x.shape), align_corners=False)
    x = functional.grid_sample(x, grid, padding_mode="border", align_corners=False)
    mixing = torch.eye(3) + uniform(-0.25, 0.25, 3, 3) * uniform(0, 1, 1, 1)
    x = torch.einsum("bij,bjhw->bihw", mixing, x - 1) + 1  # white stays white
    x = x * uniform(0.8, 1.0, 1, 1, 1) + uniform(0, 0.1, 3, 1, 1)
    noise = torch.randn(x.shape, generator=generator) * uniform(0, 0.12, 1, 1, 1)
    return (x + noise).clamp(0, 1)


def _contrast(a: Tensor, b: Tensor, same: Tensor, scale: Tensor) -> Tensor:
    """Symmetric cross-entropy of a bbᵀ; `same` [B, B] marks further rights, which do not count."""
    logits = (scale * a @ b.T).masked_fill(same, -1e4)
    target = torch.arange(len(a))
    return (
        functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)
    ) / 2


def train(steps: int = 700, batch: int = 128, seed: int = 0) -> Dual:
    """Train on the emoji; prints the loss."""
    from .emoji import Emoji, index

    dataset = Emoji("train", concepts="all")
    about = index()["concepts"]
    x = as_tensor([dataset[i].data for i in range(len(dataset))])
    names = [dataset.concept(i) for i in range(len(dataset))]
    numbers = {name: i for i, name in enumerate(sorted(set(names)))}
    concept = torch.tensor([numbers[name] for name in names])
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    rng = np.random.default_rng(seed)
    dual = Dual().train()
    optimiser = torch.optim.AdamW(dual.parameters(), lr=3e-3, weight_decay=0.05)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, steps, pct_start=0.1)

    def caption(name: str) -> str:
        tags = about[name]["tags"]
        kept = [tag for tag in tags if rng.random() < 0.3]
        words = [name.replace("-", " "), *kept] if rng.random() < 0.8 or not kept else kept
        return " ".join(words)

    for step in range(steps):
        rows = torch.randint(len(x), (batch,), generator=generator)
        text = torch.stack([hashed(caption(names[row])) for row in rows.tolist()])
        with torch.autocast("cpu", torch.bfloat16):
            one, two = (dual.embed_pictures(_looks(x[rows], generator)) for _ in range(2))
            words = dual.embed_words(text)
        scale = dual.scale.exp().clamp(max=50)
        off = ~torch.eye(batch, dtype=torch.bool)
        same = (concept[rows][:, None] == concept[rows]) & off
        twins = (rows[:, None] == rows) & off
        pictures = _contrast(one, two, twins, torch.tensor(10.0))
        loss = _contrast(one, words, same, scale) + _contrast(two, words, same, scale) + pictures
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        rate.step()
        if step % 50 == 0:
            print(f"step {step}  loss {loss.item():.3f}", flush=True)
    return dual.eval()


def accuracy(dual: Dual, among: int = 100, seed: int = 0) -> dict[str, float]:
    """R@1 of the right name among `among`, on held-out pictures and on those trained on."""
    from .emoji import Emoji

    out = {}
    rng = np.random.default_rng(seed)
    for split in ("train", "test"):
        dataset: Any = Emoji(split, concepts="all")  # type: ignore[arg-type]
        rows = rng.permutation(len(dataset))[:500]
        names = sorted({dataset.concept(i) for i in range(len(dataset))})
        a = dual.pictures([dataset[int(i)].data for i in rows])
        right = 0
        for vector, row in zip(a, rows, strict=True):
            own = dataset.concept(int(row))
            others = [n for n in rng.permutation(names) if n != own][: among - 1]
            texts = dual.texts([n.replace("-", " ") for n in (own, *others)])
            right += int((texts @ vector).argmax() == 0)
        out[split] = right / len(rows)
    return out


if __name__ == "__main__":
    found = train(int(sys.argv[1]) if len(sys.argv) > 1 else 700)
    storage.save_tensors(_PATH, {k: v.half() for k, v in found.state_dict().items()})
    print(accuracy(found))
