"""Seeded mutations of bytes, of JSON values, of safetensors files and of texts."""

import copy
import json
import math
import struct
from random import Random
from typing import Any

from containers import join, note_of, sealed, split, with_note

WRONG_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2,
    3,
    7,
    64,
    10**6,
    10**9,
    2**31,
    2**63,
    10**30,
    -(2**63),
    0.0,
    -0.5,
    0.5,
    1.5,
    1e-300,
    1e30,
    1e300,
    1e308,
    "",
    "x",
    "none",
    "nan",
    "0",
    "\u2028\x1b[31m\nmemorycell: all is well",
    "a" * 5000,
    [],
    [[]],
    [0],
    [1, 2, 3],
    ["a", "a"],
    {},
    {"a": 1},
    {"": {}},
)
"""JSON values that replace others."""
RAW_VALUES = (
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "[" * 5000 + "]" * 5000,
    '"\\ud800"',
    "9" * 400,
)
"""JSON text that replaces values, which `json.dumps` does not write."""
PLACE = "\ue000the place of a raw value\ue000"


def mutate_bytes(raw: bytes, draw: Random) -> bytes:
    """Flipped bits, overwritten, lost, repeated or inserted bytes."""
    data = bytearray(raw)
    size = len(data)
    begin = draw.randrange(size) if size else 0
    length = min(draw.choice((1, 2, 4, 8, 64, 512)), size - begin)
    match draw.randrange(8):
        case 0 | 1 | 2 if size:
            for _ in range(draw.choice((1, 1, 1, 2, 8))):
                data[draw.randrange(size)] ^= 1 << draw.randrange(8)
        case 3:
            del data[begin:]
        case 4:
            del data[begin : begin + length]
        case 5:
            data[begin:begin] = data[begin : begin + length]
        case 6:
            data[begin : begin + length] = draw.randbytes(length)
        case 7:
            data[begin : begin + length] = draw.choice((b"\0", b"\xff", b"\n", b"9")) * length
    return bytes(data)


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values inside JSON values; of a long list only the ends."""
    found: list[tuple[Any, ...]] = []
    if isinstance(value, dict):
        found = [(*at, key) for key in value]
    elif isinstance(value, list):
        found = [(*at, k) for k in sorted({*range(min(len(value), 4)), *range(len(value))[-2:]})]
    return found + [p for path in found for p in paths(_get(value, path[len(at) :]), path)]


def _get(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def mutate_json(value: Any, draw: Random) -> str:
    """JSON text of values with a few of them replaced, removed, repeated, renamed or exchanged."""
    value = copy.deepcopy(value)
    raw = None
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        places = paths(value)
        if not places:
            break
        # Every depth alike: long lists have the most places.
        depth = draw.choice(sorted({len(path) for path in places}))
        path = draw.choice([path for path in places if len(path) == depth])
        parent, key = _get(value, path[:-1]), path[-1]
        match draw.randrange(9):
            case 0 | 1 | 2:
                parent[key] = copy.deepcopy(draw.choice(WRONG_VALUES))
            case 3:
                parent[key] = _near(parent[key], draw)
            case 4:
                del parent[key]
            case 5:
                other = draw.choice(places)
                parent[key] = copy.deepcopy(_get_or_none(value, other))
            case 6 if isinstance(parent, dict):
                parent[draw.choice(("", "x", f"{key}2", "kind", "\n"))] = parent.pop(key)
            case 7 if isinstance(parent, list):
                parent[key:key] = [copy.deepcopy(parent[key])] * draw.choice((1, 2, 50))
            case 8 if raw is None:
                parent[key], raw = PLACE, draw.choice(RAW_VALUES)
    text = json.dumps(value)
    return text if raw is None else text.replace(json.dumps(PLACE), raw)


def _get_or_none(value: Any, path: tuple[Any, ...]) -> Any:
    try:
        return _get(value, path)
    except (LookupError, TypeError):
        return None


def _near(value: Any, draw: Random) -> Any:
    """A value of the same type that is likely to be accepted."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + draw.choice((-2, -1, 1, 2, 100))
    if isinstance(value, float):
        return value * draw.choice((-1, 0, 1e-9, 0.5, 2, 1e9, 1e200))
    if isinstance(value, str):
        return draw.choice((value[1:], value * 2, value.upper(), value + "\u0301", value[::-1]))
    if isinstance(value, list):
        return draw.choice((value[1:], value[:-1], value[::-1], value * 2))
    return value


