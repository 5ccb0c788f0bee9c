r"""How wrong an enhanced spectrum may be, from what was taken away.

A network that answers with a mask g knows the amplitude g y of a noisy bin y as well as it knows g.
Masks lie between 0 and 1, so that what it is unsure of is best told as log-odds; a small error d of
these changes the amplitude by

    y · dg = y g (1 − g) d,        g = |made|^{1/2} / |noisy|^{1/2},

which is small where nearly all or nearly nothing was taken away, and large where half was. The mean
of |d| is one number, fitted to mixtures of the validation split (speaker "nicolas", fold 3), which
the shipped model was not trained on. It takes one network call, and no draws.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from suffuse_audio.pictures import decibels
from suffuse_audio.sound import Sound

__all__ = ["compressed", "expected_error"]

Values = npt.NDArray[np.float32]

_ODDS = 1.9  # the mean of |d| on six validation mixtures, two each at 0, 5 and 10 dB


def compressed(sound: Sound) -> Values:
    """|S|^{1/2} of the first channel, [F, T], of the frames of `pictures.decibels`."""
    found: Values = 10 ** (decibels(sound) / 40)
    return found


def expected_error(noisy: Sound, made: Sound) -> Values:
    """The mean of ||S_made|^{1/2} − |S_clean|^{1/2}| that is to be expected, [F, T].

    Args:
        noisy: what was enhanced; its first channel counts.
        made: what came of it, of the same rate and length.
    """
    y, m = compressed(noisy), compressed(made)
    out: Values = _ODDS * m * np.abs(y - m) / np.maximum(y, 1e-9)
    return out
