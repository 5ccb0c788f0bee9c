"""Prompts as states of a text encoder in a local folder, through Hugging Face's transformers.

CLIP's and SigLIP's text towers, T5's encoder, BERT, RoBERTa, MPNet and what else a folder of
sentence-transformers holds. Nothing is fetched, nothing unpickled, and no code of a folder is run.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from suffuse import storage
from suffuse.errors import MissingExtra, SuffuseError
from suffuse_text.frozen import Frozen

__all__ = ["Local", "LocalEncoder"]

UNBOUNDED = 512
"""Tokens that are read where an encoder itself sets no bound, as T5."""


class LocalEncoder:
    """An `Encoder` of a folder: config.json, weights as safetensors, and its tokenizer's files.

    The state of the first mark of a causal encoder (CLIP) is the same for every text, and large: it
    is left out of the mean.

    Raises:
        SuffuseError: without transformers, and for a folder without such an encoder.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from transformers import AutoTokenizer
        except ImportError:
            raise MissingExtra(
                "text/local needs transformers: pip install 'suffuse-text[local]'"
            ) from None
        try:
            self._model: Any = _encoder(folder)
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, KeyError, RuntimeError, ImportError, AttributeError) as error:
            raise SuffuseError(
                f"{folder} holds no text encoder that can be read: {error}"
            ) from None
        config = self._model.config
        self.features: int = config.hidden_size
        bounds = (
            getattr(config, "max_position_embeddings", None),
            self._tokenizer.model_max_length,
        )
        self.longest = min(UNBOUNDED, *(int(n) for n in bounds if n and n > 0))
        bare, full = (
            self._tokenizer("a", add_special_tokens=marks).input_ids for marks in (False, True)
        )
        at = next(i for i in range(len(full)) if full[i : i + len(bare)] == bare)
        self.begin, self.end = full[:at], full[at + len(bare) :]
        self.pooled = len(self.begin) if config.model_type.startswith("clip") else 0
        digests = [storage.digest(path) for path in sorted(folder.glob("*.safetensors"))]
        joined = hashlib.sha256("".join(digests).encode()).hexdigest()
        self.identity = (digests[0] if len(digests) == 1 else joined)[:16]

    def tokens(self, text: str) -> list[int]:
        """The ids of a text's word pieces, without the marks of its ends."""
        found: list[int] = self._tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        return found

    @torch.inference_mode()
    def states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token states [B, L, features] of ids [B, L] with the ends; mask False is padding."""
        found: Tensor = self._model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        return found.float()


class Local(Frozen):
    """Prompts by the text encoder in a folder: a vector, and tokens to attend to.

    Args:
        condition: of kind "text".
        width: of the vector for the network.
        folder: what transformers or sentence-transformers saved.
        length, tokens, identity: see `Frozen`.

    Raises:
        SuffuseError: for a condition of another kind, and where the encoder is missing or another.
    """

    def __init__(
        self,
        condition: Any,
        width: int,
        *,
        folder: str = "",
        length: int = 32,
        tokens: int = 0,
        identity: str = "",
    ) -> None:
        super().__init__(
            "text/local",
            condition,
            width,
            _load(folder),
            length=length,
            tokens=tokens,
            identity=identity,
        )


@lru_cache(maxsize=2)
def _load(folder: str) -> LocalEncoder:
    if not folder:
        raise MissingExtra(
            "text/local reads an encoder on this computer: name its folder with the option folder"
        )
    if not Path(folder).is_dir():
        raise SuffuseError(f"there is no folder {folder!r} with a text encoder")
    # sentence-transformers may keep the encoder of its pipeline in a folder of its own
    inner = Path(folder) / "0_Transformer"
    return LocalEncoder(inner if inner.is_dir() else Path(folder))


def _encoder(folder: Path) -> Any:
    """The part of a model that reads texts, in evaluation, without gradients."""
    from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding
    from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING as TOLD

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    kind: Any = AutoModelForTextEncoding if type(config) in TOLD else AutoModel
    model = kind.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    model = getattr(model, "text_model", model)
    return model.eval().requires_grad_(False)
