"""Distances of pictures to the true one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image, ImageFilter

from suffuse.errors import SuffuseError
from suffuse_image import bench, bench_restoring, quality


def noise(size=(12, 9), seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values)


def test_psnr_is_its_formula():
    a, b = noise(seed=0), noise(seed=1)
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    assert quality.psnr(a, b) == pytest.approx(
        20 * math.log10(255 / np.sqrt(((x - y) ** 2).mean()))
    )
    assert quality.psnr(a, a) == math.inf


def test_the_perceptual_distance_grows_with_the_damage():
    image = noise((32, 32)).resize((8, 8)).resize((32, 32))
    blurred = [image.filter(ImageFilter.GaussianBlur(k)) for k in (0, 1, 3)]
    found = quality.perceptual_distance(blurred, [image] * 3)
    assert found[0] == 0
    assert 0 < found[1] < found[2] < 4
    with pytest.raises(SuffuseError, match="its true one"):
        quality.perceptual_distance([image], [image] * 2)


def test_ssim_is_its_formula_in_every_window():
    a, b = noise(seed=0).convert("L"), noise(seed=1).convert("L")
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    values = []
    for i in range(3):
        for j in range(6):
            u, v = x[i : i + 7, j : j + 7].ravel(), y[i : i + 7, j : j + 7].ravel()
            (vu, cov), (_, vv) = np.cov(u, v)
            c1, c2 = 2.55**2, 7.65**2
            top = (2 * u.mean() * v.mean() + c1) * (2 * cov + c2)
            values.append(top / ((u.mean() ** 2 + v.mean() ** 2 + c1) * (vu + vv + c2)))
    assert quality.ssim(a, b) == pytest.approx(np.mean(values))


def test_all_get_worse_with_noise():
    from suffuse_image.emoji import Emoji

    image = Emoji("test")[0].data
    random = np.random.default_rng(0)
    found = []
    for deviation in (5, 20, 60):
        made = bench_restoring.noisy(image, random, deviation)
        far = quality.feature_distance([made], [image])[0]
        found.append((quality.psnr(made, image), quality.ssim(made, image), -far))
    assert found == sorted(found, reverse=True)
    assert quality.feature_distance([image], [image])[0] == pytest.approx(0, abs=1e-6)


def test_pictures_of_two_sizes_are_not_compared():
    with pytest.raises(SuffuseError, match="one size"):
        quality.psnr(noise(), noise((4, 4)))
    with pytest.raises(SuffuseError, match="7 pixels"):
        quality.ssim(noise((4, 4)), noise((4, 4)))


def test_classical_ways_undo_some_of_the_damage():
    """The baselines of the suite are no straw men: each is better than doing nothing."""
    from suffuse_image.emoji import Emoji

    dataset = Emoji("test")
    random = np.random.default_rng(0)
    for damage in ("inpaint", "noise 25", "blur 1.5"):
        gains = []
        for i in range(0, 60, 3):
            true = dataset[i].data
            spoilt = bench_restoring.DAMAGES[damage](true, random)
            made = bench_restoring.FILTERS[damage]["filter"](spoilt)
            gains.append(quality.psnr(made, true) - quality.psnr(spoilt, true))
        assert np.mean(gains) > 0.3, (damage, np.mean(gains))


def test_a_fill_reaches_the_middle_and_leaves_the_rest():
    image = noise((32, 32)).filter(ImageFilter.GaussianBlur(4))
    made = bench_restoring._filled(bench_restoring._holed(image, None))
    changed = (np.asarray(made) != np.asarray(image)).any(2)
    assert not changed[:8].any()
    assert not changed[:, 24:].any()
    assert np.asarray(made)[8:24, 8:24].min() > 0


def test_every_case_of_the_suites_has_its_place():
    from suffuse.bench import Context

    cases = list(bench.image())
    assert len({(case.task, case.model) for case in cases}) == len(cases)
    assert {case.task for case in bench.quick()} <= {case.task for case in cases}
    asking = next(case for case in cases if isinstance(case, bench.Asking))
    metric = asking.run(Context()).metrics[0]
    assert (metric.unit, metric.n) == ("ms", 18)
