"""The Gaussian process: exact losses, guidance, and the oracle's own answers."""

import math

import pytest
import torch

from suffuse import nn
from suffuse.diffusion import Gaussian, oracle, prediction, schedules
from suffuse.diffusion.prediction import PREDICTIONS
from suffuse.diffusion.process import WEIGHTINGS
from suffuse.errors import SuffuseError
from suffuse.testing.mathematics import check_gaussian_loss, exact_network

SCHEDULES = {"vp": schedules.cosine(), "flow": schedules.flow(), "ve": schedules.edm()}
F = torch.float64
gauges = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())


@gauges
@pytest.mark.parametrize("name", PREDICTIONS)
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_v8_the_exact_model_has_the_known_least_loss_and_no_gradient(schedule, name, weighting):
    check_gaussian_loss(Gaussian(schedule, name, sigma_data=0.5, weighting=weighting))


def _hermite(n):
    import numpy as np

    x, w = np.polynomial.hermite_e.hermegauss(n)
    return x, w / w.sum()


@gauges
@pytest.mark.parametrize("name", PREDICTIONS)
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_v8_every_prediction_has_one_gradient_but_for_the_stated_weight(schedule, name, weighting):
    """A wrong estimate k x_t + m, written as each prediction, by quadrature over x_0 and ε.

    Its expected squared error is that of a quadratic, known in closed form, and so are the
    gradients in k and m.
    """
    v, s, bias = 0.6, 0.5, -1.0
    process = Gaussian(schedule, name, sigma_data=s, weighting=weighting, bias=bias)
    nodes, weights = (torch.from_numpy(k) for k in _hermite(8))
    x_0, eps = torch.meshgrid(nodes * math.sqrt(v), nodes, indexing="ij")
    w = (weights[:, None] * weights[None]).flatten()
    for t in (0.2, 0.5, 0.8):
        c = schedule.at(t)
        wrong = torch.tensor([0.3, -0.2], dtype=F, requires_grad=True)
        network = exact_network(process, lambda x, t, k=wrong: k[0] * x + k[1])
        times = torch.full((w.numel(),), t, dtype=F)
        losses = process.loss(network, x_0.reshape(-1, 1), times, eps.reshape(-1, 1))
        found = torch.autograd.grad((w * losses).sum(), wrong)[0]
        k, m = wrong.detach()
        level = c.alpha**2 * v + c.sigma**2
        exact = torch.stack([2 * (k * level - c.alpha * v), 2 * m])
        snr = (c.alpha / c.sigma) ** 2
        stated = {
            "unit": prediction.weights(name, "x0", c, s)[1] ** -2,
            "min-snr": snr.clamp(max=5),
            "edm": (1 / snr + s**2) / (s**2 / snr),
            "sigmoid": snr / (1 + snr * math.exp(-bias)),
        }[weighting]
        torch.testing.assert_close(found, stated * exact, rtol=1e-8, atol=1e-9)
        error = k**2 * level - 2 * k * c.alpha * v + v + m**2
        assert (w * losses).sum().item() == pytest.approx(float(stated * error), rel=1e-8)


def test_the_edm_row_has_the_edm_weight_by_itself():
    x_0, eps = torch.randn(2, 5, 3, dtype=F)
    t = torch.rand(5, dtype=F) * 0.8 + 0.1
    ask = lambda x, level: torch.sin(x)  # noqa: E731
    plain, weighed = (
        Gaussian(schedules.edm(), "edm", 0.5, weighting).loss(ask, x_0, t, eps)
        for weighting in ("unit", "edm")
    )
    torch.testing.assert_close(plain, weighed)
    with pytest.raises(SuffuseError, match="did you mean 'min-snr'"):
        Gaussian(schedules.edm(), weighting="min_snr")


def test_uncertainty_learns_the_mean_loss_of_every_level():
    """L / e^v + v is least at v = log E[L | u]; the network's gradient is divided by E[L | u]."""
    module = nn.Uncertainty()
    optimizer = torch.optim.Adam(module.parameters(), 0.02)
    truth = lambda u: 2 * torch.sin(3 * u) - 3 * u  # noqa: E731
    for step in range(600):
        u = torch.rand(256)
        losses = truth(u).exp() * -torch.rand(256).log()  # exponential, of mean 1
        for group in optimizer.param_groups:
            group["lr"] = 0.02 * (1 - step / 600)
        optimizer.zero_grad()
        module(losses, u).mean().backward()
        optimizer.step()
    u = torch.linspace(0.03, 0.97, 50)
    assert (module.log_variance(u) - truth(u)).abs().max() < 0.35
    losses = torch.ones(50, requires_grad=True)
    (gradient,) = torch.autograd.grad(module(losses, u).sum(), losses)
    torch.testing.assert_close(gradient, torch.exp(-module.log_variance(u)))
    frames = u.reshape(10, 5)
    expected = module.log_variance(frames).mean(1)
    torch.testing.assert_close(module(torch.zeros(10), frames), expected)


