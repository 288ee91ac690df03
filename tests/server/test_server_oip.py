"""The Open Inference Protocol, called by Triton's client as it is published."""

import numpy as np
import pytest
import safetensors.torch
import torch
from served import served
from serving import PATIENCE_S

from memorycell.server.config import ServerConfig

http = pytest.importorskip("tritonclient.http", reason="tritonclient[http] is not installed")
HIDDEN, WIDTH = 5, 3


@pytest.fixture(scope="module")
def layer():
    torch.manual_seed(0)
    return torch.nn.LSTM(WIDTH, HIDDEN, batch_first=True)


@pytest.fixture(scope="module")
def address(layer, tmp_path_factory):
    path = tmp_path_factory.mktemp("oip") / "lstm.safetensors"
    safetensors.torch.save_file(layer.state_dict(), path)
    with served(ServerConfig(modules=(f"lstm={path}",), max_body_mb=1.0)) as base:
        yield base


@pytest.fixture
def client(address):
    with http.InferenceServerClient(address.removeprefix("http://")) as made:
        yield made


def x_input(x, binary=True):
    made = http.InferInput("x", list(x.shape), "FP32")
    made.set_data_from_numpy(x, binary_data=binary)
    return [made]


def sequence(steps, seed=0):
    return np.random.default_rng(seed).standard_normal((1, steps, WIDTH), np.float32)


def expected(layer, x):
    with torch.no_grad():
        return layer(torch.from_numpy(x))[0].numpy()


def test_health_and_metadata(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("lstm")
    assert client.is_model_ready("lstm", "1")
    assert not client.is_model_ready("other")
    assert client.get_server_metadata()["name"] == "memorycell"
    metadata = client.get_model_metadata("lstm", "1")
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, WIDTH]}]
    assert metadata["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [-1, HIDDEN]}]


@pytest.mark.parametrize("binary", [True, False])
def test_a_sequence_step_by_step(client, layer, binary):
    x = sequence(6)
    for t in range(6):
        outputs = [http.InferRequestedOutput("y", binary_data=binary)]
        result = client.infer(
            "lstm",
            x_input(x[:, t], binary),
            outputs=outputs,
            sequence_id=42,
            sequence_start=t == 0,
            sequence_end=t == 5,
            request_id=f"r{t}",
        )
        np.testing.assert_allclose(
            result.as_numpy("y"), expected(layer, x)[:, t], atol=1e-6, rtol=1e-5
        )
        assert result.get_response()["id"] == f"r{t}"
        assert result.get_response()["model_version"] == "1"


def test_sequences_do_not_mix(client, layer):
    xs = {name: sequence(4, seed) for seed, name in enumerate(["a", "b.2", 7])}
    for t in range(4):
        for name, x in xs.items():
            result = client.infer("lstm", x_input(x[:, t]), sequence_id=name, sequence_start=t == 0)
            np.testing.assert_allclose(
                result.as_numpy("y"), expected(layer, x)[:, t], atol=1e-6, rtol=1e-5
            )


def test_several_steps_and_no_sequence(client, layer):
    x = sequence(7)
    for shape in ([1, 7, WIDTH], [7, WIDTH]):
        result = client.infer("lstm", x_input(x.reshape(shape)))
        np.testing.assert_allclose(
            result.as_numpy("y"), expected(layer, x).reshape(*shape[:-1], HIDDEN), atol=1e-6
        )
    first = client.infer("lstm", x_input(x[:, :3]), sequence_id=9, sequence_start=True)
    second = client.infer("lstm", x_input(x[:, 3:]), sequence_id=9)
    found = np.concatenate([first.as_numpy("y"), second.as_numpy("y")], 1)
    np.testing.assert_allclose(found, expected(layer, x), atol=1e-6)


def test_a_start_forgets_the_state(client, layer):
    x = sequence(1)
    for _ in range(2):
        result = client.infer("lstm", x_input(x[:, 0]), sequence_id="again", sequence_start=True)
        np.testing.assert_allclose(result.as_numpy("y"), expected(layer, x)[:, 0], atol=1e-6)


def test_an_ended_sequence_is_closed(client):
    x = sequence(1)[:, 0]
    client.infer("lstm", x_input(x), sequence_id="e", sequence_start=True, sequence_end=True)
    with pytest.raises(http.InferenceServerException, match="sequence_start"):
        client.infer("lstm", x_input(x), sequence_id="e")


def test_compressed_requests(client, layer):
    x = sequence(3)
    for algorithm in ("gzip", "deflate"):
        result = client.infer("lstm", x_input(x), request_compression_algorithm=algorithm)
        np.testing.assert_allclose(result.as_numpy("y"), expected(layer, x), atol=1e-6)


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (np.zeros((1, WIDTH + 1), np.float32), {}, r"x: expected \[T, 3\]"),
        (np.zeros((2, 2, WIDTH), np.float32), {}, "one sequence"),
        (np.zeros((0, WIDTH), np.float32), {}, "1 to 10000 steps"),
        (np.full((1, WIDTH), np.nan, np.float32), {}, "NaN"),
        (np.zeros((1, WIDTH), np.float32), {"sequence_id": 77}, "sequence_start"),
        (np.zeros((1, WIDTH), np.float32), {"sequence_id": "a b", "sequence_start": True}, "id"),
        (np.zeros((1, WIDTH), np.float32), {"model_version": "2"}, "version 2"),
    ],
)
def test_wrong_requests_are_refused(client, x, options, message):
    with pytest.raises(http.InferenceServerException, match=message) as caught:
        client.infer("lstm", x_input(x), **options)
    assert caught.value.status() in ("400", "404", "422")


def test_unknown_names_are_refused(client):
    x = np.zeros((1, WIDTH), np.float32)
    with pytest.raises(http.InferenceServerException, match="there are:.*lstm"):
        client.infer("other", x_input(x))
    other = http.InferInput("z", [1, WIDTH], "FP32")
    other.set_data_from_numpy(x)
    with pytest.raises(http.InferenceServerException, match="expected x or items"):
        client.infer("lstm", [other])
    with pytest.raises(http.InferenceServerException, match="outputs: the model has y"):
        client.infer("lstm", x_input(x), outputs=[http.InferRequestedOutput("z")])


def test_the_error_is_a_problem_too(address):
    import httpx

    reply = httpx.post(f"{address}/v2/models/lstm/infer", content=b"{}", timeout=PATIENCE_S)
    assert reply.status_code == 400
    assert reply.headers["content-type"] == "application/problem+json"
    assert (
        reply.json()["error"]
        == reply.json()["detail"]
        == "inputs: expected a list of at most 64 objects"
    )


def test_a_refused_step_leaves_no_session(client, address):
    import httpx

    with pytest.raises(http.InferenceServerException):
        client.infer("lstm", x_input(np.full((1, WIDTH), np.nan, np.float32)))
    reply = httpx.get(f"{address}/v1/models/lstm/sessions", timeout=PATIENCE_S)
    sessions = reply.json()["sessions"]
    assert not [each for each in sessions if each["id"].startswith("oip-")]
