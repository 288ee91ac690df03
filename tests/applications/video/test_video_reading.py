"""Clips from folders of pictures, arrays and video files; what is refused, in one line."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("av", reason="pip install 'memorycell[video]'")
pytest.importorskip("PIL", reason="pip install 'memorycell[video]'")

from PIL import Image

from memorycell.applications.video.clips import check_clips
from memorycell.applications.video.reading import read_clips
from memorycell.applications.video.settings import ReadSettings, VideoSettings
from memorycell.applications.video.source import open_source
from memorycell.applications.video.video_files import mp4_bytes
from memorycell.errors import DataError

RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 256, (4, 10, 12), np.uint8)


def read(path: Path, **settings) -> list:
    return read_clips(path, str(path), ReadSettings(**settings))


def pictures(folder: Path, frames=FRAMES, suffix: str = "png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for k, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"frame{k + 8}.{suffix}")  # 8, 9, 10, 11
    return folder


def smooth(count: int, size=(48, 64)) -> np.ndarray:
    """Frames that a video codec keeps nearly as they are."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    return np.array(
        [127 + 100 * np.sin(rows / 9 + t / 5) * np.cos(columns / 11) for t in range(count)]
    ).astype(np.uint8)


# ---- what is read --------------------------------------------------------------------------------


def test_a_folder_of_pictures_is_a_clip_in_the_order_of_its_numbers(tmp_path):
    (clip,) = read(pictures(tmp_path / "walk"))
    assert clip.name == "walk"
    assert np.array_equal(clip.frames, FRAMES)
    (clip,) = read(tmp_path / "walk", every=2)
    assert np.array_equal(clip.frames, FRAMES[::2])
    (clip,) = read(tmp_path / "walk", size="6x5")
    means = FRAMES.reshape(4, 5, 2, 6, 2).mean((2, 4))
    assert np.abs(clip.frames - means).max() <= 1
    assert clip.own_size == (10, 12)
    colour = np.repeat(FRAMES[..., None], 3, 3)
    (clip,) = read(pictures(tmp_path / "colour", colour))
    assert np.abs(clip.frames.astype(int) - FRAMES).max() <= 1
    (clip,) = read(pictures(tmp_path / "jpeg", smooth(3), "jpg"))
    assert np.abs(clip.frames.astype(int) - smooth(3)).mean() < 3


def test_folders_of_clips_and_of_classes(tmp_path):
    for name in ("a", "b"):
        pictures(tmp_path / "flat" / name)
    assert [(c.name, c.label) for c in read(tmp_path / "flat")] == [("a", None), ("b", None)]
    for name in ("run/1", "run/2", "jump/1"):
        pictures(tmp_path / "classes" / name)
    found = [(c.name, c.label) for c in read(tmp_path / "classes")]
    assert found == [("jump/1", "jump"), ("run/1", "run"), ("run/2", "run")]


@given(
    shape=st.sampled_from([(3, 4, 5), (2, 3, 4, 5)]),
    kind=st.sampled_from(["uint8", "float32", "bool"]),
    key=st.sampled_from(["frames", "clips", "whatever"]),
)
def test_arrays_of_any_layout(tmp_path_factory, shape, kind, key):
    path = tmp_path_factory.mktemp("npz") / "x.npz"
    values = RNG.random(shape)
    arrays = {
        "uint8": (values * 255).astype(np.uint8),
        "float32": values.astype(np.float32),
        "bool": values > 0.5,
    }
    np.savez_compressed(path, **{key: arrays[kind]}, other=np.zeros(3))
    clips = read(path)
    expected = {
        "uint8": arrays["uint8"],
        "float32": (arrays["float32"] * 255).round(),
        "bool": arrays["bool"] * 255,
    }[kind]
    assert len(clips) == (1 if len(shape) == 3 else 2)
    assert np.array_equal(np.stack([c.frames for c in clips]).reshape(shape), expected)


def test_labels_of_arrays(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.stack([FRAMES] * 2), y=np.array([3, 1]), anomaly=np.eye(2, 4))
    clips = read(tmp_path / "x.npz", every=2)
    assert [clip.label for clip in clips] == ["3", "1"]
    assert [clip.anomalies.tolist() for clip in clips] == [[True, False], [False, False]]
    np.save(tmp_path / "x.npy", FRAMES)
    assert np.array_equal(read(tmp_path / "x.npy")[0].frames, FRAMES)


