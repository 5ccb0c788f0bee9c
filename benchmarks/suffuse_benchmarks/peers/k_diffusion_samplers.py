"""Samplers of k-diffusion, with noise left out of those that can do without."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from torch import Tensor

from suffuse_benchmarks.peers import RATIOS, Estimate, in_double, to_ve

__all__ = ["CONFIGURATIONS", "DISTRIBUTION", "sample"]

DISTRIBUTION = "k-diffusion"

LEVELS = ("karras", "exponential", "model")
"""Its ramps between the ends of the model's σ/α, and the model's indices spread evenly."""

SAMPLERS: dict[str, tuple[str, bool, dict[str, Any]]] = {
    "euler": ("sample_euler", False, {}),
    "heun": ("sample_heun", True, {}),
    "dpm-2": ("sample_dpm_2", True, {}),
    "lms": ("sample_lms", False, {}),
    "dpmpp-2s": ("sample_dpmpp_2s_ancestral", True, {"eta": 0.0}),
    "dpmpp-2m": ("sample_dpmpp_2m", False, {}),
    "dpmpp-3m": ("sample_dpmpp_3m_sde", False, {"eta": 0.0}),
}
"""Its function, whether it makes two calls a step but the last, and its options."""

CONFIGURATIONS = {
    **{f"{name} {levels}": (name, levels) for name in SAMPLERS for levels in LEVELS},
    "dpm-fast": ("dpm-fast", ""),
}


@cache
def _library() -> ModuleType:
    """`k_diffusion.sampling` alone.

    The package's `__init__` needs what no sampler does, and its `utils` imports torchvision for
    pictures' sake; empty modules stand in for both while it is imported.
    """
    if "k_diffusion" not in sys.modules:
        spec = importlib.util.find_spec("k_diffusion")
        if spec is None or spec.submodule_search_locations is None:
            raise ImportError("k-diffusion is not installed")
        package = ModuleType("k_diffusion")
        package.__spec__ = spec
        package.__path__ = list(spec.submodule_search_locations)
        sys.modules["k_diffusion"] = package
    absent = {}
    if importlib.util.find_spec("torchvision") is None:
        names = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
        absent = {name: ModuleType(name) for name in names}
        absent[names[1]].__dict__["functional"] = absent[names[2]]
    sys.modules.update(absent)
    try:
        return importlib.import_module("k_diffusion.sampling")
    finally:
        for name in absent:
            del sys.modules[name]


def sample(name: str, calls: int, estimate: Estimate, x_T: Tensor) -> Tensor:
    """x_0 by a configuration."""
    library = _library()
    sampler, levels = CONFIGURATIONS[name]
    low, high = float(RATIOS[0]), float(RATIOS[-1])
    y = to_ve(x_T.double(), high)

    def model(y: Tensor, sigma: Tensor, **_: Any) -> Tensor:
        return estimate(y, float(sigma[0]))

    if sampler == "dpm-fast":
        return library.sample_dpm_fast(model, y, low, high, calls, disable=True)
    function, pairs, options = SAMPLERS[sampler]
    n = (calls + 1) // 2 if pairs else calls
    if levels == "karras":
        sigmas = library.get_sigmas_karras(n, low, high).double()
    elif levels == "exponential":
        sigmas = library.get_sigmas_exponential(n, low, high).double()
    else:
        indices = np.linspace(len(RATIOS) - 1, 0, n)
        between = np.interp(indices, np.arange(len(RATIOS)), np.log(RATIOS))
        sigmas = in_double([*np.exp(between), 0.0])
    return getattr(library, function)(model, y, sigmas, disable=True, **options)
