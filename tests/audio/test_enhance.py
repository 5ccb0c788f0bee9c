"""Enhancement: the network, the bridge, and files of any kind."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from suffuse import recipe as recipes
from suffuse.diffusion import Noise
from suffuse.diffusion.bridge import weights
from suffuse.errors import SuffuseError
from suffuse.model import Model
from suffuse.plugins.contracts import Condition
from suffuse.report.page import Page
from suffuse_audio import enhance, files, page, spectrum, streaming
from suffuse_audio.enhance import Enhancer
from suffuse_audio.enhancing import MaskNetwork
from suffuse_audio.gain import Reducer
from suffuse_audio.sound import Sound


class _NoData:
    """What stands for the data set, which needs SUFFUSE_DATA."""

    def __init__(self, split: str = "train", **options: Any) -> None:
        self.conditions = {"noisy": Condition("state")}


@pytest.fixture(scope="module")
def model() -> Model:
    """A small model whose weights are drawn, so that it does something."""
    torch.manual_seed(0)
    made = Model(
        recipes.load(
            "audio/enhance",
            {
                "encoder.std": 1.0,
                "encoder.rate": 8000,
                "encoder.window": 256,
                "encoder.hop": 80,
                "process.start": 0.0,
                "process.narrow": 0.0,
                "denoiser.width": 32,
                "denoiser.dilations": [1, 2, 4],
            },
        ),
        {"noisy": Condition("state")},
    )
    with torch.no_grad():
        for p in made.network.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return made


def test_a_fresh_network_is_the_classical_gain(noise: Sound) -> None:
    network = MaskNetwork((258, 60), width=32)
    y = torch.randn(2, 258, 60)
    gain = torch.rand(2, 129, 60)
    with torch.no_grad():
        out = network(torch.randn_like(y), torch.zeros(2), concat=torch.cat([y, gain], 1))
    wanted = y * gain.sqrt().repeat(1, 2, 1)
    assert torch.allclose(out, wanted, atol=1e-5)


def test_a_frame_depends_on_no_more_than_the_radius(model: Model) -> None:
    network: Any = model.network.backbone
    x, c = torch.randn(1, 258, 80), torch.rand(1, 387, 80)
    with torch.no_grad():
        before = network(x, torch.zeros(1), concat=c)
        x[..., 0], c[..., 0] = 5.0, 3.0
        change = (network(x, torch.zeros(1), concat=c) - before).abs().amax((0, 1))
    assert bool((change[network.radius + 1 :] == 0).all())
    assert change[network.radius - 1] > 0


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("rate", [8000, 44100, 3000])
def test_parts_of_any_size_make_the_same(
    model: Model, noise: Sound, monkeypatch: pytest.MonkeyPatch, steps: int, rate: int
) -> None:
    sound = Sound(noise.samples, rate)
    worker = Enhancer(model, steps, trust=1.0)
    monkeypatch.setattr(enhance, "_PART", 10**6)
    whole = worker(sound)
    monkeypatch.setattr(enhance, "_PART", 37)
    parts = worker(sound)
    assert parts.samples.shape == sound.samples.shape
    seam = np.abs(parts.samples - whole.samples).max() / np.abs(whole.samples).max()
    assert seam < 1e-3  # -60 dB
    assert (worker(sound).samples == parts.samples).all()


def test_a_seed_is_a_draw_and_one_call_has_none(model: Model, noise: Sound) -> None:
    one, two = (Enhancer(model, 1, seed=s)(noise).samples for s in (0, 1))
    assert (one == two).all()
    one, two = (Enhancer(model, 2, seed=s)(noise).samples for s in (0, 1))
    assert np.abs(one - two).max() > 1e-5


def test_strength_mixes_with_the_original(model: Model, noise: Sound) -> None:
    full = Enhancer(model)(noise).samples
    half = Enhancer(model, strength=0.5)(noise).samples
    none = Enhancer(model, strength=0.0)(noise).samples
    assert np.allclose(half, (full + noise.samples) / 2, atol=1e-6)
    assert np.allclose(none, noise.samples, atol=1e-7)
    with pytest.raises(SuffuseError, match="between 0 and 1"):
        Enhancer(model, strength=1.5)


@pytest.mark.parametrize("scale", [1e-3, 30.0])
def test_loudness_is_kept(model: Model, noise: Sound, scale: float) -> None:
    a = Enhancer(model)(noise).samples
    b = Enhancer(model)(Sound(noise.samples * np.float32(scale), 8000)).samples
    assert np.abs(b / scale - a).max() < 1e-3 * np.abs(a).max()


def test_classical_gain_takes_steady_noise_out_and_leaves_speech() -> None:
    rate = 8000
    random = np.random.default_rng(0)
    t = np.arange(3 * rate) / rate
    tone = np.where((t > 1.5) & (t < 2.2), 0.5 * np.sin(2 * np.pi * 500 * t), 0)
    noisy = Sound(tone + 0.05 * random.standard_normal(len(t)), rate)
    for rule in ("log-mmse", "wiener"):
        made = enhance.classical(noisy, rule).samples[0]
        assert np.std(made[:rate]) < 0.2 * np.std(noisy.samples[0][:rate])
        inside = slice(int(1.7 * rate), int(2.1 * rate))
        assert np.abs(made[inside] - tone[inside]).std() < 0.05


def test_gains_do_not_depend_on_how_frames_come() -> None:
    power = np.random.default_rng(1).exponential(size=(2, 20, 300))
    whole, parts = Reducer(), Reducer()
    a = whole(power)
    b = np.concatenate([parts(power[..., :150]), parts(power[..., 150:])], axis=-1)
    assert (a == b).all()


def test_remixing_keeps_the_sum_and_is_repeatable(model: Model) -> None:
    process: Any = dataclasses.replace(model.process, remix=True)
    x_0 = torch.randn(4, 258, 50)
    given = torch.cat([x_0 + torch.randn(4, 258, 50), torch.rand(4, 129, 50)], 1)
    z = Noise(3, 4).normal((258, 50), step=0)
    x, c = process._remixed(x_0, given, z)
    again = process._remixed(x_0, given, z)
    assert torch.equal(x, again[0])
    assert torch.equal(c, again[1])
    other = torch.cat([z[:1], z[1:] * (1 + 1e-6)])  # as another order of sums would have it
    assert torch.equal(x, process._remixed(x_0, given, other)[0])
    clean, noisy = (spectrum.expand(spectrum.complex_frames(k)) for k in (x, c[:, :258]))
    snr = (
        10 * (clean.abs().square().sum((1, 2)) / (noisy - clean).abs().square().sum((1, 2))).log10()
    )
    assert bool(((snr > -5.1) & (snr < 14.1)).all())
    assert not torch.allclose(x, x_0)


# The command


@pytest.fixture
def clean(model: Model, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Calls `suffuse audio ...` with the small model in the place of the shipped one."""
    import suffuse
    from suffuse_audio.commands import audio

    monkeypatch.setattr(suffuse, "load", lambda name: model)
    return lambda *words: CliRunner().invoke(audio, [str(word) for word in words])


