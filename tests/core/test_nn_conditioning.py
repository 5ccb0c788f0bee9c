"""Conditions: raw values to embeddings, and what stands for a value that is not given."""

import math

import numpy as np
import pytest
import torch

from suffuse.errors import SuffuseError
from suffuse.nn import Label, Number
from suffuse.plugins.contracts import Condition

DIGITS = Condition("category", tuple("0123456789"))
ANIMALS = Condition("category", ("cat", "dog", "gnu"))
NUMBER = Condition("number")


def test_labels_are_known_by_name_and_by_number():
    label = Label(DIGITS, 4)
    assert label.prepare(["7", 7, np.int64(7), torch.tensor(7), np.str_("7")]).tolist() == [7] * 5
    label = Label(ANIMALS, 4)
    assert label.prepare(["gnu", 2, "2", np.int64(0)]).tolist() == [2, 2, 2, 0]


def test_a_number_means_the_name_where_names_are_numbers():
    label = Label(Condition("category", ("3", "5", "0")), 4)
    assert label.prepare([0, 3, 5]).tolist() == [2, 0, 1]
    with pytest.raises(SuffuseError, match="no label '1'; there are: 0, 3, 5"):
        label.prepare([1])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("cow", "there are: cat, dog, gnu"),
        ("dogs", "did you mean 'dog'"),
        ("3", "no label .3."),
        (3, "no label '3'"),
        (-1, "no label '-1'"),
        (1.0, "no label '1.0'"),
        (True, "no label 'True'"),
        (["cat"], "no label"),
    ],
)
def test_what_is_no_label_is_told(value, message):
    with pytest.raises(SuffuseError, match=message):
        Label(ANIMALS, 4).prepare(["cat", value])


def test_null_is_the_label_that_is_not_given():
    label = Label(DIGITS, 4)
    prepared = label.prepare(["3", None])
    assert torch.equal(label.null(1), prepared[1:])
    out = label(prepared)
    assert torch.equal(label(label.null(2)), out[1:].expand(2, 4))
    assert not torch.equal(out[0], out[1])


def test_each_label_learns_for_itself():
    label = Label(DIGITS, 4)
    label(label.prepare([4, None])).sum().backward()
    touched = label.embedding.weight.grad.any(dim=1)
    assert touched.nonzero().flatten().tolist() == [4, 10]
    assert sum(p.numel() for p in label.parameters()) == 11 * 4


def test_an_empty_list_is_no_values():
    assert Label(DIGITS, 4)(Label(DIGITS, 4).prepare([])).shape == (0, 4)
    assert Number(NUMBER, 4)(Number(NUMBER, 4).prepare([])).shape == (0, 4)


@pytest.mark.parametrize("condition", [NUMBER, Condition("category")])
def test_a_label_needs_names(condition):
    with pytest.raises(SuffuseError, match="named categories"):
        Label(condition, 4)


def test_numbers_are_standardised():
    number = Number(NUMBER, 4, mean=10, scale=2)
    prepared = number.prepare([10, 14.0, "8", np.float32(10), None, math.nan])
    assert prepared.dtype == torch.float32
    torch.testing.assert_close(prepared[:4], torch.tensor([0.0, 2.0, -1.0, 0.0]))
    assert prepared[4:].isnan().all()


def test_a_number_that_is_not_given_has_an_embedding_of_its_own():
    number = Number(NUMBER, 4)
    out = number(number.prepare([1.0, None, math.nan]))
    assert torch.equal(out[1], out[2])
    assert torch.equal(out[1:], number(number.null(2)))
    assert not torch.equal(out[0], out[1])
    out.square().sum().backward()
    for name, p in number.named_parameters():
        assert p.grad.isfinite().all(), name
        assert p.grad.any(), name


def test_a_number_beyond_the_data_is_taken_with_a_warning(caplog):
    number = Number(NUMBER, 4, mean=2, scale=2, low=0, high=4)
    within = number.prepare([0, "4", None, math.nan])
    assert not caplog.records
    assert torch.equal(within[:2], torch.tensor([-1.0, 1.0]))
    assert number.prepare([1, 8, -3]).tolist() == [-0.5, 3.0, -2.5]
    assert "8 is asked for, and the training data go from 0 to 4" in caplog.text


def test_numbers_are_told_apart_within_eight_scales():
    number = Number(NUMBER, 64)
    far = torch.linspace(-8, 8, 81)
    out = number(far)
    assert (torch.cdist(out, out) + torch.eye(81)).min() > 1e-3
    assert torch.equal(number(torch.tensor([9.0])), number(torch.tensor([8.0])))


@pytest.mark.parametrize("value", ["warm", math.inf, [1]])
def test_what_is_no_number_is_told(value):
    with pytest.raises(SuffuseError, match="a number is expected"):
        Number(NUMBER, 4).prepare([value])


@pytest.mark.parametrize(("condition", "scale"), [(DIGITS, 1.0), (NUMBER, 0.0), (NUMBER, math.nan)])
def test_a_number_needs_its_kind_and_a_scale(condition, scale):
    with pytest.raises(SuffuseError, match="a scale above 0"):
        Number(condition, 4, scale=scale)
