"""Pictures by patches: what is planted is found, and where."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from PIL import Image

from suffuse.errors import SuffuseError
from suffuse_anomaly import PatchDetector
from suffuse_anomaly.patch_features import filters


def pictures(rng, n):
    stripes = np.sin(np.arange(32) / 2)[None, None] + np.zeros((n, 32, 1))
    return stripes + 0.2 * rng.normal(size=(n, 32, 32))


@pytest.mark.parametrize("method", ["knn-time", "denoiser"])
def test_a_blot_is_found_at_its_place(method, rng):
    detector = PatchDetector(method, steps=200).fit(pictures(rng, 20))
    usual, odd = pictures(rng, 5), pictures(rng, 5)
    corners = rng.integers(2, 22, size=(5, 2))
    for picture, (row, column) in zip(odd, corners, strict=True):
        picture[row : row + 8, column : column + 8] = 1.5
    assert np.median(detector.score(odd)) > detector.score(usual).max()
    assert (detector.p_values(odd) < 0.4).all()
    maps = detector.heat_map(odd)
    assert maps.shape == odd.shape
    for one, corner in zip(maps, corners, strict=True):
        place = np.array(np.unravel_index(one.argmax(), one.shape))
        assert (np.abs(place - corner - 4) <= 12).all()


def test_an_alarm_is_a_picture_that_few_normal_ones_are(rng):
    # each has 256 patches, and so some that one patch in a hundred is like
    made = rng.normal(size=(50, 64, 64))
    for n in (12, 30):
        detector = PatchDetector().fit(made[:n])
        assert len(detector.held_) == n
        assert (detector.score(made[30:]) > detector.threshold_).mean() < 0.7
    assert detector.threshold_ == pytest.approx(np.log(100))
    made[0] += 9
    assert detector.score(made[:1])[0] > detector.threshold_


def test_filters_do_not_see_how_a_picture_is_turned(rng):
    picture = rng.normal(size=(33, 33))
    turned = np.rot90(filters(np.rot90(picture).copy(), 1), -1)
    assert_allclose(turned, filters(picture, 1), atol=1e-9)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: PatchDetector("knn-tim"), "did you mean 'knn-time'"),
        (lambda x: PatchDetector(features="filter"), "did you mean 'filters'"),
        (lambda x: PatchDetector(stride=0), "stride is a whole number"),
        (lambda x: PatchDetector().fit(x[:3]), "10 normal pictures or more are needed; given 3"),
        (lambda x: PatchDetector().score(x), "has learned nothing yet"),
        (lambda x: PatchDetector().fit(x * np.nan), "must be finite"),
        (lambda x: PatchDetector().fit(["a"] * 20), "an array \\[H, W\\]"),
        (
            lambda x: PatchDetector().fit([*x, np.zeros((32, 32, 3))]),
            "fitted on pictures of 1 channels, and number 12 has",
        ),
        (
            lambda x: PatchDetector().fit(x).score([Image.new("RGB", (32, 32))]),
            "fitted on pictures of 1 channels",
        ),
    ],
)
def test_mistakes_are_told_in_a_sentence(call, words, rng):
    with pytest.raises(SuffuseError, match=words):
        call(pictures(rng, 12))