@pytest.mark.parametrize(
    ("name", "rate", "channels", "n", "form"),
    [
        ("a.wav", 8000, 1, 4001, "PCM_U8"),
        ("a.wav", 96000, 6, 9600, "PCM_24"),
        ("a.flac", 44100, 2, 30000, "PCM_16"),
        ("a.wav", 8000, 1, 1, "FLOAT"),
        ("a.wav", 700, 1, 500, "PCM_16"),
    ],
)
def test_rate_channels_length_and_kind_stay(
    clean: Any, tmp_path: Path, name: str, rate: int, channels: int, n: int, form: str
) -> None:
    x = 0.1 * np.random.default_rng(0).standard_normal((channels, n))
    kind = "FLAC" if name.endswith("flac") else "WAV"
    files.write(tmp_path / name, Sound(x, rate), files.Form(kind, form))
    out = tmp_path / "out" / name
    result = clean("enhance", tmp_path / name, "-o", out)
    assert result.exit_code == 0, result.output
    made, after = files.read_with_form(out)
    assert (made.rate, made.channels, len(made), after.subtype) == (rate, channels, n, form)


@pytest.mark.parametrize(
    "x", [np.zeros(8000), np.full(8000, 0.3), np.sign(np.sin(np.arange(8000)))]
)
def test_silence_dc_and_clipping_pass(clean: Any, tmp_path: Path, x: np.ndarray) -> None:
    files.write(tmp_path / "a.wav", Sound(x, 8000))
    assert clean("enhance", tmp_path / "a.wav", "-o", tmp_path / "b.wav").exit_code == 0
    made = files.read(tmp_path / "b.wav").samples
    assert np.isfinite(made).all()
    if not x.any():
        assert not made.any()


