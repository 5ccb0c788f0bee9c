"""Products of processes, renoising, and what a process of one's own has to say."""

import math

import numpy as np
import pytest
import torch

from suffuse.diffusion import (
    Bridge,
    Categorical,
    Gaussian,
    Noise,
    Process,
    Product,
    Stream,
    oracle,
    sample,
    schedules,
    solvers,
)
from suffuse.diffusion.product import product
from suffuse.diffusion.schedules import bridge_gmax as gmax
from suffuse.diffusion.solvers import discrete
from suffuse.errors import SuffuseError

F = torch.float64
PARTS = {
    "atoms": (Categorical(schedules.flow(), 4, "marginal", (1, 2, 3, 4)), 1.0),
    "bonds": (Categorical(schedules.cosine(), 3, "absorbing", symmetric=True), 5.0),
    "places": (Gaussian(schedules.cosine(), sigma_data=0.7), 0.5),
}
SHAPES = {"atoms": (5,), "bonds": (5, 5), "places": (5, 3)}
JOINT = Product(PARTS)
PLANS = {
    "atoms": solvers.plan(discrete.ancestral, PARTS["atoms"][0].schedule, steps=6),
    "bonds": solvers.plan(discrete.renoise, PARTS["bonds"][0].schedule, steps=6),
    "places": solvers.plan("dpmpp-2m-sde", PARTS["places"][0].schedule, steps=6),
}


def networks():
    """One network for each part, which look at nothing but their own."""
    torch.manual_seed(0)
    table = {"atoms": torch.randn(9, 4), "bonds": torch.randn(9, 3)}

    def tokens(name):
        return lambda x, level, **conditions: table[name][x] * (1 + level.mean())

    return {
        "atoms": tokens("atoms"),
        "bonds": tokens("bonds"),
        "places": lambda x, level, **conditions: torch.sin(x) * level[:, None, None],
    }


def together(parts, seen=None):
    """These as one network of mappings."""

    def network(x, level, **conditions):
        if seen is not None:
            seen.append((x, level, conditions))
        return {name: part(x[name], level[name], **conditions) for name, part in parts.items()}

    return network


def clean(batch):
    bonds = torch.randint(3, (batch, 5, 5)).triu(1)
    return {
        "atoms": torch.randint(4, (batch, 5)),
        "bonds": bonds + bonds.mT,
        "places": torch.randn(batch, 5, 3),
    }


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


# Each part is what it is alone, bit for bit


def test_independent_parts_are_sampled_as_each_alone():
    parts, noise = networks(), Noise(3, 4)
    both = sample(JOINT.denoiser(together(parts)), PLANS, noise=noise, shape=SHAPES, process=JOINT)
    for name, (process, _) in PARTS.items():
        alone = sample(
            process.denoiser(parts[name]),
            PLANS[name],
            noise=noise.branch(name),
            shape=SHAPES[name],
            process=process,
        )
        assert torch.equal(both[name], alone), name


def test_parts_may_look_back_differently_far():
    part, x = Gaussian(schedules.cosine()), {name: torch.randn(2, 3, dtype=F) for name in "abc"}
    names = dict(zip("abc", ("unipc", "ddim", "heun"), strict=True))
    plans = {k: solvers.plan(name, part.schedule, steps=6) for k, name in names.items()}
    process = Product(dict.fromkeys("abc", (part, 1.0)))
    both = sample(
        lambda x, t: {k: torch.tanh(v) for k, v in x.items()}, plans, x=x, process=process
    )
    for k, plan in plans.items():
        alone = sample(lambda x, t: torch.tanh(x), plan, x=x[k])
        torch.testing.assert_close(both[k], alone)


def test_the_loss_is_the_weighted_sum_of_each_alone_in_one_call():
    parts, seen, x_0 = networks(), [], clean(6)
    noise = JOINT.noise(Noise(1, 6), x_0, step=4, stream=Stream.CORRUPT)
    t = JOINT.levels(torch.rand(6, dtype=F))
    found = JOINT.loss(together(parts, seen), x_0, t, noise)
    expected = torch.zeros(6)
    for name, (process, weight) in PARTS.items():
        own = process.noise(Noise(1, 6).branch(name), x_0[name], step=4, stream=Stream.CORRUPT)
        expected += weight * process.loss(parts[name], x_0[name], t[name], own)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)
    assert found.shape == (6,)
    assert len(seen) == 1