def mutate_container(raw: bytes, draw: Random) -> bytes:
    """A safetensors file with other bytes, or with another header or other JSON values and the
    right checksum; or JSON text with other values.
    """
    kind = draw.randrange(6)
    if raw.startswith(b"{"):
        return mutate_json(json.loads(raw), draw).encode() if kind else mutate_bytes(raw, draw)
    if kind == 0:
        return mutate_bytes(raw, draw)
    if kind <= 3:
        return with_note(raw, mutate_json(note_of(raw), draw))
    header, body = split(raw)
    names = [name for name in header if name != "__metadata__"]
    if kind == 4:
        return sealed(join(mutate_json(header, draw).encode(), body))
    first, second = draw.choice(names), draw.choice(names)
    one, other = header[first], header[second]
    match draw.randrange(6):
        case 0:
            header[first], header[second] = other, one
        case 1:
            one["dtype"] = draw.choice(("F64", "I32", "BF16", "F16", "BOOL", "U8", "I64", "?"))
        case 2:
            one["shape"] = draw.choice(([], [0], [1], one["shape"][::-1], [2**40], [-1], [1, 1, 1]))
        case 3:
            one["data_offsets"] = other["data_offsets"]
        case 4:
            header[f"{first}2"] = header.pop(first)
        case 5:
            begin, end = one["data_offsets"]
            special = struct.pack("<f", draw.choice((math.nan, math.inf, -math.inf, 3e38, 1e-40)))
            at = begin + 4 * draw.randrange(max(1, (end - begin) // 4))
            body = body[:at] + special + body[at + 4 :]
    return sealed(join(header, body))


CELLS = (
    "",
    "nan",
    "inf",
    "-inf",
    "1e308",
    "1e309",
    "-1e-320",
    "9" * 400,
    "1,5",
    "1.025",
    "0x10",
    "1_000",
    "½",
    "true",
    '"',
    "''",
    '"""',
    "\x00",
    "\x1b[31m",
    "\ufeff",
    "\u2028",
    "2024-13-45",
    "0001-01-01",
    "99999-01-01T00:00:00",
    "1970-01-01",
    "NaT",
    "null",
    "[]",
    "{}",
    "[[0,0],[1e308,1]]",
    "x" * 3000,
    "<script>",
)
"""What replaces a cell, a word or a JSON value in a text."""
ENCODINGS = (
    "utf-16",
    "utf-16-le",
    "utf-32",
    "latin-1",
    "cp1252",
    "utf-8-sig",
    "shift-jis",
    "utf-7",
)


def mutate_text(raw: bytes, draw: Random) -> bytes:
    """A text with other lines, cells, separators or encoding."""
    if draw.random() < 0.25:
        return mutate_bytes(raw, draw)
    text = raw.decode("utf-8", "replace")
    for _ in range(draw.choice((1, 1, 2, 4))):
        lines = text.split("\n")
        at = draw.randrange(len(lines))
        match draw.randrange(11):
            case 0:
                separator = next((s for s in ("\t", ",", " ") if s in lines[at]), " ")
                cells = lines[at].split(separator)
                cells[draw.randrange(len(cells))] = draw.choice(CELLS)
                lines[at] = separator.join(cells)
            case 1:
                lines[at] = draw.choice(CELLS)
            case 2:
                del lines[at]
            case 3:
                lines[at:at] = [lines[at]] * draw.choice((1, 3))
            case 4:
                other = draw.randrange(len(lines))
                lines[at], lines[other] = lines[other], lines[at]
            case 5:
                lines = lines[: at + 1]
            case 6:
                lines[at] = lines[at].replace(",", draw.choice((";", "\t", ",,", "|")))
            case 7:
                lines = [line.rstrip("\r") + draw.choice(("\r", "\r\r", " ")) for line in lines]
            case 8:
                position = draw.randrange(len(lines[at]) + 1)
                lines[at] = lines[at][:position] + draw.choice(CELLS) + lines[at][position:]
            case 9 if lines[at].strip().startswith(("{", "[")):
                lines[at] = _mutated_line(lines[at], draw)
            case 10:
                lines[0] = draw.choice((lines[at], "", lines[0] + "," + lines[0], lines[0].upper()))
        text = "\n".join(lines)
    encoding = draw.choice(ENCODINGS) if draw.random() < 0.15 else "utf-8"
    return text.encode(encoding, "replace")


def _mutated_line(line: str, draw: Random) -> str:
    try:
        return mutate_json(json.loads(line), draw)
    except (ValueError, RecursionError):
        return line
