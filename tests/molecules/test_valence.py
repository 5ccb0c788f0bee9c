"""Repairs: what is admitted, and how pieces are joined."""

import numpy as np
import pytest

from suffuse_molecules.valence import admit, join, open_rings, pieces


def symmetric(n, bonds):
    orders = np.zeros((n, n), dtype=np.int64)
    for i, j, order in bonds:
        orders[i, j] = orders[j, i] = order
    return orders


def test_no_capacity_is_exceeded_and_one_piece_results(rng):
    for _ in range(200):
        n = int(rng.integers(2, 12))
        capacity = rng.integers(2, 5, n)
        wanted = np.triu(rng.integers(0, 4, (n, n)), 1)
        sure = rng.random((n, n))
        out = admit(wanted + wanted.T, capacity, sure + sure.T)
        assert (out.sum(1) <= capacity).all()
        assert (out <= wanted + wanted.T).all()
        whole = join(out, capacity, sure + sure.T)
        assert (whole.sum(1) <= capacity).all()
        assert (whole == whole.T).all()
        assert pieces(whole).max() == 0


def test_the_surest_bonds_are_admitted_first():
    wanted = symmetric(3, [(0, 1, 1), (0, 2, 1)])
    sure = symmetric(3, [(0, 1, 1), (0, 2, 2)]) / 2
    assert (admit(wanted, [1, 1, 1], sure) == symmetric(3, [(0, 2, 1)])).all()


def test_an_order_is_lowered_rather_than_a_bond_lost():
    wanted = symmetric(3, [(0, 1, 2), (1, 2, 3)])
    sure = symmetric(3, [(0, 1, 2), (1, 2, 1)])
    expected = symmetric(3, [(0, 1, 2), (1, 2, 2)])
    assert (admit(wanted, [4, 4, 4], sure) == expected).all()


def test_a_valid_graph_is_left_alone():
    ring = symmetric(4, [(0, 1, 2), (1, 2, 1), (2, 3, 2), (3, 0, 1)])
    assert (admit(ring, [4] * 4, np.ones((4, 4))) == ring).all()
    assert (join(ring, [4] * 4, np.ones((4, 4))) == ring).all()


def test_pieces_are_joined_by_the_likeliest_bond():
    apart = symmetric(4, [(0, 1, 1), (2, 3, 1)])
    likely = symmetric(4, [(0, 2, 1), (1, 3, 3), (1, 2, 2)]) / 4
    assert (join(apart, [4] * 4, likely) == apart + symmetric(4, [(1, 3, 1)])).all()


def test_a_full_piece_gives_up_half_a_double_bond():
    apart = symmetric(4, [(0, 1, 2), (2, 3, 1)])
    joined = join(apart, [2, 2, 4, 4], np.ones((4, 4)))
    assert joined[0, 1] == 1
    assert pieces(joined).max() == 0


def test_a_full_ring_is_opened():
    ring = symmetric(4, [(0, 1, 1), (1, 2, 1), (2, 0, 1)])
    joined = join(ring, [2, 2, 2, 4], np.ones((4, 4)))
    assert pieces(joined).max() == 0
    assert joined.sum() == 6


def test_pairs_that_are_held_are_neither_joined_nor_lowered_nor_opened():
    ring = symmetric(6, [(0, 1, 1), (1, 2, 1), (2, 0, 1), (0, 3, 2), (4, 5, 1)])
    held = symmetric(
        6, [(0, 1, 1), (1, 2, 1), (2, 0, 1), *[(i, j, 1) for i in (1, 2) for j in (3, 4, 5)]]
    )
    likely = np.where(held > 0, np.inf, 0.5)
    joined = join(ring, [4, 4, 4, 2, 1, 4], likely)
    assert pieces(joined).max() == 0
    assert (joined[held > 0] == ring[held > 0]).all()
    assert joined[0, 3] == 1  # what is not held gives way
    everything = np.full((6, 6), np.inf)
    assert (join(ring, [4, 4, 4, 2, 1, 4], everything) == ring).all()
    assert (open_rings(ring, everything, 2) == ring).all()


@pytest.mark.parametrize("n", [2, 4])
def test_what_cannot_be_joined_stays_apart(n):
    fluorine = symmetric(n, [(i, i + 1, 1) for i in range(0, n - 1, 2)])
    assert (join(fluorine, [1] * n, np.ones((n, n))) == fluorine).all()
