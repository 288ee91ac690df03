"""Bytes of uncompressed sound as samples: integers, floating point, and G.711."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from memorycell.errors import DataError

MAX_SAMPLE = 1e6
"""Of floating-point samples, whose full scale is 1."""


class SampleFormat(NamedTuple):
    """How samples are stored: bytes per sample, and bytes -> [N] float32 in -1 … 1."""

    width: int
    decode: Callable[[bytes], np.ndarray]


def _integers(width: int) -> SampleFormat:
    """Little-endian two's complement of 2, 3 or 4 bytes."""

    def decode(data: bytes) -> np.ndarray:
        parts = np.frombuffer(data, np.uint8).reshape(-1, width)
        filled = np.zeros((len(parts), 4), np.uint8)
        filled[:, 4 - width :] = parts
        return filled.view("<i4")[:, 0].astype(np.float32) / np.float32(2**31)

    return SampleFormat(width, decode)


def _unsigned(data: bytes) -> np.ndarray:
    return (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 128


def _floats(width: int) -> SampleFormat:
    def decode(data: bytes) -> np.ndarray:
        with np.errstate(over="ignore"):
            return np.frombuffer(data, f"<f{width}").astype(np.float32)

    return SampleFormat(width, decode)


def _table(values: np.ndarray) -> SampleFormat:
    table = (values / 32768).astype(np.float32)
    return SampleFormat(1, lambda data: table[np.frombuffer(data, np.uint8)])


def _a_law() -> np.ndarray:
    """The 256 values of A-law in 16 bits (ITU-T G.711, 1988)."""
    code = np.arange(256) ^ 0x55
    segment, step = code >> 4 & 7, (code & 15) * 16
    size = np.where(segment == 0, step + 8, (step + 264) << np.maximum(segment - 1, 0))
    return np.where(code & 0x80, size, -size)


def _mu_law() -> np.ndarray:
    """The 256 values of µ-law in 16 bits (ITU-T G.711, 1988)."""
    code = ~np.arange(256) & 0xFF
    size = (((code & 15) * 8 + 132) << (code >> 4 & 7)) - 132
    return np.where(code & 0x80, -size, size)


FORMATS = {
    "u8": SampleFormat(1, _unsigned),
    "s16le": _integers(2),
    "s24le": _integers(3),
    "s32le": _integers(4),
    "f32le": _floats(4),
    "f64le": _floats(8),
    "alaw": _table(_a_law()),
    "mulaw": _table(_mu_law()),
}
"""Sample formats, named as in ffmpeg."""


def check_samples(samples: np.ndarray, where: str) -> None:
    """Raises `DataError` for samples that are not finite, or far beyond full scale."""
    if not bool((np.abs(samples) <= MAX_SAMPLE).all()):
        raise DataError(
            f"{where}: contains samples that are not finite or above {MAX_SAMPLE:,.0f} times full"
            " scale; for raw samples check --set format=…"
        )
