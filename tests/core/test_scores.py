"""Scores of unusualness: closed forms on normal data, declared costs, calibration."""

import math

import pytest
import torch

from suffuse import plugins
from suffuse.diffusion import Noise, oracle, schedules, scores
from suffuse.diffusion.scores import SCORES, calibrate
from suffuse.errors import SuffuseError

F = torch.float64
D = 4
SCHEDULES = {"vp": schedules.cosine(), "flow": schedules.flow(), "ve": schedules.edm()}
gauges = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
every = pytest.mark.parametrize("name", SCORES)


def gaussian():
    A = torch.randn(D, D, dtype=F)
    return oracle.Gaussian(torch.zeros(D, dtype=F), A @ A.T / D + 0.1 * torch.eye(D, dtype=F))


def drawn(data, n):
    return torch.randn(n, D, dtype=F) @ torch.linalg.cholesky(data.covariance).T


def kept(data, lam):
    """K with d(x_t) = K x_t / α at the level λ."""
    noisy = data.covariance + math.exp(-2 * lam) * torch.eye(D, dtype=F)
    return data.covariance @ torch.linalg.inv(noisy)


def expectation(score, data):
    """E over the data of a score that is a quadratic form without linear part, exactly."""
    v, U = data.axes()
    return score((U * v.sqrt()).T).sum(0)


@gauges
def test_reconstruction_is_the_posteriors_variance(schedule):
    """tr Cov[x_0 | x_t] / D over data and noise; for a datum, what the drawn noise makes it."""
    data = gaussian()
    lams = (-1.0, 0.5, 3.0)
    score = scores.Reconstruction(data.denoiser(schedule), schedule, lams, draws=2)
    x = drawn(data, 3)
    found = score.elements(x, seed=5)
    assert found.shape == (3, 3, D)
    mean = torch.zeros(3, dtype=F)
    for i, lam in enumerate(lams):
        K, ratio = kept(data, lam), math.exp(-lam)
        exact = []
        for j in range(2):
            eps = Noise([5]).normal((D,), step=2 * i + j, stream=2, dtype=F)
            exact.append((x - (x + ratio * eps) @ K.T) ** 2)
        torch.testing.assert_close(found[:, i], sum(exact) / 2, rtol=1e-9, atol=1e-9)
        rest = torch.eye(D, dtype=F) - K
        mean[i] = torch.trace(rest @ data.covariance @ rest.T + ratio**2 * K @ K.T) / D
        precision = torch.linalg.inv(data.covariance) + torch.eye(D, dtype=F) / ratio**2
        torch.testing.assert_close(mean[i], torch.linalg.inv(precision).trace() / D)
    many = scores.Reconstruction(data.denoiser(schedule), schedule, lams, draws=100)
    torch.testing.assert_close(many(drawn(data, 500)).mean(0), mean, rtol=0.2, atol=0)
    torch.testing.assert_close(score(x, seed=5), found.mean(2))


@gauges
def test_the_score_norm_has_its_expectation(schedule):
    data = gaussian()
    score = scores.ScoreNorm(data.denoiser(schedule), schedule)
    exact = []
    for lam in score.lams:
        slope = torch.linalg.inv(data.covariance + math.exp(-2 * lam) * torch.eye(D, dtype=F))
        exact.append(math.exp(-2 * lam) * torch.trace(slope @ data.covariance @ slope) / D)
    torch.testing.assert_close(expectation(score, data), torch.stack(exact))


@gauges
def test_curvature_has_its_expectation(schedule):
    data = gaussian()
    score = scores.Curvature(data.denoiser(schedule), schedule, (3.0, 2.5, 1.0))
    v, _ = data.axes()
    x, eps = torch.ones_like(v), []
    for i, lam in enumerate(score.lams):
        ratio = math.exp(-lam)
        eps.append(x * ratio / (v + ratio**2))
        if i < 2:
            x = x + (math.exp(-score.lams[i + 1]) - ratio) * eps[-1]
    exact = [
        (v * ((eps[i] - eps[i + 1]) / (score.lams[i] - score.lams[i + 1])) ** 2).mean()
        for i in range(2)
    ]
    torch.testing.assert_close(expectation(score, data), torch.stack(exact))


