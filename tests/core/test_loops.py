"""Samplers that are loops of their own: against `sample`, exact flows and stationary laws."""

from dataclasses import replace

import pytest
import torch

from suffuse.diffusion import (
    Categorical,
    Discrete,
    Noise,
    loops,
    oracle,
    sample,
    schedules,
    solvers,
)
from suffuse.diffusion.loops import Langevin
from suffuse.diffusion.process import Registers
from suffuse.errors import SuffuseError

F = torch.float64
SCHEDULES = {"vp": schedules.cosine(), "flow": schedules.flow(), "ve": schedules.edm()}
gauges = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
MIX = oracle.Mixture(
    torch.tensor([0.3, 0.7], dtype=F),
    torch.tensor([[-1.0, 0.5, 0.2], [0.8, 0.0, -0.6]], dtype=F),
    torch.tensor([0.05, 0.2], dtype=F),
)
PLANS = [("multistep", {}), ("heun", {"churn": 4.0}), ("unipc", {}), ("ddpm", {}), ("lcm", {})]
plans = pytest.mark.parametrize(("name", "options"), PLANS, ids=[name for name, _ in PLANS])


def counted(denoiser):
    rounds = []

    def denoise(x, t, **conditions):
        rounds.append(len(x))
        return denoiser(x, t, **conditions)

    return denoise, rounds


# Adaptive


@gauges
def test_adaptive_draws_the_prior_and_says_its_calls(schedule):
    data = oracle.Gaussian(torch.zeros(2, dtype=F), torch.diag(torch.tensor([0.5, 1.5], dtype=F)))
    denoise, rounds = counted(data.denoiser(schedule))
    found = loops.adaptive(denoise, schedule, noise=Noise(1, 4), shape=(2,), rtol=1e-8, atol=1e-8)
    assert found.calls == len(rounds)
    start = Noise(1, 4).normal((2,), step=0, stream=0)
    alone = loops.adaptive(
        data.denoiser(schedule),
        schedule,
        noise=Noise(1, 1, first=2),
        shape=(2,),
        rtol=1e-8,
        atol=1e-8,
    )
    torch.testing.assert_close(alone.state[0][0], found.state[0][2], rtol=0, atol=1e-6)
    # the prior has variance (sigma_data = 1) and is carried to the data's, but for its own error
    assert (found.state[0] / start / data.covariance.diag().sqrt() - 1).abs().max() < 0.02
    with pytest.raises(SuffuseError, match="without x"):
        loops.adaptive(denoise, schedule)


def test_adaptive_steps_leave_padding_at_0():
    schedule = schedules.flow()
    exact = MIX.denoiser(schedule)

    def denoise(x, t, mask):
        assert (x[:, 3:] == 0).all()
        return torch.cat([exact(x[:, :3], t), torch.randn_like(x[:, 3:])], 1)

    x, mask = torch.randn(2, 5, dtype=F), torch.tensor([[True] * 3 + [False] * 2] * 2)
    found = loops.adaptive(denoise, schedule, x, mask=mask, rtol=1e-7, atol=1e-7).state[0]
    expected = loops.adaptive(exact, schedule, x[:, :3], rtol=1e-7, atol=1e-7).state[0]
    torch.testing.assert_close(found[:, :3], expected, rtol=0, atol=1e-4)
    assert (found[:, 3:] == 0).all()


# Picard


@gauges
@plans
def test_picard_ends_in_the_sequential_result(schedule, name, options):
    plan = solvers.plan(name, schedule, steps=12, **options)
    denoise = MIX.denoiser(schedule)
    x = float(schedule.at(1.0).sigma) * torch.randn(4, 3, dtype=F)
    exact = sample(denoise, plan, x=x, noise=Noise(0, 4))
    for window in (None, 5):
        counting, rounds = counted(denoise)
        found = loops.picard(counting, plan, x=x, noise=Noise(0, 4), tolerance=0.0, window=window)
        torch.testing.assert_close(found.x, exact, rtol=1e-9, atol=1e-12)
        assert found.rounds == len(rounds) <= 12 + 3
        assert found.calls * 4 == sum(rounds)


