"""Prompts that mix several: each is read apart, and counts by its share."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from suffuse.plugins.contracts import Condition
from suffuse_text.frozen import Frozen
from suffuse_text.prompts import LONGEST, mixed
from suffuse_text.words import Words

NAMES = Condition("text", ("apple", "blue", "fox", "red"))


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("", []),
        ("a fox", [("a fox", 1)]),
        ("a fox :: a cat", [("a fox", 0.5), ("a cat", 0.5)]),
        ("a fox ::3 a cat", [("a fox", 0.75), ("a cat", 0.25)]),
        ("fox::.5 cat::1.5", [("fox", 0.25), ("cat", 0.75)]),
        ("fox::1 cat::-1", [("fox", 0.5), ("cat", -0.5)]),
        ("fox ::0 cat", [("cat", 1)]),
        (":: ::2 ::", []),
        ("(red:1.5) fox ::x", [("(red:1.5) fox", 0.5), ("x", 0.5)]),
    ],
)
def test_shares(prompt, expected):
    found = [(text.strip(), share) for text, share in mixed(prompt)]
    assert found == [(text, pytest.approx(share)) for text, share in expected]


def test_a_prompt_of_any_length_is_read():
    assert len(mixed("a::" * 100_000)) == LONGEST // 3 + 1


@pytest.fixture
def words():
    torch.manual_seed(0)
    return Words(NAMES, 24, features=32).eval()


def pooled(conditioner, linear, prompts):
    """What comes before the maps that are trained on a vector."""
    seen = []
    handle = linear.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    with torch.no_grad():
        conditioner(conditioner.prepare(prompts))
    handle.remove()
    return seen[0]


def test_words_see_those_of_their_own_prompt_alone(words):
    fox, apple, both, weighted, away, one = pooled(
        words,
        words.linear_0,
        [
            "red fox",
            "blue apple red",
            "red fox :: blue apple red",
            "red fox ::3 blue apple red",
            "red fox :: blue apple red ::-1",
            "red fox blue apple red",
        ],
    )
    torch.testing.assert_close(both, (fox + apple) / 2)
    torch.testing.assert_close(weighted, (3 * fox + apple) / 4)
    torch.testing.assert_close(away, (fox - apple) / 2)
    assert not torch.allclose(both, one, atol=1e-3)


def test_what_the_model_does_not_know_leaves_the_others_their_shares(words):
    found = words.prepare(["dog :: red fox", "red fox :: dog ::2", "red fox"])
    assert (found[0, :, 0] == found[2, :, 0]).all()
    torch.testing.assert_close(found[0, :, 1], found[2, :, 1] / 2)
    torch.testing.assert_close(found[1, :, 1], found[2, :, 1] / 3)


def test_too_long_a_mixture_is_cut(words, caplog):
    long = " ".join(["red"] * 10)
    found = words.prepare([f"{long} :: {long} :: blue"])[0]
    assert "first 16 words" in caplog.text
    torch.testing.assert_close(found[:10, 1].sum(), found[10:, 1].sum())


class Reader:
    """States that depend on the whole text; a token is a letter."""

    features, longest, begin, end, identity = 8, 40, [0], [1], "aa"

    def __init__(self, first: int) -> None:
        self.pooled = first
        self.table = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))

    def tokens(self, text: str) -> list[int]:
        return [ord(letter) for letter in text if letter != " "]

    def states(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        found = self.table[ids]
        return found + found.mean(1, keepdim=True)


@pytest.mark.parametrize("first", [0, 1])
def test_a_frozen_encoder_reads_each_prompt_alone(first):
    torch.manual_seed(0)
    made = Frozen("test", Condition("text"), 5, Reader(first), length=32, tokens=3, identity="")
    prompts = ["fox", "a cat", "fox ::3 a cat", "fox ::0 a cat", "fox :: ::2"]
    prepared = made.prepare(prompts)
    means = []
    for row in prepared:
        told = row[first:]
        means.append((told[:, :-1] * told[:, -1:]).sum(0) / (told[:, -1] != 0).sum())
    torch.testing.assert_close(means[2], 0.75 * means[0] + 0.25 * means[1])
    assert torch.equal(prepared[3], prepared[1])
    assert torch.equal(prepared[4], prepared[0])
    vector = pooled(made, made.vector, prompts)
    torch.testing.assert_close(
        normalize(vector[2], dim=0), normalize(0.75 * means[0] + 0.25 * means[1], dim=0)
    )


def test_a_frozen_mixture_is_no_longer_than_the_encoder_reads(caplog):
    made = Frozen("test", Condition("text"), 5, Reader(0), length=38, tokens=0, identity="")
    found = made.prepare(["a" * 30 + "::" + "b" * 30 + "::" + "c"])[0]
    assert "first 38 word pieces" in caplog.text
    real = int((found[:, -1] != 0).sum())
    assert real == 40
