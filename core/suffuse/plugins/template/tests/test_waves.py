"""What is particular to this plugin."""

import numpy as np
import pytest
from suffuse_myplugin.data import POINTS, SPEEDS, Waves
from suffuse_myplugin.evaluator import Frequency

import suffuse
from suffuse import recipe
from suffuse.plugins.contracts import Example


@pytest.mark.parametrize("speed", SPEEDS)
def test_curves_have_the_frequency_of_their_speed(speed):
    waves = Waves("train", n=50, noise=0.0)
    curves = [waves[i].data for i in range(50) if waves[i].conditions["speed"] == speed]
    power = np.abs(np.fft.rfft(curves)) ** 2
    assert power[:, SPEEDS[speed]] == pytest.approx(power.sum(axis=1))


def test_the_evaluator_tells_wrong_curves_from_right_ones():
    test = Waves("test", n=100)
    flat = [Example(np.cos(2 * np.pi * np.arange(POINTS) / POINTS), {"speed": "slow"})] * 20
    (wrong,) = Frequency().evaluate(flat, test=test, train=test, seed=0)
    assert wrong.high < wrong.floor_low


def test_it_trains_and_samples(tmp_path):
    asked = recipe.load("myplugin/waves", {"training.steps": 20, "dataset.n": 100})
    suffuse.train(asked, tmp_path / "run", progress=False)
    model = suffuse.load(tmp_path / "run")
    curves = model.sample(3, speed="fast", seed=1)
    assert np.shape(curves) == (3, POINTS)
    assert np.isfinite(curves).all()