def test_the_noise_of_a_part_is_its_own_and_does_not_depend_on_the_others():
    noise, like = Noise(0, 3), {name: torch.empty(3, *shape) for name, shape in SHAPES.items()}
    whole = JOINT.noise(noise, like, step=2, stream=Stream.STEP)
    fewer = Product({"places": PARTS["places"]})
    assert torch.equal(
        fewer.noise(noise, like, step=2, stream=Stream.STEP)["places"], whole["places"]
    )
    draws = [
        source.uniform((50,), step=0, stream=stream)
        for source in (
            noise,
            noise.branch("a"),
            noise.branch("b"),
            noise.branch("a").branch("b"),
        )
        for stream in (Stream.PRIOR, Stream.STEP)
    ]
    for i, one in enumerate(draws):
        assert not any((one == other).any() for other in draws[:i])
    part = noise.branch("a")[1:2].normal((4,), step=0)
    assert torch.equal(part, noise.branch("a").normal((4,), step=0)[1:2])


def test_a_sample_is_the_same_alone_and_in_a_batch_and_goes_on_from_any_row():
    denoise, steps = JOINT.denoiser(together(networks())), []
    run = {"shape": SHAPES, "process": JOINT}
    # the networks of this file look at the batch's mean level, which all samples share
    whole = sample(denoise, PLANS, noise=Noise(5, 4), on_step=steps.append, **run)
    alone = sample(denoise, PLANS, noise=Noise(5, 1, first=2), **run)
    for name in PARTS:
        torch.testing.assert_close(alone[name][0], whole[name][2], rtol=0, atol=1e-5)
    rest = sample(
        denoise, PLANS, noise=Noise(5, 4), start=3, registers=steps[2].registers, process=JOINT
    )
    assert equal(rest, whole)
    assert steps[0].t == {"atoms": 1.0, "bonds": 1.0, "places": 1.0}
    assert steps[5].s == {"atoms": 0.0, "bonds": 0.0, "places": 0.0}


def test_products_nest():
    inner = Product({"atoms": PARTS["atoms"], "bonds": PARTS["bonds"]})
    outer = product({"graph": (inner, 2.0), "places": PARTS["places"]})
    x_0, t = clean(3), torch.rand(3, dtype=F)
    state = {"graph": {k: x_0[k] for k in ("atoms", "bonds")}, "places": x_0["places"]}
    noise = outer.noise(Noise(0, 3), state, step=0, stream=Stream.CORRUPT)
    parts = networks()

    def network(x, level):
        graph = together({k: parts[k] for k in ("atoms", "bonds")})(x["graph"], level["graph"])
        return {"graph": graph, "places": parts["places"](x["places"], level["places"])}

    found = outer.loss(network, state, t, noise)
    flat = {**noise["graph"], "places": noise["places"]}
    weights = {"atoms": 2.0, "bonds": 10.0, "places": 0.5}
    same = Product({name: (part, weights[name]) for name, (part, _) in PARTS.items()})
    torch.testing.assert_close(found, same.loss(together(parts), x_0, t, flat))


# Times, masks, conditions


def test_parts_may_be_at_different_times():
    """One part clean and given, the other sampled: its plan stays at 0."""
    seen, x_0 = [], clean(2)
    t = {
        "atoms": torch.zeros(2, dtype=F),
        "bonds": torch.rand(2, 5, 5, dtype=F),
        "places": torch.rand(2, 5, dtype=F),
    }
    t["bonds"] = (t["bonds"] + t["bonds"].mT) / 2
    noise = JOINT.noise(Noise(0, 2), x_0, step=0, stream=Stream.CORRUPT)
    x_t = JOINT.corrupt(x_0, t, noise)
    assert torch.equal(x_t["atoms"], x_0["atoms"])
    assert not torch.equal(x_t["places"], x_0["places"])
    parts = {**networks(), "places": lambda x, level: x * level[..., None]}
    JOINT.loss(together(parts, seen), x_0, t, noise)
    assert {name: level.shape for name, level in seen[0][1].items()} == {
        name: time.shape for name, time in t.items()
    }
    still = np.zeros((7, 1))
    plans = {**PLANS, "atoms": solvers.plan(discrete.ancestral, schedules.flow(), grid=still)}
    start = JOINT.prior(Noise(0, 2), SHAPES)
    end = sample(
        JOINT.denoiser(together(networks())),
        plans,
        x={**start, "atoms": x_0["atoms"]},
        noise=Noise(0, 2),
        process=JOINT,
    )
    assert torch.equal(end["atoms"], x_0["atoms"])


