"""Objectives for few steps, on normal data whose flow is known in closed form."""

import math

import pytest
import torch

from suffuse.diffusion import Gaussian, oracle, sample, schedules, solvers
from suffuse.diffusion import distillation as few
from suffuse.errors import SuffuseError
from suffuse.nn.attention import attend

F = torch.float64
VARIANCE = 0.3
SCHEDULES = {
    "vp": schedules.cosine(),
    "flow": schedules.flow(),
    "ve": schedules.edm(sigma_max=20.0),
}
gauges = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)

DATA = oracle.Gaussian(torch.full((4,), 0.2, dtype=F), VARIANCE * torch.eye(4, dtype=F))


def flow_end(x, t, schedule):
    """Where the exact flow of the data takes x_t: the mean, and the deviation in proportion."""
    c = schedule.at(t).align(x)
    spread = (c.alpha**2 * VARIANCE + c.sigma**2).sqrt()
    return 0.2 + math.sqrt(VARIANCE) * (x - c.alpha * 0.2) / spread


def process_input(schedule, x_0, t):
    """x_t of clean states, with noise."""
    return Gaussian(schedule).corrupt(x_0, t, torch.randn_like(x_0))


def batch(n, schedule):
    torch.manual_seed(0)
    x_0 = 0.2 + math.sqrt(VARIANCE) * torch.randn(n, 4, dtype=F)
    return x_0, torch.rand(n, dtype=F) * 0.98 + 0.01, torch.randn(n, 4, dtype=F)


class Student(Gaussian):
    """A process whose network answers with the clean estimate itself, given x_t and t."""

    def denoiser(self, network):
        return lambda x, t, **given: network(x, t)


@gauges
def test_progressive_has_its_minimum_where_two_steps_are_one(schedule):
    teacher = DATA.denoiser(schedule)
    process = Student(schedule)
    steps = 4
    x_0, t, noise = batch(64, schedule)

    def twice(x, t):
        """The clean estimate with which one step does what the teacher's two do."""
        plan = solvers.plan(
            "ddim", schedule, grid=[float(t[0]), float(t[0]) - 1 / 8, float(t[0]) - 1 / 4]
        )
        a, b = schedule.at(t).align(x), schedule.at(t - 1 / steps).align(x)
        ratio = b.sigma / a.sigma
        return (sample(teacher, plan, x=x) - ratio * x) / (b.alpha - ratio * a.alpha)

    def each(x, t):
        return torch.cat([twice(x[i : i + 1], t[i : i + 1]) for i in range(len(x))])

    objective = few.progressive(process, teacher, steps=steps)
    assert objective(each, x_0, t, noise).max() < 1e-18
    assert objective(lambda x, t: teacher(x, t), x_0, t, noise).mean() > 1e-6


@gauges
@pytest.mark.parametrize(("order", "least"), [(1, 1.9), (2, 3.6)])
def test_the_teacher_is_followed_at_its_order(schedule, order, least):
    """Halving the steps divides the distance to the exact flow by 2 or by 4."""
    teacher = DATA.denoiser(schedule)
    x = batch(64, schedule)[0]
    t, s = torch.full((64,), 0.7, dtype=F), torch.full((64,), 0.4, dtype=F)
    x = process_input(schedule, x, t)
    a, b = schedule.at(t).align(x), schedule.at(s).align(x)
    wide = [(c.alpha**2 * VARIANCE + c.sigma**2).sqrt() for c in (a, b)]
    exact = b.alpha * 0.2 + (x - a.alpha * 0.2) * wide[1] / wide[0]
    apart = [
        (few._followed(schedule, teacher, x, t, s, n, order, None, {}) - exact).abs().mean()
        for n in (16, 32, 64)
    ]
    assert apart[0] > least * apart[1]
    assert apart[1] > least * apart[2]


@gauges
def test_a_good_teacher_takes_many_steps(schedule):
    """What a student of 4 steps has learned is nearer to the flow, the better it was shown."""
    teacher, process = DATA.denoiser(schedule), Student(schedule)
    x_0, t, noise = batch(256, schedule)

    def exact(x, t):
        """The clean estimate with which one step in four ends on the exact flow."""
        s = t - 0.25
        a, b = schedule.at(t).align(x), schedule.at(s.clamp(min=0)).align(x)
        wide = [(c.alpha**2 * VARIANCE + c.sigma**2).sqrt() for c in (a, b)]
        return few._leading(x, b.alpha * 0.2 + (x - a.alpha * 0.2) * wide[1] / wide[0], a, b)

    losses = [
        few.progressive(process, teacher, steps=4, teacher_steps=n, order=order)(
            exact, x_0, t, noise
        ).mean()
        for n, order in ((2, 1), (8, 1), (8, 2))
    ]
    assert losses[1] < 0.2 * losses[0]
    assert losses[2] < 0.5 * losses[1]


