"""Sound from bytes: every kind of WAV as libsndfile reads it, and nothing else."""

import io
import struct

import numpy as np
import pytest
from signal_data import sf

from memorycell.applications.speech.audio import read_audio
from memorycell.applications.speech.session import StreamOptions
from memorycell.applications.speech.wav import RawFormat, SampleReader
from memorycell.errors import DataError

RATE = 16000
RAW = RawFormat("s16le", RATE, 1)


def sound(channels: int = 1, frames: int = 700) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.9, 0.9, (frames, channels)).astype(np.float32)


def encoded(form: str, subtype: str, channels: int = 1) -> bytes:
    file = io.BytesIO()
    sf.write(file, sound(channels), 8000 if subtype == "GSM610" else RATE, subtype, format=form)
    return file.getvalue()


def read(data: bytes, size: int = 10**9, raw: RawFormat | None = None) -> np.ndarray:
    reader = SampleReader(raw)
    parts = [reader.read_frames(data[k : k + size]) for k in range(0, len(data), size)]
    rest = reader.finish()
    parts = [part for part in parts if len(part)] + ([rest[:, None]] if len(rest) else [])
    return np.concatenate(parts) if parts else np.zeros((0, 1), np.float32)


@pytest.mark.parametrize("form", ["WAV", "WAVEX", "RF64"])
@pytest.mark.parametrize(
    "subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAW", "ULAW"]
)
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_samples_are_those_of_libsndfile(form, subtype, channels, tmp_path):
    data = encoded(form, subtype, channels)
    expected, _ = sf.read(io.BytesIO(data), dtype="float32", always_2d=True)
    for size in (13, 1000, 10**9):
        np.testing.assert_allclose(read(data, size), expected, atol=1e-7)
    (tmp_path / "a.wav").write_bytes(data)
    found = read_audio(tmp_path / "a.wav")
    np.testing.assert_allclose(found.samples, expected.mean(1), atol=1e-6)
    assert found.rate_hz == RATE


def chunk(name: bytes, data: bytes, size: int | None = None) -> bytes:
    """A chunk of RIFF, padded to an even size."""
    return (
        name
        + struct.pack("<I", len(data) if size is None else size)
        + data
        + b"\0" * (len(data) % 2)
    )


FORMAT = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16))
SAMPLES = np.arange(-300, 300, dtype="<i2")


def riff(*chunks: bytes, magic: bytes = b"RIFF", size: int = 0) -> bytes:
    return magic + struct.pack("<I", size) + b"WAVE" + b"".join(chunks)


@pytest.mark.parametrize("size", [None, 0, 0xFFFFFFFF, 0x7FFFFFFF])
@pytest.mark.parametrize("step", [1, 7, 10**9])
def test_headers_of_streams_and_further_chunks(size, step, tmp_path):
    before = (chunk(b"LIST", b"INFOISFT\5\0\0\0Lavf\0"), chunk(b"JUNK", b"odd"))
    after = chunk(b"LIST", b"\1\2\3" * 50) if size is None else b""
    data = riff(before[0], FORMAT, before[1], chunk(b"data", SAMPLES.tobytes(), size), after)
    np.testing.assert_array_equal(read(data, step)[:, 0], SAMPLES.astype(np.float32) / 32768)
    (tmp_path / "a.wav").write_bytes(data)
    found = read_audio(tmp_path / "a.wav")
    assert len(found.samples) == 600
    assert "truncated" not in found.notes or size == 0x7FFFFFFF


@pytest.mark.parametrize("magic", [b"RF64", b"BW64"])
def test_long_files_have_their_size_in_ds64(magic):
    sizes = struct.pack("<QQQI", 1 << 33, SAMPLES.nbytes, 600, 0)
    data = chunk(b"data", SAMPLES.tobytes(), 0xFFFFFFFF)
    found = read(riff(chunk(b"ds64", sizes), FORMAT, data, chunk(b"LIST", b"abcd"), magic=magic))
    assert len(found) == 600


def test_a_truncated_file_is_noted(tmp_path):
    (tmp_path / "a.wav").write_bytes(riff(FORMAT, chunk(b"data", SAMPLES.tobytes(), 5000)))
    found = read_audio(tmp_path / "a.wav")
    assert len(found.samples) == 600
    assert "truncated" in found.notes


