"""The sampling loop compiled, recorded, and on tensors that have no values."""

import functools
import shutil
import sys

import pytest
import torch
from torch._dynamo.utils import counters
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from suffuse.diffusion import (
    Bridge,
    Captured,
    Categorical,
    Gaussian,
    Noise,
    Product,
    capture,
    guidance,
    operators,
    posterior,
    sample,
    sampling,
    schedules,
    solvers,
)
from suffuse.diffusion.constant import Constant
from suffuse.diffusion.process import by_name
from suffuse.diffusion.solvers import DISCRETE
from suffuse.diffusion.solvers.onestep import bridge
from suffuse.errors import SuffuseError
from suffuse.kernels import guided_step, philox, plan_step

plan_step_module = sys.modules["suffuse.kernels.plan_step"]  # the package has its function

AFFINE = ["ddim", "adams", "unipc", "heun", "pndm", "deis", "dpmpp-3m-sde", "sa", "restart", "lms"]


def denoise(x, t):
    return 0.3 * x + torch.tanh(x) * (1 - t.reshape(-1, *[1] * (x.ndim - 1))).to(x)


def conditional(x, t, *, y):
    return denoise(x, t) + y


@pytest.fixture
def compiled(monkeypatch):
    """Rows compiled by a backend; a graph break is an error."""

    def use(backend):
        torch.compiler.reset()
        counters.clear()
        run = torch.compile(sampling.advance, backend=backend, fullgraph=True)
        monkeypatch.setattr(sampling, "_compiled", lambda: run)

    yield use
    torch.compiler.reset()


def agrees(denoiser, plan, **settings):
    torch.testing.assert_close(
        sample(denoiser, plan, compiled=True, **settings), sample(denoiser, plan, **settings)
    )


@torch.no_grad()
def test_one_compilation_serves_all_methods_lengths_orders_and_noises(compiled):
    compiled("eager")
    given = {"x": torch.randn(3, 4), "noise": Noise(0, 3)}
    schedule = schedules.cosine()
    agrees(denoise, solvers.plan("ddim", schedule, steps=5), **given)
    with torch.compiler.set_stance("fail_on_recompile"):
        for name in AFFINE:
            agrees(denoise, solvers.plan(name, schedule, steps=9), **given)
        for order in (1, 2, 3, 4):
            agrees(denoise, solvers.plan("multistep", schedule, steps=7, order=order), **given)
        for eta in (0.0, 0.5, 1.0):
            agrees(denoise, solvers.plan("ddim", schedule, steps=6, eta=eta), **given)
        with pytest.raises(RuntimeError, match="recompile"):
            agrees(denoise, solvers.plan("ddim", schedule, steps=5), x=torch.randn(3, 4, 2))
    assert counters["stats"]["unique_graphs"] == 1


@torch.no_grad()
def test_guidance_and_replaced_parts_are_compiled_with_the_row(compiled):
    compiled("eager")
    schedule = schedules.cosine()
    guided = guidance.classifier_free(conditional, 3.0, {"y": torch.zeros(1, 1)})
    seen = posterior.Observation(operators.mask(torch.arange(4) < 2), torch.ones(3, 4))
    process = posterior.Replacement(schedule, observation=seen)
    given = {"x": torch.randn(3, 4), "noise": Noise(0, 3), "y": torch.randn(3, 1)}
    agrees(guided, solvers.plan("ddpm", schedule, steps=5), process=process, **given)
    with torch.compiler.set_stance("fail_on_recompile"):
        agrees(guided, solvers.plan("unipc", schedule, steps=8), process=process, **given)


@torch.no_grad()
def test_tokens_are_compiled(compiled):
    compiled("eager")
    process = Categorical(schedules.flow(), 3)
    table = torch.randn(4, 3)
    given = {"noise": Noise(0, 3), "shape": (5,), "process": process}
    plans = [solvers.plan(DISCRETE["ancestral"], process.schedule, steps=n) for n in (5, 9)]

    def logits(x, t):
        return table[x]

    agrees(logits, plans[0], **given)
    with torch.compiler.set_stance("fail_on_recompile"):
        agrees(logits, plans[1], **given)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
