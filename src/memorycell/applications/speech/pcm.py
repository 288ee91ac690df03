"""From bytes to samples: a WAV stream, or PCM without a header."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from memorycell.errors import DataError

FORMATS: dict[str, np.dtype[Any]] = {
    "s16le": np.dtype("<i2"),
    "s32le": np.dtype("<i4"),
    "f32le": np.dtype("<f4"),
}
"""Sample formats, named as in ffmpeg."""
MIN_RATE_HZ, MAX_RATE_HZ = 1000, 400_000
MIN_UNKNOWN_SIZE = 0x7FFFF000
"""From this size in bytes on, a WAV header means that the length is unknown."""
MAX_HEADER_CHUNK = 1 << 20
"""Bytes of a chunk before the samples of a WAV file."""
PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
"""Format codes of a WAV header."""
WAV_FORMATS = {(PCM, 16): "s16le", (PCM, 32): "s32le", (FLOAT, 32): "f32le"}
"""(format code, bits) -> sample format."""


class SampleReader:
    """Reads samples from chunks of bytes of any size.

    rate_hz, sample_format, channels   of PCM without a header; a WAV header replaces them
    """

    def __init__(self, rate_hz: int, sample_format: str, channels: int) -> None:
        self.rate_hz = rate_hz
        self._dtype, self._channels = FORMATS[sample_format], channels
        self._buffer = b""
        self._header_read = False
        self._remaining: int | None = None  # bytes of samples, where the header gives their number

    def read(self, data: bytes) -> np.ndarray:
        """Samples [N] float32 in -1 … 1; an incomplete sample waits for the next call.

        Raises `DataError` for a damaged header and for samples that are not finite.
        """
        self._buffer += data
        if not self._header_read and not self._read_header():
            return np.zeros(0, np.float32)
        if self._remaining is not None:  # further chunks of a WAV file are not samples
            self._buffer = self._buffer[: self._remaining]
        width = self._dtype.itemsize * self._channels
        size = len(self._buffer) // width * width
        if self._remaining is not None:
            self._remaining -= size
        values = np.frombuffer(self._buffer[:size], self._dtype).reshape(-1, self._channels)
        self._buffer = self._buffer[size:]
        is_float = self._dtype.kind == "f"
        scale = 1.0 if is_float else 1.0 / -float(np.iinfo(self._dtype).min)
        samples = values.astype(np.float32).mean(1) * np.float32(scale)
        if not np.isfinite(samples).all():
            raise DataError("stdin: samples that are not finite; check --set format=…")
        return np.ascontiguousarray(samples, np.float32)

    def _read_header(self) -> bool:
        """Whether samples follow; False: the header is not complete yet."""
        if len(self._buffer) < 12:
            return False
        if self._buffer[:4] != b"RIFF" or self._buffer[8:12] != b"WAVE":
            self._header_read = True
            return True
        at = 12
        while len(self._buffer) >= at + 8:
            name = self._buffer[at : at + 4]
            (size,) = struct.unpack("<I", self._buffer[at + 4 : at + 8])
            if name == b"data":
                self._buffer, self._header_read = self._buffer[at + 8 :], True
                self._remaining = size if 0 < size < MIN_UNKNOWN_SIZE else None
                return True
            if size > MAX_HEADER_CHUNK:
                raise _damaged_header()
            if len(self._buffer) < at + 8 + size:
                return False
            if name == b"fmt ":
                self._set_format(self._buffer[at + 8 : at + 8 + size])
            at += 8 + size + size % 2
        return False

    def _set_format(self, chunk: bytes) -> None:
        if len(chunk) < 16:
            raise _damaged_header()
        code, channels, rate_hz = struct.unpack("<HHI", chunk[:8])
        (bits,) = struct.unpack("<H", chunk[14:16])
        if code == EXTENSIBLE and len(chunk) >= 26:
            (code,) = struct.unpack("<H", chunk[24:26])
        sample_format = WAV_FORMATS.get((code, bits))
        if sample_format is None or not channels or not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
            raise DataError(
                f"stdin: WAV format code {code} with {bits} bits, {channels} channels, {rate_hz} Hz"
                " is not supported; expected 16-bit, 32-bit or float samples"
            )
        self.rate_hz, self._dtype, self._channels = rate_hz, FORMATS[sample_format], channels


def _damaged_header() -> DataError:
    return DataError("stdin: damaged WAV header")
