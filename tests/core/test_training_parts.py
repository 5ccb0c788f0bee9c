"""The parts of the training engine, each by itself."""

from __future__ import annotations

import io
import json
import math
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from suffuse.diffusion import Gaussian, schedules
from suffuse.errors import SuffuseError
from suffuse.recipe import Training
from suffuse.training import precision, sharding
from suffuse.training.batches import Batch, Batches, order
from suffuse.training.clock import Clock
from suffuse.training.directory import locked
from suffuse.training.ema import EMA, decay, exponent
from suffuse.training.metrics import BINS, Metrics, Window, last_loss, summary
from suffuse.training.progress import Report
from suffuse.training.rate import learning_rate
from suffuse.training.states import States
from suffuse.training.stop import Interrupted, Stop

CPU = torch.device("cpu")


# Averaged weights


@pytest.mark.parametrize("std", [0.01, 0.05, 0.1, 0.2, 0.28])
def test_the_exponent_gives_the_relative_deviation(std: float) -> None:
    g = exponent(std)
    assert math.sqrt((g + 1) / ((g + 2) ** 2 * (g + 3))) == pytest.approx(std, rel=1e-9)
    # The deviation of the density (γ+1) τ^γ on [0, 1], by quadrature.
    tau = (np.arange(200_000) + 0.5) / 200_000
    weight = (g + 1) * tau**g / len(tau)
    mean = (weight * tau).sum()
    assert math.sqrt((weight * (tau - mean) ** 2).sum()) == pytest.approx(std, rel=1e-4)


@pytest.mark.parametrize("std", [0.0, -0.1, 0.3, float("nan")])
def test_widths_that_no_power_has_are_refused(std: float) -> None:
    with pytest.raises(SuffuseError, match="ema_std"):
        exponent(std)


@pytest.mark.parametrize("std", [0.05, 0.25])
def test_the_average_is_the_closed_form(std: float, seed: int) -> None:
    """Unrolled, step τ of T weighs (τ/T)^{γ+1} − ((τ−1)/T)^{γ+1}: the integral of the profile."""
    steps, random = 50, torch.Generator().manual_seed(seed)
    averaged, learning = nn.Linear(3, 2).double(), nn.Linear(3, 2).double()
    learning.register_buffer("count", torch.zeros(()))
    averaged.register_buffer("count", torch.zeros(()))
    ema, history = EMA(averaged, learning, std), []
    for t in range(1, steps + 1):
        with torch.no_grad():
            for p in learning.parameters():
                p.copy_(torch.randn(p.shape, dtype=torch.float64, generator=random))
            learning.count.fill_(t)
        ema.update(t)
        history.append(torch.cat([p.detach().flatten() for p in learning.parameters()]))
    place = torch.arange(steps + 1, dtype=torch.float64) / steps
    weights = (place ** (ema.gamma + 1)).diff()
    assert float(weights.sum()) == pytest.approx(1, abs=1e-14)
    expected = (weights[:, None] * torch.stack(history)).sum(0)
    found = torch.cat([p.detach().flatten() for p in averaged.parameters()])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    assert averaged.count == steps
    assert decay(ema.gamma, 1) == 0


# Learning rate


@pytest.mark.parametrize("decays", ["cosine", "constant", "cooldown"])
@pytest.mark.parametrize(("steps", "warmup"), [(100, 10), (100, 0), (5, 100), (1, 0), (1, 1)])
def test_the_learning_rate(decays: str, steps: int, warmup: int) -> None:
    training = Training.model_validate(
        {"steps": steps, "warmup": warmup, "decay": decays, "learning_rate": 0.5}
    )
    rates = [learning_rate(training, step) for step in range(steps)]
    rising, rest = rates[:warmup], rates[warmup:]
    np.testing.assert_allclose(rising, [0.5 * (k + 1) / warmup for k in range(len(rising))])
    if decays == "constant":
        assert rest == [0.5] * len(rest)
    elif decays == "cooldown":
        line = [0.5 * min(1.0, (steps - k) / (steps / 4)) for k in range(warmup, steps)]
        np.testing.assert_allclose(rest, line)
    else:
        turn = [0.5 * math.cos(math.pi / 2 * k / max(len(rest), 1)) ** 2 for k in range(len(rest))]
        np.testing.assert_allclose(rest, turn, atol=1e-15)
    assert all(0 < rate <= 0.5 for rate in rates)


# Batches


def some_states(n: int) -> States:
    x = np.arange(n, dtype=np.float32)[:, None] + np.float32([0, 0.25, 0.5])
    b = np.arange(2 * n, dtype=np.float32).reshape(n, 2)
    return States({"x": x, "condition.a": np.arange(n), "condition.b": b})


