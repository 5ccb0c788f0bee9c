"""Features of vision models from a folder."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Example
from suffuse_image.digits import Digits
from suffuse_image.evaluators import KID
from suffuse_image.features import features


def test_names_that_are_none_are_refused(tmp_path):
    test, train = Digits("test"), Digits("train")
    samples = [Example(test[0].data, {})]
    with pytest.raises(SuffuseError, match="did you mean 'pixels'"):
        features("pixel", samples, test=test, train=train)
    pytest.importorskip("transformers")
    with pytest.raises(SuffuseError, match="no vision model"):
        features(str(tmp_path), samples, test=test, train=train)


def test_kid_on_the_encoder_that_ships():
    test, train = Digits("test"), Digits("train")
    samples = [train[i] for i in range(60)]
    [metric] = KID("dual").evaluate(samples, test=test, train=train, seed=0)
    assert "dual/1" in metric.name
    assert abs(metric.value) < 0.05


def test_a_vision_model_in_a_folder(tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    transformers.Dinov2Model(config).save_pretrained(tmp_path / "tiny")
    transformers.BitImageProcessor(
        size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}
    ).save_pretrained(tmp_path / "tiny")
    test, train = Digits("test"), Digits("train")
    found = features(str(tmp_path / "tiny"), [train[0]], test=test, train=train)
    assert found.name == "Dinov2Model (tiny)"
    assert found.test.shape == (len(test), 16)
    one = found([Image.new("L", (8, 8), 90)])
    assert one.shape == (1, 16)
    assert torch.isfinite(one).all()
