"""The clock and its gauges: ends, inverses, closed forms."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from suffuse.diffusion import schedules
from suffuse.diffusion.schedules import discrete
from suffuse.errors import SuffuseError
from suffuse.testing.mathematics import check_schedule

ZERO_TERMINAL = [0.9, 0.5, 0.1, 0.0]
ALL = {
    "cosine": schedules.cosine(),
    "cosine shifted": schedules.cosine(shift=3.0),
    "flow": schedules.flow(),
    "flow shifted": schedules.flow(shift=3.0),
    "flow squared": schedules.flow(power=2.0),
    "edm": schedules.edm(),
    "sigmoid": schedules.sigmoid(),
    "sigmoid steep": schedules.sigmoid(start=0.0, end=3.0, temperature=0.3),
    "linear-beta": schedules.linear_beta(),
    "scaled-linear": schedules.scaled_linear(),
    "geometric": schedules.geometric(),
    "inverse cosine": schedules.inverse_cosine(),
    "zero terminal": discrete(ZERO_TERMINAL),
    "zero terminal table": schedules.zero_terminal(),
}
each = pytest.mark.parametrize("schedule", ALL.values(), ids=ALL.keys())
GRID = torch.linspace(0, 1, 1001, dtype=torch.float64)


@each
def test_the_clock_and_its_inverse(schedule):
    check_schedule(schedule)


@pytest.mark.parametrize(
    "name",
    ["cosine", "flow", "sigmoid", "inverse cosine", "zero terminal", "zero terminal table"],
)
def test_t_1_is_pure_noise_where_the_schedule_reaches_it(name):
    c = ALL[name].at(1.0)
    assert (float(c.alpha), float(c.sigma), float(c.lam)) == (0.0, 1.0, -math.inf)


@each
@given(t=st.floats(1e-6, 1.0))
def test_the_inverse_returns_the_time(schedule, t):
    assert float(schedule.t(schedule.at(t).lam)) == pytest.approx(t, rel=1e-9)


def test_cosine_is_cosine():
    c = schedules.cosine().at(GRID)
    torch.testing.assert_close(c.alpha, torch.cos(GRID * math.pi / 2), rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(c.sigma, torch.sin(GRID * math.pi / 2), rtol=1e-12, atol=1e-15)


def test_flow_is_the_straight_path_and_its_shift_the_published_one():
    t, s = GRID, 3.0
    torch.testing.assert_close(schedules.flow().at(t).sigma, t, rtol=1e-13, atol=0)
    expected = s * t / (1 + (s - 1) * t)
    torch.testing.assert_close(schedules.flow(s).at(t).sigma, expected, rtol=1e-13, atol=0)
    squared = schedules.flow(power=2.0).at(t).sigma
    torch.testing.assert_close(squared, t**2, rtol=1e-13, atol=0)


def test_edm_is_karras_ramp():
    torch.testing.assert_close(
        schedules.edm(80.0, 7.0).at(GRID).sigma, 80 * GRID**7, rtol=1e-12, atol=0
    )


def test_sigmoid_is_the_published_formula():
    start, end, tau = -3.0, 3.0, 0.9
    v = torch.sigmoid(torch.tensor([start, end], dtype=torch.float64) / tau)
    inner = GRID[1:-1]
    squared = (v[1] - torch.sigmoid((inner * (end - start) + start) / tau)) / (v[1] - v[0])
    c = schedules.sigmoid(start, end, tau).at(inner)
    torch.testing.assert_close(c.alpha**2, squared, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize(
    ("schedule", "betas"),
    [
        (schedules.linear_beta(), torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)),
        (
            schedules.scaled_linear(),
            torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2,
        ),
    ],
    ids=["linear", "scaled"],
)
def test_a_table_holds_at_its_indices(schedule, betas):
    at_indices = schedule.at(torch.arange(1, 1001, dtype=torch.float64) / 1000)
    torch.testing.assert_close(at_indices.alpha**2, torch.cumprod(1 - betas, 0), rtol=1e-10, atol=0)


def test_a_table_may_be_a_list_an_array_or_a_tensor():
    """As a pretrained model's scheduler holds it, and a plan made with it can be kept."""
    squares = torch.linspace(0.99, 0.1, 5, dtype=torch.float64)
    for table in (squares, squares.numpy(), squares.tolist()):
        made = discrete(table)
        assert made.config == {"name": "discrete", "alphas_cumprod": squares.tolist()}
        assert float(made.at(1.0).alpha) == pytest.approx(0.1**0.5)


def test_zero_terminal_keeps_the_first_index_and_empties_the_last():
    plain, rescaled = schedules.scaled_linear(), schedules.zero_terminal()
    t = torch.tensor([0.001, 0.3, 0.7, 1.0], dtype=torch.float64)
    a, b = (s.at(t).alpha for s in (plain, rescaled))
    torch.testing.assert_close(b, (a - a[-1]) * a[0] / (a[0] - a[-1]), rtol=1e-9, atol=0)


def test_geometric_is_geometric():
    t = torch.tensor([1.0, 0.525, 0.05], dtype=torch.float64)
    sigma = schedules.geometric(0.01, 50.0).at(t).sigma
    expected = torch.tensor([50.0, 0.5**0.5, 0.01], dtype=torch.float64)
    torch.testing.assert_close(sigma, expected, rtol=1e-12, atol=0)


def test_a_level_for_each_frame_broadcasts_over_the_state():
    x = torch.zeros(2, 3, 4, 5)
    t = torch.rand(2, 3)
    c = schedules.cosine().at(t).align(x)
    assert c.alpha.shape == (2, 3, 1, 1)
    torch.testing.assert_close(c.alpha[1, 2].squeeze(), torch.cos(t[1, 2] * math.pi / 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: discrete([0.9]), "two values or more"),
        (lambda: discrete([0.5, 0.9]), "have to fall"),
        (lambda: discrete([1.0, 0.5]), r"in \[0, 1\)"),
        (lambda: schedules.cosine(shift=0), "above 0"),
        (lambda: schedules.edm(sigma_max=-1), "above 0"),
        (lambda: schedules.sigmoid(3, -3), "start < end"),
        (lambda: schedules.linear_beta(0.1, 1.5), "between 0 and 1"),
        (lambda: schedules.schedule("cosinus"), "did you mean 'cosine'"),
    ],
)
def test_wrong_options_are_told(make, message):
    with pytest.raises(SuffuseError, match=message):
        make()
