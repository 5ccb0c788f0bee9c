"""The nearest vectors are those of float64, though the table is read in half precision."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from suffuse_image.nearest import ROUNDING, nearest


@pytest.mark.parametrize("spread", [1.0, 0.02, 1e-4])  # the less, the more rows are nearly equal
@pytest.mark.parametrize("shape", [(3000, 32), (300, 5, 32)])
def test_the_best_are_those_of_all_products_in_float64(shape, spread, seed):
    torch.manual_seed(seed)
    middle = torch.randn(shape[-1])
    table = normalize(middle + spread * torch.randn(shape), dim=-1).half()
    query = normalize(middle + spread * torch.randn(shape[-1]), dim=0)
    score, row = nearest(table, query, 20)
    true = table.double() @ query.double()
    true = true if true.ndim == 1 else true.amax(1)
    assert score.tolist() == sorted(score.tolist(), reverse=True)
    assert len(set(row.tolist())) == 20
    torch.testing.assert_close(score.double(), true[row], atol=1e-6, rtol=0)
    torch.testing.assert_close(score.double(), true.topk(20).values, atol=1e-6, rtol=0)


def test_half_precision_alone_would_not_do():
    """Rows a 4096th apart are one number in half precision; the best of them is found all the same.

    The first is the best by less than float16 tells apart near 1.
    """
    angles = torch.linspace(0.3, 0.302, 64, dtype=torch.float64)
    query = normalize(torch.tensor([0.3, 0.95, 0.0711], dtype=torch.float64), dim=0)
    table = torch.stack([angles.sin(), angles.cos(), 0 * angles], 1).half()
    true = table.double() @ query
    assert len((table @ query.half()).unique()) < len(true.unique())
    score, row = nearest(table, query.float(), 3)
    torch.testing.assert_close(score.double(), true.topk(3).values, atol=1e-6, rtol=0)
    torch.testing.assert_close(true[row], true.topk(3).values, atol=1e-6, rtol=0)


def test_the_stated_error_holds_for_vectors_all_of_one_sign(seed):
    torch.manual_seed(seed)
    table = normalize(torch.rand(2000, 128), dim=1).half()
    query = normalize(torch.rand(128), dim=0).half()
    exact = table.double() @ query.double()
    assert ((table @ query).double() - exact).abs().max() < ROUNDING


def test_fewer_rows_than_asked_for_are_all_given():
    score, row = nearest(torch.eye(3).half(), torch.tensor([0.0, 0.0, 1.0]), 10)
    assert row.tolist()[0] == 2
    assert sorted(row.tolist()) == [0, 1, 2]
    assert score.tolist() == [1, 0, 0]
