"""Operators: adjoints by dot products, decompositions against matrices that are written out."""

import pytest
import torch

from suffuse.diffusion import operators
from suffuse.errors import SuffuseError

F = torch.float64
GREY = torch.tensor([[0.299, 0.587, 0.114]], dtype=F)
SHAPE = (3, 6, 8)
# name -> a maker, so that random parts are drawn afresh
OPERATORS = {
    "identity": operators.identity,
    "mask": lambda: operators.mask(torch.rand(SHAPE) < 0.5),
    "mask of a plane": lambda: operators.mask(torch.rand(SHAPE[1:]) < 0.5),
    "subset": lambda: operators.subset([5, 0, 3], 6, axis=-2),
    "pool": lambda: operators.pool(2),
    "pool of rows": lambda: operators.pool(4, (-1,)),
    "mix": lambda: operators.mix(GREY, -3),
    "square mix": lambda: operators.mix(torch.randn(3, 3, dtype=F), -3),
    "rows": lambda: operators.rows(torch.randn(6, 5, 8, dtype=F)),
    "cubic": lambda: operators.resample((6, 8), (3, 5)),
    "linear": lambda: operators.resample((8,), (3,), axes=(-1,), kernel="linear"),
    "larger": lambda: operators.resample((6, 8), (9, 11)),
    "blur": lambda: operators.blur(0.6, (6, 8)),
    "convolution": lambda: operators.convolution(torch.randn(3, 4, dtype=F)),
    "convolution of rows": lambda: operators.convolution(torch.randn(5, dtype=F)),
    "band": lambda: operators.band(100, 300, rate=1000),
    "grey and small": lambda: (
        operators.mix(GREY, -3) @ operators.resample((6, 8), (3, 4), kernel="box")
    ),
    "composed": lambda: operators.mask(torch.rand(3, 3, 4) < 0.7) @ operators.pool(2),
    "by differentiation": lambda: operators.linear(
        lambda x: x.cumsum(-1)[..., ::2] - x[..., 1::2], SHAPE
    ),
}
every = pytest.mark.parametrize("name", OPERATORS)
decomposed = pytest.mark.parametrize(
    "name", [name for name, make in OPERATORS.items() if make().spectrum is not None]
)


def matrix(A, shape=SHAPE):
    """A written out, [data, states]."""
    basis = torch.eye(torch.Size(shape).numel(), dtype=F).reshape(-1, *shape)
    return A(basis).flatten(1).T


@every
def test_the_adjoint_is_the_transpose(name):
    A = OPERATORS[name]()
    x = torch.randn(4, *SHAPE, dtype=F)
    seen = A(x)
    y = torch.randn_like(seen)
    back = A.T(y)
    assert back.shape == x.shape
    left, right = ((a * b).flatten(1).sum(1) for a, b in ((seen, y), (x, back)))
    torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(A.T.T(x), seen, rtol=0, atol=0)
    with torch.inference_mode():
        torch.testing.assert_close(A.T(y * 1), back)


@decomposed
def test_functions_of_singular_values_are_those_of_the_matrix(name):
    A = OPERATORS[name]()
    x = torch.randn(3, *SHAPE, dtype=F)
    m = matrix(A)
    _, s, vh = torch.linalg.svd(m)
    s = torch.nn.functional.pad(s, (0, m.shape[1] - len(s)))
    for f in (lambda s: torch.cos(3 * s), lambda s: 1 / (s**2 + 0.1), torch.ones_like):
        expected = (x.flatten(1) @ vh.T * f(s)) @ vh
        torch.testing.assert_close(
            A.spectral(f, x).flatten(1), expected, rtol=1e-9, atol=1e-9, msg=name
        )
    # one that differs between the samples of a batch
    level = torch.tensor([0.5, 1.0, 2.0], dtype=F).reshape(-1, 1, 1, 1)
    found = A.spectral(lambda s: 1 / (s**2 + level), x)
    for i in range(3):
        alone = A.spectral(lambda s, i=i: 1 / (s**2 + level[i, 0, 0, 0]), x[i : i + 1])
        torch.testing.assert_close(found[i : i + 1], alone)