def test_ragged_states_keep_their_padding_in_every_part():
    nodes = torch.arange(5).expand(2, 5) < torch.tensor([[3], [5]])
    mask = {"atoms": nodes, "bonds": nodes[:, None] & nodes[:, :, None], "places": nodes}
    seen, parts = [], networks()
    denoise = JOINT.denoiser(together(parts, seen))
    x = sample(denoise, PLANS, noise=Noise(1, 2), shape=SHAPES, process=JOINT, mask=mask)
    for state in (x, *(shown for shown, _, _ in seen)):
        for name in PARTS:
            assert not state[name][~mask[name]].any()
    assert seen[0][2]["mask"] is mask
    x_0 = clean(2)
    noise = JOINT.noise(Noise(1, 2), x_0, step=0, stream=Stream.CORRUPT)
    other = {**x_0, "places": x_0["places"] + 9.0 * ~nodes[..., None]}
    t = torch.rand(2, dtype=F)
    one, two = (JOINT.loss(together(parts), v, t, noise, mask=mask) for v in (x_0, other))
    torch.testing.assert_close(one, two)
    part = {"atoms": nodes}
    whole = sample(denoise, PLANS, noise=Noise(1, 2), shape=SHAPES, process=JOINT, mask=part)
    assert whole["places"][0, 3:].any()
    assert not whole["atoms"][0, 3:].any()


def test_a_part_may_be_a_bridge_to_a_condition():
    both = Product({"clean": (Bridge(gmax()), 1.0), "label": (PARTS["atoms"][0], 1.0)})
    plans = {"clean": solvers.plan("bridge", gmax(), steps=4), "label": PLANS["atoms"]}
    with pytest.raises(SuffuseError, match="same number of rows"):
        sample(lambda x, t, y: x, plans, process=both)
    plans["label"] = solvers.plan(discrete.ancestral, schedules.flow(), steps=4)
    y, seen = torch.randn(3, 6), []

    def denoise(x, t, y):
        seen.append(x["clean"])
        return {"clean": 0.5 * y, "label": torch.zeros(3, 2, 4)}

    x = sample(
        denoise, plans, noise=Noise(0, 3), shape={"clean": (6,), "label": (2,)}, process=both, y=y
    )
    torch.testing.assert_close(seen[0], y)
    torch.testing.assert_close(x["clean"], 0.5 * y)


def test_a_projection_sees_the_estimates_of_all_parts():
    def project(estimate, x_t, t):
        assert set(estimate) == set(x_t) == set(t) == set(PARTS)
        return {**estimate, "places": torch.full_like(estimate["places"], 2.5)}

    denoise = JOINT.denoiser(together(networks()))
    x = sample(denoise, PLANS, noise=Noise(0, 2), shape=SHAPES, process=JOINT, project=project)
    torch.testing.assert_close(x["places"], torch.full((2, 5, 3), 2.5))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"plan": PLANS["atoms"]}, "a plan for each of its parts, by name: atoms, bonds, places"),
        ({"plan": {"atoms": PLANS["atoms"]}}, "'bonds' has no plan"),
        ({"plan": {**PLANS, "bond": PLANS["bonds"]}}, "did you mean 'bonds'"),
        (
            {"plan": {**PLANS, "places": PLANS["atoms"]}},
            "'ancestral' has rows by the law 'mixture'",
        ),
        ({"shape": {"atoms": (5,)}}, "the shape of its part 'bonds'"),
        ({"process": None}, "process=Product"),
        ({"process": PARTS["atoms"][0]}, "the plan of 'a product' has rows by the law 'joint'"),
        ({"noise": None}, "source of noise"),
    ],
)
def test_wrong_plans_of_products_are_told(change, message):
    run = {"plan": PLANS, "shape": SHAPES, "process": JOINT, "noise": Noise(0, 1), **change}
    with pytest.raises(SuffuseError, match=message):
        sample(lambda x, t: x, **run)


def test_wrong_products_are_told():
    with pytest.raises(SuffuseError, match="one part or more"):
        Product({})
    with pytest.raises(SuffuseError, match="weight of 0 or more"):
        Product({"a": (PARTS["atoms"][0], -1.0)})


# Renoising, of any process


@pytest.mark.parametrize(
    "schedule", [schedules.cosine(), schedules.flow(), schedules.edm()], ids=["vp", "flow", "ve"]
)
def test_v3_renoising_gaussian_states_has_its_exact_covariance(schedule):
    """x_s = α_s E[x_0 | x_t] + σ_s z: v_s = α_s² gain² v_t + σ_s², through the loop itself."""
    v = 0.4

    class Unit(Noise):
        """Noise that is 1 in one row and 0 in all others."""

        def __init__(self, row):
            super().__init__(0, 1)
            self.row = row

        def normal(self, shape, *, step, stream, dtype):
            return torch.full((1, *shape), float(step == self.row), dtype=dtype)

    plan = solvers.plan(discrete.renoise, schedule, steps=7)
    one = torch.ones(1, 1, dtype=F)
    denoise = oracle.Gaussian(0 * one[0], v * one).denoiser(schedule)
    start = schedule.at(1.0)
    variance = float(start.alpha) ** 2 * v + float(start.sigma) ** 2
    gains = [sample(denoise, plan, x=one * math.sqrt(variance), noise=Unit(-1))]
    gains += [sample(denoise, plan, x=0 * one, noise=Unit(i)) for i in range(7)]
    for i in range(7):
        t, s = schedule.at(float(plan.t[i])), schedule.at(float(plan.s[i]))
        gain = t.alpha * v / (t.alpha**2 * v + t.sigma**2)
        variance = float((s.alpha * gain) ** 2 * variance + s.sigma**2)
    assert float(torch.cat(gains).square().sum()) == pytest.approx(variance, rel=1e-12)