def test_video_files_and_gifs(tmp_path):
    frames = smooth(12)
    (tmp_path / "x.mp4").write_bytes(mp4_bytes(frames, 10))
    (clip,) = read(tmp_path / "x.mp4")
    assert clip.frames.shape == frames.shape
    assert np.abs(clip.frames.astype(int) - frames).mean() < 4
    (small,) = read(tmp_path / "x.mp4", every=5, size="32x24")
    assert small.frames.shape == (3, 24, 32)
    assert (clip.own_size, small.own_size) == (None, (48, 64))
    images = [Image.fromarray(frame) for frame in frames]
    images[0].save(tmp_path / "x.gif", save_all=True, append_images=images[1:], duration=100)
    (clip,) = read(tmp_path / "x.gif")
    assert len(clip.frames) == 12
    assert np.abs(clip.frames.astype(int) - frames).mean() < 4


def test_ten_thousand_frames(tmp_path):
    np.savez(tmp_path / "long.npz", frames=np.zeros((10_000, 20, 30), np.uint8))
    (clip,) = read(tmp_path / "long.npz")
    assert len(clip.frames) == 10_000
    source, _ = open_source(str(tmp_path / "long.npz"), VideoSettings(), own=True)
    counts = {split: len(clips[0].frames) for split, clips in source.splits.items()}
    assert counts == {"train": 7000, "valid": 1010, "test": 2010}


# ---- what is refused -----------------------------------------------------------------------------


def test_frames_of_different_sizes(tmp_path):
    folder = pictures(tmp_path / "walk")
    Image.fromarray(FRAMES[0, :8]).save(folder / "frame9.png")
    with pytest.raises(
        DataError, match=r"frame9.png: 12x8 pixels, the first frame has 12x10.*size="
    ):
        read(folder)
    assert read(folder, size="12x10")[0].frames.shape == (4, 10, 12)
    pictures(tmp_path / "two/a")
    pictures(tmp_path / "two/b", FRAMES[:, :8])
    with pytest.raises(DataError, match="b has frames of 12x8 pixels, a of 12x10"):
        read(tmp_path / "two")


def test_one_frame(tmp_path):
    folder = pictures(tmp_path / "walk", FRAMES[:1])
    with pytest.raises(DataError, match="walk has 1 frame; at least 2 are needed"):
        read(folder)
    with pytest.raises(DataError, match="one picture is one frame; give a folder"):
        read(folder / "frame8.png")
    np.savez(tmp_path / "x.npz", FRAMES[:1])
    with pytest.raises(DataError, match="has 1 frame; at least 2"):
        read(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", FRAMES)
    with pytest.raises(DataError, match="train split: x.npz has 3 frames; at least 20"):
        open_source(str(tmp_path / "x.npz"), VideoSettings(), own=True)


def test_alpha_and_16_bits(tmp_path):
    rgba = np.dstack([np.repeat(FRAMES[0][..., None], 3, 2), np.full((10, 12), 255, np.uint8)])
    folder = pictures(tmp_path / "opaque", [rgba, rgba])
    assert len(read(folder)[0].frames) == 2
    rgba[3, 4, 3] = 100
    folder = pictures(tmp_path / "alpha", [rgba, rgba])
    with pytest.raises(DataError, match="frame8.png: has transparent pixels .alpha."):
        read(folder)
    folder = pictures(tmp_path / "deep", FRAMES.astype(np.uint16) * 256)
    with pytest.raises(DataError, match="frame8.png: more than 8 bits per value"):
        read(folder)
    np.savez(tmp_path / "x.npz", FRAMES.astype(np.uint16))
    with pytest.raises(DataError, match="values of type uint16; expected uint8"):
        read(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"frames": np.full((3, 4, 5), np.nan)}, "floats outside 0 … 1, or NaN"),
        ({"frames": np.full((3, 4, 5), 255.0)}, "floats outside 0 … 1"),
        ({"frames": np.zeros((3, 4))}, r"expected frames \[T, height, width\] .* frames \[3, 4\]"),
        ({"a": np.zeros((3, 4, 5)), "b": np.zeros((3, 4, 5))}, "expected frames"),
        ({"frames": np.zeros((0, 4, 5))}, "expected frames"),
        ({"frames": np.array([[["x"]]], object)}, "pickled objects, which are not read"),
        ({"x": np.zeros((2, 3, 4, 5)), "y": np.zeros(3, int)}, "2 clips, but labels of shape"),
        ({"frames": np.zeros((3, 4, 5)), "anomaly": np.zeros(4)}, "but anomaly labels of shape"),
    ],
)
def test_wrong_arrays(tmp_path, arrays, words):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError, match=words):
        read(tmp_path / "x.npz")


