r"""Speech out of noise: a bridge from the noisy spectrum to the clean one.

Both are compressed spectra (`suffuse_audio.spectrum`), y the noisy and x_0 the clean. The state of
the bridge at t = 1 is y itself (`suffuse.diffusion.bridge`), and the network answers with the clean
state as a complex mask on y, which begins at the root of the classical gain G
(`suffuse_audio.gain`):

    x̂_0 = (sqrt(G) + a + i b) y,        a, b from the network, 0 when it is fresh.

Sources: Jukić et al., "Schrödinger bridge for generative speech enhancement" (2024),
arXiv 2407.16074; the mask on a classical gain is our own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, gelu, layer_norm

from suffuse.diffusion.bridge import Bridge
from suffuse.diffusion.schedules import Schedule
from suffuse.errors import SuffuseError
from suffuse.nn.blocks import zeroed
from suffuse.nn.embedding import LevelEmbedding
from suffuse.nn.network import Network
from suffuse_audio import spectrum
from suffuse_audio.frames import Frames
from suffuse_audio.gain import Reducer

__all__ = ["MaskBridge", "MaskNetwork", "NoisyCondition", "mask_bridge", "with_gain"]


def with_gain(y: Tensor, gain: Tensor) -> Tensor:
    """A noisy state [..., 2F, T] with the classical gain [..., F, T] behind it: [..., 3F, T]."""
    return torch.cat([y, gain.to(y)], dim=-2)


class NoisyCondition(nn.Module):
    """The condition of `MaskNetwork`: a noisy sound's state with its classical gain.

    Args:
        condition: of kind "state".
        width: not used.
        encoder: the model's, an `audio/frames`.
    """

    always = True

    def __init__(self, condition: Any, width: int, encoder: Frames) -> None:
        super().__init__()
        if condition.kind != "state" or not isinstance(encoder, Frames):
            raise SuffuseError(
                "audio/noisy is for a condition that is a sound, and the encoder audio/frames; "
                f"given a {condition.kind} and {type(encoder).__name__}"
            )
        self.encoder = encoder

    def prepare(self, values: Sequence[Any]) -> Tensor:
        """[n, 3F, T] float32; zeros where a value is None."""
        channels, frames = self.encoder.shape
        out = torch.zeros(len(values), channels // 2 * 3, frames)
        given = [i for i, value in enumerate(values) if value is not None]
        if given:
            y = self.encoder.encode([values[i] for i in given])
            power = spectrum.complex_frames(y).abs() ** 4  # |S|² of the compressed |S|^½
            out[given] = with_gain(y, torch.from_numpy(Reducer()(power)))
        return out

    def forward(self, prepared: Tensor) -> dict[str, Tensor]:
        """The same, for the network's slot "concat"."""
        return {"concat": prepared}

    def null(self, n: int, device: torch.device | str | None = None) -> Tensor:
        """What `prepare` makes of n values that are not given."""
        channels, frames = self.encoder.shape
        return torch.zeros(n, channels // 2 * 3, frames, device=device)


class _Block(nn.Module):
    """A dilated convolution over time for each feature, then a perceptron (ConvNeXt's order).

    Liu et al., "A ConvNet for the 2020s" (2022), arXiv 2201.03545; modulated as in DiT.
    """

    def __init__(self, width: int, ratio: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, 1, kernel) * kernel**-0.5)
        self.modulation = nn.Parameter(torch.zeros(3, width))
        self.linear_0 = nn.Linear(width, ratio * width)
        self.linear_1 = nn.Linear(ratio * width, width)
        self.dilation, self.padding = dilation, dilation * (kernel // 2)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        """Frames [B, T, width], steered by [B, 3, width]."""
        shift, scale, gate = (e + self.modulation)[:, :, None].unbind(1)
        h = conv1d(
            x.transpose(1, 2),
            self.weight.to(x.dtype),
            padding=self.padding,
            dilation=self.dilation,
            groups=x.shape[-1],
        ).transpose(1, 2)
        h = layer_norm(h, h.shape[-1:]) * (1 + scale) + shift
        h = self.linear_1(gelu(self.linear_0(h), approximate="tanh"))
        return x + (0.3 + gate) * h


class MaskNetwork(Network):
    """A convolutional network over frames that answers with a complex mask times the noisy state.

    What it sees does not change when the phase of the whole sound is turned: amplitudes, the state
    relative to y, and how the phase of each bin goes on from frame to frame. A frame of the answer
    depends on `radius` frames to each side, and no more: a long sound can be done in parts.

    Args:
        shape: (2F, T) of one state; T may differ in a call.
        hop: samples between frames over those of the window, for the phase's usual advance.
        width: features of a frame.
        dilations: of each block's convolution, in frames.
        kernel: its taps.
        ratio: inner features of the perceptrons as a multiple of `width`.
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        hop: float = 80 / 256,
        width: int = 256,
        dilations: tuple[int, ...] = (1, 2, 4, 8, 1, 2, 4, 8),
        kernel: int = 5,
        ratio: int = 2,
    ) -> None:
        bins = shape[0] // 2
        super().__init__(shape, width, 3 * bins)
        self.bins, self.hop = bins, hop
        self.radius = 1 + sum(dilations) * (kernel // 2)
        self.embedding = LevelEmbedding(width)
        self.modulation = zeroed(nn.Linear(width, 3 * width))
        self.enter = nn.Linear(6 * bins, width)
        self.blocks = nn.ModuleList(_Block(width, ratio, kernel, d) for d in dilations)
        self.leave = zeroed(nn.Linear(width, 2 * bins))

    def forward(
        self, x: Tensor, level: Tensor, vector: Tensor | None = None, concat: Tensor | None = None
    ) -> Tensor:
        """The clean state.

        Args:
            x: states of the bridge, [B, 2F, T].
            level: c_noise, [B].
            vector: the conditions' embedding; none where None.
            concat: the noisy state and the gain, [B, 3F, T] (see `with_gain`).
        """
        self._input(x, level, concat)
        assert concat is not None
        concat = concat.to(x)
        y, root = concat[:, : 2 * self.bins], concat[:, 2 * self.bins :].clamp(min=0).sqrt()
        features = self._features(x, y, root)
        e = self.modulation(self.embedding(level, vector)).unflatten(-1, (3, -1))
        h = self.enter(features.transpose(1, 2))
        for block in self.blocks:
            h = block(h, e)
        a, b = self.leave(layer_norm(h, h.shape[-1:])).transpose(1, 2).to(x.dtype).chunk(2, dim=1)
        re, im = y.chunk(2, dim=1)
        a = a + root
        return torch.cat([a * re - b * im, a * im + b * re], dim=1)

    def _features(self, x: Tensor, y: Tensor, root: Tensor) -> Tensor:
        re, im = y.chunk(2, dim=1)
        size = (re**2 + im**2 + 1e-8).sqrt()
        u, v = re / size, im / size
        p, q = x.chunk(2, dim=1)
        # The phase's advance from the frame before, over what the bin's own frequency makes.
        before_u, before_v = (torch.nn.functional.pad(k[..., :-1], (1, 0)) for k in (u, v))
        c, s = u * before_u + v * before_v, v * before_u - u * before_v
        turn = 2 * torch.pi * self.hop * torch.arange(self.bins, device=x.device)[:, None]
        cos, sin = turn.cos().to(x), turn.sin().to(x)
        c, s = c * cos + s * sin, s * cos - c * sin
        return torch.cat(
            [(size + 0.02).log(), root * size, p * u + q * v, q * u - p * v, c, s], dim=1
        )


@dataclass(frozen=True)
class MaskBridge(Bridge):
    """A bridge whose condition carries the classical gain behind y, and whose loss hears.

    Attributes:
        channels: of the state, 2F.
        objective: "both" adds to the squared error of the compressed spectrum, relative to the
            clean one (six times), log10 of the same for the spectrum itself: the ratio of signal
            to distortion in bels, turned round. "spectrum" leaves that out.
        remix: in training, put every clean sound under the noise of another example, at
            another level and through other filters, so that no mixture is seen twice.
        narrow: with `remix`, the share of mixtures of which nothing above half the band is left, as
            of sounds of half the rate; those whose clean sound has nothing there are always such.
        start: share of the training at t = 1, where every way back begins and one call ends.
        regression: train at t = 1 alone, where the state is y: a plain regressor on the same
            network, that answers in one call and draws nothing.
    """

    channels: int = 0
    objective: Literal["both", "spectrum"] = "both"
    remix: bool = False
    narrow: float = 0.0
    start: float = 0.0
    regression: bool = False

    def levels(self, u: Tensor) -> Tensor:
        """Training times from uniform numbers."""
        start = 1.0 if self.regression else self.start
        rest = super().levels((u - start).clamp(min=0) / max(1 - start, 1e-9))
        return torch.where(u < start, torch.ones_like(rest), rest)

    def loss(
        self,
        network: Any,
        x_0: Tensor,
        t: Any,
        noise: Tensor,
        *,
        mask: Tensor | None = None,
        **conditions: Any,
    ) -> Tensor:
        """The training loss of each sample, [B]; see `Process.loss`."""
        if self.remix and torch.is_grad_enabled():
            x_0, given = self._remixed(x_0, conditions[self.condition], noise)
            conditions = {**conditions, self.condition: given}
        return super().loss(network, x_0, t, noise, mask=mask, **conditions)

    def _remixed(self, x_0: Tensor, given: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Other mixtures of the same sounds, as states and conditions; a function of `noise`."""
        # the bits of one number: the last bit of a sum differs from machine to machine
        seed = noise.flatten()[:1].double().cpu().view(torch.int64)
        generator = torch.Generator().manual_seed(int(seed))

        def uniform(low: float, high: float, *shape: int) -> Tensor:
            return low + (high - low) * torch.rand(*shape, generator=generator)

        n, f = len(x_0), self.channels // 2
        clean, noisy = (
            spectrum.expand(spectrum.complex_frames(k.cpu().float()))
            for k in (x_0, given[:, : self.channels])
        )
        sound = (noisy - clean)[torch.randperm(n, generator=generator)]
        sound = sound.roll(int(uniform(0, sound.shape[2], 1)), 2)
        waves = torch.cos(torch.pi * torch.arange(4)[:, None] * torch.linspace(0, 1, f))
        filters = 10 ** (torch.randn(2, n, 4, generator=generator) * 3 @ waves / 20)
        level = noisy.abs().square().mean((1, 2), keepdim=True)
        clean, sound = clean * filters[0][..., None], sound * filters[1][..., None]
        if self.narrow:
            above = f // 2 + 1
            powers = [k.abs().square().sum((1, 2)) for k in (clean[:, above:], clean)]
            cut = (uniform(0, 1, n) < self.narrow) | (powers[0] < 1e-4 * powers[1])
            for k in (clean, sound):
                k[cut, above:] = 0
        powers = [k.abs().square().mean((1, 2), keepdim=True) + 1e-9 for k in (clean, sound)]
        ratio = 10 ** (uniform(-5, 14, n, 1, 1) / 10)
        noisy = clean + sound * (powers[0] / powers[1] / ratio).sqrt()
        scale = (level / noisy.abs().square().mean((1, 2), keepdim=True).clamp(min=1e-9)).sqrt()
        scale = scale * 10 ** (uniform(-3, 3, n, 1, 1) / 20)
        clean, noisy = clean * scale, noisy * scale
        gain = torch.from_numpy(Reducer()(noisy.abs().square().numpy()))
        y = spectrum.real_frames(spectrum.compress(noisy))
        x = spectrum.real_frames(spectrum.compress(clean))
        return x.to(x_0), with_gain(y, gain).to(given)

    def given(self, conditions: Mapping[str, Any]) -> MaskBridge:
        """The bridge to the y among the conditions."""
        if self.condition not in conditions:
            return self
        return dataclasses.replace(self, y=conditions[self.condition][:, : self.channels])

    def error(
        self, raw: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor, noise: Tensor, mask: Tensor | None
    ) -> Tensor:
        """The error of the clean state in each sample; [B]."""
        raw = raw.to(x_0)
        compressed = (raw - x_0).square().mean((1, 2)) / x_0.square().mean((1, 2)).clamp(min=1e-3)
        if self.objective == "spectrum":
            return compressed
        made, clean = (spectrum.expand(spectrum.complex_frames(k)) for k in (raw, x_0))
        power = clean.abs().square().mean((1, 2)).clamp(min=1e-3)
        linear = (made - clean).abs().square().mean((1, 2)) / power
        return 6 * compressed + (linear + 1e-3).log10()


def mask_bridge(
    schedule: Schedule,
    encoder: Frames,
    condition: str = "noisy",
    objective: Literal["both", "spectrum"] = "both",
    remix: bool = True,
    narrow: float = 0.0,
    start: float = 0.0,
    regression: bool = False,
) -> MaskBridge:
    """The process, for recipes: see `MaskBridge` for the options."""
    return MaskBridge(
        schedule,
        condition,
        channels=encoder.shape[0],
        objective=objective,
        remix=remix,
        narrow=narrow,
        start=start,
        regression=regression,
    )