def test_renoising_gaussian_states_is_the_table_of_consistency_sampling():
    """Row by row the same matrix: A = 0, B = α_s and C = σ_s."""
    lcm = solvers.plan("lcm", schedules.cosine(), steps=5)
    plan = solvers.plan(discrete.renoise, schedules.cosine(), steps=5)
    np.testing.assert_array_equal(plan.t, lcm.t)
    x_0, noise = torch.randn(3, 4, dtype=F), Noise(0, 3)
    process = Gaussian(schedules.cosine())
    for row, table in zip(plan, lcm, strict=True):
        z = process.noise(noise, x_0, step=row.index, stream=Stream.CORRUPT)
        expected = table.b[0] * x_0 + table.c * z
        found = sample(lambda x, t: x_0, plan, x=x_0, noise=noise, on_step=None)
        fresh = process.corrupt(x_0, torch.full((3,), row.s, dtype=F), z)
        torch.testing.assert_close(fresh, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found, x_0)


def test_a_bridge_can_be_renoised():
    process, y = Bridge(gmax()), torch.randn(3, 4, dtype=F)
    plan, x_0 = solvers.plan(discrete.renoise, gmax(), steps=3), torch.randn(3, 4, dtype=F)
    steps = []
    sample(
        lambda x, t, y: x_0,
        plan,
        noise=Noise(0, 3),
        shape=(4,),
        process=process,
        on_step=steps.append,
        y=y,
    )
    z = process.noise(Noise(0, 3), y, step=0, stream=Stream.CORRUPT)
    torch.testing.assert_close(steps[0].x, process.given({"y": y}).corrupt(x_0, plan.s[0], z))
    torch.testing.assert_close(steps[-1].x, x_0)


class Angles(Process):
    """A process of one's own, on the circle: x_t = x_0 + t π ε, wrapped. No step but renoising."""

    def wrap(self, x):
        return torch.remainder(x + math.pi, 2 * math.pi) - math.pi

    def prior(self, noise, shape, t=1.0):
        return self.wrap(2 * math.pi * noise.uniform(shape, step=0, stream=Stream.PRIOR))

    def corrupt(self, x_0, t, noise):
        scale = torch.as_tensor(t, dtype=x_0.dtype)
        scale = scale.reshape(scale.shape + (1,) * (x_0.ndim - scale.ndim))
        return self.wrap(x_0 + math.pi * scale * noise)

    def present(self, x_t, t):
        return x_t, t

    def estimate(self, raw, x_t, t):
        return self.wrap(raw)

    def error(self, raw, x_0, x_t, t, noise, mask):
        return (1 - torch.cos(raw - x_0)).mean(1)

    def step(self, row, registers, noise):
        raise NotImplementedError


def test_a_process_of_ones_own_needs_only_its_corruption_to_be_trained_sampled_and_multiplied():
    angles = Angles()
    target = torch.tensor([0.5, -2.0, 3.0], dtype=F)
    both = Product({"torsions": (angles, 1.0), "atoms": PARTS["atoms"]})
    plan = solvers.plan(discrete.renoise, schedules.flow(), steps=4)
    network = lambda x, level: target + 0 * x  # noqa: E731
    x = sample(angles.denoiser(network), plan, noise=Noise(0, 6), shape=(3,), process=angles)
    torch.testing.assert_close(x, target.expand(6, 3))
    noise = angles.noise(Noise(0, 6), x, step=0, stream=Stream.CORRUPT)
    loss = angles.loss(network, x, angles.levels(torch.rand(6)), noise)
    torch.testing.assert_close(loss, torch.zeros(6, dtype=F))
    parts = {"torsions": network, "atoms": networks()["atoms"]}
    x = sample(
        both.denoiser(together(parts)),
        {"torsions": plan, "atoms": solvers.plan(discrete.reveal, schedules.flow(), steps=4)},
        noise=Noise(0, 6),
        shape={"torsions": (3,), "atoms": (5,)},
        process=both,
    )
    torch.testing.assert_close(x["torsions"], target.expand(6, 3))
    with pytest.raises(SuffuseError, match="a process of the kind 'Angles' reads renoise"):
        sample(network, solvers.plan("ddim", schedules.flow(), steps=2), process=angles)