def test_a_folder_with_one_bad_file(clean: Any, tmp_path: Path, noise: Sound) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for name in ("a.wav", "deep/b.flac"):
        files.write(tmp_path / "in" / name, noise)
    (tmp_path / "in" / "bad.wav").write_text("no sound")
    result = clean("enhance", tmp_path / "in", "-o", tmp_path / "out")
    assert "bad.wav" in str(result.exception)
    assert isinstance(result.exception, SuffuseError)
    assert "2 of 3" in result.output
    assert (tmp_path / "out" / "deep" / "b.flac").is_file()


def test_a_bad_file_in_a_folder_does_not_cost_the_page(
    clean: Any, tmp_path: Path, noise: Sound
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bad.wav").write_text("no sound")
    command = ("enhance", tmp_path / "in", "-o", tmp_path / "out")
    html = tmp_path / "page.html"
    result = clean(*command, "--report", html)
    assert isinstance(result.exception, SuffuseError)
    assert not html.exists()  # there is nothing to show
    files.write(tmp_path / "in" / "a.wav", noise)
    result = clean(*command, "--report", html)
    assert "bad.wav" in str(result.exception)
    assert "a page to listen to" in result.output
    assert html.read_text("utf-8").count("<audio controls") == 2


def test_separating_names_its_own_option_and_wants_a_file(
    clean: Any, tmp_path: Path, noise: Sound
) -> None:
    files.write(tmp_path / "a.wav", noise)
    command = ("separate", tmp_path / "a.wav", "--model", "x", "-o", tmp_path / "out")
    result = clean(*command, "--source", "digit")
    assert "--source takes KEY=VALUE, not 'digit'" in str(result.exception)
    result = clean("separate", tmp_path, "--model", "x", "-o", tmp_path / "out")
    assert "is a folder, and one sound file is needed here" in str(result.exception)


def test_the_page_holds_the_sounds(clean: Any, tmp_path: Path, noise: Sound) -> None:
    files.write(tmp_path / "a.wav", noise)
    html = tmp_path / "page.html"
    result = clean("enhance", tmp_path / "a.wav", "-o", tmp_path / "b.wav", "--report", html)
    assert result.exit_code == 0, result.output
    text = html.read_text("utf-8")
    assert text.count("<audio controls") == 2
    assert "data:audio/wav;base64," in text
    assert 'src="http' not in text


def test_the_page_is_not_written_over_a_sound(clean: Any, tmp_path: Path, noise: Sound) -> None:
    for name in ("a.wav", "clean.wav"):
        files.write(tmp_path / name, noise)
    before = (tmp_path / "a.wav").read_bytes()
    command = ("enhance", tmp_path / "a.wav", "-o", tmp_path / "b.wav")
    for name in ("a.wav", "b.wav", "clean.wav"):
        given = ("--report", tmp_path / name, "--reference", tmp_path / "clean.wav")
        result = clean(*command, *given)
        assert "give another --report" in str(result.exception)
    assert (tmp_path / "a.wav").read_bytes() == before
    result = clean("declip", tmp_path / "a.wav", "--report", tmp_path / "a.wav")
    assert "give another --report" in str(result.exception)


def test_the_folder_that_one_is_in_has_a_place_beside_it(
    clean: Any, tmp_path: Path, noise: Sound, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    files.write(tmp_path / "in" / "a.wav", noise)
    for folder, given in (("in", "."), ("in/deep", "..")):
        monkeypatch.chdir(tmp_path / folder)
        assert clean("declip", given).exit_code == 0
        (tmp_path / "in-round" / "a.wav").unlink()


@pytest.mark.parametrize("rate", [4000, 11025, 16000])
def test_a_reference_of_another_rate_is_compared_with_all_of_the_sound(rate: int) -> None:
    def tone(rate: int) -> np.ndarray:
        return 0.2 * np.sin(2 * np.pi * 500 * np.arange(3 * rate) / rate)

    half = Sound(tone(8000) * (np.arange(24000) < 12000), 8000)  # the rest of it is lost
    section = Page("Sounds").section("Figures")
    page._against(section, Sound(tone(rate), rate), [("before", half)])
    (table,) = section.blocks
    assert table.rows[0][:1] == ["before"]
    assert table.rows[0][1] == pytest.approx(0, abs=0.1)  # what is lost is as loud as what is left


def test_every_command_has_a_page(clean: Any, tmp_path: Path, noise: Sound) -> None:
    files.write(tmp_path / "a.wav", Sound(noise.samples[:, :4000], 8000))
    html = tmp_path / "page.html"
    for name, *more in (
        ("fill", "--gap", "0.1-0.12"),
        ("extend", "--rate", 16000),
        ("declip",),
        ("dereverb",),
    ):
        result = clean(name, tmp_path / "a.wav", *more, "--report", html)
        assert result.exit_code == 0, result.output
        assert html.read_text("utf-8").count("<audio controls") == 2
        html.unlink()


def test_a_part_of_a_file_and_its_levels_by_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    x = 0.1 * rng.standard_normal((2, 9000)).astype(np.float32)
    files.write(tmp_path / "a.wav", Sound(x, 1000), files.Form("WAV", "FLOAT"))
    files.write(tmp_path / "b.wav", Sound(x / 2, 1000), files.Form("WAV", "FLOAT"))
    files.write(tmp_path / "c.wav", Sound(x[:, :8000], 1000), files.Form("WAV", "FLOAT"))
    monkeypatch.setattr(streaming, "BLOCK", 700)
    assert (files.read(tmp_path / "a.wav", 1.5, 2.0).samples == x[:, 1500:3500]).all()
    length, *levels = page._levels(tmp_path / "a.wav", tmp_path / "b.wav")
    rms = 10 * np.log10((x.astype(np.float64) ** 2).mean())
    assert length == 9000
    assert levels == pytest.approx([rms, rms - 6.0206, rms - 6.0206], abs=1e-3)
    assert np.isnan(page._levels(tmp_path / "a.wav", tmp_path / "c.wav")[-1])


def test_blocks_of_a_file_are_the_sound(tmp_path: Path, noise: Sound, monkeypatch: Any) -> None:
    monkeypatch.setattr(streaming, "BLOCK", 777)
    files.write(tmp_path / "a.wav", noise, files.Form("WAV", "FLOAT"))
    parts = np.concatenate(list(streaming.file_blocks(tmp_path / "a.wav")), axis=1)
    assert (parts == noise.samples).all()


def test_no_voice_and_no_noise_is_in_two_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    from suffuse_audio import corpora, mixtures
    from suffuse_audio.corpora import Recording

    clips = [
        Recording(np.ones(800, np.float32), "one", voice, i)
        for voice in ("theo", "nicolas", "george")
        for i in (0, 7)
    ]
    sounds = [Recording(np.ones(800, np.float32), "rain", fold) for fold in "1234"]
    monkeypatch.setattr(corpora, "digits", lambda rate: tuple(clips))
    monkeypatch.setattr(corpora, "noises", lambda rate: tuple(sounds))
    voices, folds = {}, {}
    for part in ("train", "test", "fitting", "validation"):
        found: Any = mixtures.sources(part)  # type: ignore[arg-type]
        voices[part], folds[part] = set(found.voices), {clip.group for clip in found.noises}
    assert voices["test"] == {"theo"}
    assert folds["test"] == {"4"}
    assert voices["validation"] == {"nicolas"}
    assert folds["validation"] == {"3"}
    for parts in (voices, folds):
        assert not parts["fitting"] & (parts["test"] | parts["validation"])
        assert parts["fitting"] | parts["validation"] == parts["train"]
    test: Any = mixtures.sources("test")
    assert [clip.index for clip in test.voices["theo"]] == [0]


def test_folders_of_speech_and_noise_take_the_place_of_collections(tmp_path: Path) -> None:
    from suffuse_audio.mixtures import NoisySpeech

    random = np.random.default_rng(0)
    for name in ("speech/anna", "speech/ben", "speech/cleo", "noise"):
        for i in range(3):
            sound = Sound(0.1 * random.standard_normal(4000 + i).astype(np.float32), 8000)
            (tmp_path / name).mkdir(parents=True, exist_ok=True)
            files.write(tmp_path / name / f"{i}.wav", sound)
    (tmp_path / "noise" / "broken.wav").write_bytes(b"text")
    given: Any = {
        "speech": str(tmp_path / "speech"),
        "noise": str(tmp_path / "noise"),
        "collections": False,
        "count": 20,
        "rate": 16000,
    }
    train, test = NoisySpeech("train", **given), NoisySpeech("test", **given)
    split: Any = [set(k._sources.voices) for k in (train, test)]
    assert not split[0] & split[1]
    assert split[0] | split[1] == {"speech/anna", "speech/ben", "speech/cleo"}
    example = train[3]
    noisy: Any = example.conditions["noisy"]
    assert example.data.rate == noisy.rate == 16000
    assert len(noisy) == len(example.data) == round(1.28 * 16000)
    again: Any = train[3].conditions["noisy"]
    assert (again.samples == noisy.samples).all()
    with pytest.raises(SuffuseError, match="there is no folder"):
        NoisySpeech("train", **{**given, "noise": str(tmp_path / "none")})
    with pytest.raises(SuffuseError, match="there is no speech in the test split"):
        NoisySpeech("test", **{**given, "test_fraction": 0.0, "speech": None, "noise": None})


def test_folders_of_speech_may_be_at_home_and_are_not_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from suffuse_audio.mixtures import NoisySpeech

    monkeypatch.setenv("HOME", str(tmp_path))
    sounds = {"noise": 0.1 * np.sin(np.arange(4000, dtype=np.float32)), "speech": np.zeros(4000)}
    for name, samples in sounds.items():
        (tmp_path / name).mkdir()
        for i in range(2):
            sound = Sound(samples.astype(np.float32), 8000)
            files.write(tmp_path / name / f"{i}.wav", sound)
    given: Any = {"noise": "~/noise", "collections": False, "count": 10}
    assert len(NoisySpeech("train", speech="~/noise", **given)[0].data) == round(1.28 * 8000)
    with pytest.raises(SuffuseError, match="that are to be speech are silent"):
        NoisySpeech("train", speech="~/speech", **given)[0]


def test_narrow_mixtures_have_nothing_above_half_the_band(model: Model) -> None:
    process: Any = dataclasses.replace(model.process, remix=True, narrow=1.0)
    x_0 = torch.randn(4, 258, 50)
    given = torch.cat([x_0 + torch.randn(4, 258, 50), torch.rand(4, 129, 50)], 1)
    x, c = process._remixed(x_0, given, Noise(3, 4).normal((258, 50), step=0))
    for state in (x, c[:, :258]):
        size = spectrum.complex_frames(state).abs()
        assert float(size[:, 65:].max()) < 1e-5
        assert float(size[:, :65].amax((1, 2)).min()) > 0.1


def test_a_regressor_is_trained_where_the_state_is_noisy(model: Model) -> None:
    process: Any = dataclasses.replace(model.process, regression=True)
    u = torch.rand(50)
    assert bool((process.levels(u) == 1).all())
    assert not bool((model.process.levels(u) == 1).any())
    half: Any = dataclasses.replace(model.process, start=0.5)
    assert half.levels(torch.tensor([0.2, 0.5, 0.75])).tolist() == [1.0, 0.0, 0.5]


def test_the_film_begins_noisy_and_ends_as_the_network_has_it(model: Model, noise: Sound) -> None:
    worker = Enhancer(model, trust=1.0)
    shown = worker.film(noise, steps=3)
    assert len(shown) == 4
    assert np.abs(shown[0].samples[0] - noise.samples[0]).max() < 1e-2
    alone = dataclasses.replace(worker, steps=3)(Sound(noise.samples[:1], noise.rate))
    assert np.abs(shown[-1].samples - alone.samples).max() < 1e-3


def test_the_states_of_more_calls_are_a_path_of_the_bridge(
    model: Model, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    """For a network that answers 0: each state has the bridge's noise, and keeps of the last's."""
    monkeypatch.setattr(model.network, "forward", lambda x, level, **given: torch.zeros_like(x))
    frames = rng.standard_normal((1, 129, 400)) + 1j * rng.standard_normal((1, 129, 400))
    worker = Enhancer(model, steps=3)
    shown = [*worker._walk(frames.astype(np.complex64), np.ones((1, 129, 400), np.float32), 0)]
    y, *states = (spectrum.real_frames(spectrum.compress(torch.from_numpy(s))) for s in shown[:3])
    process: Any = model.process
    kept = [weights(process.schedule, t) for t in (2 / 3, 1 / 3)]
    noise = [(x - k.y * y) / k.noise for x, k in zip(states, kept, strict=True)]
    for z in noise:
        assert float(z.std()) == pytest.approx(1, abs=0.02)
    share = model.plan(steps=3).rows[1].a[0] * float(kept[0].noise / kept[1].noise)
    assert float((noise[0] * noise[1]).mean()) == pytest.approx(share, abs=0.02)
    assert not shown[3].any()


def test_the_recipe_and_the_command_make_the_same() -> None:
    assert recipes.load("audio/enhance").sampling.steps == Enhancer.steps
