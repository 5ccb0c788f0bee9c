"""The conditioner text/local, on tiny encoders with random weights that transformers saved."""

from __future__ import annotations

import pytest
import torch

from suffuse import storage
from suffuse.errors import MissingExtra, SuffuseError
from suffuse.plugins.contracts import Condition
from suffuse_text.bert import Bert
from suffuse_text.local import Local, LocalEncoder

TEXT = Condition("text")
WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "a", "red", "fox", "snow"]
SMALL = {"vocab_size": len(WORDS), "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
BLOCK = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 20,
}


def test_what_is_missing_is_named(tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(MissingExtra, match="option folder"):
        Local(TEXT, 4)
    with pytest.raises(SuffuseError, match="no folder"):
        Local(TEXT, 4, folder=str(tmp_path / "none"))
    with pytest.raises(SuffuseError, match="no text encoder"):
        Local(TEXT, 4, folder=str(tmp_path))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The folder of an encoder by its name, and the encoder itself."""
    transformers = pytest.importorskip("transformers")
    made = {}

    def save(name):
        if name in made:
            return made[name]
        torch.manual_seed(0)
        if name == "clip":
            vision = {**BLOCK, "image_size": 8, "patch_size": 4}
            config = transformers.CLIPConfig(
                text_config={**SMALL, **BLOCK}, vision_config=vision, projection_dim=6
            )
            model = transformers.CLIPModel(config)
        elif name == "clip text":
            model = transformers.CLIPTextModel(transformers.CLIPTextConfig(**SMALL, **BLOCK))
        elif name == "t5":
            model = transformers.T5EncoderModel(
                transformers.T5Config(
                    **SMALL, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2
                )
            )
        else:
            kind = {"bert": "Bert", "roberta": "Roberta", "mpnet": "MPNet"}[name]
            config = getattr(transformers, f"{kind}Config")(**SMALL, **BLOCK)
            model = getattr(transformers, f"{kind}Model")(config)
        folder = tmp_path_factory.mktemp(name.replace(" ", "-"))
        model.eval().save_pretrained(folder)
        ends = ("[CLS]", "[SEP]") if name != "t5" else (None, "[SEP]")
        tokenizer(transformers, *ends).save_pretrained(folder)
        made[name] = folder, getattr(model, "text_model", model)
        return made[name]

    return save


def tokenizer(transformers, begin, end):
    """Words of a list; a text stands between the marks of its ends."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    marks = [(mark, WORDS.index(mark)) for mark in (begin, end) if mark]
    shown = " ".join(mark for mark in (begin, "$A", end) if mark)
    made.post_processor = processors.TemplateProcessing(single=shown, special_tokens=marks)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", model_max_length=18
    )


@pytest.mark.parametrize("name", ["clip", "clip text", "t5", "bert", "roberta", "mpnet"])
def test_states_are_those_of_the_model_that_was_saved(saved, name):
    folder, model = saved(name)
    made = Local(TEXT, 12, folder=str(folder), tokens=6)
    assert made.length == (18 - (1 if name == "t5" else 2))
    ids = [*([] if name == "t5" else [1]), 4, 5, 6, 2]
    prepared = made.prepare(["a (red:1.5) fox", None])
    with torch.inference_mode():
        wanted = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
    torch.testing.assert_close(prepared[0, : len(ids), :-1], wanted, atol=1e-5, rtol=1e-4)
    weights = [*([] if name == "t5" else [1.0]), 1.0, 1.5, 1.0, 1.0]
    assert prepared[0, :, -1].tolist() == [*weights, *[0.0] * (len(prepared[0]) - len(ids))]
    assert not prepared[1].any()
    slots = made(prepared)
    assert slots["vector"].shape == (2, 12)
    assert slots["token_mask"].sum(1).tolist() == [len(ids), 0]
    assert sum(p.numel() for p in made.parameters()) == 17 * 12 + 17 * 6 + 12


def test_a_bert_is_read_as_by_our_own_code(saved):
    folder, _ = saved("bert")
    one, other = LocalEncoder(folder), Bert(folder)
    assert (one.begin, one.end, one.identity) == (other.begin, other.end, other.identity)
    assert one.tokens("red snow fox") == other.tokens("red snow fox") == [5, 7, 6]
    ids, mask = torch.tensor([[1, 5, 6, 2]]), torch.ones(1, 4, dtype=torch.bool)
    torch.testing.assert_close(one.states(ids, mask), other.states(ids, mask))


def test_the_first_mark_of_clip_says_nothing_of_a_text(saved):
    """With causal attention its state is the same for all, and is left out of the mean."""
    made = Local(TEXT, 12, folder=str(saved("clip text")[0]))
    prepared = made.prepare(["a red fox", "snow"])
    torch.testing.assert_close(prepared[0, 0], prepared[1, 0])
    changed = prepared.clone()
    changed[:, 0, :-1] = 100.0
    torch.testing.assert_close(made(changed)["vector"], made(prepared)["vector"])


def test_the_folder_of_a_pipeline_and_its_identity(saved, tmp_path):
    folder, _ = saved("mpnet")
    (tmp_path / "0_Transformer").symlink_to(folder)
    made = Local(TEXT, 12, folder=str(tmp_path))
    identity = storage.digest(folder / "model.safetensors")[:16]
    assert made.encoder.identity == identity
    assert Local(TEXT, 12, folder=str(tmp_path), identity=identity).length == 16
    with pytest.raises(SuffuseError, match="trained with the encoder 00ff"):
        Local(TEXT, 12, folder=str(tmp_path), identity="00ff")


def test_weights_that_are_pickled_are_refused(saved, tmp_path):
    folder, model = saved("bert")
    for path in folder.iterdir():
        if path.suffix == ".json":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(SuffuseError, match="no text encoder"):
        Local(TEXT, 12, folder=str(tmp_path))


def test_longer_prompts_are_cut_with_a_warning(saved, caplog):
    made = Local(TEXT, 12, folder=str(saved("t5")[0]), length=4)
    prepared = made.prepare(["a red fox red snow snow", 4 * "fox "])
    assert prepared.shape == (2, 5, 17)
    assert (prepared[..., -1] == 1).all()
    assert "first 4 word pieces" in caplog.text
    with pytest.raises(SuffuseError, match="is text"):
        made.prepare([3])