@torch.no_grad()
def test_inductor_makes_the_same_states(compiled):
    compiled("inductor")
    given = {"x": torch.randn(3, 4), "noise": Noise(0, 3)}
    agrees(denoise, solvers.plan("ddpm", schedules.cosine(), steps=5), **given)
    with torch.compiler.set_stance("fail_on_recompile"):
        agrees(denoise, solvers.plan("unipc", schedules.cosine(), steps=7), **given)


# Recorded loops


class Tape(TorchDispatchMode):
    """Operations as they were called, to be run again on the same tensors: a graph for the CPU."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out

    def replay(self):
        for func, args, kwargs, out in self.calls:
            again = func(*args, **kwargs)
            for kept, fresh in zip(
                *map(torch.utils._pytree.tree_leaves, (out, again)), strict=True
            ):
                if isinstance(kept, torch.Tensor) and not _share(kept, fresh):
                    kept.copy_(fresh)


def _share(a, b):
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


@pytest.fixture
def taped(monkeypatch):
    """Loops are recorded on a tape; noise by torch's integers, as on a GPU."""
    tapes = []

    def record(run, device):
        run()
        with Tape() as tape:
            out = run()
        tapes.append(tape)

        def replay():
            tape.replay()
            return out

        return replay

    monkeypatch.setattr(philox, "_by_tiles", lambda *_: False)
    monkeypatch.setattr(capture, "record", record)
    return tapes


@pytest.mark.parametrize("name", ["ddim", "unipc", "ddpm", "heun", "dpmpp-3m-sde"])
def test_a_recorded_loop_answers_for_new_states_seeds_and_conditions(name, taped):
    plan = solvers.plan(name, schedules.cosine(), steps=5)
    guided = guidance.classifier_free(conditional, 3.0, {"y": torch.zeros(1, 1)})
    y = torch.randn(3, 1)
    loop = Captured(guided, plan, noise=Noise(0, 3), shape=(4,), y=y)
    assert len(taped[0].calls) > 5
    for seed, other in ((0, y), (1, torch.randn(3, 1))):
        noise = Noise(seed, 3)
        expected = sample(guided, plan, noise=noise, shape=(4,), y=other)
        torch.testing.assert_close(loop(noise=noise, y=other), expected)
        x = torch.randn(3, 4)
        expected = sample(guided, plan, x=x, noise=noise, y=other)
        torch.testing.assert_close(loop(x=x, noise=noise), expected)
        torch.testing.assert_close(loop(x=x), expected)


def test_tokens_bridges_and_products_are_recorded(taped):
    schedule = schedules.flow()
    tokens, table = Categorical(schedule, 3), torch.randn(4, 3)
    mixed = Product({"a": (Gaussian(schedule), 1.0), "b": (tokens, 1.0)})
    plans = {"a": solvers.plan("ddpm", schedule, steps=4)}
    plans["b"] = solvers.plan(DISCRETE["ancestral"], schedule, steps=4)
    cases = [
        (lambda x, t: table[x], plans["b"], (5,), tokens),
        (
            lambda x, t: {"a": denoise(x["a"], t["a"]), "b": table[x["b"]]},
            plans, {"a": (2,), "b": (5,)}, mixed,
        ),
    ]  # fmt: skip
    for denoiser, plan, shape, process in cases:
        settings = {"shape": shape, "process": process}
        loop = Captured(denoiser, plan, noise=Noise(0, 3), **settings)
        for seed in (1, 2):
            expected = sample(denoiser, plan, noise=Noise(seed, 3), **settings)
            torch.testing.assert_close(loop(noise=Noise(seed, 3)), expected)
    end = schedules.edm(sigma_max=2.0)
    plan, y = solvers.plan(bridge, end, steps=4), torch.randn(3, 2)
    loop = Captured(conditional, plan, noise=Noise(0, 3), shape=(2,), process=Bridge(end), y=y)
    given = {"noise": Noise(5, 3), "y": y + 1}
    expected = sample(conditional, plan, shape=(2,), process=Bridge(end), **given)
    torch.testing.assert_close(loop(**given), expected)


