"""Solvers against exact answers: V1 to V4 of the architecture, in float64.

Every test that can be is parametrised over all registered solvers, so that a new one is proven by
being added.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from suffuse.diffusion import (
    Gaussian,
    Noise,
    grids,
    oracle,
    sample,
    schedules,
    solvers,
)
from suffuse.diffusion.analysis import amplification, spread
from suffuse.diffusion.solvers import SOLVERS, exponential_weights
from suffuse.diffusion.solvers.adams import variable
from suffuse.diffusion.solvers.quadrature import exponential_quadrature
from suffuse.errors import SuffuseError
from suffuse.testing.mathematics import (
    DATA,
    check_columns,
    check_constants,
    check_exactness,
    check_json,
    check_loop,
    check_order,
    check_variance,
    same_plan,
)

SCHEDULES = {"vp": schedules.cosine(), "flow": schedules.flow(), "ve": schedules.edm()}
gauges = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
# Every solver in every form without noise, and its order of convergence.
FORMS = [
    (name, {}, SOLVERS[name].order)
    for name in SOLVERS
    if name not in ("ddpm", "euler-ancestral", "dpmpp-2m-sde", "dpmpp-3m-sde", "er-sde", "lcm")
    and name not in ("sa", "restart")
]
FORMS += [("adams", {"order": 2}, 3)]
FORMS += [(name, {"order": k}, k) for name in ("multistep", "lms", "deis") for k in (1, 2, 3, 4)]
FORMS += [("unipc", {"order": k, "variant": v}, k + 1) for k in (1, 2, 3) for v in ("bh1", "bh2")]
FORMS += [("sa", {"tau": 0.0, "predictor": p, "corrector": c}, c + 1) for p, c in ((2, 2), (3, 3))]
FORMS += [("sa", {"tau": 0.0, "predictor": 2, "corrector": 0}, 2)]
FORMS += [("dpmpp-2m-sde", {"tau": 0.0}, 2), ("dpmpp-3m-sde", {"tau": 0.0}, 3)]
FORMS += [("euler-ancestral", {"eta": 0.0}, 1)]
# Methods whose weights are those for equal steps in σ/α.
EQUAL_STEPS = ("ipndm", "pndm")


def label(value):
    return ",".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else str(value)


forms = pytest.mark.parametrize(("name", "options", "order"), FORMS, ids=label)
# V1


@pytest.mark.parametrize("h", [1e-3, 0.1, 1.0, 3.0, 7.9, 8.1, 30.0])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_v1_exponential_weights_integrate_polynomials(order, h, rng):
    mpmath = pytest.importorskip("mpmath")
    start = rng.uniform(-4, 4)
    nodes = [start]
    for gap in rng.uniform(0.3, 1.5, order - 1):
        nodes.append(nodes[-1] - h * gap)
    w = exponential_weights(nodes, start, start + h)
    for k in range(order):
        # centred and scaled as the integral is, so that the terms are of order 1
        found = sum(wj * ((n - start) / h) ** k for wj, n in zip(w, nodes, strict=True))
        exact = mpmath.quad(
            lambda u, k=k: mpmath.e ** (h * (u - 1)) * u**k * h,
            [0, max(0.5, 1 - 10 / h), 1] if h > 1 else [0, 1],
        )
        assert found == pytest.approx(float(exact), rel=1e-12, abs=1e-14), (order, k, nodes)


# the last state of a way has been predicted, and not yet corrected
EXPONENTIAL = [(f, o, o.get("predictor", k)) for f, o, k in FORMS if SOLVERS[f].exponential]


@gauges
@pytest.mark.parametrize(("name", "options", "order"), EXPONENTIAL, ids=label)
def test_v1_exponential_solvers_are_exact_for_polynomials(name, options, order, schedule):
    check_exactness(SOLVERS[name], schedule, order, options)


# V2


@gauges
@forms
def test_v2_order_with_exact_history(name, options, order, schedule):
    equal = "ratio" if name in EQUAL_STEPS else "lam"
    check_order(SOLVERS[name], schedule, order, options, equal=equal)


# V3


STOCHASTIC = [
    ("ddim", {"eta": 0.5}),
    ("ddim", {"eta": 1.0}),
    ("ddpm", {}),
    ("ddpm", {"variance": "upper"}),
    ("heun", {"churn": 8.0, "churn_noise": 1.0}),
    ("restart", {"low": 0.1, "high": 1.0, "times": 2}),
    ("euler-ancestral", {}),
    ("multistep", {"order": 2, "tau": 0.7}),
    ("multistep", {"order": 3, "tau": 1.0}),
    ("dpmpp-2m-sde", {}),
    ("dpmpp-3m-sde", {}),
    ("sa", {}),
    ("sa", {"tau": 0.5, "predictor": 2, "corrector": 2}),
    ("er-sde", {"order": 1}),
    ("er-sde", {}),
]


ALL_FORMS = [form[:2] for form in FORMS] + STOCHASTIC


@gauges
@pytest.mark.parametrize(("name", "options"), ALL_FORMS, ids=label)
@pytest.mark.parametrize("variance", [0.04, 2.5])
def test_v3_the_variance_arrives(name, options, schedule, variance):
    check_variance(SOLVERS[name], schedule, variance, options)


@pytest.mark.parametrize(("name", "options"), ALL_FORMS, ids=label)
def test_v3_the_loop_does_what_the_table_says(name, options):
    check_loop(solvers.plan(name, schedules.cosine(), steps=9, **options))


@pytest.mark.parametrize("name", ["adams", "heun", "unipc", "deis"])
def test_v3_what_arrives_of_an_error_in_an_estimate_is_told_exactly(name):
    plan = solvers.plan(name, schedules.scaled_linear(), steps=9)
    one = torch.ones(1, 1, dtype=torch.float64)
    exact = oracle.Gaussian(0 * one[0], 0.3 * one).denoiser(plan.schedule)

    def ends(wrong):
        errors = iter(range(len(plan)))
        return sample(lambda x, t: exact(x, t) + (next(errors) == wrong), plan, x=one)

    found = [float(ends(i) - ends(-1)) for i in range(len(plan))]
    np.testing.assert_allclose(amplification(plan, 0.3), found, atol=1e-12)


# V4


@gauges
def test_v4_ddpm_is_ddim_at_eta_1(schedule):
    same_plan(
        solvers.plan("ddpm", schedule, steps=13), solvers.plan("ddim", schedule, steps=13, eta=1)
    )


@gauges
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_v4_ddim_has_its_variance_in_every_gauge(schedule, eta):
    plan = solvers.plan("ddim", schedule, steps=13, eta=eta)
    t, s = schedule.at(torch.from_numpy(plan.t)), schedule.at(torch.from_numpy(plan.s))
    ratio = (t.alpha * s.sigma / (s.alpha * t.sigma)) ** 2
    expected = eta * s.sigma * (1 - ratio).sqrt()
    np.testing.assert_allclose(plan.C, expected.numpy(), atol=1e-12)


@gauges
def test_v4_first_order_methods_are_one(schedule):
    ddim = solvers.plan("ddim", schedule, steps=11)
    same_plan(ddim, solvers.plan("multistep", schedule, steps=11, order=1))
    heun = SOLVERS["heun"](schedule, np.append(ddim.t, 0.0))
    steps = [i for i in range(len(heun)) if heun.t[i] != heun.s[i]]
    np.testing.assert_allclose(heun.A[steps, 0], ddim.A[:, 0], atol=1e-12)


def test_v4_ddim_is_euler_in_sigma_in_the_flow_gauge():
    """x_s = x_t + (σ_s − σ_t) u with the velocity u = (x_t − x_0) / σ_t."""
    plan = solvers.plan("ddim", schedules.flow(), steps=7)
    np.testing.assert_allclose(plan.A[:, 0], 1 + (plan.s - plan.t) / plan.t, atol=1e-12)
    np.testing.assert_allclose(plan.B[:, 0], -(plan.s - plan.t) / plan.t, atol=1e-12)


@gauges
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_v4_ddim_is_euler_ancestral(schedule, eta):
    """In σ̃ = σ/α: σ_up² = η² σ̃_s² (σ̃_t² − σ̃_s²) / σ̃_t², then Euler down to σ_down."""
    plan = solvers.plan("ddim", schedule, steps=9, eta=eta)
    for i in range(1, len(plan)):
        t, s = (schedule.at(float(v)) for v in (plan.t[i], plan.s[i]))
        st, ss = float(torch.exp(-t.lam)), float(torch.exp(-s.lam))
        up = eta * ss * math.sqrt((st**2 - ss**2) / st**2)
        down = math.sqrt(ss**2 - up**2)
        assert plan.A[i, 0] == pytest.approx(float(s.alpha / t.alpha) * down / st, abs=1e-12)
        assert plan.B[i, 0] == pytest.approx(float(s.alpha) * (1 - down / st), abs=1e-12)
        assert plan.C[i] == pytest.approx(float(s.alpha) * up, abs=1e-12)


def test_v4_dpmpp_2m_is_its_published_update():
    schedule = schedules.scaled_linear()
    plan = solvers.plan("dpmpp-2m", schedule, steps=8)
    c = schedule.at(torch.from_numpy(np.append(plan.t, 0.0)))
    a, s, lam = (k.numpy() for k in c)
    for i in range(1, len(plan) - 1):
        h, h_last = lam[i + 1] - lam[i], lam[i] - lam[i - 1]
        r = h_last / h
        k = -a[i + 1] * math.expm1(-h)
        assert plan.A[i, 0] == pytest.approx(s[i + 1] / s[i], rel=1e-12)
        np.testing.assert_allclose(plan.B[i], [k * (1 + 1 / (2 * r)), -k / (2 * r)], rtol=1e-10)
    assert plan.B[-1].tolist() == [1.0, 0.0]


def test_v4_heun_is_karras_algorithm():
    """Algorithm 2 of EDM written out, with its churn, against the folded table."""
    schedule, churn = schedules.edm(), 20.0
    times = np.append(np.linspace(1, 0.2, 6), 0.0)
    plan = solvers.heun(schedule, times, churn=churn, churn_noise=1.003)
    data = DATA.denoiser(schedule)
    noise = Noise(4, 3)
    x = start = noise.normal((2,), step=0, stream=9, dtype=torch.float64) * 80.0
    found = sample(data, plan, x=start, noise=noise)

    def denoise(x, sigma):
        return data(x, schedule.t(torch.full((len(x),), -math.log(sigma), dtype=torch.float64)))

    sigmas = schedule.at(torch.from_numpy(times)).sigma.tolist()
    gamma = min(churn / 6, math.sqrt(2) - 1)
    rows = 0
    for i in range(6):
        now, after = sigmas[i], sigmas[i + 1]
        if i > 0:
            raised = now * (1 + gamma)
            z = noise.normal((2,), step=rows - 1, dtype=torch.float64)
            x, now = x + (raised**2 - now**2) ** 0.5 * 1.003 * z, raised
        d = (x - denoise(x, now)) / now
        y = x + (after - now) * d
        rows += 1
        if after > 0:
            y = x + (after - now) * (d + (y - denoise(y, after)) / after) / 2
            rows += 1
        x = y
    torch.testing.assert_close(found, x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("schedule", [schedules.edm(), schedules.scaled_linear()])
def test_churn_does_not_leave_the_schedule(schedule):
    """Short steps from the noisiest level, raised by 1.41 times, would pass it."""
    plan = solvers.heun(schedule, np.array([1, 0.98, 0.96, 0.94, 0]), churn=1e3, churn_noise=1.0)
    assert abs(spread(plan, 1.0)[:-1] - 1).max() < 0.02


# The table as a thing


@gauges
@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("steps", [1, 2, 3, 17])
def test_steps_are_the_most_network_calls(schedule, name, steps):
    plan = solvers.plan(name, schedule, steps=steps)
    assert 1 <= len(plan) <= steps
    assert plan.t[0] == 1.0
    assert plan.s[-1] == 0.0
    assert plan.C[-1] == 0.0


def test_heun_spends_all_calls_where_a_step_costs_less():
    assert len(solvers.plan("heun", schedules.cosine(), steps=12)) == 12
    assert len(solvers.plan("heun", schedules.edm(), steps=11)) == 11


@pytest.mark.parametrize(("name", "options"), ALL_FORMS, ids=label)
@given(
    inner=st.lists(st.floats(0.01, 0.99), min_size=1, max_size=9, unique_by=lambda t: round(t, 2)),
    schedule=st.sampled_from([*SCHEDULES.values(), schedules.scaled_linear()]),
    ends=st.booleans(),
)
@settings(max_examples=12, deadline=None)
def test_every_row_takes_a_constant_exactly_on_any_grid(name, options, inner, schedule, ends):
    times = sorted({round(t, 2) for t in inner} | ({0.0, 1.0} if ends else {1.0}), reverse=True)
    check_constants(SOLVERS[name](schedule, np.array(times), **options))


@pytest.mark.parametrize("name", SOLVERS)
def test_a_plan_survives_json(name):
    check_json(solvers.plan(name, schedules.scaled_linear(), steps=6))


@gauges
@pytest.mark.parametrize("name", [n for n in SOLVERS if n != "restart"])
def test_levels_with_axes_are_columns_of_their_own(schedule, name):
    check_columns(SOLVERS[name], schedule)


# Methods with one row for every step, whose columns may stand still while others move.
ONE_ROW = [
    form
    for form in ALL_FORMS
    if form[0] not in ("heun", "restart", "flow-midpoint", "flow-rk4", "pndm")
    and form[0] not in ("dpm-2s", "dpm-3s", "dpmpp-2s")
]


@gauges
@pytest.mark.parametrize(("name", "options"), ONE_ROW, ids=label)
def test_a_column_that_stands_still_is_left_alone_and_forgets_nothing(name, options, schedule):
    """Its rows that move are those of its own grid, and take the estimates of those rows."""
    own = np.array([1.0, 0.8, 0.55, 0.4, 0.25, 0.1, 0.0])
    moves = {
        "always": [0, 1, 2, 3, 4, 5],
        "late": [3, 4, 5, 6, 7, 8],
        "early": [0, 1, 2, 3, 4, 5],
        "at times": [0, 1, 4, 5, 7, 8],
        "begun and ended": [2, 3, 4],
        "clean": [],
    }
    ways, grid = [], []
    for rows in moves.values():
        way = own[6 - len(rows) :]
        ways.append(way)
        grid.append(way[np.searchsorted(rows, np.arange(10))])
    plan = SOLVERS[name](schedule, np.stack(grid, 1), **options)
    assert len(plan) == 9
    for j, (rows, way) in enumerate(zip(moves.values(), ways, strict=True)):
        still = [i for i in range(9) if i not in rows]
        np.testing.assert_array_equal(plan.A[still, 0, j], 1.0)
        assert not plan.A[still, 1:, j].any()
        assert not plan.B[still, :, j].any()
        assert not plan.C[still, j].any()
        np.testing.assert_array_equal(plan.t[still, j], plan.s[still, j])
        if not rows:
            continue
        alone = SOLVERS[name](schedule, way, **options)
        for table in "tsC":
            np.testing.assert_array_equal(getattr(plan, table)[rows, j], getattr(alone, table))
        np.testing.assert_array_equal(plan.A[rows, 0, j], alone.A[:, 0])
        expected = np.zeros_like(plan.B[..., j])
        for q, i in enumerate(rows):
            for back in range(min(q + 1, alone.B.shape[1])):
                expected[i, i - rows[q - back]] = alone.B[q, back]
        np.testing.assert_array_equal(plan.B[rows, :, j], expected[rows])


@pytest.mark.parametrize("name", [n for n in SOLVERS if n != "restart"])
def test_a_frame_that_is_clean_already_stays(name):
    levels = np.stack([np.zeros(6), np.linspace(1, 0, 6)], 1)
    plan = SOLVERS[name](schedules.cosine(), levels)
    x = torch.randn(2, 2, 3, dtype=torch.float64)
    found = sample(lambda x, t: x * 0.5, plan, x=x, noise=Noise(0, 2))
    assert torch.equal(found[:, 0], x[:, 0])
    assert not torch.isclose(found[:, 1], x[:, 1]).any()


@pytest.mark.parametrize("name", ["heun", "dpm-3s", "flow-rk4"])
def test_methods_of_several_calls_a_step_tell_that_no_frame_may_stand_still(name):
    levels = np.stack([[1.0, 0.7, 0.7, 0.4, 0.0], [1.0, 0.8, 0.6, 0.4, 0.0]], 1)
    with pytest.raises(SuffuseError, match="the same number of steps, or take a multistep"):
        SOLVERS[name](schedules.cosine(), levels)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda s: solvers.plan("eulers", s), "no solver 'eulers'"),
        (lambda s: solvers.plan("ddim", s, grid="karas"), "did you mean 'karras'"),
        (lambda s: solvers.plan("ddim", s, steps=0), "1 step or more"),
        (lambda s: solvers.plan("ddim", s, begin=1.5), r"time in \(0, 1\]"),
        (lambda s: solvers.plan("ddim", s, eta=2), "eta lies between"),
        (lambda s: solvers.plan("ddpm", s, variance="lower"), "no variance 'lower'"),
        (lambda s: solvers.plan("multistep", s, order=5), "orders 1 to 4"),
        (lambda s: solvers.plan("ddim", s, grid=[0.2, 0.6, 1.0]), "falling"),
        (lambda s: solvers.plan("ddim", s, grid=[1.0, 0.5, 0.5, 0.0]), "same time twice"),
        (lambda s: solvers.plan("ddim"), "schedule"),
    ],
)
def test_wrong_plans_are_told(make, message):
    with pytest.raises(SuffuseError, match=message):
        make(schedules.cosine())


def test_index_grids_are_those_of_pretrained_models():
    """Indices of 1,000, as published for ten steps."""

    def indices(grid):
        times = grids.GRIDS[grid](schedules.scaled_linear(), 10)[:-1]
        return (np.round(times * 1000) - 1).astype(int).tolist()

    assert indices("trailing") == [999, 899, 799, 699, 599, 499, 399, 299, 199, 99]
    assert indices("leading") == [901, 801, 701, 601, 501, 401, 301, 201, 101, 1]
    whole = grids.leading(schedules.scaled_linear(), 1000)  # where an offset has no room
    np.testing.assert_allclose(whole * 1000, np.arange(1000, -1, -1))
    assert indices("linspace") == [999, 888, 777, 666, 555, 444, 333, 222, 111, 0]
    assert indices("ays") == [999, 850, 736, 645, 545, 455, 343, 233, 124, 24]
    assert indices("ays-sdxl") == [999, 845, 730, 587, 443, 310, 193, 116, 53, 13]
    clock = schedules.edm(sigma_max=700.0)
    ratios = clock.at(torch.from_numpy(grids.GRIDS["ays-svd"](clock, 10)[:-1])).sigma
    published = [700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034]
    np.testing.assert_allclose(ratios.numpy(), published, rtol=1e-9)


@pytest.mark.parametrize("grid", grids.GRIDS)
@gauges
def test_grids_fall_from_begin_to_0(schedule, grid):
    times = grids.GRIDS[grid](schedule, 19, begin=0.8)
    assert len(times) == 20
    if grid != "leading":  # which leaves out the noisiest indices by design
        assert times[0] == 0.8
    assert times[-1] == 0
    assert (np.diff(times) < 0).all()


@pytest.mark.parametrize("shift", [1.0, 0.5, 6.0])
def test_balanced_has_as_much_of_its_density_in_each_step(shift):
    def density(lam):
        lam = lam + math.log(shift)
        return math.exp(-0.055 * (lam + 0.35) ** 2) / (1 + math.exp(-(lam + 2.8) / 0.5))

    clock = schedules.cosine()
    times = grids.balanced(clock, 12, shift=shift)
    lam = clock.at(torch.from_numpy(times[1:-1])).lam.tolist()
    held = [quad(density, a, b)[0] for a, b in zip([-15, *lam[:-1]], lam, strict=True)]
    np.testing.assert_allclose(held, held[-1], rtol=1e-3)
    assert abs(lam[-1] - 1.2 * math.log(12)) < 1e-6


def test_a_grid_is_given_by_name_with_its_options():
    asked = {"name": "balanced", "shift": 3.0}
    plan = solvers.plan("adams", schedules.cosine(), steps=9, grid=asked)
    np.testing.assert_array_equal(plan.t, grids.balanced(schedules.cosine(), 9, shift=3.0)[:-1])
    with pytest.raises(SuffuseError, match="did you mean 'balanced'"):
        solvers.plan("adams", schedules.cosine(), grid={"name": "balance"})
    with pytest.raises(SuffuseError, match="above 0"):
        grids.balanced(schedules.cosine(), 9, shift=0.0)


# The loop


def test_sampling_goes_on_from_any_row():
    plan = solvers.plan("multistep", schedules.cosine(), steps=10)
    denoise = DATA.denoiser(plan.schedule)
    steps = []
    whole = sample(denoise, plan, noise=Noise(1, 3), shape=(2,), on_step=steps.append)
    rest = sample(denoise, plan, start=6, registers=steps[5].registers)
    assert torch.equal(rest, whole)
    assert [s.index for s in steps] == list(range(10))


@pytest.mark.parametrize("name", SOLVERS)
def test_a_sample_is_the_same_alone_and_in_a_batch(name):
    plan = solvers.plan(name, schedules.cosine(), steps=6)
    denoise = DATA.denoiser(plan.schedule)
    whole = sample(denoise, plan, noise=Noise(5, 4), shape=(2,))
    alone = sample(denoise, plan, noise=Noise(5, 1, first=2), shape=(2,))
    torch.testing.assert_close(alone[0], whole[2], rtol=0, atol=1e-6)


def test_inputs_are_left_alone_and_dtypes_kept():
    plan = solvers.plan("multistep", schedules.cosine(), steps=4)
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        x = torch.randn(2, 3, dtype=dtype)
        before = x.clone()
        out = sample(lambda x, t: x * 0.5, plan, x=x)
        assert out.dtype == dtype
        assert torch.equal(x, before)


def test_the_prior_has_the_variance_of_the_marginal():
    for schedule, t in ((schedules.cosine(), 0.6), (schedules.edm(), 1.0), (schedules.flow(), 0.5)):
        process = Gaussian(schedule, sigma_data=0.5)
        c = schedule.at(t)
        expected = float(c.alpha) ** 2 * 0.25 + float(c.sigma) ** 2
        drawn = process.prior(Noise(0, 200), (100,), t)
        assert float(drawn.var()) == pytest.approx(expected, rel=0.05)


def test_missing_noise_is_told():
    plan = solvers.plan("ddpm", schedules.cosine(), steps=4)
    with pytest.raises(SuffuseError, match="the plan adds noise"):
        sample(lambda x, t: x, plan, x=torch.zeros(1, 2))
    with pytest.raises(SuffuseError, match="shape of one state"):
        sample(lambda x, t: x, plan, noise=Noise(0, 1))
    with pytest.raises(SuffuseError, match="2 states and 1 sources"):
        sample(lambda x, t: x, plan, x=torch.zeros(2, 2), noise=Noise(0, 1))


def test_going_on_without_what_a_plan_looks_back_on_is_told():
    plan, x = solvers.plan("multistep", schedules.cosine(), steps=4), torch.zeros(1, 2)
    with pytest.raises(SuffuseError, match="of the row before"):
        sample(lambda x, t: x, plan, x=x, start=2)
    with pytest.raises(SuffuseError, match="row 0 to 4"):
        sample(lambda x, t: x, plan, x=x, start=5)


# The default


def test_the_default_takes_the_order_that_its_steps_allow():
    """A row redoes the step before it, so that it takes an estimate more than its predictor."""
    schedule = schedules.scaled_linear()
    for steps, predictor in ((5, 2), (12, 3), (100, 4)):
        plan = solvers.plan(schedule=schedule, steps=steps)
        assert plan.solver == "adams"
        assert np.count_nonzero(plan.B[steps // 2]) == predictor + 1
    short = solvers.plan(schedule=schedule, steps=100, reach=0.01)
    assert np.count_nonzero(short.B[50]) == 2


@pytest.mark.parametrize("steps", [40, 100])
@pytest.mark.parametrize("grid", ["balanced", "uniform", "logsnr"])
@pytest.mark.parametrize("name", [n for n in schedules.SCHEDULES if n != "discrete"])
def test_the_default_blows_up_no_error_however_many_steps(name, grid, steps):
    """Its nodes lie close together far into noise, and where a grid ends before clean data.

    A predictor's weights have an absolute sum of at most 12 (1 − e^{−h}), and those of a corrector
    and of what it takes back at most as much each, times e^{−h}: 24 in all.
    """
    plan = solvers.plan(schedule=schedules.schedule(name), steps=steps, grid=grid)
    alpha = plan.schedule.at(torch.from_numpy(plan.s)).alpha.numpy()
    assert (np.abs(plan.B).sum(1) <= 24 * alpha).all()
    for variance in (1e-4, 1.0):  # of errors in all estimates
        assert np.abs(amplification(plan, variance)).sum() < (12 if grid == "balanced" else 24)


@pytest.mark.parametrize(("start", "end"), [(-1.0, 0.4), (-math.inf, -1.5), (1.0, math.inf)])
def test_v1_weights_in_the_variable_of_the_default_are_exact(start, end, rng):
    """∫ e^{λ − end} f(y(λ)) dλ of a parabola; from pure noise too, and its value in clean data."""
    mpmath = pytest.importorskip("mpmath")

    def f(y):
        return 1 + 0.3 * y + 0.2 * y**2

    nodes = variable(np.array([start, *rng.uniform(-2.0, 3.0, 2)]))
    found = exponential_quadrature(nodes, start, end, variable) @ f(nodes)
    exact = 1.0
    if end < math.inf:
        least = math.exp(start - end)
        exact = mpmath.quad(lambda p: f(float(variable(end + np.log(float(p))))), [least, 1])
    assert found == pytest.approx(float(exact), rel=1e-6)


@gauges
def test_the_default_ends_where_a_polynomial_of_its_variable_does(schedule):
    """The last row carries it to clean data, where other methods take the last estimate."""
    plan = solvers.plan(schedule=schedule, grid=[1.0, 0.7, 0.5, 0.3, 0.15, 0.06, 0.0], reach=1e3)

    def denoise(x, t):
        y = torch.from_numpy(variable(schedule.at(t).lam.numpy())).reshape(-1, 1)
        return (1 + 0.3 * y + 0.2 * y**2).expand_as(x)

    found = sample(denoise, plan, x=torch.zeros(1, 2, dtype=torch.float64))
    torch.testing.assert_close(found, torch.ones_like(found), rtol=0, atol=1e-12)


@gauges
@pytest.mark.parametrize("begin", [1.0, 0.7, 0.01])
def test_the_default_grid_begins_where_it_is_told_and_falls(schedule, begin):
    for steps in (1, 2, 5, 100, 1000):
        plan = solvers.plan(schedule=schedule, steps=steps, begin=begin)
        assert len(plan) == steps
        assert plan.t[0] == begin
        assert plan.s[-1] == 0
        assert (np.diff(plan.t) < 0).all()


def test_the_default_halves_the_error_of_the_usual_choices_from_20_calls_on():
    """On a mixture in 16 dimensions, against the probability flow solved finely."""
    rng = torch.Generator().manual_seed(12)
    means = torch.randn(10, 16, generator=rng, dtype=torch.float64)
    even = torch.full((10,), 0.1, dtype=torch.float64)
    schedule = schedules.scaled_linear()
    denoise = oracle.Mixture(even, means, even / 2).denoiser(schedule)
    x = torch.randn(64, 16, generator=rng, dtype=torch.float64)
    fine = solvers.plan("multistep", schedule, grid="logsnr", steps=800)
    end = sample(denoise, fine, x=x)

    def error(*words: str, **options) -> float:
        plan = solvers.plan(*words, schedule=schedule, **options)
        return float(((sample(denoise, plan, x=x) - end).norm(dim=1) / end.norm(dim=1)).mean())

    for steps, share in ((10, 0.9), (20, 0.5), (40, 0.5)):
        usual = [
            error(name, steps=steps, grid=grid)
            for name in ("dpmpp-2m", "unipc", "deis")
            for grid in ("uniform", "karras")
        ]
        assert error(steps=steps) < share * min(usual), steps
