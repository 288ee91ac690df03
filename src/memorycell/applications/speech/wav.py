"""Read sound from chunks of bytes: WAV, RF64 and BW64 files, or samples without a header."""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

from memorycell.applications.speech.pcm import FORMATS, SampleFormat, check_samples
from memorycell.errors import DataError, quote

MIN_RATE_HZ, MAX_RATE_HZ, MAX_CHANNELS = 1000, 400_000, 64
MIN_UNKNOWN_SIZE = 0x7FFFF000
"""From this size in bytes on, a WAV header means that the length is unknown; so does 0."""
MAX_FORMAT_CHUNK, MAX_OTHER_CHUNK = 1 << 16, 1 << 28
"""Bytes of a chunk before the samples: of one that is read, and of one that is skipped."""
WAV_MAGIC = (b"RIFF", b"RF64", b"BW64")
EXTENSIBLE = 0xFFFE
EXTENSIBLE_TAIL = bytes.fromhex("000000001000800000aa00389b71")
"""What follows the format code in the format identifier of WAVE_FORMAT_EXTENSIBLE."""
WAV_FORMATS = {
    (1, 1): "u8",
    (1, 2): "s16le",
    (1, 3): "s24le",
    (1, 4): "s32le",
    (3, 4): "f32le",
    (3, 8): "f64le",
    (6, 1): "alaw",
    (7, 1): "mulaw",
}
"""(format code, bytes per sample) -> sample format."""
WAV_CODES = {2: "MS ADPCM", 17: "IMA ADPCM", 49: "GSM 6.10", 80: "MPEG", 85: "MP3"}
OTHER_FORMATS = {
    b"fLaC": "FLAC",
    b"OggS": "Ogg (Opus, Vorbis)",
    b"ID3": "MP3",
    b"FORM": "AIFF",
    b"caff": "CAF",
    b".snd": "AU",
    b"riff": "Wave64",
    b"RIFX": "big-endian WAV",
    b"wvpk": "WavPack",
    b"#!AMR": "AMR",
    b"NIST_1A": "NIST SPHERE",
    b"Creative Voice": "VOC",
    b"\x1aE\xdf\xa3": "Matroska or WebM",
    b"0&\xb2u": "WMA",
}
"""First bytes -> name of formats that are not read here."""


def _is_mpeg_frame(start: bytes) -> bool:
    """Whether a frame of MPEG layer III or ADTS begins; raw samples hardly ever begin so."""
    is_layer_3 = start[1] & 0xE6 == 0xE2 and start[2] >> 4 not in (0, 15) and start[2] & 12 != 12
    return start[0] == 0xFF and (is_layer_3 or start[1] & 0xF6 == 0xF0)


class RawFormat(NamedTuple):
    """Samples without a header."""

    sample_format: str
    rate_hz: int
    channels: int