def test_a_recording_is_made_for_each_size(taped):
    run, plan = capture.recording(), solvers.plan("ddpm", schedules.cosine(), steps=3)
    for n in (3, 3, 2, 3):
        found = run(denoise, plan, noise=Noise(n, n), shape=(4,))
        torch.testing.assert_close(found, sample(denoise, plan, noise=Noise(n, n), shape=(4,)))
    assert len(taped) == 2


def test_what_a_recorded_loop_cannot_do_is_said():
    plan = solvers.plan("ddim", schedules.cosine(), steps=3)
    loop = Captured(conditional, plan, x=torch.randn(3, 4), y=torch.zeros(3, 4))
    with pytest.raises(SuffuseError, match=r"shape \[3, 4\]; \[2, 4\] was given"):
        loop(x=torch.randn(2, 4))
    with pytest.raises(SuffuseError, match="without 'label'"):
        loop(label=1)
    with pytest.raises(SuffuseError, match="noise"):
        loop(noise=Noise(0, 3))
    with pytest.raises(SuffuseError, match="on_step"):
        Captured(denoise, plan, x=torch.randn(3, 4), on_step=print)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("name", ["unipc", "ddpm"])
def test_a_graph_of_the_loop_is_the_loop(name):
    plan = solvers.plan(name, schedules.cosine(), steps=6)
    made = {"noise": Noise(0, 3, device="cuda"), "shape": (4, 8, 8)}
    loop = Captured(denoise, plan, **made)
    for seed in (1, 2):
        given = {"noise": Noise(seed, 3, device="cuda"), "shape": (4, 8, 8)}
        torch.testing.assert_close(loop(noise=given["noise"]), sample(denoise, plan, **given))


# No waiting


