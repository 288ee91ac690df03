"""Safetensors files taken apart and put together again without the library, so that they can be
wrong.
"""

import hashlib
import json
import re
import struct
from typing import Any

KEY = "memorycell"
NO_CHECKSUM = b"0" * 64
"""In the place of the checksum while it is computed."""
CHECKSUM = re.compile(rb'\\"checksum\\": \\"([0-9a-f]{64})\\"')
"""In JSON text inside JSON text."""


def split(raw: bytes) -> tuple[dict[str, Any], bytes]:
    """(header, bytes of the tensors)"""
    (size,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + size]), raw[8 + size :]


def join(header: Any, body: bytes) -> bytes:
    """A file from a header and the bytes of the tensors."""
    packed = header if isinstance(header, bytes) else json.dumps(header).encode()
    packed += b" " * (-len(packed) % 8)
    return struct.pack("<Q", len(packed)) + packed + body


def note_of(raw: bytes) -> Any:
    """The JSON values in the metadata."""
    return json.loads(split(raw)[0]["__metadata__"][KEY])


def with_note(raw: bytes, note: Any) -> bytes:
    """The file with other JSON values in the metadata and the right checksum; text is stored as it
    is.
    """
    header, body = split(raw)
    text = note if isinstance(note, str) else json.dumps(note)
    header["__metadata__"] = {**header["__metadata__"], KEY: text}
    return sealed(join(header, body))


def sealed(raw: bytes) -> bytes:
    """The file with the right checksum, where its JSON values have one."""
    found = CHECKSUM.search(raw)
    if found is None:
        return raw
    begin, end = raw[: found.start(1)], raw[found.end(1) :]
    return begin + hashlib.sha256(begin + NO_CHECKSUM + end).hexdigest().encode() + end


def is_sealed(raw: bytes) -> bool:
    """Whether a file has the right checksum, or none that could be wrong."""
    return sealed(raw) == raw