@plans
def test_picard_needs_fewer_rounds_and_keeps_its_tolerance(name, options):
    schedule = schedules.cosine()
    plan = solvers.plan(name, schedule, steps=60, grid="logsnr", **options)
    denoise, x = MIX.denoiser(schedule), torch.randn(16, 3, dtype=F)
    exact = sample(denoise, plan, x=x, noise=Noise(0, 16))
    errors, rounds = [], []
    for tolerance in (1e-2, 1e-4, 1e-6):
        found = loops.picard(denoise, plan, x=x, noise=Noise(0, 16), tolerance=tolerance)
        errors.append(float((found.x - exact).norm(dim=1).max()))
        rounds.append(found.rounds)
    assert rounds[0] < rounds[1] < rounds[2] < 60
    assert errors[0] < 0.3
    assert errors[1] < 3e-3
    assert errors[2] < 3e-5


def test_picard_does_not_mix_samples_nor_forget_conditions_and_padding():
    plan = solvers.plan("multistep", schedules.cosine(), steps=20, tau=0.5)
    data = MIX.denoiser(plan.schedule)

    def denoise(x, t, shift, mask):
        return torch.where(mask, data(x, t) + shift[:, None], 7.0)

    shift = torch.tensor([0.0, 0.5, -1.0], dtype=F)
    mask = torch.tensor([[True] * 3, [True, True, False], [True] * 3])
    x = torch.randn(3, 3, dtype=F)
    whole = loops.picard(denoise, plan, x=x, noise=Noise(3, 3), shift=shift, mask=mask)
    for i in range(3):
        alone = loops.picard(
            denoise,
            plan,
            x=x[i : i + 1],
            noise=Noise(3, 1, first=i),
            shift=shift[i : i + 1],
            mask=mask[i : i + 1],
        )
        torch.testing.assert_close(alone.x[0], whole.x[i], rtol=1e-9, atol=1e-9)
    assert whole.x[1, 2] == 0
    exact = sample(denoise, plan, x=x, noise=Noise(3, 3), shift=shift, mask=mask)
    torch.testing.assert_close(whole.x, exact, rtol=0, atol=0.2)


def test_picard_walks_tokens_too():
    process = Categorical(schedules.flow(), 3, "uniform")
    joint = torch.rand(3, 3, dtype=F)
    data = Discrete(joint / joint.sum()).denoiser(process)
    plan = solvers.plan("ancestral", process.schedule, steps=8)
    settings = {"noise": Noise(0, 50), "shape": (2,), "process": process}
    found = loops.picard(data, plan, tolerance=0.0, **settings)
    assert torch.equal(found.x, sample(data, plan, **settings))


# Langevin


@gauges
@pytest.mark.parametrize("snr", [0.1, 0.5])
def test_langevin_settles_in_its_stationary_distribution(schedule, snr):
    """The covariance that the linear step leaves as it is, read off the loop itself."""
    v, t = torch.tensor([0.04, 1.0, 3.0], dtype=F), 0.4
    data = oracle.Gaussian(torch.zeros(3, dtype=F), torch.diag(v))
    process = Langevin(schedule, ask=data.denoiser(schedule), snr=snr, norms=False)
    plan = solvers.plan("ddim", schedule, grid=[0.5, t])
    c = schedule.at(t)
    level = c.alpha**2 * v + c.sigma**2
    e = 2 * (snr * c.sigma) ** 2
    expected = level / (1 - e / level / 2)

    class Given(Noise):
        def __init__(self, z):
            self.z = z

        def normal(self, shape, *, step, stream, dtype):
            assert stream == 6
            return self.z

    def moved(x, z):
        """The corrector alone: a row that leaves the state where it is."""
        row = replace(plan.rows[0], a=(1.0,), b=(0.0,))
        return process.step(row, Registers((x,), (x,)), Given(z))

    zero, eye = torch.zeros(3, 3, dtype=F), torch.eye(3, dtype=F)
    gain, added = moved(eye, zero).diag(), moved(zero, eye).diag()
    torch.testing.assert_close(moved(eye, zero), torch.diag(gain))
    assert gain.abs().max() < 1
    torch.testing.assert_close(added**2 / (1 - gain**2), expected, rtol=1e-9, atol=0)