@gauges
def test_the_flow_is_that_of_the_closed_form(schedule):
    x, t = torch.randn(5, 4, dtype=F), torch.linspace(0.1, 0.9, 5, dtype=F)
    slope, lam = few.flow(schedule, x, t, DATA.denoiser(schedule)(x, t))
    h = 1e-6

    def moved(u):
        """x at the time u on the path through x at t."""
        a, b = schedule.at(t).align(x), schedule.at(u).align(x)
        wide = [(c.alpha**2 * VARIANCE + c.sigma**2).sqrt() for c in (a, b)]
        return b.alpha * 0.2 + (x - a.alpha * 0.2) * wide[1] / wide[0]

    torch.testing.assert_close(slope, (moved(t + h) - moved(t - h)) / (2 * h), rtol=1e-6, atol=1e-7)
    difference = (schedule.at(t + h).lam - schedule.at(t - h).lam) / (2 * h)
    torch.testing.assert_close(lam, difference, rtol=1e-6, atol=1e-7)


@gauges
def test_the_end_of_the_flow_has_no_derivative_along_it(schedule):
    """V9: the forward derivative against differences; the exact consistency function has none."""
    process, teacher = Student(schedule), DATA.denoiser(schedule)
    x_0, t, noise = batch(16, schedule)
    objective = few.continuous(process, teacher)
    exact = objective(lambda x, t: flow_end(x, t, schedule), x_0, t, noise)
    assert exact.max() < 1e-18
    assert objective(lambda x, t: teacher(x, t), x_0, t, noise).mean() > 1e-4


def test_the_forward_derivative_goes_through_attention():
    """Over one token attention is the identity, so its derivative is the direction itself."""
    x, v = torch.randn(2, 3, 1, 4), torch.randn(2, 3, 1, 4)
    found, moved = few._along(lambda q: attend(q, q, q), (x,), (v,))
    torch.testing.assert_close(found, x)
    torch.testing.assert_close(moved, v)


@gauges
def test_consistency_goes_to_zero_with_the_steps_at_the_end_of_the_flow(schedule):
    process, teacher = Student(schedule), DATA.denoiser(schedule)
    x_0, t, noise = batch(256, schedule)

    def end(x, t):
        return flow_end(x, t, schedule)

    losses = [
        few.consistency(process, teacher, steps=n, huber=1e-6)(end, x_0, t, noise).mean()
        for n in (64, 128, 256)
    ]
    # a step of first order errs by h², and the loss is its size
    assert losses[1] < 0.35 * losses[0]
    assert losses[2] < 0.35 * losses[1]
    other = few.consistency(process, teacher, steps=256, huber=1e-6)
    assert other(lambda x, t: teacher(x, t), x_0, t, noise).mean() > 5 * losses[2]


@gauges
def test_each_segment_has_an_end_of_its_own(schedule):
    """The estimate that leads to the flow at 3/4, 1/2, 1/4 or 0 is consistent, and no other."""
    process, teacher = Student(schedule), DATA.denoiser(schedule)
    x_0, t, noise = batch(256, schedule)

    def ends(x, t):
        low = ((t * 4 - 1e-9).ceil() - 1).clamp(min=0) / 4
        a, b = schedule.at(t).align(x), schedule.at(low).align(x)
        wide = [(c.alpha**2 * VARIANCE + c.sigma**2).sqrt() for c in (a, b)]
        return few._leading(x, b.alpha * 0.2 + (x - a.alpha * 0.2) * wide[1] / wide[0], a, b)

    def loss(n, student):
        objective = few.consistency(process, teacher, steps=n, segments=4, huber=1e-6)
        return objective(student, x_0, t, noise).mean()

    assert loss(128, ends) < 0.35 * loss(64, ends)
    assert loss(128, teacher) > 5 * loss(128, ends)
    assert loss(128, lambda x, t: flow_end(x, t, schedule)) > 5 * loss(128, ends)


@pytest.mark.parametrize(
    ("kind", "given", "said"),
    [
        (few.consistency, {"steps": 30, "segments": 4}, "multiple of its segments"),
        (few.consistency, {"order": 3}, "order is 1 or 2"),
        (few.progressive, {"teacher_steps": 0}, "are 1 or more"),
    ],
)
def test_wrong_numbers_are_refused(kind, given, said):
    schedule = SCHEDULES["vp"]
    with pytest.raises(SuffuseError, match=said):
        kind(Gaussian(schedule), DATA.denoiser(schedule), **given)


