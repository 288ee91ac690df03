"""Bodies of the Open Inference Protocol, compared with those of Triton's own client."""

import gzip
import json
import zlib

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from memorycell.server.oip_tensors import (
    DTYPES,
    TensorError,
    build_response,
    decompressed,
    parse_request,
)

http = pytest.importorskip("tritonclient.http", reason="tritonclient[http] is not installed")

NUMBERS = st.one_of(
    [
        arrays.arrays(
            np.dtype(code),
            arrays.array_shapes(min_dims=1, max_dims=3, max_side=4),
            elements={"allow_nan": False, "allow_infinity": False} if kind[:2] == "FP" else None,
        )
        for kind, code in DTYPES.items()
    ]
)


def triton_body(values, *, binary=True, outputs=(), **parameters):
    inputs = []
    for name, value in values.items():
        kind = "BYTES" if value.dtype == object else next(
            kind for kind, code in DTYPES.items() if np.dtype(code) == value.dtype
        )  # fmt: skip
        each = http.InferInput(name, list(value.shape), kind)
        each.set_data_from_numpy(value, binary_data=binary)
        inputs.append(each)
    body, size = http.InferenceServerClient.generate_request_body(
        inputs, outputs=list(outputs) or None, **parameters
    )
    return body, None if size is None else str(size)


@given(value=NUMBERS, binary=st.booleans())
def test_inputs_of_tritons_client_are_read(value, binary):
    if value.dtype == np.float16 and not binary:
        binary = True  # its client has no JSON for it
    request = parse_request(*triton_body({"x": value}, binary=binary, request_id="r"))
    assert request.id == "r"
    assert request.inputs["x"].dtype == value.dtype
    np.testing.assert_array_equal(request.inputs["x"], value)


@given(parts=st.lists(st.binary(max_size=9), min_size=1, max_size=5))
def test_bytes_are_read(parts):
    value = np.empty(len(parts), object)
    value[:] = parts
    request = parse_request(*triton_body({"items": value}))
    assert request.inputs["items"].tolist() == parts


def test_texts_in_json_are_bytes():
    value = np.array(["hé", "b"], object)
    request = parse_request(*triton_body({"items": value}, binary=False))
    assert request.inputs["items"].tolist() == ["hé".encode(), b"b"]


@given(y=NUMBERS, binary=st.booleans())
def test_tritons_client_reads_the_response(y, binary):
    if y.dtype == np.float16 and not binary:
        return
    wanted = [http.InferRequestedOutput("y", binary_data=binary)]
    request = parse_request(*triton_body({"x": np.zeros((1, 2), np.float32)}, outputs=wanted))
    body, size = build_response(request, "lstm", "3", {"y": y}, {})
    assert (size is not None) == binary
    result = http.InferenceServerClient.parse_response_body(body, header_length=size)
    np.testing.assert_array_equal(result.as_numpy("y"), y)
    assert result.get_response()["model_version"] == "3"


def test_sequences():
    x = np.zeros((1, 2), np.float32)
    body = triton_body({"x": x}, sequence_id=42, sequence_start=True, sequence_end=False)
    request = parse_request(*body)
    assert (request.sequence_id, request.flag("sequence_start")) == ("42", True)
    assert not request.flag("sequence_end")
    assert parse_request(*triton_body({"x": x})).sequence_id == ""
    assert parse_request(*triton_body({"x": x}, sequence_id="a-1")).sequence_id == "a-1"


def test_nested_and_flat_json():
    for data in ([1, 2, 3, 4], [[1, 2], [3, 4]], [[[1], [2]], [[3], [4]]]):
        body = {"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": data}]}
        x = parse_request(orjson.dumps(body), None).inputs["x"]
        assert x.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 3}, r"inputs\[0\].name"),
        ({"shape": [-1, 2]}, "shape"),
        ({"shape": [1] * 9}, "shape"),
        ({"shape": [2.0, 2]}, "shape"),
        ({"datatype": "FP8"}, "datatype"),
        ({"data": [1, 2, 3]}, "4 elements, got 3"),
        ({"data": [1, 2, [3], 4]}, "nested"),
        ({"data": [1, 2, None, 4]}, "expected numbers"),
        ({"data": [1, 2, True, 4]}, "expected numbers"),
        ({"data": "1234"}, "expected a list"),
        ({"datatype": "INT8", "data": [1, 2, 300, 4]}, "range"),
        ({"datatype": "BYTES"}, "expected texts"),
        ({"parameters": {"binary_data_size": 16}}, "0 bytes are left"),
        ({"parameters": {"binary_data_size": -1}}, "binary_data_size"),
        ({"parameters": []}, "expected an object"),
    ],
)
def test_wrong_inputs_are_named(change, message):
    tensor = {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4], **change}
    with pytest.raises(TensorError, match=message):
        parse_request(orjson.dumps({"inputs": [tensor]}), None)


def test_wrong_bodies_are_named():
    for body, length in [
        (b"", None), (b"[]", None), (b"{}", None), (b"{", None), (b'{"inputs": 3}', None),
        (b"{}", "3"), (b"{}", "-1"), (b"{}", "x"), (b'{"inputs": [], "id": 4}', None),
        (b'{"inputs": []}rest', "14"), (b"\xff\xfe", None), (b"[" * 100_000, None),
    ]:  # fmt: skip
        with pytest.raises(TensorError):
            parse_request(body, length)
    body, size = triton_body({"x": np.zeros((2, 3), np.float32)})
    for damaged in (body[:-1], body + b"1"):
        with pytest.raises(TensorError):
            parse_request(damaged, size)


def test_compressed_bodies():
    data = json.dumps({"inputs": []}).encode()
    assert decompressed(gzip.compress(data), "gzip", 100) == data
    assert decompressed(zlib.compress(data), "deflate", 100) == data
    with pytest.raises(TensorError, match="more than 100 bytes"):
        decompressed(gzip.compress(bytes(1 << 20)), "gzip", 100)
    with pytest.raises(TensorError, match="end early"):
        decompressed(gzip.compress(data)[:-9], "gzip", 100)
    with pytest.raises(TensorError, match="not gzip"):
        decompressed(data, "gzip", 100)
    with pytest.raises(TensorError, match="Content-Encoding"):
        decompressed(data, "br", 100)


@given(st.data())
def test_damaged_bodies_are_refused_or_read(data):
    body, size = triton_body({"x": np.zeros((2, 3), np.float32), "n": np.array([b"a"], object)})
    damaged = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        request = parse_request(bytes(damaged), size)
        _ = request.sequence_id
    except TensorError:
        pass