class Waits(TorchDispatchMode):
    """Raises where numbers go from device to device, or to the host."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in ("_to_copy", "copy_"):
            one, other = (args[0], out) if name == "_to_copy" else args[:2]
            assert one.device == other.device, f"{func}: {one.device} to {other.device}"
        assert name not in ("_local_scalar_dense", "nonzero", "item"), func
        return out


SCHEDULE = schedules.cosine()
TABLE = schedules.scaled_linear()
TOKENS = Categorical(schedules.flow(), 3)
END = schedules.edm(sigma_max=2.0)
NULL = {"y": torch.zeros(1, 1)}


def _on_gpu(value):
    return by_name(lambda v: v.to("cuda") if isinstance(v, torch.Tensor) else v, value)


def _observed():
    known = torch.arange(4) < 2
    seen = posterior.Observation(operators.mask(known), torch.ones(3, 4, device="cuda"))
    return posterior.Replacement(SCHEDULE, observation=seen)


def _restored(operator, kind=None):
    seen = posterior.Observation(operator, operator(torch.ones(3, 4, device="cuda")), noise=0.1)
    if kind is None:
        return posterior.diffpir(denoise, seen, SCHEDULE), {}
    return denoise, {"process": kind(SCHEDULE, observation=seen)}


BLUR = operators.blur(1.0, [4], [-1])
KERNEL = operators.convolution(torch.ones(3) / 3)


def _plan(solver, schedule=SCHEDULE):
    return solvers.plan(solver, schedule, steps=6)


CASES = {
    **{name: (_plan(name), lambda: (denoise, {})) for name in
       ("unipc", "adams", "heun", "multistep", "ddpm", "sa", "dpmpp-3m-sde", "restart")},
    "guidance": (_plan("dpmpp-2m-sde"), lambda: (
        guidance.classifier_free(conditional, 3.0, _on_gpu(NULL), interval=(0.2, 0.8)),
        {"y": torch.ones(3, 1)},
    )),
    "guidance, rescaled": (_plan("unipc"), lambda: (
        guidance.rescale(guidance.classifier_free(conditional, 3.0, _on_gpu(NULL)), conditional),
        {"y": torch.ones(3, 1)},
    )),
    "guidance, projected": (_plan("unipc"), lambda: (
        guidance.apg(conditional, 3.0, _on_gpu(NULL), largest=1.0), {"y": torch.ones(3, 1)},
    )),
    "guidance, CFG++": (_plan("ddim"), lambda: (
        guidance.cfg_plus_plus(conditional, 0.6, _on_gpu(NULL), CASES["guidance, CFG++"][0]),
        {"y": torch.ones(3, 1)},
    )),
    "a pretrained model's table": (_plan("ddpm", TABLE), lambda: (
        lambda x, t: denoise(x, t) * TABLE.at(t).align(x).alpha, {},
    )),
    "inpainting": (_plan("ddpm"), lambda: (denoise, {"process": _observed()})),
    # not those that go backward, which torch does not do on fake tensors of a GPU
    "restoring, ddrm": (_plan("ddim"), lambda: _restored(BLUR, posterior.DDRM)),
    "restoring, diffpir": (_plan("adams"), lambda: _restored(KERNEL)),
    "a ragged batch": (_plan("ddpm"), lambda: (
        lambda x, t, mask: denoise(x, t), {"mask": torch.arange(4) < torch.tensor([[1], [4], [2]])},
    )),
    **{f"tokens, {name}": (_plan(DISCRETE[name], TOKENS.schedule), lambda: (
        lambda x, t: x[..., None] * torch.ones(3, device=x.device), {"process": TOKENS},
    )) for name in ("ancestral", "tau-leaping", "renoise")},
    "a bridge": (_plan(bridge, END), lambda: (
        conditional, {"process": Bridge(END), "y": torch.ones(3, 4)},
    )),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_nothing_in_the_loop_waits_for_the_device_or_is_sent_to_it(case, monkeypatch):
    """On fake tensors of a GPU, which have no values: any question for one raises."""

    def watched(*given, run=sampling.advance):
        with Waits():
            return run(*given)

    plan, make = CASES[case]
    # constants go to a device once; fake ones would not be kept
    monkeypatch.setattr(Constant, "on", functools.cache(Constant.on))
    with FakeTensorMode(allow_non_fake_inputs=True):
        denoiser, settings = make()
        noise = Noise(0, 3, device="cuda")
        settings = _on_gpu(settings)
        sample(denoiser, plan, noise=noise, shape=(4,), **settings)
        monkeypatch.setattr(sampling, "advance", watched)
        x = sample(denoiser, plan, noise=noise, shape=(4,), **settings)
        assert x.shape == (3, 4)
        assert x.device.type == "cuda"
        with pytest.raises(Exception, match=r"item|data.dependent|scalar"):
            x.sum().item()


def test_what_waits_is_found():
    with FakeTensorMode(allow_non_fake_inputs=True):
        x = torch.ones(2, device="cuda")
        for ask in (lambda: x.cpu(), lambda: torch.ones(2).to("cuda"), lambda: float(x.sum())):
            with pytest.raises(Exception, match=r"cuda|scalar"), Waits():
                ask()


def test_kernels_on_a_gpu_have_gradients_and_shapes():
    """The operators tell fake tensors their shapes; where a gradient is asked for, torch has it."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        x = torch.ones(3, 4, 8, 8, device="cuda").to(memory_format=torch.channels_last)
        k = [torch.ones(1, device="cuda")] * 2
        out = plan_step([x, x], k)
        assert out.stride() == x.stride()
        assert plan_step([x.requires_grad_(), x], k).grad_fn is not None
        with torch.no_grad():
            found, guided = guided_step([x], [0.5], [x, x], [2.0, -1.0], 0.6, rescale=0.7)
        assert found.shape == guided.shape == x.shape
    plan_step_module._table.cache_clear()  # it has kept fake tensors
