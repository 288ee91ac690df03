"""A file of a spill folder: sessions and their states, all of it covered by checksums.

    safetensors    slots [n] int64, states [n, width] float32, checks [n] uint32
    metadata       a JSON object: format, fingerprint of the weights, closed: sessions of which
                   older files still contain a copy, digest

`checks` has the CRC-32 of every state, begun with its slot. `digest` is the SHA-256 of the file's
number and everything else but the states. Format 1 has no digest and does not include the slots in
the checksums; its files are read and replaced in time.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np
import safetensors
import safetensors.numpy

from memorycell.errors import StateError, quote
from memorycell.files import METADATA_KEY
from memorycell.setting_fields import from_json, parse_json
from memorycell.streaming.arguments import MAX_SLOTS, distinct

FORMAT = "memorycell-spill-2"
FORMAT_WITHOUT_DIGEST = "memorycell-spill-1"

T = TypeVar("T")
Slot = Annotated[int, msgspec.Meta(ge=0, lt=MAX_SLOTS)]


@dataclass(frozen=True)
class Note:
    """The JSON object in a file's metadata."""

    format: str
    fingerprint: str
    closed: list[Slot]
    digest: str = ""


def encode(
    number: int, fingerprint: str, closed: list[int], slots: np.ndarray, states: np.ndarray
) -> bytes:
    """The bytes of file `number`."""
    checks = _checksums(slots, states)
    note = Note(FORMAT, fingerprint, closed, _digest(number, fingerprint, closed, slots, checks))
    return safetensors.numpy.save(
        {"slots": slots, "states": states, "checks": checks},
        {METADATA_KEY: json.dumps(note.__dict__)},
    )


def read_index(path: Path, number: int, width: int) -> tuple[Note, np.ndarray]:
    """The note of file `number` and the slots [n] of its rows. Raises `StateError`."""
    return _read(path, lambda file: _index(file, number, width))


def read_states(path: Path, slots: np.ndarray, rows: np.ndarray, file_format: str) -> np.ndarray:
    """The states [n, width] in the given rows of a file, which are those of the sessions `slots`.
    Raises `StateError` if one is damaged.
    """
    lowest, highest = int(rows.min()), int(rows.max()) + 1
    states, checks = _read(
        path,
        lambda file: [
            file.get_slice(name)[lowest:highest][rows - lowest] for name in ("states", "checks")
        ],
    )
    if file_format == FORMAT_WITHOUT_DIGEST:
        expected = _checksums(np.zeros_like(slots), states)
    else:
        expected = _checksums(slots, states)
    damaged = np.flatnonzero((expected != checks) | ~np.isfinite(states).all(1))
    if len(damaged):
        raise StateError(f"{path}: the state of session {slots[damaged[0]]} is damaged; close it")
    return np.asarray(states)


def _read(path: Path, read: Callable[[Any], T]) -> T:
    try:
        with safetensors.safe_open(path, framework="np") as file:
            return read(file)
    except (
        safetensors.SafetensorError,
        OSError,
        ValueError,
        LookupError,
        TypeError,
        OverflowError,
    ) as error:
        raise StateError(
            f"{path}: damaged, or not sessions of this model ({quote(str(error))}); move it away,"
            " or close its sessions"
        ) from None


def _index(file: Any, number: int, width: int) -> tuple[Note, np.ndarray]:
    note = from_json(Note, parse_json((file.metadata() or {}).get(METADATA_KEY, "null")))
    if note.format not in (FORMAT, FORMAT_WITHOUT_DIGEST):
        raise ValueError(f"format {quote(note.format)}")
    parts = {name: file.get_slice(name) for name in ("slots", "states", "checks")}
    count = parts["slots"].get_shape()[0]
    found = {name: (part.get_dtype(), part.get_shape()) for name, part in parts.items()}
    if found != {
        "slots": ("I64", [count]),
        "states": ("F32", [count, width]),
        "checks": ("U32", [count]),
    }:
        raise ValueError(f"expected {width} float32 values per session")
    slots, checks = file.get_tensor("slots"), file.get_tensor("checks")
    if note.format == FORMAT:
        digest = _digest(number, note.fingerprint, note.closed, slots, checks)
        if note.digest != digest:
            raise ValueError("its checksum does not match")
    if not ((slots >= 0) & (slots < MAX_SLOTS)).all() or not distinct(slots):
        raise ValueError("its session numbers are repeated or out of range")
    return note, slots


def _checksums(slots: np.ndarray, states: np.ndarray) -> np.ndarray:
    return np.array(
        [zlib.crc32(row, slot) for slot, row in zip(slots.tolist(), states, strict=True)],
        np.uint32,
    )


def _digest(
    number: int, fingerprint: str, closed: list[int], slots: np.ndarray, checks: np.ndarray
) -> str:
    digest = hashlib.sha256(json.dumps([FORMAT, number, fingerprint, closed, len(slots)]).encode())
    digest.update(np.asarray(slots, "<i8").tobytes())
    digest.update(np.asarray(checks, "<u4").tobytes())
    return digest.hexdigest()
