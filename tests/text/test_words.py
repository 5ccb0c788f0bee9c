"""The conditioner text/words."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
import torch

from suffuse import plugins
from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Condition
from suffuse_text.words import Words

NAMES = Condition("text", ("apple", "blue", "fox", "red"))
PICTURES = SimpleNamespace(shape=(3, 16, 12))


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return Words(NAMES, 24, PICTURES, features=32, sketch=2).eval()


def test_slots_have_the_shapes_that_networks_take(encoder):
    slots = encoder(encoder.prepare(["red fox", None, ""]))
    assert {name: tuple(slot.shape) for name, slot in slots.items()} == {
        "vector": (3, 24),
        "concat": (3, 2, 16, 12),
    }
    plain = Words(Condition("text"), 24, features=32)
    assert set(plain(plain.prepare(["red fox"]))) == {"vector"}


def test_nothing_is_the_null_embedding_and_an_empty_prompt_is_nothing(encoder):
    assert torch.equal(encoder.prepare([None]), encoder.null(1))
    assert torch.equal(encoder.prepare(["", "the"]), encoder.null(2))
    slots = encoder(encoder.null(2))
    assert torch.equal(slots["vector"], encoder.nothing.expand(2, -1))
    assert not slots["concat"].any()


@pytest.mark.parametrize("prompt", ["a the of", "()", "(fox:0)", "?!"])
def test_a_prompt_without_words_is_told_of(encoder, caplog, prompt):
    assert (encoder.prepare([prompt, None]) == 0).all()
    assert "no words that count" in caplog.text


def test_order_batch_and_padding_do_not_matter(encoder):
    with torch.no_grad():
        alone = encoder(encoder.prepare(["red fox"]))
        among = encoder(encoder.prepare(["blue apple fox", "fox red", None]))
    for name in alone:
        torch.testing.assert_close(among[name][1:2], alone[name])


def test_weights_scale_what_a_word_adds(encoder):
    # One word is alone in its attention, so that the pooled vector is its weight times it.
    pooled = {}
    encoder.linear_0.register_forward_pre_hook(lambda m, args: pooled.update(h=args[0]))
    with torch.no_grad():
        encoder(encoder.prepare(["fox", "(fox:2)", "(fox:-1)"]))
    h = pooled["h"]
    torch.testing.assert_close(h[1], 2 * h[0])
    torch.testing.assert_close(h[2], -h[0])
    assert torch.equal(encoder.prepare(["(red:0) fox"]), encoder.prepare(["fox"]))


@pytest.mark.parametrize(
    ("prompt", "negative", "expected"),
    [
        ("a fox", "red", ("(red:-1) a fox", None)),
        ("a fox", "a (red:0.5) hat", ("(red:-0.5) a fox", "(hat:1)")),
        ("a red fox", "red (blue fox:2)", ("(blue:-2) a red fox", "(fox:2)")),
        (None, "red :: hat", ("(red:-1) ", "(hat:1)")),
        (None, "fox", (None, "(fox:1)")),
        ("fox ::3 hat", "red", ("(red:-1) fox ::0.75 (red:-1)  hat::0.25", None)),
    ],
)
def test_negative_colours_weigh_less_than_nothing(encoder, prompt, negative, expected):
    assert encoder.without(prompt, negative) == expected


def test_a_negative_colour_that_the_prompt_asks_for_stays_and_is_told(encoder, caplog):
    with caplog.at_level(logging.WARNING, "suffuse_text"):
        assert encoder.without("a red fox", "red") == ("a red fox", None)
    assert caplog.messages == ["the prompt 'a red fox' itself asks for red: it stays"]


def test_unknown_words_are_left_out_and_told(encoder, caplog):
    with caplog.at_level(logging.WARNING, "suffuse_text"):
        found = encoder.prepare(["a red spaceship"])
    assert torch.equal(found, encoder.prepare(["red"]))
    assert "does not know spaceship" in caplog.text


@pytest.mark.parametrize(
    ("prompt", "says"),
    [("appel", "did you mean 'apple'"), ("spaceship", "it knows 4, for instance apple"), (7, "7")],
)
def test_a_prompt_of_unknown_words_alone_is_refused(encoder, prompt, says):
    with pytest.raises(SuffuseError, match=says):
        encoder.prepare([prompt])


def test_long_prompts_are_cut_with_a_warning(encoder, caplog):
    with caplog.at_level(logging.WARNING, "suffuse_text"):
        found = encoder.prepare(["fox " * 5000])
    assert bool((found[0, :, 1] == 1).all())
    assert "first 16 words" in caplog.text


def test_without_names_every_word_is_hashed_alike_in_any_process():
    plain = Words(Condition("text"), 24, features=32)
    assert plain.prepare(["fox"])[0, 0].tolist() == [230.0, 1.0]


def test_gradients_reach_every_weight(encoder):
    encoder.train()
    slots = encoder(encoder.prepare(["red fox", "blue apple", None]))
    (slots["vector"].square().sum() + slots["concat"].square().sum()).backward()
    assert all(p.grad is not None and p.grad.any() for p in encoder.parameters())


@pytest.mark.parametrize(
    ("condition", "options"),
    [
        (Condition("category", ("a",)), {}),
        (NAMES, {"features": 30}),
        (NAMES, {"length": 0}),
        (NAMES, {"sketch": -1}),
    ],
)
def test_wrong_options_are_refused(condition, options):
    with pytest.raises(SuffuseError):
        Words(condition, 24, PICTURES, **options)


def test_the_plugin_registers_it():
    built = plugins.build(
        "conditioner", {"name": "text/words"}, condition=NAMES, width=8, encoder=PICTURES
    )
    assert isinstance(built, Words)


def test_tokens_are_for_networks_that_attend():
    from suffuse.model import Network
    from suffuse.nn import DiT

    torch.manual_seed(0)
    words = Words(NAMES, 16, PICTURES, features=32, tokens=True)
    network = Network(
        DiT((3, 16, 12), patch=4, width=16, depth=1, heads=2, tokens=32), {"prompt": words}
    )
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.1 * torch.randn(p.shape))
        x = torch.randn(2, 3, 16, 12)
        slots = words(words.prepare(["red fox", None]))
        assert slots["token_mask"].sum(1).tolist() == [2, 0]
        found = [
            network(x, torch.zeros(2), prompt=words.prepare([first, None]))
            for first in ("red fox", "blue fox", "fox red")
        ]
    torch.testing.assert_close(found[0], found[2])
    assert not torch.allclose(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1])