@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
@pytest.mark.parametrize("start", ["end", "begin"])
def test_a_cut_video(tmp_path, share, start):
    """With its index at the end, as cameras write it, and at the beginning, as the web has it."""
    data = mp4_bytes(smooth(60), 10)
    if start == "begin":
        import av

        (tmp_path / "whole.mp4").write_bytes(data)
        with (
            av.open(str(tmp_path / "whole.mp4")) as given,
            av.open(str(tmp_path / "f.mp4"), "w", options={"movflags": "faststart"}) as made,
        ):
            stream = made.add_stream_from_template(given.streams.video[0])
            for packet in given.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    made.mux(packet)
        data = (tmp_path / "f.mp4").read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(data[: int(share * len(data))])
    try:
        clips = read(path)
    except DataError as error:
        assert "cut.mp4: " in str(error)
        assert "cut off or damaged" in str(error) or "not a readable video" in str(error)
        assert len(str(error).splitlines()) == 1
    else:  # nothing but the end of the last frames is missing
        assert share == 0.99
        assert len(clips[0].frames) >= 58
    if start == "begin" and share > 0.5:
        assert len(read(path, lossy=True)[0].frames) >= 10


def test_other_files(tmp_path):
    for name, words in (
        ("x.txt", "expected a folder of pictures"),
        ("x.mp4", "not a readable video"),
        ("x.npz", "not arrays of numbers"),
        ("x.npy", "not arrays of numbers"),
        ("missing", "no such file or folder"),
        ("empty/", "contains no pictures"),
        ("bad/", "1.png: not a readable picture"),
    ):
        path = tmp_path / name
        if name.endswith("/"):
            path.mkdir()
            if name == "bad/":
                (path / "1.png").write_bytes(b"\x89PNG nothing")
        elif name != "missing":
            path.write_bytes(b"nothing of the kind")
        with pytest.raises(DataError, match=words) as raised:
            read(path)
        assert len(str(raised.value).splitlines()) == 1


def test_splits_by_clip_and_by_time(tmp_path):
    many = RNG.integers(0, 256, (20, 6, 4, 4), np.uint8)
    np.savez(tmp_path / "x.npz", many)
    settings = VideoSettings(context=3, horizon=2)
    source, _ = open_source(str(tmp_path / "x.npz"), settings, own=True)
    names = [clip.name for clips in source.splits.values() for clip in clips]
    assert len(set(names)) == 20
    assert [len(clips) for clips in source.splits.values()] == [14, 2, 4]
    other, _ = open_source(str(tmp_path / "x.npz"), settings, own=False)
    assert len(other.splits["test"]) == 20
    assert other.fingerprint == source.fingerprint
    with pytest.raises(DataError, match="goal=class needs clips of two or more classes"):
        open_source(str(tmp_path / "x.npz"), dataclasses.replace(settings, goal="class"), own=True)
    np.savez(tmp_path / "y.npz", x=many[:4], labels=np.array(["a", "a", "a", "b"]))
    with pytest.raises(DataError, match="class 'b' has 1 clip; at least 3"):
        open_source(str(tmp_path / "y.npz"), dataclasses.replace(settings, goal="class"), own=True)
    with pytest.raises(DataError, match="contains no clip"):
        check_clips([], "nothing")


@pytest.mark.parametrize(
    "settings",
    [
        {"size": "96"},
        {"size": "0x5"},
        {"every": 0},
        {"patch": 4, "block": 3},
        {"goal": "fun"},
        {"cell": "rnn"},
        {"test_share": 0.9, "valid_share": 0.5},
    ],
)
def test_wrong_settings(settings):
    with pytest.raises(ValueError, match=next(iter(settings)).replace("patch", "block")):
        VideoSettings(**settings)


def test_a_damaged_header_of_an_array(tmp_path):
    """NumPy raises a TokenError for it."""
    np.save(tmp_path / "x.npy", FRAMES)
    damaged = (tmp_path / "x.npy").read_bytes().replace(b"}", b"(", 1)
    (tmp_path / "x.npy").write_bytes(damaged)
    with pytest.raises(DataError, match="x.npy: not arrays of numbers"):
        read(tmp_path / "x.npy")
