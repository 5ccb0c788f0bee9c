"""A small network that tells the categories of a condition apart, trained when first wanted.

It judges whether made sounds show what they were made for, and its inner activations are features
to compare sounds by. Training takes seconds, is repeatable, and happens once a process.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from suffuse.errors import SuffuseError, unknown
from suffuse.plugins.contracts import Dataset, Example
from suffuse.stats import evenly, trained_classifier
from suffuse_audio import spectrum
from suffuse_audio.frames import fitted
from suffuse_audio.sound import Sound

__all__ = ["Judge", "log_mel"]

_MELS, _WIDTH, _STEPS, _BATCH, _COMPONENTS = 48, 96, 500, 64, 32
_MOST = 4000  # at most so many sounds of a split are looked at


def log_mel(sounds: Sequence[Sound], rate: int, n: int) -> Tensor:
    """Log-mel spectra [B, 48, T] of sounds cut or padded to n samples; 10 ms from frame to frame.

    The loudest bin of each sound is 0, and what lies 60 dB below it is −6.
    """
    from torchaudio.functional import melscale_fbanks

    window, hop = 2 * round(0.016 * rate), round(0.01 * rate)
    bank = melscale_fbanks(spectrum.bins(window), 50.0, rate / 2, _MELS, rate, None, "htk").T
    x = torch.from_numpy(np.stack([fitted(sound, rate, n) for sound in sounds]))
    mel = bank @ spectrum.stft(x, window, hop).abs().square()
    top = mel.amax((1, 2), keepdim=True).clamp(min=1e-10)
    return (mel / top).clamp(min=1e-6).log10()


class Judge:
    """Version 1. Changing anything that changes its answers makes another version.

    Attributes:
        condition: the name of the condition.
        names: its categories.
        rate, n: what sounds are brought to.
        held_out: whether it is right on each sound of the test split.
        train_index: the numbers of the training sounds that it has seen, int64 [N].
        train_features: their features, [N, 32].
    """

    def __init__(self, condition: str, train: Dataset, test: Dataset, rate: int, n: int) -> None:
        found = train.conditions.get(condition)
        if found is None or found.kind != "category" or len(found.names) < 2:
            names = [k for k, c in train.conditions.items() if c.kind == "category"]
            raise unknown("condition with two categories or more", condition, names)
        self.condition, self.names, self.rate, self.n = condition, tuple(found.names), rate, n
        x, y, self.train_index = self._labelled(train)
        with _one_thread():
            classes = len(self.names)
            self._network = trained_classifier(
                lambda: _network(classes), x, y, _jittered, steps=_STEPS, batch=_BATCH
            )
            inner = self._activations(x).double()
            self._mean = inner.mean(0)
            _, scales, axes = torch.linalg.svd(inner - self._mean, full_matrices=False)
            kept = int((scales > 1e-3 * scales[0]).sum().clamp(1, _COMPONENTS))
            self._axes = axes[:kept].T * (max(1, len(x) - 1) ** 0.5 / scales[:kept])
            self.train_features = self._white(x)
            x, y, _ = self._labelled(test)
            self.test_features = self._white(x)
            self.held_out = self._recognised(x).eq(y)
            self.test_labels = y
            self.test_mel = x

    @classmethod
    def of(cls, condition: str, samples: Sequence[Example], train: Dataset, test: Dataset) -> Judge:
        """The judge of a data set, for sounds of the first sample's rate and length.

        Raises:
            SuffuseError: if there are no samples, or no such condition.
        """
        if not samples:
            raise SuffuseError("there are no samples to evaluate")
        first: Sound = samples[0].data
        key = (condition, first.rate, len(first))
        kept = _judges.setdefault(train, {})
        if key not in kept:
            kept[key] = cls(condition, train, test, first.rate, len(first))
        return kept[key]

    @property
    def origin(self) -> str:
        """What it is, in words."""
        right = 100 * self.held_out.float().mean()
        return (
            f"a network trained to tell {self.condition}s apart, right on {right:.1f} % of "
            f"{len(self.held_out)} held-out sounds"
        )

    def mel(self, sounds: Iterable[Sound]) -> Tensor:
        """What it looks at, [B, 48, T]."""
        parts = list(sounds)
        chunks = [parts[i : i + 128] for i in range(0, len(parts), 128)]
        return torch.cat([log_mel(chunk, self.rate, self.n) for chunk in chunks])

    def recognise(self, sounds: Sequence[Sound]) -> Tensor:
        """The index of the category of each sound, int64 [N]."""
        with _one_thread():
            return self._recognised(self.mel(sounds))

    @torch.no_grad()
    def log_probabilities(self, sounds: Sequence[Sound]) -> Tensor:
        """The logarithms of its probabilities, [N, categories] float32."""
        with _one_thread():
            parts = [self._network(part) for part in self.mel(sounds).split(256)]
            return torch.cat(parts).log_softmax(1)

    def features(self, sounds: Sequence[Sound]) -> Tensor:
        """Whitened principal components of the inner activations, [N, 32] float32."""
        with _one_thread():
            return self._white(self.mel(sounds))

    def index(self, value: Any) -> int:
        """The place of a category among the names; −1 for none of them."""
        return self.names.index(str(value)) if str(value) in self.names else -1

    def wanted(self, sample: Example) -> int:
        """The category that a sound was made for: its condition's, or the one its prompt names.

        −1 where there is none.
        """
        if sample.conditions.get(self.condition) is not None:
            return self.index(sample.conditions[self.condition])
        prompt = f" {sample.conditions.get('prompt') or ''} "
        named = [i for i, name in enumerate(self.names) if f" {name} " in prompt]
        return named[0] if len(named) == 1 else -1

    def _labelled(self, dataset: Dataset) -> tuple[Tensor, Tensor, Tensor]:
        """Log-mel spectra, categories and numbers of the sounds that have a category."""
        if not len(dataset):
            raise SuffuseError("a split of the data set is empty: there is nothing to compare with")
        index = torch.tensor([*evenly(len(dataset), _MOST)])
        examples = [dataset[i] for i in index.tolist()]
        labels = torch.tensor([self.index(e.conditions.get(self.condition)) for e in examples])
        x = self.mel(e.data for e in examples)
        known = labels >= 0
        return x[known], labels[known], index[known]

    @torch.no_grad()
    def _recognised(self, x: Tensor) -> Tensor:
        return torch.cat([self._network(part).argmax(1) for part in x.split(256)])

    @torch.no_grad()
    def _activations(self, x: Tensor) -> Tensor:
        return torch.cat([self._network[:-2](part) for part in x.split(256)])

    def _white(self, x: Tensor) -> Tensor:
        white: Tensor = (self._activations(x).double() - self._mean) @ self._axes
        return white.float()


_judges: weakref.WeakKeyDictionary[Any, dict[Any, Judge]] = weakref.WeakKeyDictionary()


@contextmanager
def _one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _Pooled(nn.Module):
    """Mean and maximum over time, [B, C, T] to [B, 2C]."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean(2), x.amax(2)], dim=1)


