"""Files: what is written is read back, and what may be anything is taken for what it is."""

from __future__ import annotations

import io
import logging
import struct
import zlib
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from suffuse.errors import SuffuseError
from suffuse_video.clip import Clip, fitted, resampled
from suffuse_video.edits import _marked
from suffuse_video.files import ClipFiles, animation
from suffuse_video.folder import Folder, _scan
from suffuse_video.reading import length, read, shown, stream
from suffuse_video.shapes import Shapes

FILES = ClipFiles()
CLIP = Shapes("train", frames=8)[0].data


def grey(count, size=(32, 48), fps=8.0, first=0):
    """Frames of an even grey that brightens by 10 levels a frame."""
    values = (first + 10 * np.arange(count)).astype(np.uint8)
    return Clip(np.broadcast_to(values[:, None, None, None], (count, *size, 3)).copy(), fps)


def film(path, clip, moments=None, pix_fmt="yuv420p", codec="libx264", options=None):
    """Frames at any moments, in milliseconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=1000 if moments else round(clip.fps))
        stream.height, stream.width = clip.frames.shape[1:3]
        stream.pix_fmt, stream.options = pix_fmt, options or {"crf": "1", "bf": "0"}
        for i, pixels in enumerate(clip.frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if moments:
                frame.pts, frame.time_base = moments[i], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.parametrize("suffix", FILES.suffixes)
def test_a_clip_comes_back_with_its_rate_its_frames_and_its_text(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    FILES.write(CLIP, path, {"suffuse": '{"seed": 7, "text": "ä|b"}'})
    back = read(path)
    assert (len(back), back.fps) == (8, pytest.approx(8))
    off = np.abs(fitted(back.frames, 16, 16).astype(int) - CLIP.frames).max()
    assert off <= (0 if suffix in (".gif", ".webp") else 6)
    assert FILES.metadata(path) == {"suffuse": '{"seed": 7, "text": "ä|b"}'}
    assert length(path)[0] == pytest.approx(7 / 8, abs=0.011)


@pytest.mark.parametrize("suffix", FILES.suffixes)
def test_odd_sizes_and_one_frame_can_be_written(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    frames = np.random.default_rng(0).integers(0, 255, (1, 131, 133, 3), dtype=np.uint8)
    FILES.write(Clip(frames, 29.97), path, {})
    back = read(path)
    assert len(back) == 1
    assert back.frames.shape[1] - 131 in (0, 1)
    assert FILES.metadata(path) == {}


def test_a_clip_that_stands_still_lasts_as_long_as_it_did(tmp_path):
    path = tmp_path / "still.gif"
    FILES.write(Clip(np.full((16, 8, 8, 3), 90, np.uint8), 8), path, {})
    assert len(resampled(read(path), 8)) == 16  # though equal frames are stored once


@pytest.mark.parametrize("fps", [8, 12, 16, 24, 30])
@pytest.mark.parametrize("count", [16, 31])
def test_hundredths_of_a_second_do_not_change_how_many_frames_a_gif_has(tmp_path, fps, count):
    path = tmp_path / "a.gif"
    FILES.write(grey(count, size=(8, 8), fps=fps), path, {})
    back = read(path)
    assert len(back) == count
    assert back.fps == pytest.approx(fps, rel=0.02)


def test_strips_are_pictures_and_unknown_suffixes_are_refused(tmp_path):
    with Image.open(io.BytesIO(FILES.sheet([CLIP] * 3, ["a", "b", "c"]))) as sheet:
        assert sheet.width > 8 * 40
        assert sheet.height > 3 * 40
    with pytest.raises(SuffuseError, match=r"written as \.mp4, \.webm"):
        FILES.write(CLIP, tmp_path / "a.avi", {})


@pytest.mark.parametrize("fps", [1e-3, 1e12])
@pytest.mark.parametrize("suffix", FILES.suffixes)
def test_rates_that_no_file_can_tell_are_refused(tmp_path, suffix, fps):
    with pytest.raises(SuffuseError, match=r"at 0\.01 to 1000 frames a second"):
        FILES.write(Clip(CLIP.frames, fps), tmp_path / f"a{suffix}", {})
    for slow in (0.01, 1000):
        FILES.write(Clip(CLIP.frames, slow), tmp_path / f"a{suffix}", {})


def test_an_uneven_rate_becomes_even_by_what_is_shown_at_each_moment(tmp_path):
    path = tmp_path / "a.mp4"
    film(path, grey(5), moments=[0, 100, 150, 700, 800])
    values = read(path, fps=10).frames[:, 0, 0, 0].astype(int)
    # 0 ms, 100, 200 ... : the frame of 150 ms is shown until 700
    np.testing.assert_allclose(values, [0, 10, 20, 20, 20, 20, 20, 30, 40], atol=2)


def test_resampling_shows_each_moment_what_was_shown_then():
    assert resampled(grey(8, fps=8), 4).frames[:, 0, 0, 0].tolist() == [0, 20, 40, 60]
    doubled = resampled(grey(3, fps=4), 8).frames[:, 0, 0, 0].tolist()
    assert doubled == [0, 0, 10, 10, 20, 20]
    assert shown([0.0, 0.5], 4.0, count=4) == [0, 0, 1, 1]


def test_letterboxing_keeps_the_proportions_and_the_mean():
    frames = np.full((2, 20, 40, 3), 200, np.uint8)
    out = fitted(frames, 16, 16)
    assert (out[:, 4:12] == 200).all()
    assert (out[:, :4] == 0).all()
    assert (out[:, 12:] == 0).all()


def test_a_corrupt_tail_gives_what_is_before_it(tmp_path, caplog):
    path = tmp_path / "a.webm"
    noise = np.random.default_rng(0).integers(0, 255, (24, 64, 64, 3), dtype=np.uint8)
    film(path, Clip(noise, 8), codec="libvpx-vp9", options={"crf": "20", "b": "0", "g": "1"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with caplog.at_level(logging.WARNING):
        clip = read(path)
    assert 4 <= len(clip) < 24
    _, count = length(path)
    assert count < 24


@pytest.mark.parametrize("data", [b"", b"no video at all" * 100, bytes(range(256)) * 40])
@pytest.mark.parametrize("suffix", FILES.suffixes)
def test_what_is_no_video_is_refused_by_name(tmp_path, data, suffix):
    path = tmp_path / f"strange{suffix}"
    path.write_bytes(data)
    for look in (read, length, FILES.metadata):
        with pytest.raises(SuffuseError, match=f"strange{suffix}"):
            look(path)


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_an_animation_may_be_cut_anywhere(tmp_path, suffix):
    path = tmp_path / f"cut.{suffix}"
    whole = animation(Clip(CLIP.frames[:3], 8), suffix.upper())
    for end in range(0, len(whole), 7):
        path.write_bytes(whole[:end])
        try:
            assert 1 <= len(read(path)) <= 3
        except SuffuseError as error:
            assert f"cut.{suffix}" in str(error)  # noqa: PT017


def enormous():
    """A PNG that says to be of 20,000 x 20,000 pixels."""
    head = struct.pack(">4s2I5B", b"IHDR", 20_000, 20_000, 8, 2, 0, 0, 0)
    mark = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head
    return mark + struct.pack(">I", zlib.crc32(head)) + struct.pack(">I4s", 0, b"IDAT")


def test_a_picture_that_says_to_be_enormous_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(enormous())
    with pytest.raises(SuffuseError, match=r"a\.png: it is no picture"):
        read(tmp_path)
    with pytest.raises(SuffuseError, match=r"cannot read the mask .*a\.png"):
        _marked(str(tmp_path / "a.png"), (16, 16))


def test_large_films_are_read_small_and_a_small_file_cannot_fill_the_memory(tmp_path):
    film(tmp_path / "large.mp4", grey(3, size=(540, 1080)))
    clip = read(tmp_path / "large.mp4")
    assert clip.frames.shape == (3, 256, 512, 3)
    np.testing.assert_allclose(clip.frames[:, 0, 0, 0].astype(int), [0, 10, 20], atol=2)
    pictures = [Image.new("RGB", (200, 200), (i, 0, 0)) for i in (0, 255)]
    path = tmp_path / "long.gif"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=[655_350, 10])
    with pytest.raises(SuffuseError, match=r"long\.gif: it is longer than what is read at once"):
        read(path)


def test_sound_without_pictures_is_refused(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(SuffuseError, match="no pictures, only audio"):
        read(path)


def test_a_file_without_frames_is_refused(tmp_path):
    path = tmp_path / "none.mp4"
    film(path, Clip(np.zeros((1, 32, 32, 3), np.uint8), 8))
    whole = path.read_bytes()
    # The samples are gone, the index stays.
    begin = whole.index(b"mdat") + 4
    size = int.from_bytes(whole[begin - 8 : begin - 4], "big") - 8
    path.write_bytes(whole[:begin] + bytes(size) + whole[begin + size :])
    with pytest.raises(SuffuseError, match=r"none\.mp4"):
        read(path)


def test_deep_colour_and_transparency_become_eight_bits_over_white(tmp_path):
    deep = tmp_path / "deep.mp4"
    film(deep, grey(3, first=100), pix_fmt="yuv420p10le")
    np.testing.assert_allclose(read(deep).frames[:, 0, 0, 0].astype(int), [100, 110, 120], atol=2)
    path = tmp_path / "clear.webm"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libvpx-vp9", rate=8)
        video.width, video.height, video.pix_fmt = 32, 32, "yuva420p"
        pixels = np.zeros((32, 32, 4), np.uint8)
        pixels[:, :16] = (0, 0, 255, 255)
        for _ in range(3):
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgba")))
        container.mux(video.encode())
    clip = read(path)
    assert (len(clip), clip.fps) == (3, 8)
    np.testing.assert_allclose(clip.frames[1, 5, 28], [255, 255, 255], atol=3)
    np.testing.assert_allclose(clip.frames[1, 5, 4], [0, 0, 255], atol=3)
    for suffix in ("gif", "webp"):
        path = tmp_path / f"clear.{suffix}"
        pictures = [Image.new("RGBA", (16, 16), (255, 0, 0, 0)) for _ in range(3)]
        for i, picture in enumerate(pictures):
            picture.paste((0, 0, 255, 255), (i, 0, i + 4, 16))
        pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100, disposal=2)
        clip = read(path)
        np.testing.assert_allclose(clip.frames[1, 0, 12], [255, 255, 255], atol=2)
        np.testing.assert_allclose(clip.frames[1, 0, 2], [0, 0, 255], atol=2)


def test_a_folder_of_frames_of_different_sizes_is_one_clip_in_the_order_of_numbers(tmp_path):
    for i, size in ((1, (20, 10)), (2, (10, 20)), (10, (20, 10))):
        Image.new("RGB", size, (i, i, i)).save(tmp_path / f"f{i}.png")
    clip = read(tmp_path)
    assert clip.frames.shape == (3, 10, 20, 3)
    assert clip.frames[:, 5, 10, 0].tolist() == [1, 2, 10]
    deep = np.full((10, 20), 257 * 100, np.uint16)
    deep[:, 10:] = 257 * 200
    Image.fromarray(deep).save(tmp_path / "f10.png")  # grey of 16 bits
    turned = Image.new("RGB", (10, 20), (7, 7, 7))
    turned.getexif()[0x0112] = 6  # to be turned by a quarter
    turned.save(tmp_path / "f1.png", exif=turned.getexif())
    clip = read(tmp_path)
    assert clip.frames.shape == (3, 10, 20, 3)
    assert clip.frames[2, 5, [5, 15]].tolist() == [[100] * 3, [200] * 3]
    (tmp_path / "f3.png").write_bytes(b"broken")
    with pytest.raises(SuffuseError, match=r"f3\.png"):
        list(stream(tmp_path))


def folder_of(tmp_path, **clips):
    for name, clip in clips.items():
        path = tmp_path / (name.replace("__", "/") + ".mp4")
        path.parent.mkdir(exist_ok=True)
        film(path, clip)
    return str(tmp_path)


def test_long_files_are_cut_into_clips_by_the_clock(tmp_path):
    data = Folder("train", folder_of(tmp_path, a=grey(24, fps=8)), frames=4, fps=4, test_fraction=0)
    # 24 frames at 8 a second are 3 seconds: 3 clips of 4 frames at 4 a second
    values = [data[i].data.frames[:, 0, 0, 0].astype(int) for i in range(len(data))]
    expected = [[0, 20, 40, 60], [80, 100, 120, 140], [160, 180, 200, 220]]
    np.testing.assert_allclose(values, expected, atol=2)
    assert data.conditions["label"].names == ("clip",)
    strided = Folder("train", str(tmp_path), frames=4, fps=4, stride=1, test_fraction=0)
    assert len(strided) == 9


def test_subfolders_are_labels_and_files_are_split_whole(tmp_path):
    clips = {f"{'walk' if i % 2 else 'run'}__{i}": grey(16, first=5 * i) for i in range(8)}
    path = folder_of(tmp_path, **clips)
    train, test = (Folder(s, path, frames=4, test_fraction=0.4) for s in ("train", "test"))
    assert train.conditions["label"].names == ("run", "walk")
    assert len(train) + len(test) == 8 * 4
    assert len(train) % 4 == 0
    assert len(test) >= 4
    assert train[0].conditions["label"] in ("run", "walk")


def test_without_subfolders_there_is_one_label_and_text_files_are_captions(tmp_path):
    for name in "abcd":
        FILES.write(grey(20), tmp_path / f"{name}.webp", {})
    assert set(Folder("train", str(tmp_path)).conditions) == {"label"}
    (tmp_path / "a.txt").write_text("something\n moves ")
    _scan.cache_clear()
    data = [Folder(split, str(tmp_path)) for split in ("train", "test")]
    assert all(each.conditions["label"].names == ("clip",) for each in data)
    assert data[0].conditions["prompt"].kind == "text"
    told = [each[i].conditions for each in data for i in range(len(each))]
    assert sum(t.get("prompt") == "something moves" for t in told) == 1
    assert {t["label"] for t in told} == {"clip"}
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\xff")
    _scan.cache_clear()
    with pytest.raises(SuffuseError, match="cannot read the caption"):
        Folder("train", str(tmp_path))


def test_short_and_broken_files_are_left_out_and_named(tmp_path, caplog):
    path = folder_of(tmp_path, long=grey(16), short=grey(3), one=grey(1))
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    with caplog.at_level(logging.WARNING, "suffuse_video"):
        data = Folder("train", path, frames=8, test_fraction=0)
    assert len(data) == 2
    for name in ("3 of 4 files", "short.mp4", "one.mp4", "broken.mp4", "no video, or its end is"):
        assert name in caplog.text
    with pytest.raises(SuffuseError, match="no clip that is long enough"):
        Folder("train", path, frames=100, test_fraction=0)
    with pytest.raises(SuffuseError, match="no folder"):
        Folder("train", str(tmp_path / "other"))
    with pytest.raises(SuffuseError, match="--data DIR"):
        Folder("train")


def test_large_frames_are_shrunk_as_they_come(tmp_path):
    path = folder_of(tmp_path, a=grey(8, size=(96, 192)))
    clip = Folder("train", path, frames=8, side=64, test_fraction=0)[0].data
    assert clip.frames.shape == (8, 32, 64, 3)


def test_edits_take_films_of_every_kind_and_folders_of_frames(tmp_path):
    from suffuse.cli.files import found

    for name in ("a.mkv", "b.MOV", "c.txt", "frames/2.png", "frames/10.png", "both/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "both" / "d.webm").touch()
    files = ClipFiles()
    paths = found([tmp_path, tmp_path / "frames"], files)
    assert [p.name for p in paths] == ["a.mkv", "b.MOV", "d.webm", "frames"]
    assert [p.name for p in found([tmp_path / "both"], files)] == ["d.webm"]
