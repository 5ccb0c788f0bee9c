"""Vision models of other makers from a local folder: DINOv2, CLIP, Inception and their like.

The folder is what Hugging Face's transformers saves (config.json, preprocessor_config.json and
weights as safetensors), or timm (config.json and weights), which has Inception v3; its weights are
those of a classifier of ImageNet, and no others that a figure called FID is known by. Nothing is
fetched and nothing unpickled. Figures on such features bear the
model's own name, and compare only with figures on the same one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from suffuse.errors import SuffuseError

from .modes import eight_bit

__all__ = ["LocalVision"]

BATCH = 32


class LocalVision:
    """Vectors of pictures by a model of transformers, or of timm through transformers.

    Args:
        folder: with config.json, model.safetensors and, unless it is timm's,
            preprocessor_config.json.

    Attributes:
        name: the architecture and the folder's name, for instance "Dinov2Model (dinov2-small)".

    Raises:
        SuffuseError: without transformers, or for a folder that holds no such model.
    """

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        try:
            from transformers import AutoImageProcessor, AutoModel
        except ImportError:
            raise SuffuseError(
                "vision models in a folder need transformers: pip install 'suffuse-image[local]'"
            ) from None
        try:
            options = {"local_files_only": True}
            self._prepare: Any = AutoImageProcessor.from_pretrained(folder, **options)
            model: Any = AutoModel.from_pretrained(folder, use_safetensors=True, **options)
        except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            raise SuffuseError(
                f"{folder} holds no vision model that can be read: {error}"
            ) from None
        self._model = model.eval().requires_grad_(False)
        # a wrapper of transformers around timm says nothing; its architecture does
        kind = getattr(model.config, "architecture", type(model).__name__)
        self.name = f"{kind} ({folder.name})"

    @torch.inference_mode()
    def __call__(self, images: Sequence[Image.Image]) -> Tensor:
        """[N, D], float32: the image vector of CLIP's like, else the pooled output, else the mean
        of the last states."""
        found = []
        for first in range(0, len(images), BATCH):
            pictures = [eight_bit(image, 3) for image in images[first : first + BATCH]]
            given = self._prepare(images=pictures, return_tensors="pt")["pixel_values"]
            if hasattr(self._model, "get_image_features"):
                answer = self._model.get_image_features(pixel_values=given)
            else:
                answer = self._model(pixel_values=given)
            if not isinstance(answer, Tensor):
                pooled = getattr(answer, "pooler_output", None)
                answer = answer.last_hidden_state.mean(1) if pooled is None else pooled
            found.append(answer.flatten(1).float())
        if not found:
            raise SuffuseError("there are no pictures to look at")
        return torch.cat(found)