def test_training_levels_follow_the_asked_distribution():
    u = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    process = Gaussian(schedules.edm(), level_mean=1.2, level_std=1.2)
    lam = process.schedule.at(process.levels(u)).lam
    assert float(lam.mean()) == pytest.approx(1.2, abs=1e-2)
    assert float(lam.std()) == pytest.approx(1.2, abs=1e-2)
    assert (process.levels(u).diff() > 0).all()
    assert torch.equal(Gaussian(schedules.cosine()).levels(u), u)


def test_a_level_for_each_frame_corrupts_each_frame_by_its_own():
    process = Gaussian(schedules.cosine())
    x_0, eps = torch.randn(2, 3, 4, 5)
    t = torch.rand(3, 4)
    whole = process.corrupt(x_0, t, eps)
    for f in range(4):
        alone = process.corrupt(x_0[:, f], t[:, f], eps[:, f])
        torch.testing.assert_close(whole[:, f], alone)
    seen = []
    process.loss(lambda x, level: seen.append(level) or x, x_0, t, eps)
    assert seen[0].shape == (3, 4)


def test_the_network_sees_inputs_of_unit_variance_and_bounded_levels():
    process = Gaussian(schedules.edm(), sigma_data=0.5, prediction="edm")
    t = torch.linspace(0, 1, 7)
    x_0, eps = 0.5 * torch.randn(7, 4000), torch.randn(7, 4000)
    seen = []
    process.loss(lambda x, level: seen.extend([x, level]) or x, x_0, t, eps)
    torch.testing.assert_close(seen[0].std(1), torch.ones(7), rtol=0.06, atol=0)
    assert seen[1].abs().max() <= 5


# The oracle


@gauges
def test_the_gaussian_oracle_is_bayes_rule(schedule):
    mean = torch.randn(3, dtype=torch.float64)
    A = torch.randn(3, 3, dtype=torch.float64)
    S = A @ A.T
    x_t, t = torch.randn(4, 3, dtype=torch.float64), torch.rand(4, dtype=torch.float64) * 0.9 + 0.05
    found = oracle.Gaussian(mean, S).denoiser(schedule)(x_t, t)
    for i in range(4):
        a, s, _ = schedule.at(t[i])
        K = a * S @ torch.linalg.inv(a**2 * S + s**2 * torch.eye(3, dtype=torch.float64))
        torch.testing.assert_close(found[i], mean + K @ (x_t[i] - a * mean), rtol=1e-9, atol=1e-9)


@gauges
def test_v6_the_mixture_oracle_is_bayes_rule_by_enumeration(schedule):
    mix = oracle.Mixture(
        weights=torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64),
        means=torch.randn(3, 2, dtype=torch.float64) * 2,
        variances=torch.tensor([0.1, 0.4, 1.0], dtype=torch.float64),
    )
    x_t, t = torch.randn(5, 2, dtype=torch.float64), torch.rand(5, dtype=torch.float64) * 0.9 + 0.05
    found = mix.denoiser(schedule)(x_t, t)
    for i in range(5):
        a, s, _ = schedule.at(t[i])
        density, mean = [], []
        for w, m, v in zip(mix.weights, mix.means, mix.variances, strict=True):
            total = a**2 * v + s**2
            far = ((x_t[i] - a * m) ** 2).sum()
            density.append(w * torch.exp(-far / (2 * total)) / total)
            mean.append(m + a * v / total * (x_t[i] - a * m))
        p = torch.stack(density) / sum(density)
        torch.testing.assert_close(found[i], (p[:, None] * torch.stack(mean)).sum(0))


def test_v6_the_density_of_a_mixture_integrates_to_one():
    mix = oracle.Mixture(
        torch.tensor([0.4, 0.6], dtype=F),
        torch.tensor([[-1.0], [2.0]], dtype=F),
        torch.tensor([0.3, 0.5], dtype=F),
    )
    x = torch.linspace(-12, 14, 20001, dtype=torch.float64)[:, None]
    total = torch.trapezoid(mix.log_prob(x).exp(), x[:, 0])
    assert float(total) == pytest.approx(1.0, abs=1e-10)