def batches(seed: int, n: int, batch: int, share: range, dropout: dict[str, float],
            mirror: tuple[int, ...] = ()) -> Batches:  # fmt: skip
    return Batches(
        some_states(n),
        Gaussian(schedules.cosine()),
        mask=lambda sizes: sizes,
        seed=seed,
        batch=batch,
        share=share,
        null={"a": torch.tensor([-1]), "b": torch.full((1, 2), -1.0)},
        dropout=dropout,
        mirror=mirror,
        beside=["b"],
        device=CPU,
    )


def test_mirrored_examples_are_half_of_them_and_the_same_for_any_share(seed: int) -> None:
    def made(share: range, mirror: tuple[int, ...]) -> Batch:
        found = batches(seed, 50, 40, share, {"a": 0.0, "b": 0.0}, mirror)
        return found(3)

    plain, mirrored = made(range(40), ()), made(range(40), (-1,))
    assert torch.equal(plain.u, mirrored.u)
    assert isinstance(plain.x_0, Tensor)
    assert isinstance(mirrored.x_0, Tensor)
    same = (mirrored.x_0 == plain.x_0).all(1)
    assert torch.equal(mirrored.x_0[~same], plain.x_0[~same].flip(-1))
    assert torch.equal(mirrored.conditions["a"], plain.conditions["a"])
    beside = plain.conditions["b"], mirrored.conditions["b"]  # a state that goes with it
    assert torch.equal(beside[1], torch.where(same[:, None], beside[0], beside[0].flip(-1)))
    assert 6 <= int(same.sum()) <= 34  # of 40, by chance at most 3e-6 outside
    for share in (range(13), range(13, 40)):
        part = made(share, (-1,)).x_0
        assert isinstance(part, Tensor)
        assert torch.equal(part, mirrored.x_0[share.start : share.stop])


@pytest.mark.parametrize("axis", [0, 1, -4])
def test_axes_that_states_lack_are_refused(axis: int) -> None:
    with pytest.raises(SuffuseError, match=r"training\.mirror .* given"):
        batches(0, 50, 4, range(4), {"a": 0.0, "b": 0.0}, (axis,))(0)


def test_each_pass_over_the_data_is_a_permutation_of_its_own(seed: int) -> None:
    passes = [order(seed, epoch, 50) for epoch in range(3)] + [order(seed ^ 1, 0, 50)]
    for one in passes:
        assert sorted(one) == list(range(50))
    assert len({tuple(one) for one in passes}) == len(passes)
    whole = batches(seed, 50, 20, range(20), {"a": 0.0, "b": 0.0})
    seen = [i for step in range(5) for i in whole.indices(step)]
    assert seen == [*passes[0], *passes[1]]


def test_the_order_is_the_same_for_ever() -> None:
    assert order(0, 0, 8).tolist() == [0, 2, 1, 5, 4, 3, 6, 7]
    assert order(2**63 - 1, 5, 4).tolist() == [3, 1, 0, 2]