@gauges
@pytest.mark.parametrize("kind", ["consistency", "continuous"])
def test_gradients_lead_to_the_end_of_the_flow(schedule, kind):
    """A student that errs in its slope alone learns the right one, with and without a teacher."""
    for teacher in (DATA.denoiser(schedule), None):
        slope = torch.nn.Parameter(torch.zeros((), dtype=F))

        def student(x, t, slope=slope):
            # wrong by something that vanishes at the clean end, as a network's estimate must
            c = schedule.at(t).align(x)
            return flow_end(x, t, schedule) + slope * c.sigma / (1 + c.sigma) * (x - 0.2 * c.alpha)

        process = Student(schedule)
        made = few.continuous if kind == "continuous" else few.consistency
        given = {"steps": 24} if kind == "consistency" else {}
        objective = made(process, teacher, **given)
        for start in (0.5, -0.5):
            slope.data.fill_(start)
            slope.grad = None
            x_0, t, noise = batch(4096, schedule)
            objective(student, x_0, t, noise).mean().backward()
            assert slope.grad * start > 0  # downhill is towards 0


def test_reflow_teaches_straight_paths():
    schedule = schedules.flow()
    process = Gaussian(schedule, prediction="flow")
    teacher = DATA.denoiser(schedule)
    objective = few.reflow(process, teacher, calls=40)
    x_0, t, noise = batch(512, schedule)

    def straight(x, level, **given):
        """The velocity between noise and the end of the flow, which is linear in it."""
        t = torch.sigmoid(-4 * level.to(F))[:, None]
        # x = (1 − t)(0.2 + k ε) + t ε
        k = math.sqrt(VARIANCE)
        eps = (x / process._input_scale(schedule.at(t[:, 0]).align(x)) - (1 - t) * 0.2) / (
            (1 - t) * k + t
        )
        return eps - (0.2 + k * eps)

    assert objective(straight, x_0, t, noise).mean() < 1e-3
    with pytest.raises(SuffuseError, match="adds noise"):
        few.reflow(process, teacher, solver="ddpm")


def average(x, t, r):
    """The average velocity of the flow of DATA on the straight path, exactly."""

    def end(u):
        u = u[:, None]
        return u, (1 - u), ((1 - u) ** 2 * VARIANCE + u**2).sqrt()

    (_, a, wide), (_, b, narrow) = end(t), end(r)
    x_r = b * 0.2 + (x - a * 0.2) * narrow / wide
    gap = (t - r)[:, None]
    return (x - x_r) / gap


def test_mean_flow_has_no_gradient_at_the_average_velocity():
    """Its target is noisy; its gradient vanishes in the mean, and elsewhere it does not."""
    x_0, t, noise = batch(60_000, None)
    r = t * torch.rand(len(t), dtype=F) * 0.9
    off = torch.nn.Parameter(torch.zeros((), dtype=F))
    bend = torch.nn.Parameter(torch.zeros((), dtype=F))

    def student(x, u, w):
        return average(x, u, w) + off + bend * x

    loss = few.mean_flow(student, x_0, t, r, noise)
    one, two = torch.autograd.grad(loss.mean(), [off, bend])
    assert abs(one) < 0.02
    assert abs(two) < 0.02
    off.data.fill_(0.3)
    (one,) = torch.autograd.grad(few.mean_flow(student, x_0, t, r, noise).mean(), [off])
    assert one > 0.3


def test_shortcuts_are_consistent_at_the_average_velocity():
    x_0, t, noise = batch(500, None)
    r = t * 0.5
    assert few.shortcut(average, x_0, t, r, noise).max() < 1e-20
    v = few.shortcut(lambda x, u, w: noise - x_0, x_0, t, t, noise)
    assert v.max() == 0


def test_tokens_are_not_distilled():
    with pytest.raises(SuffuseError, match="Gaussian"):
        few.progressive(object(), DATA.denoiser(SCHEDULES["vp"]))


@pytest.mark.parametrize("objective", [few.progressive, few.consistency, few.continuous])
def test_padding_of_ragged_states_changes_nothing(objective):
    """The student and the teacher see zeros there, and are told what is padding."""
    schedule = schedules.cosine()
    seen = []

    def whole(x, t, mask=None):
        """Mixes the elements of a state, so that padding that was not 0 would show."""
        seen.append(mask)
        return (
            0.5 * x + 0.1 * torch.where(mask, x, 0).sum(1, keepdim=True) + 0.1 * x.sum(1)[:, None]
        )

    process = Gaussian(schedule, prediction="v")
    x_0, t, noise = batch(8, schedule)
    mask = torch.ones(8, 4, dtype=torch.bool)
    mask[:, 2:] = False
    loss = objective(process, whole)
    first = loss(lambda x, level, mask: whole(x, level, mask), x_0, t, noise, mask=mask)
    other = torch.where(mask, x_0, 7.0), t, torch.where(mask, noise, -3.0)
    again = loss(lambda x, level, mask: whole(x, level, mask), *other, mask=mask)
    assert all(kept is mask for kept in seen)
    torch.testing.assert_close(first, again, rtol=0, atol=0)
