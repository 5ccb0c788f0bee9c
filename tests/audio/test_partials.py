"""Notes as sinusoids and noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import suffuse
from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Example
from suffuse_audio.edits import Continue
from suffuse_audio.notes import Notes
from suffuse_audio.partials import Partials
from suffuse_audio.pitch import cents, fundamental, inharmonic
from suffuse_audio.sound import Sound
from suffuse_audio.synthesis import INSTRUMENTS, PITCHES, frequency, midi

RATE = 16000


@pytest.fixture(scope="module")
def encoder() -> Partials:
    made = Partials(RATE, 1.0)
    notes = Notes("train", takes=1)
    made.fit([notes[i] for i in range(0, len(notes), 9)])  # type: ignore[arg-type]
    return made


def test_every_instrument_comes_back(encoder: Partials) -> None:
    """Its pitch to a cent, its loudness, and what lies off its harmonics."""
    notes = Notes("test")
    for k in range(len(INSTRUMENTS)):
        example = notes[k * len(PITCHES) + 17]
        real, f = example.data, frequency(midi(example.conditions["pitch"]))
        (made,) = encoder.decode(encoder.encode([real]))
        assert made.samples.shape == (1, RATE)
        assert abs(cents(fundamental(made), f)) < 1
        loudness = 10 * math.log10((made.mono**2).sum() / (real.mono**2).sum())
        assert abs(loudness) < 1
        assert inharmonic(made, f) < inharmonic(real, f) + 8


def test_partials_that_go_through_zero_keep_their_sign() -> None:
    """A sin(2π f t) whose A changes its sign twice, beside a steady partial."""
    f, t = 220.0, np.arange(RATE) / RATE
    wanted = 0.2 * np.cos(2 * np.pi * 1.1 * t)
    x = 0.3 * np.sin(2 * np.pi * f * t) + wanted * np.sin(2 * np.pi * 2 * f * t + 0.4)
    encoder = Partials(RATE, 1.0, partials=4, bands=4)
    _, shares, levels = encoder._tracks(Sound(x, RATE))
    found = (shares * levels[0])[:2, 10:-10]
    at = np.arange(encoder.count)[10:-10] * encoder.hop
    np.testing.assert_allclose(found[0], 0.3, atol=1e-3)
    np.testing.assert_allclose(found[1], wanted[at], atol=1e-3)


def test_neighbouring_partials_are_not_heard() -> None:
    """At the lowest notes as well, whose partials are closer than a short frame can tell apart."""
    t = np.arange(RATE) / RATE
    for f in (85.0, 131.0):
        x = 0.3 * sum(np.sin(2 * np.pi * k * f * t) for k in (1, 3))
        _, shares, _ = Partials(RATE, 1.0, partials=4, bands=4)._tracks(Sound(x, RATE))
        assert np.abs(shares[[1, 3], 20:-20]).max() < 1e-3


def test_states_have_one_deviation_in_every_direction_of_time(encoder: Partials) -> None:
    """Rough directions too; which is what makes them small in what is made."""
    notes = Notes("train", takes=1)
    states = encoder.encode([notes[i].data for i in range(0, len(notes), 9)])
    for rows, variance in ((slice(0, 40), 1), (slice(40, 41), 16)):
        x = states[:, rows].flatten(0, 1).double()
        power = torch.linalg.eigvalsh(x.T @ x / len(x)) / variance
        assert power[-1] == pytest.approx(1, abs=0.05)
        assert power[-8] == pytest.approx(1, abs=0.05)


def test_what_is_known_of_a_beginning_is_that_of_the_whole(encoder: Partials) -> None:
    """In the columns that lie within it, but for the last, which sees what follows."""
    note = Notes("test")[3].data
    seen = encoder.beginning(Sound(note.mono[: RATE // 2], RATE))
    told = seen.operator(encoder.encode([note]))
    assert told.shape == seen.y.shape
    off = (seen.y - told)[0, :, :-2].abs()
    assert off[40].max() < 0.02  # the loudness
    assert off.mean() < 0.01  # a faint partial may have the other sign
    assert encoder.beginning(Sound(note.mono[:1], RATE)).y.shape[-1] == 1


def test_notes_go_on_as_loud_as_they_were() -> None:
    """Also from a middle that no note begins like."""
    model = suffuse.load("audio/notes")
    notes = Notes("test")
    instruments = (notes[i] for i in range(len(notes)))
    reed = next(e.data for e in instruments if e.conditions["instrument"] == "reed")
    for first, last in ((0, 8000), (4000, 12000)):
        given = Sound(reed.mono[first:last], RATE)
        (made,) = Continue(model, seconds=0.1)([given], instrument="reed")
        added = made.mono[8000:].std() / given.mono[-3200:].std()
        assert 0.5 < added < 1.5


def test_a_sum_of_sines_is_found_out() -> None:
    """Amplitudes of steady partials, and the frequency between two semitones, are exact."""
    f, t = 333.0, np.arange(RATE) / RATE
    weights = [0.3, 0.0, 0.1, 0.05]
    x = sum(w * np.sin(2 * np.pi * (k + 1) * f * t + k) for k, w in enumerate(weights))
    encoder = Partials(RATE, 1.0, partials=6, bands=4)
    found, shares, levels = encoder._tracks(Sound(x, RATE))
    assert found == pytest.approx(f, rel=1e-4)
    middle = (shares * levels[0])[:4, 30:-30]
    np.testing.assert_allclose(
        middle, np.array(weights)[:, None] * np.ones(middle.shape), atol=2e-3
    )
    assert (levels[1:, 30:-30] < 3e-3).all()
    encoder.fit([Example(Sound(x, RATE))] * 2)  # type: ignore[arg-type]
    state = encoder.encode([Sound(x, RATE)])[0]
    height, *angles = state[-5:, 0].tolist()
    assert height == pytest.approx(math.log2(f / 261.6), abs=1e-4)
    for k, (cos, sin) in ((1, angles[:2]), (12, angles[2:])):
        wanted = k * math.log2(f / 440)
        turn = math.atan2(sin, cos) / (2 * math.pi)
        assert turn == pytest.approx(wanted - round(wanted), abs=2e-3)


@pytest.mark.parametrize(("row", "much"), [(-5, 0.4), (-4, 0.15), (-3, 0.15)])
def test_a_pitch_that_is_told_a_little_wrong_is_the_same(
    encoder: Partials, row: int, much: float
) -> None:
    note = Notes("test")[20]
    f = frequency(midi(note.conditions["pitch"]))
    x = encoder.encode([note.data] * 2)
    x[0, row] += much
    x[1, row] -= much
    for made in encoder.decode(x):
        assert abs(cents(fundamental(made), f)) < 1


def test_noise_is_measured_between_the_harmonics(rng: np.random.Generator) -> None:
    """A tone that begins at once and fades has none; what is added is found in each band."""
    t = np.arange(RATE) / RATE
    tone = 0.3 * np.sin(2 * np.pi * 440 * t) * np.exp(-t / 0.3)
    encoder = Partials(RATE, 1.0)
    *_, silent = encoder._tracks(Sound(tone, RATE))
    *_, noisy = encoder._tracks(Sound(tone + 0.001 * rng.standard_normal(RATE), RATE))
    assert silent[1:].max() < 1e-4
    np.testing.assert_allclose(np.log10(noisy[1:, 20:-20]).mean(1), -3, atol=0.12)


def test_noise_has_its_loudness_and_no_pitch(encoder: Partials, rng: np.random.Generator) -> None:
    real = Sound(0.1 * rng.standard_normal(RATE), RATE)
    (made,) = encoder.decode(encoder.encode([real]))
    level = 10 * math.log10((made.mono**2).sum() / (real.mono**2).sum())
    assert abs(level) < 2
    assert math.isnan(fundamental(made)) or inharmonic(made, fundamental(made)) > -10


def test_the_same_state_sounds_the_same_and_silence_is_silent(encoder: Partials) -> None:
    x = encoder.encode([Sound(np.zeros(RATE), RATE), Notes("test")[3].data])
    assert bool(x.isfinite().all())
    silent, note = encoder.decode(x)
    assert np.abs(silent.mono).max() < 1e-3
    assert np.array_equal(encoder.decode(x[1:])[0].samples, note.samples)


def test_the_last_bit_of_a_state_changes_little(encoder: Partials) -> None:
    """States of one seed differ by so much from batch to batch."""
    x = encoder.encode([Notes("test")[3].data])
    a, b = (encoder.decode(k)[0].samples for k in (x, x * (1 + 3e-7)))
    assert np.abs(a - b).max() < 1e-4 * np.abs(a).max()


def test_rates_and_lengths_that_do_not_fit(encoder: Partials) -> None:
    note = Notes("test", rate=8000)[3].data
    longer = Sound(np.tile(note.samples, 3), 8000)
    states = encoder.encode([note, longer, Sound(note.samples[:, :1000], 8000)])
    assert states.shape == (3, *encoder.shape)
    assert states.dtype == torch.float32
    assert all(s.samples.shape == (1, RATE) for s in encoder.decode(states))


def test_what_was_fitted_is_given_again(encoder: Partials) -> None:
    again = Partials(RATE, 1.0, **encoder.fit([]))  # type: ignore[arg-type]
    note = Notes("test")[40].data
    assert torch.equal(again.encode([note]), encoder.encode([note]))


@pytest.mark.parametrize(
    "options", [{"rate": 0}, {"partials": 0}, {"bands": -1}, {"seconds": 0.01}]
)
def test_bad_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(SuffuseError, match="above 0"):
        Partials(**options)  # type: ignore[arg-type]


def test_nan_is_refused(encoder: Partials) -> None:
    with pytest.raises(SuffuseError):
        encoder.decode(torch.full((1, *encoder.shape), torch.nan))