def _network(classes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = _MELS
    for stride in (1, 2, 2):
        layers += [
            nn.Conv1d(channels, _WIDTH, 5, stride, padding=2, bias=False),
            nn.GroupNorm(8, _WIDTH),
            nn.SiLU(),
        ]
        channels = _WIDTH
    layers += [_Pooled(), nn.Dropout(0.2), nn.Linear(2 * _WIDTH, 96), nn.SiLU()]
    return nn.Sequential(*layers, nn.Dropout(0.3), nn.Linear(96, classes))


def _jittered(x: Tensor, generator: torch.Generator) -> Tensor:
    """Shifted by up to a tenth in time and by a band, a stretch hidden, the rest noised."""
    b, mels, t = x.shape
    time = torch.randint(-t // 10, t // 10 + 1, (b, 1), generator=generator)
    band = torch.randint(-1, 2, (b, 1), generator=generator)
    at = (torch.arange(t) - time).clamp(0, t - 1)[:, None].expand(b, mels, t)
    x = x.gather(2, at)
    at = (torch.arange(mels) - band).clamp(0, mels - 1)[:, :, None].expand(b, mels, t)
    x = x.gather(1, at)
    start = torch.randint(t, (b, 1), generator=generator)
    hidden = (torch.arange(t) >= start) & (torch.arange(t) < start + t // 12)
    x = torch.where(hidden[:, None], torch.full_like(x, -6.0), x)
    return x + 0.2 * torch.randn(x.shape, generator=generator)
