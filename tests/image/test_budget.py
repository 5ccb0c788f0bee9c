"""Samplers of other libraries on our models, against a denoiser whose answers are known."""

from __future__ import annotations

import pytest
import torch

from suffuse.diffusion import oracle, sample, schedules, solvers
from suffuse_image.bench_budget import BUDGETS, PEERS, _by_diffusers, samplers


def test_who_takes_part():
    for calls in BUDGETS:
        assert samplers(calls)[0] == "default"
        assert ("tuned" in samplers(calls)) == (calls <= 10)


@pytest.mark.parametrize("name", PEERS)
def test_a_scheduler_of_diffusers_ends_where_the_flow_does(name):
    """Where ours ends with many calls, for data whose denoiser is known exactly."""
    pytest.importorskip("diffusers")
    schedule = schedules.edm(sigma_max=12.0)
    cov = torch.tensor([[1.0, 0.8], [0.8, 1.0]])
    denoise = oracle.Gaussian(torch.tensor([0.5, -0.5]), cov).denoiser(schedule)
    x = 12 * torch.randn(16, 2)
    end = sample(denoise, solvers.plan(schedule=schedule, steps=200), x=x)
    found = _by_diffusers(denoise, schedule, name, 60, x, {})
    assert (found - end).abs().max() < 0.05
