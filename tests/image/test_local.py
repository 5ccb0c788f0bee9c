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
from suffuse_image.local import LocalVision


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


@pytest.mark.parametrize("name", ["clip", "inception_v3"])
def test_vectors_are_those_of_the_model_that_was_saved(name, tmp_path):
    """Beside CLIP's own answer, and that of timm's Inception; pictures are of any mode and size."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    pictures = [Image.effect_noise((60, 40), 80).convert("RGB"), Image.new("L", (90, 90), 90)]
    folder = tmp_path / name
    if name == "clip":
        small = {
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 32,
        }
        vision = {**small, "image_size": 28, "patch_size": 14}
        config = transformers.CLIPConfig(
            text_config={**small, "vocab_size": 9}, vision_config=vision, projection_dim=6
        )
        model = transformers.CLIPModel(config).eval()
        model.save_pretrained(folder)
        prepare = transformers.CLIPImageProcessor(
            size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}
        )
        prepare.save_pretrained(folder)
        x = prepare(images=[p.convert("RGB") for p in pictures], return_tensors="pt")
        with torch.inference_mode():
            inner = model.vision_model(**x).pooler_output
            wanted, called = model.visual_projection(inner), "CLIPModel (clip)"
    else:
        timm = pytest.importorskip("timm")
        from timm.models import save_for_hf

        model = timm.create_model(name).eval()
        model.pretrained_cfg = {**model.pretrained_cfg, "input_size": (3, 96, 96)}
        save_for_hf(model, folder, safe_serialization=True)
        prepare = timm.data.create_transform(**timm.data.resolve_data_config({}, model=model))
        x = torch.stack([prepare(p.convert("RGB")) for p in pictures])
        with torch.inference_mode():
            wanted = model.forward_head(model.forward_features(x), pre_logits=True)
        called = "inception_v3 (inception_v3)"
    found = LocalVision(folder)
    assert found.name == called
    assert found(pictures).shape == (2, 6 if name == "clip" else 2048)
    close = 1e-5 * float(wanted.abs().max())  # of fresh weights, Inception's answers are large
    torch.testing.assert_close(found(pictures), wanted, atol=close, rtol=1e-3)
    with pytest.raises(SuffuseError, match="no pictures"):
        found([])
