r"""Gaps, bands and mixtures by a model of sounds, the prior, and posterior sampling.

A model of `audio/spectra` knows how amplitudes go on; what is missing is drawn given what is seen:

* a gap: the frames that touch it are unknown, the others known (a mask over frames);
* a band: the bins below the edge are known, |S|^0.3 = M x + m of them a linear view of the state;
* two sources: at every step the estimates A_1, A_2 share the mixture as Wiener's rule has it,
  |S_i| = |Y| A_i² / (A_1² + A_2²), and are brought to what they got (`project`).

Phases are not the model's business: Griffin and Lim's iteration finds them with all that is known,
samples or bins, put back in each round. A model works at one rate and length; parts of longer
sounds go through it one by one, and what lies above its band stays as the classical methods have
it. Guidance is 1: conditions may be given, and else are none.

Sources: `suffuse.diffusion.posterior`; Griffin, Lim (1984); for gaps, Perraudin et al., "Inpainting
of long audio segments with similarity graphs" (2018), on phases from both sides; for mixtures,
Jayaram, Thickstun, "Source separation with deep generative priors" (2020), arXiv 2002.07942.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from suffuse.diffusion import Noise, operators, posterior
from suffuse.errors import SuffuseError
from suffuse.model.making import POSTERIOR
from suffuse_audio import completing, spectrum
from suffuse_audio.frames import fitted
from suffuse_audio.sound import Floats, Sound, resample
from suffuse_audio.spectra import Spectra

__all__ = ["Restorer"]

_MOMENTUM = 0.99  # of the iteration for phases: Perraudin, Balazs, Søndergaard (2013)


class Restorer:
    """Completes and separates sounds by a model of their spectra.

    Args:
        model: with the encoder `audio/spectra`.
        seed: of the draws.
        draws: how many are averaged, as spectra: more is nearer to the mean, and less sharp.
        method: of posterior sampling, "diffpir" (one call a step) or "mmps".
        conditions: of the model, by name.
        rounds: of the iteration that finds phases.
    """

    def __init__(
        self,
        model: Any,
        *,
        seed: int = 0,
        draws: int = 4,
        method: str = "diffpir",
        conditions: Mapping[str, Any] | None = None,
        rounds: int = 100,
    ) -> None:
        if not isinstance(model.encoder, Spectra):
            raise SuffuseError(
                "restoring takes a model of the encoder 'audio/spectra', and this one has "
                f"{model.recipe.encoder['name']!r}"
            )
        if draws < 1 or rounds < 1:
            raise SuffuseError(f"draws and rounds are at least 1; given {draws} and {rounds}")
        self.model, self.seed, self.draws, self.method = model, seed, draws, method
        self.conditions, self.rounds = dict(conditions or {}), rounds
        self.encoder: Spectra = model.encoder

    def fill(self, sound: Sound, places: Sequence[tuple[int, int]]) -> Sound:
        """The sound with its gaps [start, stop), in samples, filled; the rest as it was."""
        encoder = self.encoder
        out = completing.fill(sound, list(places)).samples.copy()
        for number, (start, stop) in enumerate(places):
            if (stop - start) / sound.rate > 0.6 * encoder.seconds:
                raise SuffuseError(
                    f"the model sees {encoder.seconds:g} s at once, and a gap of "
                    f"{(stop - start) / sound.rate:.2f} s leaves too little of that around it"
                )
            for channel in range(sound.channels):
                wide = round(encoder.seconds * sound.rate)
                begin = int(np.clip((start + stop - wide) // 2, 0, max(len(sound) - wide, 0)))
                part = out[channel, begin : begin + wide]
                low = resample(part, sound.rate, encoder.rate)
                a, b = ((k - begin) * encoder.rate / sound.rate for k in (start, stop))
                missing = np.zeros(encoder.n, dtype=bool)
                missing[int(a) : min(int(np.ceil(b)), encoder.n)] = True
                base = fitted(Sound(low, encoder.rate), encoder.rate, encoder.n)
                made = self._gap(base, torch.from_numpy(missing), self.seed + 1009 * number)
                change = resample(made - base, encoder.rate, sound.rate)
                inside = slice(start - begin, stop - begin)
                out[channel, start:stop] += change[: len(part)][inside]
        return Sound(out, sound.rate)

    def _gap(self, base: Floats, missing: Tensor, seed: int) -> Floats:
        """Samples [n] at the model's rate, those that are missing made anew."""
        encoder = self.encoder
        level = _level(base)
        x = encoder.encode([Sound(base * level, encoder.rate)])
        touched = torch.nn.functional.pad(missing.float(), (encoder.window // 2,) * 2)
        unknown = touched.unfold(0, encoder.window, encoder.hop).amax(1) > 0
        known = ~unknown[: x.shape[-1]]
        seen = posterior.Observation(operators.mask(known.expand(x.shape[1:])), x)
        wanted = self._amplitudes(seen, seed) / level
        heard = torch.from_numpy(base.copy())
        around = last = spectrum.stft(heard, encoder.window, encoder.hop)
        y, led = heard, around
        for _ in range(self.rounds):
            s = torch.where(known, around, wanted * _direction(led))
            made = spectrum.inverse(s, encoder.window, encoder.hop, encoder.n)
            y = torch.where(missing, made, heard)
            now = spectrum.stft(y, encoder.window, encoder.hop)
            led, last = now + _MOMENTUM * (now - last), now
        return y.numpy()

    def extend(self, sound: Sound) -> Sound:
        """A band above that of the sound, up to half the model's rate.

        Raises:
            SuffuseError: where the model's rate is not above the sound's.
        """
        encoder = self.encoder
        if encoder.rate <= sound.rate:
            raise SuffuseError(
                f"the model makes sounds of {encoder.rate} Hz, and this one has {sound.rate} Hz "
                "already: extending takes a model of a higher rate"
            )
        guess = completing.extend(sound, encoder.rate, seed=self.seed)
        out = np.zeros_like(guess.samples)
        weight = np.zeros(guess.samples.shape[1], dtype=np.float32)
        step = encoder.n // 2
        base = resample(sound.samples, sound.rate, encoder.rate)
        window = np.hanning(encoder.n + 2)[1:-1].astype(np.float32)
        for number, start in enumerate(range(-step, max(len(guess), 1), step)):
            a, b = max(start, 0), min(start + encoder.n, len(guess))
            if b <= a:
                continue
            for channel in range(sound.channels):
                parts = [np.zeros(encoder.n, np.float32) for _ in range(2)]
                for part, source in zip(parts, (base, guess.samples), strict=True):
                    part[a - start : b - start] = source[channel, a:b]
                made = self._band(*parts, sound.rate / encoder.rate, self.seed + number)
                out[channel, a:b] += (window * made)[a - start : b - start]
            weight[a:b] += window[a - start : b - start]
        made = out / np.maximum(weight, 1e-3)
        return Sound(completing.kept_low(made, sound, encoder.rate), encoder.rate)

    def _band(self, base: Floats, guess: Floats, share: float, seed: int) -> Floats:
        """Samples [n]: bins below `share` of the band from base, those above made anew."""
        encoder = self.encoder
        if not np.any(base):
            return base
        level = _level(base)
        edge = int(0.94 * share * spectrum.bins(encoder.window))
        low = spectrum.stft(torch.from_numpy(base), encoder.window, encoder.hop)
        m, mean = encoder.seen(slice(0, edge))
        y = (low[:edge].abs() * level) ** 0.3 - mean
        seen = posterior.Observation(operators.separable({-2: m}), y[None], 0.05)
        wanted = self._amplitudes(seen, seed) / level
        x = torch.from_numpy(guess.copy())
        for _ in range(self.rounds // 4 + 1):
            s = spectrum.stft(x, encoder.window, encoder.hop)
            s = torch.cat([low[:edge], wanted[edge:] * _direction(s[edge:])])
            x = spectrum.inverse(s, encoder.window, encoder.hop, encoder.n)
        return x.numpy()

    def separate(self, sound: Sound, given: Sequence[Mapping[str, Any]]) -> list[Sound]:
        """The sources of a mixture, as many as there are mappings of conditions for them.

        Args:
            sound: at most as long as the model's sounds; its channels are averaged.
            given: the conditions of each source, an empty mapping for none.
        """
        encoder, count = self.encoder, len(given)
        if count < 2:
            raise SuffuseError(f"separating makes two sources or more, and {count} is asked for")
        if sound.seconds > encoder.seconds + 0.01:
            raise SuffuseError(
                f"the model's sounds last {encoder.seconds:g} s, and the mixture "
                f"{sound.seconds:.2f} s: cut it"
            )
        mixed = fitted(sound, encoder.rate, encoder.n)
        level = _level(mixed) * count**0.5
        whole = spectrum.stft(torch.from_numpy(mixed), encoder.window, encoder.hop)
        size = whole.abs() * level
        masks = torch.full((count, *whole.shape), 1 / count)

        def share(estimate: Tensor, x_t: Tensor, t: Any) -> Tensor:
            power = encoder.amplitudes(estimate).square() + 1e-8
            masks.copy_(power / power.sum(0, keepdim=True))
            return encoder.states(masks * size).to(estimate)

        names = {name for conditions in given for name in conditions}
        values = {name: [conditions.get(name) for conditions in given] for name in names}
        self.model.sample(
            count, seed=self.seed, guidance=1.0, solver=POSTERIOR, project=share, **values
        )
        made = spectrum.inverse(masks * whole, encoder.window, encoder.hop, encoder.n)
        n = round(sound.seconds * encoder.rate)
        return [Sound(row[:n], encoder.rate) for row in made.numpy()]

    def _amplitudes(self, seen: posterior.Observation, seed: int) -> Tensor:
        """Amplitudes [F, T] drawn given what is seen; several draws are averaged."""
        model, n = self.model, self.draws
        values = {name: [value] * n for name, value in self.conditions.items()}
        with torch.inference_mode():
            states = posterior.restore(
                model.denoiser(1.0),
                model.plan(POSTERIOR),
                posterior.Observation(
                    seen.operator, seen.y.expand(n, *seen.y.shape[1:]), seen.noise
                ),
                method=self.method,
                noise=Noise(seed, n),
                shape=model.shape,
                process=model.process,
                **model.prepare(values, n),
            )
        found: Tensor = (self.encoder.amplitudes(states) ** 0.3).mean(0) ** (1 / 0.3)
        return found


def _level(x: Floats) -> float:
    """What brings a sound to the root mean square that models are trained at, 0.1."""
    return 0.1 / max(float(np.sqrt(np.mean(np.square(x)))), 1e-6)


def _direction(s: Tensor) -> Tensor:
    """e^{i arg S}."""
    return s / s.abs().clamp(min=1e-12)
