"""Plans made for one denoiser, judged on starting points that they did not see."""

import itertools

import numpy as np
import pytest
import torch

from suffuse.diffusion import oracle, sample, schedules, solvers
from suffuse.diffusion.tuning import FITTED, _Fit, _grid, _shifted
from suffuse.errors import SuffuseError

F = torch.float64
SCHEDULE = schedules.scaled_linear()


@pytest.fixture(scope="module")
def mixture():
    g = torch.Generator().manual_seed(1)
    means = torch.randn(6, 8, generator=g, dtype=F)
    return oracle.Mixture(torch.full((6,), 1 / 6, dtype=F), means, torch.full((6,), 0.05, dtype=F))


@pytest.fixture(scope="module")
def starts():
    g = torch.Generator().manual_seed(2)
    return torch.randn(2, 128, 8, generator=g, dtype=F)


def mean_error(denoise, plan, x, end):
    found = sample(denoise, plan, x=x)
    return float(((found - end).norm(dim=1) / end.norm(dim=1)).mean())


@pytest.mark.parametrize("calls", [5, 10])
def test_a_tuned_plan_beats_every_untuned_one_on_starts_it_did_not_see(mixture, starts, calls):
    denoise, (seen, unseen) = mixture.denoiser(SCHEDULE), starts
    fine = solvers.plan("flow-rk4", SCHEDULE, grid=np.linspace(1, 0, 301))
    end = sample(denoise, fine, x=unseen)
    tuned = solvers.tune(denoise, SCHEDULE, calls=calls, x=seen)
    assert len(tuned) == calls
    assert not tuned.stochastic
    others = [
        mean_error(denoise, solvers.plan(name, SCHEDULE, steps=calls, grid=grid), unseen, end)
        for name in ("multistep", "unipc", "dpmpp-2m", "deis")
        for grid in ("uniform", "logsnr", "karras", "ays")
    ]
    assert mean_error(denoise, tuned, unseen, end) < 0.6 * min(others)


def test_one_call_on_gaussian_data_is_exact(starts):
    """The flow of normal data is linear in x and d, so that regression finds it."""
    data = oracle.Gaussian(torch.zeros(8, dtype=F), 0.3 * torch.eye(8, dtype=F))
    tuned = solvers.tune(data.denoiser(SCHEDULE), SCHEDULE, calls=2, x=starts[0])
    end = data.flow(SCHEDULE, starts[1], 1.0, 0.0)
    assert mean_error(data.denoiser(SCHEDULE), tuned, starts[1], end) < 2e-3


def test_the_grid_is_the_least_sum_of_residuals(seed):
    """Dynamic programming against trying every chain, on random trajectories."""
    g = torch.Generator().manual_seed(seed)
    path, estimates = (
        torch.randn(8, 30, generator=g, dtype=F),
        torch.randn(7, 30, generator=g).to(F),
    )

    def cost(chain):
        total = 0.0
        for k in range(len(chain) - 1):
            i, j = chain[k], chain[k + 1]
            known = [path[i], estimates[i]] + ([estimates[chain[k - 1]]] if k else [])
            A = torch.stack(known, 1)
            w = torch.linalg.lstsq(A, path[j][:, None]).solution
            total += float(((A @ w)[:, 0] - path[j]).square().sum())
        return total

    chains = [(0, *inner, 7) for inner in itertools.combinations(range(1, 7), 2)]
    assert tuple(_grid(path, estimates, 3)) == min(chains, key=cost)


def test_rounds_make_the_ends_nearer_and_the_plan_keeps_its_calls(mixture, starts):
    denoise, (seen, unseen) = mixture.denoiser(SCHEDULE), starts
    end = sample(denoise, solvers.plan(schedule=SCHEDULE, steps=200), x=unseen)
    errors = [
        mean_error(denoise, solvers.tune(denoise, SCHEDULE, calls=6, x=seen, rounds=n), unseen, end)
        for n in (0, 1, 8)
    ]
    assert errors[2] < errors[1] < errors[0]
    assert errors[2] < 0.5 * errors[0]


def test_the_derivatives_are_those_of_the_sample(mixture, starts):
    """The normal equations against every number moved by itself, and the sample made anew."""
    denoise = mixture.denoiser(SCHEDULE)
    x = starts[0][:12]
    end = sample(denoise, solvers.plan(schedule=SCHEDULE, steps=100), x=x)
    fit, plan = _Fit(denoise, x, end, {}), solvers.plan("multistep", SCHEDULE, steps=4, order=2)
    kept, made = slice(fit.aside, None), sample(denoise, plan, x=x)
    missing = (end - made)[kept]
    far = missing.norm(dim=1) / fit.size[kept]
    weight = 1 / (fit.size[kept] * (far + far.median()).sqrt())
    columns = []
    for i in range(4 + 7 + 3):  # states, estimates and levels of four rows
        by = 1e-5 * np.eye(14)[i]
        moved = [sample(denoise, _shifted(plan, sign * by), x=x)[kept] for sign in (1, -1)]
        columns.append(((moved[0] - moved[1]) / 2e-5 * weight[:, None]).flatten())
    exact = torch.stack(columns)
    normal, right = fit._normal(plan)
    np.testing.assert_allclose(normal, (exact @ exact.T).numpy(), rtol=1e-2, atol=0.1)
    wanted = (exact @ (missing * weight[:, None]).flatten()).numpy()
    np.testing.assert_allclose(right, wanted, rtol=1e-2, atol=0.1)


def test_of_many_trajectories_the_worst_and_as_many_others_are_fitted(mixture):
    denoise = mixture.denoiser(SCHEDULE)
    x = torch.randn(600, 8, generator=torch.Generator().manual_seed(3), dtype=F)
    end = sample(denoise, solvers.plan(schedule=SCHEDULE, steps=30), x=x)
    fit, plan = _Fit(denoise, x, end, {}), solvers.plan(schedule=SCHEDULE, steps=3)
    assert len(fit.fitted) == 450
    fit.moved(plan, 0)
    assert len(set(fit.fitted.tolist())) == FITTED
    assert int(fit.fitted.min()) >= fit.aside
    far = fit.far(plan)
    worst = far[fit.aside :].sort(descending=True).values[: FITTED // 2]
    torch.testing.assert_close(far[fit.fitted].sort(descending=True).values[: FITTED // 2], worst)
    assert float(fit.share.sum()) == pytest.approx(450)  # they stand for all


def test_budgets_and_starts_out_of_range(mixture, starts):
    denoise = mixture.denoiser(SCHEDULE)
    with pytest.raises(SuffuseError, match="from 1 to 95 calls"):
        solvers.tune(denoise, SCHEDULE, calls=96, x=starts[0])
    with pytest.raises(SuffuseError, match="4 starting states"):
        solvers.tune(denoise, SCHEDULE, calls=5, x=starts[0][:3])
