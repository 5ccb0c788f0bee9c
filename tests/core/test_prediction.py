"""One converter for every pair of predictions."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from suffuse.diffusion import prediction, schedules
from suffuse.diffusion.process import Gaussian
from suffuse.errors import SuffuseError

NAMES = list(prediction.PREDICTIONS)
SCHEDULES = {"vp": schedules.cosine(), "flow": schedules.flow(), "ve": schedules.edm()}


@pytest.fixture
def drawn(seed):
    g = torch.Generator().manual_seed(seed)
    x_0, eps = torch.randn(2, 6, 5, dtype=torch.float64, generator=g)
    return x_0, eps, torch.rand(6, dtype=torch.float64, generator=g) * 0.9 + 0.05


@pytest.mark.parametrize("gauge", SCHEDULES)
@pytest.mark.parametrize(("p", "q"), list(itertools.product(NAMES, NAMES)))
def test_every_prediction_gives_every_other(gauge, p, q, drawn):
    x_0, eps, t = drawn
    c = SCHEDULES[gauge].at(t).align(x_0)
    truth = {}
    for name in (p, q):
        a, b = prediction.row(name, c, sigma_data=0.5)
        truth[name] = a * x_0 + b * eps
    x_t = c.alpha * x_0 + c.sigma * eps
    found = prediction.convert(truth[p], p, q, x_t, c, sigma_data=0.5)
    scale = truth[q].abs().max()
    torch.testing.assert_close(found / scale, truth[q] / scale, rtol=0, atol=1e-9)


@given(
    p=st.sampled_from(NAMES),
    q=st.sampled_from(NAMES),
    gauge=st.sampled_from(["vp", "flow", "ve"]),
    lam=st.floats(-8, 8),
    s=st.floats(0.1, 4),
)
def test_there_and_back_is_the_same_and_scales_are_inverse(p, q, gauge, lam, s):
    c = schedules.in_gauge(gauge, torch.tensor(lam, dtype=torch.float64))
    there, back = prediction.weights(p, q, c, s), prediction.weights(q, p, c, s)
    assert float(there[1] * back[1]) == pytest.approx(1, rel=1e-9)
    # k_x + k_p · l_x over the size of its terms, which cancel
    size = float(back[0].abs() + (back[1] * there[0]).abs()) + 1e-300
    assert abs(float(back[0] + back[1] * there[0])) < 1e-9 * size + 1e-300


@pytest.mark.parametrize("p", NAMES)
def test_an_error_of_the_prediction_is_scaled_by_its_coefficient(p, drawn):
    x_0, eps, t = drawn
    c = SCHEDULES["vp"].at(t).align(x_0)
    x_t = c.alpha * x_0 + c.sigma * eps
    a, b = prediction.row(p, c)
    error = torch.randn_like(x_0)
    estimate = prediction.convert(a * x_0 + b * eps + error, p, "x0", x_t, c)
    k = prediction.weights(p, "x0", c)[1]
    torch.testing.assert_close(estimate - x_0, k * error, rtol=1e-6, atol=1e-9)


def test_edm_in_the_variance_preserving_gauge_is_minus_v():
    c = SCHEDULES["vp"].at(torch.tensor([0.1, 0.5, 0.9]))
    for one, other in zip(prediction.row("edm", c), prediction.row("v", c), strict=True):
        torch.testing.assert_close(one, -other, rtol=1e-14, atol=0)


def test_the_preconditioner_is_karras_own():
    """c_skip and c_out of EDM's table 1, at sigma_data 0.5 in the variance exploding gauge."""
    s, sigma = 0.5, torch.tensor([0.02, 1.0, 40.0], dtype=torch.float64)
    c = schedules.in_gauge("ve", -sigma.log())
    c_skip, c_out = prediction.weights("edm", "x0", c, s)
    torch.testing.assert_close(c_skip, s**2 / (sigma**2 + s**2))
    torch.testing.assert_close(c_out, sigma * s / (sigma**2 + s**2).sqrt())


@pytest.mark.parametrize(("name", "t"), [("eps", 1.0), ("x0", 1.0), ("v", 1.0), ("v", 0.0)])
def test_times_that_tell_nothing_are_refused(name, t):
    schedule = schedules.cosine()
    times = torch.tensor([0.5, t])
    if name == "eps":
        with pytest.raises(SuffuseError, match="predicts 'eps' says nothing of the data at t = 1"):
            prediction.check(name, schedule, times)
    else:
        prediction.check(name, schedule, times)


def test_an_unknown_prediction_is_named():
    with pytest.raises(SuffuseError, match="no prediction 'epsilon'"):
        Gaussian(schedules.cosine(), prediction="epsilon")
