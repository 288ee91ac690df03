"""Requests and responses of the Open Inference Protocol v2 over HTTP, without a server.

A body is JSON, or JSON followed by the bytes of tensors (the binary tensor data extension): the
header `Inference-Header-Content-Length` gives the length of the JSON, and `binary_data_size` of a
tensor the number of its bytes, in the order of the tensors. Numbers are little-endian and in C
order; an element of BYTES is its length as uint32 and its bytes.

Source: Open Inference Protocol, version 2 (KServe, 2023), and Triton's extensions
`binary_tensor_data` and `sequence`.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

LENGTH_HEADER = "inference-header-content-length"
DTYPES: dict[str, str] = {
    "BOOL": "?", "UINT8": "<u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "<i1",
    "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
MAX_DIMENSIONS, MAX_TENSORS = 8, 64


class TensorError(ValueError):
    """A request that does not follow the protocol; the message names the field."""


@dataclass(frozen=True)
class OutputRequest:
    """An output that the client asked for, and whether as bytes or in the JSON."""

    name: str
    binary: bool


@dataclass(frozen=True)
class InferRequest:
    """A request for an inference.

    inputs          name -> array; of BYTES, an object array of `bytes`
    outputs         None: all of them
    binary_output   how outputs are sent that do not say it themselves
    """

    id: str
    parameters: Mapping[str, Any]
    inputs: Mapping[str, np.ndarray]
    outputs: Sequence[OutputRequest] | None
    binary_output: bool

    @property
    def sequence_id(self) -> str:
        """The sequence that the request belongs to; "": none (the protocol's 0 or "")."""
        value = self.parameters.get("sequence_id", 0)
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise TensorError("parameters.sequence_id: expected an integer or a string")
        return "" if value == 0 else str(value)

    def flag(self, name: str) -> bool:
        """A parameter that is true or false; by default false."""
        value = self.parameters.get(name, False)
        if not isinstance(value, bool):
            raise TensorError(f"parameters.{name}: expected true or false")
        return value


def decompressed(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """A body with the content encoding gzip or deflate, up to `max_bytes`."""
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "deflate"):
        raise TensorError(f"Content-Encoding: expected gzip, deflate or identity, got {encoding!r}")
    reader = zlib.decompressobj(wbits=47 if encoding == "gzip" else 15)
    try:
        data = reader.decompress(body, max_bytes + 1)
    except zlib.error:
        raise TensorError(f"body: not {encoding}") from None
    if len(data) > max_bytes:
        raise TensorError(f"body: more than {max_bytes} bytes after decompression")
    if not reader.eof:
        raise TensorError(f"body: the {encoding} data end early")
    return data


def parse_request(body: bytes, json_length: str | None) -> InferRequest:
    """A request from its body and its `Inference-Header-Content-Length`, None without the header.

    Raises `TensorError`.
    """
    length = len(body)
    if json_length is not None:
        if not (json_length.isascii() and json_length.isdigit() and len(json_length) < 16):
            raise TensorError(f"{LENGTH_HEADER}: expected a number of bytes")
        length = int(json_length)
        if length > len(body):
            raise TensorError(f"{LENGTH_HEADER}: {length}, but the body has {len(body)} bytes")
    try:
        data = orjson.loads(body[:length])
    except orjson.JSONDecodeError as error:
        raise TensorError(f"body: not JSON ({error})") from None
    data = _object(data, "body")
    parameters = _object(data.get("parameters", {}), "parameters")
    tensors, rest = {}, memoryview(body)[length:]
    listed = _objects(data.get("inputs"), "inputs")
    for k, tensor in enumerate(listed):
        where = f"inputs[{k}]"
        name = _text(tensor.get("name"), f"{where}.name")
        if name in tensors:
            raise TensorError(f"{where}.name: {name!r} occurs twice")
        tensors[name], rest = _tensor(tensor, rest, where)
    if len(rest):
        raise TensorError(f"body: {len(rest)} bytes more than the tensors take")
    binary_output = parameters.get("binary_data_output", False) is True
    return InferRequest(
        id=_text(data.get("id", ""), "id"),
        parameters=parameters,
        inputs=tensors,
        outputs=_outputs(data, binary_output),
        binary_output=binary_output,
    )


def build_response(
    request: InferRequest,
    model: str,
    version: str,
    outputs: Mapping[str, np.ndarray],
    parameters: Mapping[str, Any],
) -> tuple[bytes, int | None]:
    """The body of a response, and the length of its JSON where tensors follow it as bytes.

    Raises `TensorError` for an output that the model does not have.
    """
    wanted = request.outputs
    if wanted is None:
        wanted = [OutputRequest(name, request.binary_output) for name in outputs]
    described, parts = [], []
    for output in wanted:
        value = outputs.get(output.name)
        if value is None:
            raise TensorError(f"outputs: the model has {', '.join(outputs)}, not {output.name!r}")
        record: dict[str, Any] = {
            "name": output.name,
            "datatype": datatype(value),
            "shape": list(value.shape),
        }
        if output.binary:
            parts.append(_to_bytes(value))
            record["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            record["data"] = _to_json(value)
        described.append(record)
    answer: dict[str, Any] = {"model_name": model, "model_version": version}
    if request.id:
        answer["id"] = request.id
    if parameters:
        answer["parameters"] = dict(parameters)
    head = orjson.dumps({**answer, "outputs": described})
    return (head + b"".join(parts), len(head)) if parts else (head, None)


def datatype(value: np.ndarray) -> str:
    """The protocol's name of a dtype."""
    if value.dtype == object:
        return "BYTES"
    return next(name for name, code in DTYPES.items() if np.dtype(code) == value.dtype)


def _tensor(
    tensor: Mapping[str, Any], rest: memoryview, where: str
) -> tuple[np.ndarray, memoryview]:
    """An input, and the bytes that follow its own."""
    shape = tensor.get("shape")
    if not (
        isinstance(shape, list)
        and len(shape) <= MAX_DIMENSIONS
        and all(type(n) is int and 0 <= n < 1 << 31 for n in shape)
    ):
        raise TensorError(f"{where}.shape: expected a list of at most {MAX_DIMENSIONS} sizes")
    kind = _text(tensor.get("datatype"), f"{where}.datatype")
    if kind != "BYTES" and kind not in DTYPES:
        raise TensorError(f"{where}.datatype: expected BYTES or one of {', '.join(DTYPES)}")
    count = math.prod(shape)
    parameters = _object(tensor.get("parameters", {}), f"{where}.parameters")
    size = parameters.get("binary_data_size")
    if size is None:
        return _from_json(tensor.get("data"), kind, count, where).reshape(shape), rest
    if type(size) is not int or not 0 <= size <= len(rest):
        raise TensorError(
            f"{where}.parameters.binary_data_size: {size!r}, but {len(rest)} bytes are left"
        )
    if "data" in tensor:
        raise TensorError(f"{where}: data and binary_data_size exclude each other")
    data, rest = rest[:size], rest[size:]
    if kind == "BYTES":
        elements = _split_elements(data, count, where)
        return elements.reshape(shape), rest
    dtype = np.dtype(DTYPES[kind])
    if size != count * dtype.itemsize:
        raise TensorError(
            f"{where}: {kind} of shape {shape} takes {count * dtype.itemsize} bytes, got {size}"
        )
    return np.frombuffer(data, dtype).reshape(shape), rest


def _from_json(data: Any, kind: str, count: int, where: str) -> np.ndarray:
    """A flat array from JSON numbers or texts, nested or not."""
    flat = _flat(data, where)
    if len(flat) != count:
        raise TensorError(f"{where}.data: the shape has {count} elements, got {len(flat)}")
    if kind == "BYTES":
        if not all(isinstance(value, str) for value in flat):
            raise TensorError(f"{where}.data: expected texts, as the datatype is BYTES")
        return _elements([value.encode() for value in flat])
    expected: tuple[type, ...] = (bool,) if kind == "BOOL" else (int, float)
    if not all(type(value) in expected for value in flat):
        raise TensorError(f"{where}.data: expected numbers, as the datatype is {kind}")
    try:
        with np.errstate(over="ignore"):  # a number beyond the type becomes infinite: refused later
            return np.array(flat, np.dtype(DTYPES[kind]))
    except (OverflowError, ValueError):
        raise TensorError(f"{where}.data: a number is out of the range of {kind}") from None


def _flat(data: Any, where: str) -> list[Any]:
    if not isinstance(data, list):
        raise TensorError(f"{where}.data: expected a list")
    for _ in range(MAX_DIMENSIONS):
        if not any(isinstance(value, list) for value in data):
            return data
        if not all(isinstance(value, list) for value in data):
            break
        data = [value for values in data for value in values]
    raise TensorError(f"{where}.data: lists are nested unevenly or too deeply")


def _split_elements(data: memoryview, count: int, where: str) -> np.ndarray:
    parts: list[bytes] = []
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "little")
        if at + 4 + size > len(data) or len(parts) == count:
            raise TensorError(f"{where}: expected {count} elements of BYTES with their lengths")
        parts.append(bytes(data[at + 4 : at + 4 + size]))
        at += 4 + size
    if len(parts) != count:
        raise TensorError(f"{where}: the shape has {count} elements, got {len(parts)}")
    return _elements(parts)


def _elements(parts: list[bytes]) -> np.ndarray:
    result = np.empty(len(parts), object)
    result[:] = parts
    return result


def _to_bytes(value: np.ndarray) -> bytes:
    if value.dtype != object:
        return np.ascontiguousarray(value, value.dtype.newbyteorder("<")).tobytes()
    return b"".join(len(part).to_bytes(4, "little") + part for part in value.ravel())


def _to_json(value: np.ndarray) -> list[Any]:
    if value.dtype == object:
        return [part.decode("utf-8", "replace") for part in value.ravel()]
    return value.ravel().tolist()


def _outputs(data: Mapping[str, Any], binary_output: bool) -> list[OutputRequest] | None:
    if not data.get("outputs"):
        return None
    requests = []
    for k, output in enumerate(_objects(data["outputs"], "outputs")):
        parameters = _object(output.get("parameters", {}), f"outputs[{k}].parameters")
        binary = parameters.get("binary_data", binary_output) is True
        requests.append(OutputRequest(_text(output.get("name"), f"outputs[{k}].name"), binary))
    return requests


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TensorError(f"{where}: expected an object")
    return value


def _objects(value: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or len(value) > MAX_TENSORS:
        raise TensorError(f"{where}: expected a list of at most {MAX_TENSORS} objects")
    return [_object(entry, f"{where}[{k}]") for k, entry in enumerate(value)]


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise TensorError(f"{where}: expected a text")
    return value
