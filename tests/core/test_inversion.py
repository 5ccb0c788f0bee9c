"""Walking a plan backwards: what comes back is what went in."""

from __future__ import annotations

import pytest
import torch

from suffuse.diffusion import oracle, sample, schedules, solvers
from suffuse.diffusion.inversion import invert
from suffuse.errors import SuffuseError

F = torch.float64
SCHEDULES = {"vp": schedules.cosine(), "flow": schedules.flow(), "ve": schedules.edm(sigma_max=12)}
MIXTURE = oracle.Mixture(
    torch.tensor([0.3, 0.7], dtype=F),
    torch.tensor([[-1.0, 0.5], [1.5, 0.0]], dtype=F),
    torch.tensor([0.2, 0.3], dtype=F),
)


@pytest.mark.parametrize("gauge", SCHEDULES)
def test_every_row_is_undone(gauge):
    schedule = SCHEDULES[gauge]
    denoiser = MIXTURE.denoiser(schedule)
    plan = solvers.plan("ddim", schedule, steps=24, begin=0.6)
    x_t = torch.randn(5, 2, dtype=F) * float(schedule.at(float(plan.t[0])).sigma)
    back = invert(denoiser, plan, sample(denoiser, plan, x=x_t), iterations=100)
    torch.testing.assert_close(back, x_t, rtol=1e-8, atol=1e-8)


def test_more_rounds_come_nearer():
    schedule = schedules.cosine()
    denoiser = MIXTURE.denoiser(schedule)
    plan = solvers.plan("ddim", schedule, steps=20, begin=0.6)
    x_0 = MIXTURE.means.repeat(8, 1) + 0.4 * torch.randn(16, 2, dtype=F)
    errors = []
    for rounds in (1, 2, 4):
        again = sample(denoiser, plan, x=invert(denoiser, plan, x_0, iterations=rounds))
        errors.append(float((again - x_0).square().mean().sqrt()))
    assert errors[0] > 1.5 * errors[1]
    assert errors[1] > errors[2]


def test_plans_that_cannot_be_walked_back_are_refused():
    schedule = schedules.cosine()
    denoiser, x_0 = MIXTURE.denoiser(schedule), torch.zeros(1, 2, dtype=F)
    for name in ("ddpm", "dpmpp-2m"):
        plan = solvers.plan(name, schedule, steps=5)
        with pytest.raises(SuffuseError, match="deterministic plan of a one-step method"):
            invert(denoiser, plan, x_0)
    with pytest.raises(SuffuseError, match="1 round"):
        invert(denoiser, solvers.plan("ddim", schedule, steps=5, begin=0.5), x_0, iterations=0)
    with pytest.raises(SuffuseError, match="pure noise"):
        invert(denoiser, solvers.plan("ddim", schedule, steps=5), x_0)