@pytest.mark.parametrize(
    ("form", "subtype", "name"),
    [
        ("FLAC", "PCM_16", "FLAC"),
        ("OGG", "VORBIS", "Ogg"),
        ("OGG", "OPUS", "Ogg"),
        ("MP3", "MPEG_LAYER_III", "MP3"),
        ("AIFF", "PCM_16", "AIFF"),
        ("AU", "PCM_16", "AU"),
        ("CAF", "PCM_16", "CAF"),
        ("W64", "PCM_16", "Wave64"),
        ("NIST", "PCM_16", "NIST"),
        ("VOC", "PCM_16", "VOC"),
        ("WAV", "IMA_ADPCM", "IMA ADPCM"),
        ("WAV", "GSM610", "GSM"),
    ],
)
@pytest.mark.parametrize("raw", [None, RAW])
def test_other_formats_are_refused_by_name(form, subtype, name, raw, tmp_path):
    data = encoded(form, subtype)
    for size in (5, 10**9):
        with pytest.raises(
            DataError, match=f"stdin: .*{name}.*memorycell predict.*-f s16le"
        ) as error:
            read(data, size, raw)
        assert len(str(error.value)) < 300
    (tmp_path / f"a.{form.lower()}").write_bytes(data)
    assert len(read_audio(tmp_path / f"a.{form.lower()}").samples) >= 700


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"\0\0\0\x20ftypM4A ", "M4A"),
        (b"ID3\4\0\0\0\0\0\0", "MP3"),
        (b"\xff\xf1\x50\x80", "AAC"),
        (b"\x1aE\xdf\xa3", "WebM"),
        (b"RIFF\0\0\0\0AVI ", "RIFF of the kind 'AVI '"),
        (b"RIFX\0\0\0\0WAVE", "big-endian"),
    ],
)
def test_more_formats_are_named(start, name):
    for raw in (None, RAW):
        with pytest.raises(DataError, match=name):
            read(start + bytes(100), raw=raw)


def test_raw_samples_need_an_option():
    data = (SAMPLES * 50).tobytes()
    with pytest.raises(DataError, match="no WAV header.*format=s16le"):
        read(data)
    np.testing.assert_array_equal(read(data, 7, RAW)[:, 0], (SAMPLES * 50) / np.float32(32768))
    assert len(read(data[:6], raw=RAW)) == 3  # shorter than a header
    assert StreamOptions().raw_format(RATE) is None
    assert StreamOptions(format="u8").raw_format(RATE) == ("u8", RATE, 1)
    assert StreamOptions(rate=8000, channels=2).raw_format(RATE) == ("s16le", 8000, 2)
    for code, name in (("ALAW", "alaw"), ("ULAW", "mulaw"), ("PCM_24", "s24le"), ("PCM_U8", "u8")):
        file = encoded("WAV", code)
        body = file[file.index(b"data") + 8 :]
        np.testing.assert_array_equal(read(body, raw=RawFormat(name, RATE, 1)), read(file))


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (riff(FORMAT)[:10], "ends before the samples"),
        (riff(FORMAT)[:30], "ends before the samples, inside the header"),
        (riff(chunk(b"data", b"\0\0")), "no format before the samples"),
        (riff(chunk(b"fmt ", b"\1\0\1\0")), "its format is too short"),
        (riff(chunk(b"JUNK", b"", 0xFFFFFFF0)), "a chunk of 4,294,967,280 bytes"),
        (riff(FORMAT.replace(b"\1\0\1\0", b"\1\0\0\0"), chunk(b"data", b"")), "0 channels"),
        (riff(FORMAT, chunk(b"data", b"\0\0")) + riff(FORMAT), "a second WAV file follows"),
        (b"text, and not a sound at all", "no WAV header"),
    ],
)
def test_damaged_headers(data, what):
    for size in (1, 10**9):
        with pytest.raises(DataError, match=what) as error:
            read(data, size)
        assert str(error.value).startswith("stdin: ")


def test_an_error_changes_nothing():
    format_32 = chunk(b"fmt ", struct.pack("<HHIIHH", 3, 1, RATE, 4 * RATE, 4, 32))
    reader = SampleReader()
    reader.read_frames(riff(format_32) + b"data\xff\xff\xff\xff")
    for bad in (np.float32("nan"), np.float32("inf"), np.float32(1e30)):
        with pytest.raises(DataError, match="not finite"):
            reader.read_frames(np.array([0.5, bad], np.float32).tobytes())
    good = np.array([0.25, -0.5], np.float32)
    np.testing.assert_array_equal(reader.read_frames(good.tobytes())[:, 0], good)


@pytest.mark.parametrize("name", ["a.m4a", "b.aac", "c.wma", "d.MP4"])
def test_what_needs_ffmpeg_says_so(tmp_path, name):
    (tmp_path / name).write_bytes(bytes(100))
    with pytest.raises(DataError, match=f"install ffmpeg and convert it: ffmpeg -i {name}"):
        read_audio(tmp_path / name)


@pytest.mark.parametrize(
    "options",
    [
        {"rate": 10},
        {"rate": 10**9},
        {"channels": 0},
        {"channels": 10**6},
        {"format": "mp3"},
        {"pause": float("nan")},
        {"pause": float("inf")},
        {"pause": -1.0},
    ],
)
def test_options_outside_their_range(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"^{name}="):
        StreamOptions(**options)