def test_langevin_steps_by_norms_settle_too():
    """In many dimensions ‖z‖² / ‖g‖² is D / (‖x‖² / L²): V (1 − κ L/V)² + 2 κ L²/V = V."""
    schedule, d, n, t, snr = schedules.cosine(), 512, 40, 0.3, 0.3
    data = oracle.Gaussian(torch.zeros(d, dtype=F), 0.5 * torch.eye(d, dtype=F))
    plan = solvers.plan("ddim", schedule, grid=[0.5, t])
    start = torch.randn(n, d, dtype=F)
    found = loops.langevin(
        data.denoiser(schedule), plan, x=start, noise=Noise(2, n), times=40, snr=snr
    )
    c = schedule.at(t)
    level = float(c.alpha**2 * 0.5 + c.sigma**2)
    # 20,480 draws know a variance to 1 %, and terms of the order 1/D are below 1 %
    assert float(found.var()) == pytest.approx(level * (1 + snr**2), rel=0.05)


def test_langevin_repairs_what_a_coarse_plan_spoils():
    """Four steps of DDIM lose variance; settling at every level brings most of it back."""
    schedule, n = schedules.cosine(), 100
    data = oracle.Gaussian(torch.zeros(64, dtype=F), 0.25 * torch.eye(64, dtype=F))
    plan = solvers.plan("ddim", schedule, steps=4, grid="logsnr")
    settings = {"noise": Noise(4, n), "x": torch.randn(n, 64, dtype=F)}
    denoise, rounds = counted(data.denoiser(schedule))
    plain = sample(denoise, plan, **settings)
    rounds.clear()
    settled = loops.langevin(denoise, plan, times=20, **settings)
    assert len(rounds) == 4 + 20 * 3
    assert abs(float(settled.var()) - 0.25) < 0.3 * abs(float(plain.var()) - 0.25)


@pytest.mark.parametrize("norms", [True, False])
def test_langevin_is_the_same_in_any_batch(norms):
    plan = solvers.plan("ddpm", schedules.flow(), steps=5)
    denoise = MIX.denoiser(plan.schedule)

    def run(noise):
        return loops.langevin(denoise, plan, noise=noise, shape=(3,), times=2, norms=norms)

    torch.testing.assert_close(run(Noise(1, 5))[3:4], run(Noise(1, 1, first=3)))


@pytest.mark.parametrize("norms", [True, False])
def test_langevin_steps_do_not_see_padding(norms):
    plan = solvers.plan("ddpm", schedules.flow(), steps=5)
    exact, ragged = MIX.denoiser(plan.schedule), []

    def denoise(x, t, mask):
        ragged.append(bool((x[:, 3:] == 0).all()))
        return torch.cat([exact(x[:, :3], t), torch.randn_like(x[:, 3:])], 1)

    settings = {"noise": Noise(1, 2), "times": 2, "norms": norms}
    mask = torch.tensor([[True] * 3 + [False] * 4] * 2)
    found = loops.langevin(denoise, plan, shape=(7,), mask=mask, **settings)
    expected = loops.langevin(exact, plan, shape=(3,), **settings)
    torch.testing.assert_close(found[:, :3], expected)
    assert all(ragged)


def test_langevin_hands_conditions_on():
    plan = solvers.plan("ddim", schedules.cosine(), steps=3)
    found = loops.langevin(
        lambda x, t, shift: shift[:, None].expand_as(x),
        plan,
        x=torch.randn(2, 3),
        noise=Noise(0, 2),
        shift=torch.tensor([1.0, 2.0]),
    )
    torch.testing.assert_close(found, torch.tensor([[1.0] * 3, [2.0] * 3]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f, p: loops.picard(f, p, tolerance=-1.0), "tolerance is 0 or more"),
        (lambda f, p: loops.picard(f, p, window=0), "window 1 row"),
        (lambda f, p: loops.picard(f, p), "shape of one state"),
        (lambda f, p: loops.langevin(f, p, x=torch.zeros(1, 2)), "draw noise"),
        (lambda f, p: loops.langevin(f, p, snr=0.0), "snr above 0"),
        (lambda f, p: loops.picard(f, {"part": p}), "not those of a product"),
        (lambda f, p: loops.langevin(f, replace(p, law="renoise")), "follow affine rows"),
    ],
)
def test_mistakes_are_told(call, message):
    with pytest.raises(SuffuseError, match=message):
        call(lambda x, t: x, solvers.plan("ddim", schedules.cosine(), steps=3))
