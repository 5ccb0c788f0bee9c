"""What the text plugin brings. Nothing is imported here until it is used."""

from __future__ import annotations

from suffuse.plugins import Register, hookimpl

suffuse_api = 1


@hookimpl
def register_conditioners(register: Register) -> None:
    register(
        "text/words",
        "suffuse_text.words:Words",
        summary="a small encoder of words, trained with the model; weighted prompts",
    )
    register(
        "text/minilm",
        "suffuse_text.minilm:MiniLM",
        extra="minilm",
        summary="a frozen language model, all-MiniLM-L6-v2; weighted prompts",
    )
    register(
        "text/local",
        "suffuse_text.local:Local",
        extra="local",
        summary="a text encoder in a local folder: CLIP, T5, sentence-transformers",
    )