@gauges
def test_the_diffusion_time_is_the_posterior_mean_of_the_level(schedule):
    data = gaussian()
    grid = torch.linspace(-3, 4, 4201, dtype=F)
    covariances = data.covariance + torch.exp(-2 * grid)[:, None, None] * torch.eye(D, dtype=F)
    density = torch.distributions.MultivariateNormal(torch.zeros(D, dtype=F), covariances)
    x = torch.randn(5, D, dtype=F) * torch.tensor([0.1, 0.5, 1.0, 3.0, 9.0], dtype=F)[:, None]
    log_p = density.log_prob(x[:, None])
    slope = torch.gradient(log_p, spacing=1 / 600, dim=1)[0][:, 75:-75:75]
    exact = -(log_p.softmax(1) * grid).sum(1)
    fine, denoise = tuple(torch.linspace(-3, 4, 57).tolist()), data.denoiser(schedule)
    score = scores.DiffusionTime(denoise, schedule, fine, probes=0)
    torch.testing.assert_close(score.slopes(x)[:, 1:-1], slope, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(score(x)[:, 0], exact, rtol=0, atol=0.01)
    coarse = scores.DiffusionTime(denoise, schedule, probes=0)(x)
    torch.testing.assert_close(coarse[:, 0], exact, rtol=0, atol=0.05)
    probed = scores.DiffusionTime(denoise, schedule, probes=64)(x)
    torch.testing.assert_close(probed[:, 0], exact, rtol=0, atol=0.3)
    usual = scores.DiffusionTime(denoise, schedule)(drawn(data, 200))
    assert len(set(usual[:, 0].tolist())) == 200  # no ties


@gauges
def test_the_likelihood_is_that_of_the_data(schedule):
    data = gaussian()
    x = drawn(data, 4)
    score = scores.NegativeLogLikelihood(data.denoiser(schedule), schedule, probes=0, steps=60)
    blurred = data.covariance + math.exp(-2 * score.lams[1]) * torch.eye(D, dtype=F)
    density = torch.distributions.MultivariateNormal(torch.zeros(D, dtype=F), blurred)
    torch.testing.assert_close(score(x)[:, 0], -density.log_prob(x) / D, rtol=0, atol=0.02)


# What all have in common


@every
def test_costs_are_as_declared(name):
    count = {"calls": 0, "pullbacks": 0}
    data, schedule = gaussian(), schedules.cosine()
    exact = data.denoiser(schedule)

    class Counted(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            count["pullbacks"] += 1
            return grad

    def denoise(x, t):
        count["calls"] += 1
        return Counted.apply(exact(x, t))

    score = SCORES[name](denoise, schedule)
    with torch.inference_mode():
        found = score(drawn(data, 7))
    assert found.shape[0] == 7
    assert found.ndim == 2
    assert count == {"calls": score.calls, "pullbacks": score.pullbacks}


@every
def test_a_datum_has_the_same_score_in_any_batch_and_place(name):
    data, schedule = gaussian(), schedules.flow()
    score = SCORES[name](lambda x, t, shift: data.denoiser(schedule)(x - 0 * shift, t), schedule)
    x = drawn(data, 6)
    shift = torch.zeros(6, 1, dtype=F)
    whole = score(x, seed=3, shift=shift)
    order = torch.tensor([4, 1, 5])
    part = score(x[order], seed=3, shift=shift[order])
    torch.testing.assert_close(part, whole[order], rtol=1e-12, atol=1e-12)


@every
@pytest.mark.parametrize("kind", ["z", "quantile"])
def test_higher_is_more_unusual(name, kind):
    data, schedule = gaussian(), schedules.cosine()
    score = SCORES[name](data.denoiser(schedule), schedule)
    usual = calibrate(score(drawn(data, 300)), kind)
    normal, far = usual(score(drawn(data, 300))), usual(score(4 * drawn(data, 300)))
    auroc = float((far[:, None] > normal).double().mean())
    assert auroc > 0.9
    assert normal.shape == (300,)


@pytest.mark.parametrize("name", ["reconstruction", "score-norm", "curvature"])
def test_padding_does_not_count(name):
    """A padded state has the score of the same state without padding."""
    data, schedule = gaussian(), schedules.cosine()
    exact = data.denoiser(schedule)

    def padded(x, t, mask):
        own = exact(x[:, :D], t)
        return torch.cat([own, 100 * torch.ones(len(x), 2, dtype=F)], 1)

    x = drawn(data, 5)
    mask = (torch.arange(D + 2) < D).expand(5, -1)
    garbage = torch.cat([x, torch.randn(5, 2, dtype=F)], 1)
    if name == "reconstruction":  # its noise is drawn for the whole state
        alone = SCORES[name](padded, schedule).elements(garbage, seed=1, mask=mask)
        alone = alone[..., :D].mean(2)
    else:
        alone = SCORES[name](exact, schedule)(x)
    found = SCORES[name](padded, schedule)(garbage, seed=1, mask=mask)
    torch.testing.assert_close(found, alone)


@pytest.mark.parametrize("name", ["likelihood", "diffusion-time"])
def test_scores_of_whole_states_refuse_padding(name):
    score = SCORES[name](lambda x, t, mask: x, schedules.cosine())
    with pytest.raises(SuffuseError, match="padding would count"):
        score(torch.zeros(2, 3), mask=torch.ones(2, 3, dtype=torch.bool))


@pytest.mark.parametrize("name", ["likelihood", "diffusion-time"])
def test_scores_of_whole_states_have_no_elements(name):
    score = SCORES[name](lambda x, t: x, schedules.cosine())
    with pytest.raises(SuffuseError, match="no sum"):
        score.elements(torch.zeros(1, 2))


# Calibration


def test_z_scores_have_mean_0_and_deviation_1_at_each_level():
    raw = torch.rand(500, 3, dtype=F) * torch.tensor([1.0, 100.0, 1e-6], dtype=F)
    usual = calibrate(raw)
    for i in range(3):
        alone = calibrate(raw[:, i : i + 1])(raw[:, i : i + 1])
        assert float(alone.mean()) == pytest.approx(0, abs=1e-9)
        assert float(alone.std()) == pytest.approx(1, abs=1e-9)
    torch.testing.assert_close(usual(raw), ((raw - raw.mean(0)) / raw.std(0)).mean(1))


def test_quantiles_are_surprise_whatever_the_scale_without_ties_or_end():
    """−log of a uniform number is exponential of mean 1; also in the tail that is extrapolated."""
    raw = torch.randn(4000, 2, dtype=F).exp()
    usual = calibrate(raw, "quantile")
    fresh = torch.randn(4000, 2, dtype=F).exp()
    alone = calibrate(raw[:, :1], "quantile")(fresh[:, :1])
    assert float(alone.mean()) == pytest.approx(1, abs=0.1)
    assert float((alone > math.log(20)).double().mean()) == pytest.approx(0.05, abs=0.02)
    warped = calibrate(raw[:, :1] * 7, "quantile")(fresh[:, :1] * 7)
    torch.testing.assert_close(warped, alone)
    low = float(raw[:, 0].min())
    for high in (1.1 * low, 2.0, 1000.0):
        line = torch.linspace(low, high, 20_000, dtype=F)[:, None]
        assert (calibrate(raw[:, :1], "quantile")(line).diff() > 0).all()
    assert usual(fresh).shape == (4000,)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: calibrate(torch.rand(30, 2), "quantil"), "did you mean 'quantile'"),
        (lambda: calibrate(torch.rand(10, 2), "quantile"), "20 data"),
        (lambda: calibrate(torch.full((30, 2), math.nan)), "finite"),
        (lambda: calibrate(torch.rand(30)), "finite scores"),
        (lambda: calibrate(torch.rand(30, 2))(torch.rand(3, 4)), "2 levels"),
        (lambda: scores.Curvature(lambda x, t: x, schedules.cosine(), (1.0, 2.0)), "falling"),
    ],
)
def test_mistakes_are_told(make, message):
    with pytest.raises(SuffuseError, match=message):
        make()


@every
def test_every_score_is_registered(name):
    schedule, options = schedules.cosine(), {"lams": [-2.0, 2.0]}
    if name == "curvature":
        options["lams"].reverse()
    denoise = gaussian().denoiser(schedule)
    built = plugins.build("scorer", {"name": name, **options}, denoiser=denoise, schedule=schedule)
    assert isinstance(built, SCORES[name])
    assert built.lams == tuple(options["lams"])
    assert built(torch.randn(2, D, dtype=F)).isfinite().all()
    assert {entry.name for entry in plugins.entries("scorer")} == set(SCORES)
