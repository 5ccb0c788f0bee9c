"""What a piece of music shows of its tempo and its key, read from the waveform without training.

Onsets are peaks of spectral flux: Bello et al., "A tutorial on onset detection in music signals"
(2005), section III.A. A key is read from pitch classes, the energy of the spectrum's peaks folded
into one octave: Fujishima (1999), "Realtime chord recognition of musical sound".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import uniform_filter1d
from scipy.signal import find_peaks

from suffuse import stats
from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Dataset, Example, Metric
from suffuse_audio import spectrum
from suffuse_audio.arranging import KEYS, TEMPOS
from suffuse_audio.sound import Sound

__all__ = ["Music", "fits", "interval", "keyed", "onsets", "pitch_classes", "timely"]

Doubles = npt.NDArray[np.float64]

_HOP, _WINDOW = 0.01, 0.032  # seconds
_APART = 0.12  # seconds between onsets, at least
_NEAR = 0.15  # how far a tempo may lie from the one asked for, as a part of it
_REAL = 300  # real sounds that the floor rests on, at most
_BEATS = {"melody": 1.0, "chords": 2.0, "hats": 0.5, "loop": 0.5}
"""Beats from onset to onset, by words of captions. Of drums without hats it is not told: kicks have
little flux."""


def onsets(sound: Sound) -> Doubles:
    """The seconds at which something begins, rising."""
    hop, window = round(_HOP * sound.rate), 2 * round(_WINDOW * sound.rate / 2)
    lead = 20 * hop  # silence, so that what begins at once has something before it
    x = np.concatenate([np.zeros(lead, np.float32), np.asarray(sound.mono, np.float32)])
    s = spectrum.stft(torch.from_numpy(x), window, hop).abs().numpy().astype(np.float64)
    level = np.log1p(s / max(0.02 * float(s.max()), 1e-9))
    flux = np.maximum(level[:, 2:] - level[:, :-2], 0).sum(0)  # at frames 1, 2, ...
    flux = np.convolve(flux, np.hanning(7) / np.hanning(7).sum(), "same")
    rise = flux - uniform_filter1d(flux, round(0.4 / _HOP), mode="nearest")
    height, apart = 0.25 * float(rise.max()), round(_APART / _HOP)
    peaks, _ = find_peaks(rise, height=max(height, 1e-6), distance=apart)
    found: Doubles = np.maximum((peaks + 1) * hop - lead, 0) / sound.rate
    return found


def interval(sound: Sound) -> float:
    """The median of the seconds from onset to onset; NaN with fewer than two onsets."""
    found = np.diff(onsets(sound))
    return float(np.median(found)) if len(found) else float("nan")


def pitch_classes(sound: Sound, low: float = 60.0, high: float = 1100.0) -> Doubles:
    """The share of each pitch class from C on in the energy of the spectrum's peaks, [12].

    Args:
        sound: any.
        low, high: the range that is looked at, Hz.
    """
    x = np.asarray(sound.mono, dtype=np.float64)
    window = 2 * round(0.128 * sound.rate)
    frames = [x[i : i + window] for i in range(0, max(len(x) - window, 0) + 1, window // 4)]
    found = np.zeros(12)
    for frame in frames:
        power = np.abs(np.fft.rfft(frame * np.hanning(len(frame)), 4 * window)) ** 2
        f = np.fft.rfftfreq(4 * window, 1 / sound.rate)
        kept = (f > low) & (f < high)
        peaks, _ = find_peaks(power[kept], height=1e-3 * float(power.max()) + 1e-12)
        number = 69 + 12 * np.log2(f[kept][peaks] / 440)
        np.add.at(found, np.round(number).astype(int) % 12, power[kept][peaks])
    total = float(found.sum())
    return found / total if total > 0 else found


def fits(sound: Sound, key: str) -> float:
    """The share of the energy of a sound's peaks that lies on the scale of a key of `KEYS`."""
    return _on_scale(pitch_classes(sound), key)


def _on_scale(classes: Doubles, key: str) -> float:
    tonic, scale = KEYS[key]
    return float(sum(classes[(tonic + step) % 12] for step in scale))


class Music:
    """Whether made music has the tempo and the key that its prompt names, by its waveform."""

    def evaluate(
        self, samples: Sequence[Example], *, test: Dataset, train: Dataset, seed: int
    ) -> list[Metric]:
        """The shares in the tempo and in the key that were asked for, of those that name one.

        Tempo: the median time from onset to onset is within 15 % of what the prompt says; drums
        without hats are left out. Key, of melodies and chords: the scale that was asked for holds
        as much of the energy of the spectrum's peaks as any of `KEYS` does, to within 1 %. So keys
        count as scales: A minor and C major are one. Each note says what chance would have: the
        share of right answers if every sound had been made for the key or tempo of any other.

        Raises:
            SuffuseError: where no prompt names a tempo or a key.
        """
        real = [test[i] for i in stats.evenly(len(test), _REAL)]
        out = []
        for title, judge, names in (("tempo", timely, TEMPOS), ("key", keyed, KEYS)):
            made, floor = _judged(samples, judge), _judged(real, judge)
            if not made:
                continue
            chance, other = (100 * _chance(k, judge, names) for k in (samples, real))
            out.append(
                Metric.share(
                    f"In the {title} asked for, by the waveform",
                    made,
                    floor,
                    note=f"Without a classifier; the floor is {len(floor)} held-out sounds. By "
                    f"chance {chance:.0f} %, of real ones {other:.0f} %: by the {title} of any.",
                )
            )
        if not out:
            raise SuffuseError(
                "no sample was made for a tempo or a key: make them with prompts like 'a slow "
                "plucked melody in A minor'"
            )
        return out


def _judged(examples: Sequence[Example], judge: Callable[[Sound, str], bool | None]) -> list[bool]:
    """Whether each is as its prompt says, of those whose prompts say something."""
    found = (judge(e.data, str(e.conditions.get("prompt") or "")) for e in examples)
    return [right for right in found if right is not None]


def _chance(
    examples: Sequence[Example],
    judge: Callable[[Sound, str], bool | None],
    names: Iterable[str],
) -> float:
    """The share that is right by the names of all prompts, each in the place of a sound's own."""
    prompts = [str(e.conditions.get("prompt") or "") for e in examples]
    said = [name for p in prompts for name in names if name in p]
    shares = []
    for example, prompt in zip(examples, prompts, strict=True):
        own = [name for name in names if name in prompt]
        if len(own) != 1 or judge(example.data, prompt) is None:
            continue
        right = {name: judge(example.data, prompt.replace(own[0], name)) for name in set(said)}
        shares.append(np.mean([bool(right[name]) for name in said]))
    return float(np.mean(shares)) if shares else float("nan")


def timely(sound: Sound, prompt: str) -> bool | None:
    """Whether a sound has the tempo that its prompt names; None where it names none."""
    words = prompt.split()
    named = [name for name in TEMPOS if name in words]
    beats = [count for word, count in _BEATS.items() if word in words]
    if len(named) != 1 or len(beats) != 1:
        return None
    ratio = interval(sound) / (beats[0] * 60 / TEMPOS[named[0]])
    return 1 / (1 + _NEAR) < ratio < 1 + _NEAR


def keyed(sound: Sound, prompt: str) -> bool | None:
    """Whether the key that a prompt names fits a melody or chords; None where there is none."""
    named = [key for key in KEYS if key in prompt]
    if len(named) != 1 or not {"melody", "chords"} & set(prompt.split()):
        return None
    classes = pitch_classes(sound)
    return _on_scale(classes, named[0]) > max(_on_scale(classes, key) for key in KEYS) - 0.01