class SampleReader:
    """Reads samples from chunks of bytes of any size.

    raw     the samples if there is no header; None: a header is needed
    where   the name of the input in errors

    rate_hz, channels   as the header or `raw` says; 0 before the samples begin
    missing             bytes of samples that the header promises and that have not come; None
                        where their number is unknown
    """

    def __init__(self, raw: RawFormat | None = None, where: str = "stdin") -> None:
        self._raw, self._where = raw, where
        self.rate_hz = self.channels = 0
        self.missing: int | None = None
        self._format: SampleFormat | None = None
        self._buffer = b""
        self._skip = 0  # bytes of a chunk that is not read
        self._phase = "start"  # then chunks, samples, end
        self._long_size = 0  # of the samples, as RF64's ds64 chunk says

    def read(self, data: bytes) -> np.ndarray:
        """Samples [N] float32 in -1 … 1, the mean of the channels; see `read_frames`."""
        return np.ascontiguousarray(self.read_frames(data).mean(1), np.float32)

    def read_frames(self, data: bytes) -> np.ndarray:
        """Samples [N, channels] float32 in -1 … 1; an incomplete one waits for the next call.

        Raises `DataError` for other formats, a damaged header and samples that are not finite;
        nothing has then changed.
        """
        before = vars(self).copy()
        try:
            self._buffer += data
            while self._phase in ("start", "chunks"):
                if not (self._read_start() if self._phase == "start" else self._read_chunk()):
                    return np.zeros((0, 1), np.float32)
            return self._read_samples()
        except DataError:
            vars(self).update(before)
            raise

    def finish(self) -> np.ndarray:
        """The input has ended: samples [N] of raw input that was too short to tell from a header.

        Raises `DataError` where it ended inside the header.
        """
        if self._phase == "start" and self._raw is not None and self._buffer:
            self._use(*self._raw)
            return self._read_samples().mean(1)
        if self._phase == "chunks" or (self._phase == "start" and self._buffer):
            raise DataError(f"{self._where}: ends before the samples, inside the header")
        return np.zeros(0, np.float32)

    # ---- header ----------------------------------------------------------------------------------

    def _read_start(self) -> bool:
        """Whether the kind of input is known; False: more bytes are needed."""
        start = self._buffer[:16]
        if len(start) < 16:
            return False
        if start[:4] in WAV_MAGIC and start[8:12] == b"WAVE":
            self._buffer, self._phase = self._buffer[12:], "chunks"
            return True
        name = next((name for magic, name in OTHER_FORMATS.items() if start.startswith(magic)), "")
        if start[4:8] == b"ftyp":
            name = "MP4, M4A (AAC)"
        elif start[:4] in WAV_MAGIC:
            name = f"RIFF of the kind {quote(start[8:12].decode('latin-1'))}"
        elif _is_mpeg_frame(start) or (self._raw is None and start[:1] == b"\xff"):
            name = "MP3 or AAC"
        if name:
            raise self._not_streamed(name)
        if self._raw is None:
            raise DataError(
                f"{self._where}: no WAV header; for raw samples give their format: --set"
                " format=s16le (rate=…, channels=…); to decode a file: ffmpeg -i FILE -f wav -"
            )
        self._use(*self._raw)
        return True

    def _not_streamed(self, name: str) -> DataError:
        return DataError(
            f"{self._where}: {name} cannot be streamed; use memorycell predict, or decode it:"
            " ffmpeg -i FILE -f s16le -ac 1 -ar 16000 - | memorycell stream … --set format=s16le"
            " --set rate=16000"
        )

    def _use(self, sample_format: str, rate_hz: int, channels: int) -> None:
        self._format, self.rate_hz, self.channels = FORMATS[sample_format], rate_hz, channels
        self._phase = "samples"

    def _read_chunk(self) -> bool:
        """Whether a chunk of the header was read or skipped; False: more bytes are needed."""
        if self._skip:
            skipped = min(self._skip, len(self._buffer))
            self._buffer, self._skip = self._buffer[skipped:], self._skip - skipped
            return self._skip == 0
        if len(self._buffer) < 8:
            return False
        name, (size,) = self._buffer[:4], struct.unpack("<I", self._buffer[4:8])
        if name == b"data":
            if self._format is None:
                raise self._damaged("no format before the samples")
            known = self._long_size if size == 0xFFFFFFFF else size
            self.missing = known if 0 < known < MIN_UNKNOWN_SIZE or self._long_size else None
            self._buffer, self._phase = self._buffer[8:], "samples"
            return True
        is_read = name in (b"fmt ", b"ds64")
        if size > (MAX_FORMAT_CHUNK if is_read else MAX_OTHER_CHUNK):
            raise self._damaged(f"a chunk of {size:,} bytes before the samples")
        if is_read:
            if len(self._buffer) < 8 + size:
                return False
            chunk, self._buffer = self._buffer[8 : 8 + size], self._buffer[8 + size :]
            self._skip = size % 2
            (self._read_format if name == b"fmt " else self._read_long_sizes)(chunk)
        else:
            self._buffer, self._skip = self._buffer[8:], size + size % 2
        return True

    def _read_format(self, chunk: bytes) -> None:
        if len(chunk) < 16:
            raise self._damaged("its format is too short")
        code, channels, rate_hz, _, frame_bytes, bits = struct.unpack("<HHIIHH", chunk[:16])
        if code == EXTENSIBLE and len(chunk) >= 26:
            tail = chunk[26:40]
            (code,) = struct.unpack("<H", chunk[24:26])
            if tail != EXTENSIBLE_TAIL[: len(tail)]:
                code = EXTENSIBLE
        if not 1 <= channels <= MAX_CHANNELS or not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
            raise self._damaged(f"{channels} channels, {rate_hz} Hz")
        width = frame_bytes // channels if frame_bytes % channels == 0 else 0
        sample_format = WAV_FORMATS.get((code, width))
        if sample_format is None and code in (1, 3, 6, 7):
            raise self._damaged(f"{bits} bits, {channels} channels, {frame_bytes} bytes per sample")
        if sample_format is None:
            raise self._not_streamed(f"WAV with {WAV_CODES.get(code, f'format code {code}')}")
        self._format, self.rate_hz, self.channels = FORMATS[sample_format], rate_hz, channels

    def _read_long_sizes(self, chunk: bytes) -> None:
        if len(chunk) < 24:
            raise self._damaged("its ds64 chunk is too short")
        (size,) = struct.unpack("<Q", chunk[8:16])
        self._long_size = size if size < 1 << 62 else 0

    def _damaged(self, why: str) -> DataError:
        return DataError(f"{self._where}: damaged WAV header ({why})")

    # ---- samples ---------------------------------------------------------------------------------

    def _read_samples(self) -> np.ndarray:
        assert self._format is not None
        if self._phase == "end":
            self._read_end()
            return np.zeros((0, self.channels), np.float32)
        available = self._buffer if self.missing is None else self._buffer[: self.missing]
        width = self._format.width * self.channels
        size = len(available) // width * width
        frames = self._format.decode(available[:size]).reshape(-1, self.channels)
        check_samples(frames, self._where)
        self._buffer = self._buffer[size:]
        if self.missing is not None:
            self.missing -= size
            if self.missing < width and len(self._buffer) >= self.missing:
                self._buffer, self.missing = self._buffer[self.missing :], 0
                self._phase = "end"
                self._read_end()
        return frames

    def _read_end(self) -> None:
        """Further chunks are not samples; a second file would be lost."""
        self._buffer = self._buffer[:16]
        if any(
            self._buffer[k : k + 4] in WAV_MAGIC and self._buffer[k + 8 : k + 12] == b"WAVE"
            for k in (0, 1)
        ):
            raise DataError(
                f"{self._where}: a second WAV file follows the first; stream one at a time, or join"
                " them: sox a.wav b.wav joined.wav"
            )