@pytest.mark.parametrize("count", [2, 3])
def test_shares_are_parts_of_the_global_batch(count: int, seed: int) -> None:
    dropout = {"a": 0.5, "b": 0.3}
    whole = batches(seed, 10, 16, range(16), dropout)
    shares = [range(16 * i // count, 16 * (i + 1) // count) for i in range(count)]
    for step in (0, 7, 12345):
        expected = whole(step)
        parts = [batches(seed, 10, 16, share, dropout)(step) for share in shares]
        for field in ("x_0", "u", "noise"):
            found = torch.cat([getattr(part, field) for part in parts])
            assert torch.equal(found, getattr(expected, field))
        for name, value in expected.conditions.items():
            assert torch.equal(torch.cat([part.conditions[name] for part in parts]), value)
        # One level in each of 16 equal parts of (0, 1): stratified over the global batch.
        assert (expected.u * 16).floor().tolist() == list(range(16))
    assert not torch.equal(whole(0).noise, whole(1).noise)


def test_conditions_are_dropped_as_often_as_asked(seed: int) -> None:
    rates, n, steps = {"a": 0.5, "b": 0.2}, 1000, 20
    whole = batches(seed, n, n, range(n), rates)
    kept = batches(seed, n, n, range(n), {"a": 0.0, "b": 0.0})
    a, b = [], []
    for step in range(steps):
        found, given = whole(step).conditions, kept(step).conditions
        a.append(found["a"] == -1)
        b.append((found["b"] == -1).all(1))
        assert torch.equal(found["a"][~a[-1]], given["a"][~a[-1]])
        assert torch.equal(found["b"][~b[-1]], given["b"][~b[-1]])
    without_a, without_b = torch.cat(a).double(), torch.cat(b).double()
    both = 0.1 + 0.9 * (0.4 / 0.9) * (0.1 / 0.9)
    for measured, p in [(without_a, 0.5), (without_b, 0.2), (without_a * without_b, both)]:
        assert abs(float(measured.mean()) - p) < 5 * math.sqrt(p * (1 - p) / (n * steps))


# Figures


def test_the_window_is_the_mean_in_each_bin(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    window, losses, times = Window(CPU), [], []
    for step in range(5):
        t = torch.rand(7, generator=random, dtype=torch.float64) * 0.8
        loss = torch.rand(7, generator=random)
        window.add(step, loss, t, torch.tensor(float(step)))
        losses += loss.double().tolist()
        times += t.tolist()
    found = summary(window.tensor(), window.steps, 1)
    assert found["loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-12)
    assert found["gradient_norm"] == 2
    for i in range(BINS):
        inside = [loss for loss, t in zip(losses, times, strict=True) if i <= t * BINS < i + 1]
        if inside:
            assert found["levels"][i] == pytest.approx(sum(inside) / len(inside), rel=1e-12)
        else:
            assert found["levels"][i] is None
    again = Window(CPU)
    again.restore(window.steps, json.loads(json.dumps(window.tensor().tolist())))
    assert torch.equal(again.tensor(), window.tensor())
    window.clear()
    assert window.steps == 0
    assert not window.tensor().any()


def test_times_at_the_ends_and_with_axes_fall_into_bins() -> None:
    window = Window(CPU)
    window.add(0, torch.tensor([1.0, 2.0]), torch.tensor([0.0, 1.0]), torch.tensor(0.0))
    window.add(1, torch.tensor([4.0]), torch.tensor([[0.0, 1.0]]), torch.tensor(0.0))
    levels = summary(window.tensor(), 2, 1)["levels"]
    assert (levels[0], levels[BINS - 1], levels[BINS // 2]) == (1, 2, 4)


@pytest.mark.parametrize(
    ("loss", "norm"), [(float("nan"), 1.0), (float("inf"), 1.0), (1.0, float("inf"))]
)
def test_the_first_broken_step_is_remembered(loss: float, norm: float) -> None:
    window, t = Window(CPU), torch.tensor([0.5])
    window.add(3, torch.tensor([1.0]), t, torch.tensor(1.0))
    assert window.broken() == -1
    window.add(4, torch.tensor([loss]), t, torch.tensor(norm))
    window.add(5, torch.tensor([float("nan")]), t, torch.tensor(norm))
    window.clear()
    assert window.broken() == 4


def test_lines_of_lost_work_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert last_loss(path) is None
    first = Metrics(path, 0)
    for step in (5, 10, 15):
        first.write({"step": step, "loss": step / 2, "levels": [None]})
        assert last_loss(path) == step / 2
    first.close()
    with path.open("a") as file:
        file.write('{"step": 2')  # a write that was cut off
    second = Metrics(path, 10)
    second.write({"step": 15, "loss": float("inf"), "levels": []})
    second.sync()
    second.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["step"] for line in lines] == [5, 10, 15]
    assert lines[-1]["loss"] is None


def test_a_full_disk_under_the_metrics_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = Metrics(tmp_path / "metrics.jsonl", 0)
    with open("/dev/full", "ab", buffering=0) as full:
        monkeypatch.setattr(metrics, "_file", full)
        with pytest.raises(SuffuseError, match=r"metrics\.jsonl: the disk is full"):
            metrics.write({"step": 1})
        with pytest.raises(SuffuseError, match="cannot write"):
            metrics.sync()
    with pytest.raises(SuffuseError, match="cannot write /nowhere/x"):
        Metrics(Path("/nowhere/x"), 0)


# Stopping


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_only_ask(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with Stop() as stop:
        assert not stop.asked
        os.kill(os.getpid(), number)
        assert stop.asked
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_stops_at_once_in_a_run_alone() -> None:
    with Stop() as stop:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    with Stop(alone=False) as stop:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    assert stop.asked


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_can_be_done_anew_is_stopped_at_once(number: signal.Signals) -> None:
    with Stop() as stop:
        with pytest.raises(KeyboardInterrupt), stop.at_once():
            signal.raise_signal(number)
        assert stop.asked
    with Stop(alone=False) as stop, stop.at_once():
        signal.raise_signal(number)
    assert stop.asked


def test_other_threads_leave_signals_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    found = []

    def work() -> None:
        with Stop():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [before]


def test_an_interruption_says_how_to_go_on() -> None:
    assert issubclass(Interrupted, KeyboardInterrupt)
    text = str(Interrupted(Path("runs/a"), 17, 30))
    assert "step 17 of 30" in text
    assert "--resume" in text


# Precision


@pytest.mark.parametrize(
    ("hardware", "plain", "half", "chosen", "said"),
    [
        (False, 0.5, 0.1, "fp32", "no bf16"),
        (True, 0.010, 0.001, "fp32", "10.0 ms"),
        (True, 0.5, 0.25, "bf16", "2.00 times"),
        (True, 0.5, 0.48, "fp32", "1.04 times"),
    ],
)
def test_bf16_is_chosen_where_it_pays(
    hardware: bool,
    plain: float,
    half: float,
    chosen: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, lines = [0.0], list[str]()
    monkeypatch.setattr(precision, "has_bf16", lambda device: hardware)
    monkeypatch.setattr(precision.time, "perf_counter", lambda: now[0])

    def step(kind: precision.Precision) -> None:
        now[0] += plain if kind == "fp32" else half

    assert precision.choose(step, CPU, lines.append) == chosen
    assert len(lines) == 1
    assert said in lines[0]


def test_the_hardware_is_asked() -> None:
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    assert precision.has_bf16(CPU) == ("bf16" in flags)
    assert not precision.has_bf16(torch.device("meta"))


def test_autocast_is_inside_the_network_only() -> None:
    seen = []

    def network(x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        out = x @ x.T
        seen.append(out.dtype)
        return out

    x = torch.randn(4, 4)
    for kind in ("fp32", "bf16"):
        assert precision.autocast(network, CPU, kind)(x, x).dtype == torch.float32
    assert seen == [torch.float32, torch.bfloat16]


# The rest


def test_a_weight_that_cannot_be_split_is_named() -> None:
    network = nn.Linear(2, 2)
    network.scale = nn.Parameter(torch.ones(()))
    with pytest.raises(SuffuseError, match=r"splits weights .* 'scale' of this network has none"):
        sharding.shard(network, CPU)


def test_pauses_are_no_training() -> None:
    clock = Clock(CPU, seconds=100.0, cores=50.0)
    with clock.paused():
        begun = clock.cores()
        while clock.cores() < begun + 0.05:
            pass
    assert 100 <= clock.seconds() < 100.05
    assert clock.cores() >= 50.05


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with locked(tmp_path / "run"):
        with (
            pytest.raises(
                SuffuseError, match=f"is being trained already, by process {os.getpid()}"
            ),
            locked(tmp_path / "run"),
        ):
            pass
        with locked(tmp_path / "other"):
            pass
    with locked(tmp_path / "run"):
        pass


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SuffuseError, match="cannot write"), locked(tmp_path / "file" / "run"):
        pass


def console(terminal: bool) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, force_terminal=terminal, width=100, legacy_windows=False), out


def test_plain_lines_are_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("suffuse.training.progress.time.monotonic", lambda: now[0])
    target, out = console(terminal=False)
    with Report(None, target) as report:
        report.begin(0, 100)
        for step in range(1, 101):
            now[0] += 0.5
            report.step(step)
            if step % 5 == 0:
                report.measured(step, 0.5, 1234.0)
        with report.bar("encoding", 10) as done:
            now[0] += 6
            done(10)
    lines = out.getvalue().splitlines()
    assert lines[0] == "step 10/100  loss 0.5  1,234 examples/s  0:00:45 left"
    assert lines[-2:] == [
        "step 100/100  loss 0.5  1,234 examples/s  0:00:00 left",
        "encoding: 10 in 0:00:06",
    ]
    assert len(lines) == 11


def test_a_terminal_gets_a_bar() -> None:
    target, out = console(terminal=True)
    with Report(None, target) as report:
        with report.bar("encoding", 10) as done:
            done(10)
        report.begin(50, 100)
        report.measured(60, 0.25, 1234.0)
        report.say("a [line] above")
        report.step(100)
        with report.bar("beside", 1) as done:
            done(1)
    text = out.getvalue()
    for part in ("encoding", "10/10", "100/100", "loss 0.25", "1,234 examples/s", "a [line] above"):
        assert part in text


def test_silence() -> None:
    for terminal in (True, False):
        target, out = console(terminal)
        with Report(False, target) as report:
            report.begin(0, 1)
            report.say("no")
            report.step(1)
            report.measured(1, 1.0, 1.0)
            with report.bar("no", 1) as done:
                done(1)
        assert out.getvalue() == ""