@decomposed
def test_the_pseudo_inverse_is_that_of_the_matrix(name):
    A = OPERATORS[name]()
    y = torch.randn_like(A(torch.zeros(2, *SHAPE, dtype=F)))
    m = matrix(A)
    cut = operators.SEEN * float(torch.linalg.matrix_norm(m, 2))
    inverse = torch.linalg.pinv(m, atol=cut, rtol=0)
    found = A.pseudo_inverse(y).flatten(1)
    torch.testing.assert_close(found, y.flatten(1) @ inverse.T, rtol=1e-8, atol=1e-8)
    x = torch.randn(2, *SHAPE, dtype=F)
    torch.testing.assert_close(
        A.unseen(x).flatten(1), x.flatten(1) - x.flatten(1) @ m.T @ inverse.T, rtol=1e-8, atol=1e-8
    )


def test_projections_are_idempotent():
    x = torch.randn(2, *SHAPE, dtype=F)
    for name, make in OPERATORS.items():
        A = make()
        if A.projection:
            torch.testing.assert_close(A(A(x)), A(x), msg=name)
            torch.testing.assert_close(A.T(x), A(x), msg=name)


def test_a_mask_does_not_read_what_is_unknown():
    known = torch.tensor([True, False, True])
    x = torch.tensor([[1.0, float("nan"), 2.0]])
    assert operators.mask(known)(x).tolist() == [[1.0, 0.0, 2.0]]
    batch = operators.mask(torch.tensor([[1, 0], [0, 1]]))
    assert batch(torch.ones(2, 2)).tolist() == [[1, 0], [0, 1]]


def test_resampling_is_torchs_antialiased_interpolation():
    x = torch.rand(2, 3, 13, 17, dtype=F)
    for kernel, mode in (("cubic", "bicubic"), ("linear", "bilinear")):
        for to in ((5, 6), (13, 9), (20, 31)):
            found = operators.resample((13, 17), to, kernel=kernel)(x)
            expected = torch.nn.functional.interpolate(x, to, mode=mode, antialias=True)
            torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    box = operators.resample((12, 18), (4, 6), kernel="box")
    x = torch.rand(2, 3, 12, 18, dtype=F)
    torch.testing.assert_close(box(x), operators.pool(3)(x))
    torch.testing.assert_close(box(x), torch.nn.functional.avg_pool2d(x, 3))


def test_filters_do_what_they_say():
    time = torch.arange(1000, dtype=F) / 1000
    low, high = torch.sin(2 * torch.pi * 50 * time), torch.sin(2 * torch.pi * 310 * time)
    kept = operators.band(0, 100, rate=1000)((low + high)[None])
    torch.testing.assert_close(kept[0], low, rtol=1e-9, atol=1e-9)
    x = torch.rand(1, 1, 7, 9, dtype=F)
    kernel = torch.rand(3, 3, dtype=F)
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1), mode="circular")
    direct = torch.nn.functional.conv2d(padded, kernel.flip(0, 1)[None, None])
    torch.testing.assert_close(operators.convolution(kernel)(x), direct)
    flat = torch.full((1, 1, 6, 8), 0.3, dtype=F)
    torch.testing.assert_close(operators.blur(1.5, (6, 8))(flat), flat)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: operators.subset([0, 0], 3), "each at most once"),
        (lambda: operators.subset([3], 3), "from 0 to 2"),
        (lambda: operators.pool(4)(torch.zeros(1, 6, 8)), "blocks of 4"),
        (lambda: operators.resample((4,), (2,), (-1,), "cubik"), "did you mean 'cubic'"),
        (lambda: operators.blur(0.0, (4, 4)), "above 0"),
        (lambda: operators.convolution(torch.ones(9))(torch.zeros(1, 4)), "does not fit"),
        (lambda: operators.band(3, 2), "rises"),
        (lambda: operators.Operator("clip", torch.tanh).T, "no adjoint"),
        (lambda: OPERATORS["composed"]().unseen(torch.zeros(1, *SHAPE)), "mmps"),
    ],
)
def test_mistakes_are_told(make, message):
    with pytest.raises(SuffuseError, match=message):
        make()
