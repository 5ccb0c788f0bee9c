"""Noise by counter: published vectors, independence of batch and order, moments."""

import numpy as np
import pytest
import torch
from scipy import stats

from suffuse.diffusion import Noise
from suffuse.errors import SuffuseError
from suffuse.kernels import philox4x32

# counter, key, words: the known answers published with the generator (Random123, kat_vectors)
VECTORS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    (
        (0xFFFFFFFF,) * 4,
        (0xFFFFFFFF,) * 2,
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), VECTORS)
def test_philox_gives_its_published_words(counter, key, words):
    found = philox4x32(
        tuple(torch.tensor([c]) for c in counter), tuple(torch.tensor([k]) for k in key)
    )
    assert tuple(int(w) for w in found) == words


def test_a_sample_has_the_same_noise_in_any_batch_and_order():
    whole = Noise(11, 6).normal((3, 5), step=4)
    for i in (5, 0, 3):
        assert torch.equal(Noise(11, 1, first=i).normal((3, 5), step=4)[0], whole[i])
    assert torch.equal(Noise(11, 6)[2:5].normal((3, 5), step=4), whole[2:5])


def test_seeds_in_a_list_are_the_first_sample_of_each():
    found = Noise([5, 9]).normal((4,), step=0)
    assert torch.equal(found[0], Noise(5, 1).normal((4,), step=0)[0])
    assert torch.equal(found[1], Noise(9, 1).normal((4,), step=0)[0])


def test_numpy_integers_are_seeds():
    one = Noise(7, 2).normal((3,), step=0)
    assert torch.equal(Noise(np.int64(7), 2).normal((3,), step=0), one)
    assert torch.equal(Noise(np.array([7, 7])).normal((3,), step=0)[0], one[0])


def test_a_prefix_does_not_depend_on_the_number_of_elements():
    noise = Noise(3, 2)
    assert torch.equal(noise.normal((9,), step=1)[:, :5], noise.normal((5,), step=1))


@pytest.mark.parametrize("other", [{"step": 1}, {"stream": 2}, {"seed": 1}, {"seed": 2**40}])
def test_every_coordinate_changes_the_noise(other):
    def draw(seed=0, step=0, stream=1):
        return Noise(seed, 4).normal((64,), step=step, stream=stream)

    assert not torch.isclose(draw(), draw(**other)).any()


def test_normals_are_normal_and_independent():
    z = Noise(20, 100).normal((4000,), step=0, dtype=torch.float64).numpy()
    assert stats.kstest(z.ravel(), "norm").pvalue > 1e-3
    assert abs(z.mean()) < 5 / z.size**0.5
    neighbours = [(z[:, :-k] * z[:, k:]).mean() for k in range(1, 5)]
    samples = (z[:-1] * z[1:]).mean()
    assert max(map(abs, [*neighbours, samples])) < 5 / z.size**0.5


def test_uniforms_are_uniform_and_never_0_or_1():
    u = Noise(1, 50).uniform((2000,), step=0, stream=3)
    assert u.dtype == torch.float64
    assert 0 < u.min() < u.max() < 1
    assert stats.kstest(u.flatten().numpy(), "uniform").pvalue > 1e-3


def test_both_precisions_come_from_the_same_words():
    one, two = (Noise(1, 8).normal((101,), step=0, dtype=d) for d in (torch.float32, torch.float64))
    torch.testing.assert_close(one.double(), two, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Noise(1), "number of samples"),
        (lambda: Noise([1, 2], 3), "2 seeds were given for 3 samples"),
        (lambda: Noise(-1, 1), "2\\^64"),
        (lambda: Noise(1, 2, first=2**32 - 1), "numbered from 0"),
    ],
)
def test_wrong_seeds_are_told(make, message):
    with pytest.raises(SuffuseError, match=message):
        make()


@pytest.mark.parametrize("n", [1, 7, 4 * 2**14 + 5])
def test_tiles_change_nothing(n):
    from suffuse.kernels.philox import draw, normals

    noise = Noise(5, 3)
    whole = normals(draw(noise.words, n, 2, noise.stream(1))).flatten(1)[:, :n]
    assert torch.equal(noise.normal((n,), step=2, stream=1), whole)
