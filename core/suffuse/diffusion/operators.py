r"""Linear operators: what an instrument, a mask or a file format lets through of a clean state.

An operator A maps states [B, *shape] to data [B, *shape'] and has an adjoint, written `A.T(y)`:
⟨A x, y⟩ = ⟨x, Aᵀ y⟩. Where the singular value decomposition A = U diag(s) Vᵀ is known, so are

    A.spectral(f, x) = V f(s) Vᵀ x       over all axes of the state; s = 0 where A sees nothing
    A⁺ y = V s⁻² Vᵀ Aᵀ y                 the pseudo-inverse.

U and V are never formed beyond one matrix an axis: masks, subsets and pools are isometries up to a
scale, so s takes two values; what acts on each axis by itself has the products of the axes' values;
circular convolutions are diagonal in Fourier's basis. `A @ B` applies B first. Axes are counted
from the end, so that a batch may stand before them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor

from suffuse.diffusion.constant import Constant
from suffuse.errors import SuffuseError, unknown

__all__ = [
    "Operator",
    "band",
    "blur",
    "convolution",
    "identity",
    "linear",
    "mask",
    "mix",
    "pool",
    "resample",
    "rows",
    "separable",
    "subset",
]

Map = Callable[[Tensor], Tensor]

SEEN = 1e-3
"""Singular values below this part of the largest count as 0: what they pass is not recovered."""


@dataclass(frozen=True)
class Operator:
    """A map from states [B, *shape] to data [B, *shape'].

    Attributes:
        name: for people.
        forward, adjoint: the maps; adjoint is None where forward is not linear.
        spectrum: (f, x) -> V f(s) Vᵀ x, or None. f is called once, with all singular values in a
            tensor that broadcasts against x or [2, *x.shape]; its values may vary over the batch.
        projection: whether A = Aᵀ = A², as for a mask.
        matrices: by axis, for operators that act on each axis by a matrix.
    """

    name: str
    forward: Map = field(repr=False)
    adjoint: Map | None = field(default=None, repr=False)
    spectrum: Callable[[Map, Tensor], Tensor] | None = field(default=None, repr=False)
    projection: bool = False
    matrices: Mapping[int, Tensor] | None = field(default=None, repr=False)

    def __call__(self, x: Tensor) -> Tensor:
        """A x."""
        return self.forward(x)

    @property
    def T(self) -> Operator:  # noqa: N802
        """The adjoint; a `SuffuseError` where there is none."""
        if self.adjoint is None:
            raise SuffuseError(
                f"{self.name!r} has no adjoint; restore with 'dps', which needs none"
            )
        return Operator(f"{self.name}.T", self.adjoint, self.forward)

    def __matmul__(self, first: Operator) -> Operator:
        """x -> self(first(x)); decomposed where both act on each axis by itself."""
        name = f"{self.name} @ {first.name}"
        if self.matrices is not None and first.matrices is not None:
            both = dict(first.matrices)
            for axis, m in self.matrices.items():
                both[axis] = m @ both[axis].to(m) if axis in both else m
            return separable(both, name)
        linear = self.adjoint is not None and first.adjoint is not None
        adjoint = (lambda y: first.T(self.T(y))) if linear else None
        return Operator(name, lambda x: self(first(x)), adjoint)

    def spectral(self, f: Map, x: Tensor) -> Tensor:
        """V f(s) Vᵀ x, of the shape of x; a `SuffuseError` where s is not known."""
        if self.spectrum is None:
            raise SuffuseError(
                f"the singular values of {self.name!r} are not known; restore with 'mmps' or 'dps'"
            )
        return self.spectrum(f, x)

    def pseudo_inverse(self, y: Tensor, seen: float = SEEN) -> Tensor:
        """A⁺ y, counting singular values above `seen` times the largest; y [B, *shape']."""
        return self.spectral(lambda s: torch.where(s > seen * s.max(), 1 / s**2, 0.0), self.T(y))

    def unseen(self, x: Tensor, seen: float = SEEN) -> Tensor:
        """(I − A⁺A) x: the part of a state [B, *shape] that A does not pass."""
        return self.spectral(lambda s: (s <= seen * s.max()).to(x.dtype), x)


def _isometry(
    name: str, forward: Map, adjoint: Map, s: float = 1.0, projection: bool = False
) -> Operator:
    """An operator whose singular values are s and 0."""

    def spectrum(f: Map, x: Tensor) -> Tensor:
        values = s * torch.arange(2, dtype=x.dtype, device=x.device)
        unseen, seen = f(values.reshape(2, *[1] * x.ndim)).unbind(0)
        part = adjoint(forward(x)) / s**2
        return unseen * (x - part) + seen * part

    return Operator(name, forward, adjoint, spectrum, projection)


def identity() -> Operator:
    """y = x: denoising."""
    return _isometry("identity", lambda x: x, lambda y: y, projection=True)


def mask(known: Tensor) -> Operator:
    """The known elements of a state, and 0 elsewhere: inpainting, gaps.

    Args:
        known: not 0 where an element is known; [*shape], [B, *shape], or broadcasting to it. What
            the data hold at unknown elements is never read, and may be NaN.
    """
    kept = Constant(known.bool())

    def keep(x: Tensor) -> Tensor:
        return torch.where(kept.on(x.device), x, torch.zeros((), dtype=x.dtype, device=x.device))

    return _isometry("mask", keep, keep, projection=True)


def subset(index: Sequence[int] | Tensor, size: int, axis: int = -1) -> Operator:
    """The positions `index` of an axis of length `size`, in their order, each at most once."""
    chosen = torch.as_tensor(index, dtype=torch.int64)
    if len(set(chosen.tolist())) != len(chosen) or not bool(
        ((chosen >= 0) & (chosen < size)).all()
    ):
        raise SuffuseError(f"a subset names positions from 0 to {size - 1}, each at most once")

    places = Constant(chosen)

    def put(y: Tensor) -> Tensor:
        shape = list(y.shape)
        shape[axis] = size
        return y.new_zeros(shape).index_copy(axis, places.on(y.device), y)

    return _isometry("subset", lambda x: x.index_select(axis, places.on(x.device)), put)


def pool(size: int, axes: Sequence[int] = (-2, -1)) -> Operator:
    """The means of blocks of `size` along each axis, whose lengths are its multiples."""

    def forward(x: Tensor) -> Tensor:
        for axis in axes:
            if x.shape[axis] % size:
                raise SuffuseError(f"an axis of {x.shape[axis]} is not made of blocks of {size}")
            x = x.unfold(axis, size, size).mean(-1)
        return x

    def adjoint(y: Tensor) -> Tensor:
        for axis in axes:
            y = y.repeat_interleave(size, axis) / size
        return y

    return _isometry("pool", forward, adjoint, size ** (-len(axes) / 2))


def _along(x: Tensor, matrix: Tensor, axis: int) -> Tensor:
    return (x.movedim(axis, -1) @ matrix.to(x).mT).movedim(-1, axis)


def _decomposed(matrices: Tensor) -> tuple[Constant, Constant]:
    """s [..., n], with 0 for what is not seen, and Vᵀ [..., n, n] of matrices [..., m, n]."""
    _, s, vh = torch.linalg.svd(matrices.to(torch.float64))
    whole = torch.nn.functional.pad(s, (0, matrices.shape[-1] - s.shape[-1]))
    return Constant(whole), Constant(vh)


def separable(matrices: Mapping[int, Tensor], name: str = "separable") -> Operator:
    """A matrix [m, n] for each axis: blur, resampling, mixing of channels, or all of them."""

    kept = {axis: Constant(m) for axis, m in matrices.items()}

    @cache
    def decomposed() -> dict[int, tuple[Constant, Constant]]:
        return {axis: _decomposed(m) for axis, m in matrices.items()}

    def forward(x: Tensor) -> Tensor:
        for axis, m in kept.items():
            x = _along(x, m.on(x.device), axis)
        return x

    def adjoint(y: Tensor) -> Tensor:
        for axis, m in kept.items():
            y = _along(y, m.on(y.device).mT, axis)
        return y

    def spectrum(f: Map, x: Tensor) -> Tensor:
        values = x.new_ones(())
        for axis, (s, vh) in decomposed().items():
            values = values * s.on(x.device).to(x).reshape(-1, *[1] * (-1 - axis))
            x = _along(x, vh.on(x.device), axis)
        x = f(values) * x
        for axis, (_, vh) in decomposed().items():
            x = _along(x, vh.on(x.device).mT, axis)
        return x

    return Operator(name, forward, adjoint, spectrum, matrices=dict(matrices))


def rows(matrices: Tensor) -> Operator:
    """A matrix [m, n] of its own for each of R rows: states [..., R, n] to data [..., R, m].

    Args:
        matrices: [R, m, n].
    """
    kept = Constant(matrices)

    @cache
    def decomposed() -> tuple[Constant, Constant]:
        return _decomposed(matrices)

    def times(matrix: Tensor, x: Tensor) -> Tensor:
        return torch.einsum("rmn,...rn->...rm", matrix.to(x), x)

    def spectrum(f: Map, x: Tensor) -> Tensor:
        s, vh = (part.on(x.device).to(x) for part in decomposed())
        return times(vh.mT, f(s) * times(vh, x))

    return Operator(
        "rows",
        lambda x: times(kept.on(x.device), x),
        lambda y: times(kept.on(y.device).mT, y),
        spectrum,
    )


def mix(weights: Tensor, axis: int) -> Operator:
    """Weighted sums [m, n] of the n channels of an axis: colour to grey, stereo to mono.

    >>> mix(torch.tensor([[0.299, 0.587, 0.114]]), axis=-3)(torch.ones(2, 3, 8, 8)).shape
    torch.Size([2, 1, 8, 8])
    """
    return separable({axis: weights}, "mix")


def _cubic(u: Tensor) -> Tensor:
    near, far = (1.5 * u - 2.5) * u * u + 1, ((2.5 - 0.5 * u) * u - 4) * u + 2
    return torch.where(u < 1, near, torch.where(u < 2, far, 0))


KERNELS: dict[str, Map] = {
    "box": lambda u: (u <= 0.5).to(u.dtype),
    "cubic": _cubic,
    "linear": lambda u: (1 - u).clamp(min=0),
}


def _averages(n: int, m: int, kernel: Map, width: float) -> Tensor:
    """Means of n elements around m places, weighted by kernel(distance / width); [m, n]."""
    centres = (torch.arange(m, dtype=torch.float64)[:, None] + 0.5) * n / m - 0.5
    weights = kernel((torch.arange(n, dtype=torch.float64) - centres).abs() / width)
    return weights / weights.sum(1, keepdim=True)


def resample(
    sizes: Sequence[int], to: Sequence[int], axes: Sequence[int] = (-2, -1), kernel: str = "cubic"
) -> Operator:
    """Antialiased resampling of axes: the kernel is stretched where there is less room after it.

    Args:
        sizes, to: lengths of the axes before and after.
        axes: counted from the end.
        kernel: "box" (means), "linear" or "cubic" (Keys (1981), with a = −1/2).
    """
    if kernel not in KERNELS:
        raise unknown("kernel", kernel, KERNELS)
    matrices = {
        axis: _averages(n, m, KERNELS[kernel], max(n / m, 1.0))
        for axis, n, m in zip(axes, sizes, to, strict=True)
    }
    return separable(matrices, "resample")


def blur(std: float, sizes: Sequence[int], axes: Sequence[int] = (-2, -1)) -> Operator:
    """Gaussian blur, `std` in elements, of axes of lengths `sizes`; weights sum to 1 everywhere."""
    if not std > 0:
        raise SuffuseError(f"the deviation of a blur is above 0, and {std} is not")
    bells = [_averages(n, n, lambda u: torch.exp(-(u**2) / 2), std) for n in sizes]
    return separable(dict(zip(axes, bells, strict=True)), "blur")


def _fourier(
    name: str, axes: int, transfer: Callable[[Sequence[int], Tensor], Tensor], projection: bool
) -> Operator:
    """Multiplication of the spectrum along the last axes by transfer(their sizes, x)."""

    def times(x: Tensor, change: Map) -> Tensor:
        sizes, over = list(x.shape[-axes:]), list(range(-axes, 0))
        spectrum = change(transfer(sizes, x)) * torch.fft.rfftn(x, dim=over)
        found: Tensor = torch.fft.irfftn(spectrum, s=sizes, dim=over)
        return found

    return Operator(
        name,
        lambda x: times(x, lambda h: h),
        lambda y: times(y, torch.conj),
        lambda f, x: times(x, lambda h: f(h.abs())),
        projection,
    )


def convolution(kernel: Tensor) -> Operator:
    """Circular convolution with a centred kernel along as many last axes as it has."""

    kept = Constant(kernel)

    def transfer(sizes: Sequence[int], x: Tensor) -> Tensor:
        if any(k > n for k, n in zip(kernel.shape, sizes, strict=True)):
            raise SuffuseError(
                f"a kernel of {tuple(kernel.shape)} does not fit in a state of {tuple(sizes)}"
            )
        padded = x.new_zeros(*sizes)
        padded[tuple(slice(k) for k in kernel.shape)] = kept.on(x.device).to(x)
        centred = padded.roll([-(k // 2) for k in kernel.shape], list(range(kernel.ndim)))
        spectrum: Tensor = torch.fft.rfftn(centred)
        return spectrum

    return _fourier("convolution", kernel.ndim, transfer, False)


def band(low: float, high: float, rate: float = 1.0) -> Operator:
    """The frequencies from low to high of the last axis; with `rate` samples a second, in Hz."""
    if not 0 <= low < high:
        raise SuffuseError(f"a band rises from 0 or more; given {low} to {high}")

    def transfer(sizes: Sequence[int], x: Tensor) -> Tensor:
        f = torch.fft.rfftfreq(sizes[0], 1 / rate, dtype=torch.float64, device=x.device)
        return torch.where((f >= low) & (f <= high), 1.0, 0.0).to(x.dtype)

    return _fourier("band", 1, transfer, True)


def linear(forward: Map, shape: Sequence[int], name: str = "linear") -> Operator:
    """A linear map of states [B, *shape], its adjoint by automatic differentiation."""

    def adjoint(y: Tensor) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            x = y.new_zeros(len(y), *shape, requires_grad=True)
            (back,) = torch.autograd.grad(forward(x), x, y.clone())
        return back

    return Operator(name, forward, adjoint)
