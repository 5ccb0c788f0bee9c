r"""Enhancing sounds of any length, rate and number of channels with a model of `audio/enhance`.

Frames are 32 ms long and 10 ms apart at every rate, so bin k is the same frequency everywhere: the
network does the bins that it knows, up to 8 kHz, and the classical gain those above. Stereo is done
as middle and side, under the same noise; more channels one by one.

A frame of the result depends on `radius` frames to each side and on (seed, frame): sounds are done
in parts that overlap so far, and the parts make what the whole would.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from suffuse.diffusion.noise import Noise
from suffuse.diffusion.process import Registers
from suffuse.errors import SuffuseError
from suffuse_audio import spectrum
from suffuse_audio.enhancing import MaskBridge, MaskNetwork, with_gain
from suffuse_audio.gain import Reducer, Rule
from suffuse_audio.sound import Floats, Sound
from suffuse_audio.streaming import Complex, blocks_of, frames_of, joined

__all__ = ["MODEL", "Enhancer", "classical"]

MODEL = "audio/enhance"
_PART = 400  # frames that go through the network at once
_GATE = 0.05  # frames below this part of the mean power do not count towards the level

Blocks = Callable[[], Iterable[Floats]]


def _grid(rate: int) -> tuple[int, int]:
    """(window, hop) at a rate: 32 ms and 10 ms."""
    return max(2 * round(0.016 * rate), 16), max(round(0.01 * rate), 4)


def _mixed(blocks: Iterable[Floats]) -> Iterator[Floats]:
    """Middle and side of two channels; others as they are."""
    for block in blocks:
        if len(block) == 2:
            left, right = block
            block = np.stack([left + right, left - right]) * np.float32(0.5**0.5)
        yield block


def _cut(parts: Iterable[Floats], blocks: Iterable[Floats], strength: float) -> Iterator[Floats]:
    """The result beside the original, cut to its length; their mixture by `strength`."""
    source = iter(blocks)
    ahead: Floats | None = None
    for part in parts:
        while ahead is None or ahead.shape[1] < part.shape[1]:
            block = next(source, None)
            if block is None:
                break
            ahead = block if ahead is None else np.concatenate([ahead, block], axis=1)
        if ahead is None:
            return
        n = min(part.shape[1], ahead.shape[1])
        if n:
            made = part[:, :n]
            if len(made) == 2:
                middle, side = made
                made = np.stack([middle + side, middle - side]) * np.float32(0.5**0.5)
            yield (strength * made + (1 - strength) * ahead[:, :n]).astype(np.float32)
            ahead = ahead[:, n:]


@dataclass(frozen=True)
class Enhancer:
    """Takes noise out of sounds.

    Attributes:
        model: of the recipe `audio/enhance`.
        steps: network calls; 1 answers with the mean, more draw a sample.
        seed: of the noise of these draws.
        strength: 1 is the result, 0 the original, between them their mixture.
        trust: the network's share of the result; the rest is the classical one.
    """

    model: Any
    steps: int = 1
    seed: int = 0
    strength: float = 1.0
    trust: float = 1.0

    def __post_init__(self) -> None:
        network, process = self.model.network.backbone, self.model.process
        if not (isinstance(network, MaskNetwork) and isinstance(process, MaskBridge)):
            raise SuffuseError(
                "enhancing takes a model trained by the recipe audio/enhance, and this one's "
                f"network is a {type(network).__name__}"
            )
        if not (0 <= self.strength <= 1 and 0 <= self.trust <= 1) or self.steps < 1:
            raise SuffuseError(
                "strength and trust lie between 0 and 1, and steps is at least 1; given "
                f"{self.strength:g}, {self.trust:g} and {self.steps}"
            )

    def __call__(self, sound: Sound) -> Sound:
        """The sound without its noise, of the same rate, channels and length."""
        parts = list(self.stream(lambda: blocks_of(sound), sound.rate))
        if not parts:
            return sound
        return Sound(np.concatenate(parts, axis=1), sound.rate)

    def stream(self, blocks: Blocks, rate: int) -> Iterator[Floats]:
        """The result [C, n] in parts of any size, together as long as the original.

        Args:
            blocks: begins the original anew at each call; it is gone through three times.
            rate: Hz.
        """
        window, hop = _grid(rate)
        level = self._level(frames_of(_mixed(blocks()), window, hop))
        if level == 0:
            yield from blocks()
            return
        made = self._frames(frames_of(_mixed(blocks()), window, hop), level)
        yield from _cut(joined(made, window, hop), blocks(), self.strength)

    def _level(self, chunks: Iterable[Complex]) -> float:
        """The root mean square of what the network hears, of the loudest channel; 0 for silence."""
        bins = self.model.network.backbone.bins
        # by frame, so that pauses do not count
        powers = [(np.abs(c[:, :bins]).astype(np.float64) ** 2).sum(1) / bins for c in chunks]
        if not powers:
            return 0.0
        power = np.concatenate(powers, axis=1)
        mean = power.mean(1)
        loudest = power[int(mean.argmax())]
        if mean.max() < 1e-14:
            return 0.0
        return float(np.sqrt(loudest[loudest > _GATE * loudest.mean()].mean()))

    def _frames(self, chunks: Iterable[Complex], level: float) -> Iterator[Complex]:
        """Clean frames of noisy ones, in order."""
        network = self.model.network.backbone
        reducer, radius, bins = Reducer(), network.radius, network.bins
        noisy: Complex | None = None
        gains: Floats = np.zeros((0, 0, 0), np.float32)
        first = done = 0  # the number of the first frame that is kept, and of the next to be made

        def work(until: int) -> Complex:
            assert noisy is not None
            a, b = max(done - radius, 0) - first, until + radius - first
            low = self._clean(noisy[:, :bins, a:b] / level, gains[:, :bins, a:b], first + a)
            at = slice(done - first, until - first)
            made = noisy[:, :, at] * gains[:, :, at]
            low = low[:, : made.shape[1], done - first - a :][..., : until - done] * level
            made[:, :bins] = self.trust * low + (1 - self.trust) * made[:, :bins]
            return made

        for chunk in chunks:
            chunk_gain = reducer(np.abs(chunk) ** 2)
            for start in range(0, chunk.shape[2], _PART):
                part = chunk[:, :, start : start + _PART]
                gain = chunk_gain[:, :, start : start + _PART]
                noisy = part if noisy is None else np.concatenate([noisy, part], axis=2)
                gains = gain if not gains.size else np.concatenate([gains, gain], axis=2)
                until = first + noisy.shape[2] - radius
                if until - done >= _PART:
                    yield work(until)
                    done = until
                    drop = max(done - radius, 0) - first
                    noisy, gains, first = noisy[:, :, drop:], gains[:, :, drop:], first + drop
        if noisy is not None and first + noisy.shape[2] > done:
            yield work(first + noisy.shape[2])

    def _clean(self, noisy: Complex, gains: Floats, first: int) -> Complex:
        """Clean frames [C, F, T] by the network; `first` is the number of their first."""
        *_, made = self._walk(noisy, gains, first)
        return made

    def film(self, sound: Sound, steps: int = 8) -> list[Sound]:
        """The first channel on its way from noisy to clean: the bridge's states, then the end."""
        worker = dataclasses.replace(self, steps=steps)
        window, hop = _grid(sound.rate)
        bins = self.model.network.backbone.bins
        one = Sound(sound.samples[:1], sound.rate)
        frames = np.concatenate(list(frames_of(blocks_of(one), window, hop)), axis=2)
        level = worker._level([frames])
        if level == 0:
            return [one, one]
        gains = Reducer()(np.abs(frames) ** 2)
        shown = []
        for low in worker._walk(frames[:, :bins] / level, gains[:, :bins], 0):
            whole = frames.copy()
            whole[:, :bins] = low[:, : whole.shape[1]] * level
            whole[:, bins:] *= gains[:, bins:]
            x = np.concatenate(list(joined([whole], window, hop)), axis=1)
            shown.append(Sound(x[:, : len(sound)], sound.rate))
        return shown

    @torch.inference_mode()
    def _walk(self, noisy: Complex, gains: Floats, first: int) -> Iterator[Complex]:
        """The states of the bridge before each call, and the last answer; frames [C, F, T]."""
        network, process = self.model.network, self.model.process
        bins = network.backbone.bins
        missing = bins - noisy.shape[1]
        if missing > 0:  # a rate below the model's
            noisy = np.pad(noisy, ((0, 0), (0, missing), (0, 0)))
            gains = np.pad(gains, ((0, 0), (0, missing), (0, 0)), constant_values=1.0)
        std = self.model.encoder.std
        frames = torch.from_numpy(np.ascontiguousarray(noisy))
        y = spectrum.real_frames(spectrum.compress(frames)) / std
        given = with_gain(y, torch.from_numpy(np.ascontiguousarray(gains)))
        process = process.given({process.condition: given})
        x = y

        def spectra(state: Tensor) -> Complex:
            found: Complex = spectrum.expand(spectrum.complex_frames(state * std)).numpy()
            return found

        for i, row in enumerate(self.model.plan(steps=self.steps)):
            yield spectra(x)
            t = torch.full((len(x),), row.t, dtype=torch.float64)
            shown, level = process.present(x, t)
            made = network(shown, level.float(), **{process.condition: given})
            x = process.step(row, Registers((x,), (made,)), None)
            if row.c:
                x = x + row.c * self._noise(i + 1, first, y)
        yield spectra(x)

    def _noise(self, step: int, first: int, like: Tensor) -> Tensor:
        """Noise by (seed, frame), the same for all channels."""
        source = Noise(self.seed, like.shape[2], first=first)
        return source.normal((like.shape[1],), step=step).T[None].expand_as(like)


def classical(sound: Sound, rule: Rule = "log-mmse") -> Sound:
    """The sound under the classical gain alone."""
    window, hop = _grid(sound.rate)
    reducer = Reducer(rule)
    chunks = (c * reducer(np.abs(c) ** 2) for c in frames_of(blocks_of(sound), window, hop))
    made = np.concatenate(list(joined(chunks, window, hop)), axis=1)
    return Sound(made[:, : len(sound)], sound.rate)
