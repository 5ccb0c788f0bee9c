"""Edits of sounds by a model of sounds: variations, continuation, another timbre, ways between two.

Each edit is made for a model, with options, and is called with sounds:

    Continue(model, seconds=2)([sound], n=4, seed=0, instrument="pluck") -> 4 sounds

Keywords beside n and seed go to the model: steps, solver, guidance, and its conditions. A model
works at one rate, on one channel and one length; what comes out has its rate and one channel.

Sources: Meng et al., "SDEdit" (2021), arXiv 2108.01073, for variations and timbre; Zhu et al.,
"DiffPIR" (2023), arXiv 2305.08995, for continuation, by `Model.restore`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from suffuse.errors import SuffuseError
from suffuse_audio.frames import Frames
from suffuse_audio.partials import Partials
from suffuse_audio.sound import Floats, Sound, resample
from suffuse_audio.spectra import Spectra

__all__ = ["Continue", "Interpolate", "Transfer", "Vary"]


def _checked(sound: Any) -> None:
    if not isinstance(sound, Sound):
        raise SuffuseError(
            f"sounds are edited (suffuse_audio.Sound), and a {type(sound).__name__} is none"
        )


class _Edit:
    """What edits share: a model whose states are columns in the order of time."""

    def __init__(self, model: Any) -> None:
        if not isinstance(model.encoder, (Frames, Partials, Spectra)):
            raise SuffuseError(
                "sounds are edited by models of frames, and this one has the encoder "
                f"{model.recipe.encoder['name']!r}"
            )
        self.model = model

    def _fits(self, sound: Sound) -> Sound:
        """The sound, where all of it fits into a state."""
        _checked(sound)
        most = self.model.encoder.n / self.model.encoder.rate
        if sound.seconds > most + 0.01:
            raise SuffuseError(
                f"the model's sounds last {most:g} s, and this one {sound.seconds:.2f} s: cut it, "
                "or edit it with 'continue', which takes any length"
            )
        return sound


class Vary(_Edit):
    """Other sounds like the given ones, by noising and denoising.

    Args:
        model: of frames.
        strength: in (0, 1]; 1 forgets the sound.
    """

    def __init__(self, model: Any, *, strength: float = 0.5) -> None:
        super().__init__(model)
        self.strength = strength

    def __call__(
        self, objects: Sequence[Sound], n: int = 1, *, seed: int = 0, **settings: Any
    ) -> list[Sound]:
        """n sounds for each, one after the other."""
        many = [self._fits(sound) for sound in objects for _ in range(n)]
        made: list[Sound] = self.model.vary(many, self.strength, seed=seed, **settings)
        return made


class Transfer(Vary):
    """The same in another style: noised as far as `strength`, denoised under other conditions.

    A melody keeps its loudness over time and changes its instrument, a word its speaker.

    Args:
        model: of frames, with conditions.
        strength: in (0, 1]; less keeps more of the sound, more brings more of the style.
    """

    def __init__(self, model: Any, *, strength: float = 0.7) -> None:
        super().__init__(model, strength=strength)

    def __call__(
        self, objects: Sequence[Sound], n: int = 1, *, seed: int = 0, **settings: Any
    ) -> list[Sound]:
        """n sounds for each; refused where no condition says which style."""
        if not any(settings.get(name) is not None for name in self.model.conditions):
            names = ", ".join(f"--{name}" for name in self.model.conditions) or "none"
            raise SuffuseError(
                f"transfer needs a condition that says which style; the model's are: {names}"
            )
        return super().__call__(objects, n, seed=seed, **settings)


class Interpolate(_Edit):
    """Sounds on the way between two.

    Args:
        model: of frames.
        strength: in (0, 1], how far the mixtures are noised before they are made clean.
    """

    def __init__(self, model: Any, *, strength: float = 0.4) -> None:
        super().__init__(model)
        self.strength = strength

    def __call__(
        self, objects: Sequence[Sound], n: int = 8, *, seed: int = 0, **settings: Any
    ) -> list[Sound]:
        """n sounds, the ends among them."""
        if len(objects) != 2:
            raise SuffuseError(f"interpolate goes between two sounds, and {len(objects)} are given")
        first, second = (self._fits(sound) for sound in objects)
        made: list[Sound] = self.model.interpolate(
            first, second, max(n, 2), strength=self.strength, seed=seed, **settings
        )
        return made


class Continue(_Edit):
    """What may come after a sound, part by part: the end of what there is begins the next part.

    Args:
        model: of frames.
        seconds: how much is added.
        share: of the model's length that it is shown of the sound, in (0, 1).
        method: of posterior sampling.
    """

    def __init__(
        self, model: Any, *, seconds: float = 1.0, share: float = 0.5, method: str = "diffpir"
    ) -> None:
        super().__init__(model)
        if not (0 < seconds <= 600 and 0.05 <= share <= 0.95):
            raise SuffuseError(
                "seconds is above 0 and at most 600, and share from 0.05 to 0.95; given "
                f"{seconds:g} and {share:g}"
            )
        self.seconds, self.share, self.method = seconds, share, method

    def __call__(
        self, objects: Sequence[Sound], n: int = 1, *, seed: int = 0, **settings: Any
    ) -> list[Sound]:
        """n continuations of each, the sound itself before them."""
        return [
            self._continued(sound, seed + 1000 * k + i, settings)
            for k, sound in enumerate(objects)
            for i in range(n)
        ]

    def _continued(self, sound: Sound, seed: int, settings: Mapping[str, Any]) -> Sound:
        _checked(sound)
        encoder = self.model.encoder
        rate, n = encoder.rate, encoder.n
        out = resample(sound.mono, sound.rate, rate)
        wanted = len(out) + round(self.seconds * rate)
        number = 0
        while len(out) < wanted:
            shown = out[-min(round(self.share * n), len(out)) :]
            part = self._part(shown, seed + 7919 * number, settings)
            out, number = _appended(out, part, len(shown), round(0.02 * rate)), number + 1
        return Sound(out[:wanted], rate)

    def _part(self, shown: Floats, seed: int, settings: Mapping[str, Any]) -> Floats:
        """A sound of the model's length that begins like what is shown."""
        encoder = self.model.encoder
        seen = encoder.beginning(Sound(shown, encoder.rate))
        (made,) = self.model.restore(seen, n=1, method=self.method, seed=seed, **settings)
        found: Floats = made.mono
        return found


def _appended(out: Floats, part: Floats, known: int, fade: int) -> Floats:
    """`out`, whose last `known` samples are the first of `part`, gone on with by fading over."""
    fade = min(fade, known)
    up = np.linspace(0, 1, fade, dtype=np.float32)
    begin = known - fade
    seam = out[len(out) - fade :] * (1 - up) + part[begin:known] * up
    longer: Floats = np.concatenate([out[: len(out) - fade], seam, part[known:]])
    return longer
