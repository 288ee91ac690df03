"""Files of other worlds: ONNX in onnxruntime, C99 under gcc, Keras 3 run here, each against the
layer itself.
"""

import json
import os
import shutil
import subprocess
import zipfile

import numpy as np
import pytest
import torch

import memorycell
from memorycell.applications.forecast.model import Forecaster, ForecasterConfig
from memorycell.cells import CELLS
from memorycell.errors import UserError
from memorycell.nn.layers import of_cell
from memorycell.ops import binding
from memorycell.state import State

ODD = [{}, {"num_layers": 3}, {"bias": False}, {"zoneout": 0.2, "num_layers": 2}]


def layer(cell: str, **options) -> torch.nn.Module:
    """7 units over 5 inputs; every weight differs, so that no two gates can be taken for each
    other.
    """
    torch.manual_seed(0)
    made = of_cell(cell, 5, 7, batch_first=True, **options)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.startswith("gain"):
                parameter.uniform_(0.1, 0.4)
    return made.eval()


def model(cell: str = "lstm", **options) -> Forecaster:
    torch.manual_seed(0)
    made = Forecaster(
        ForecasterConfig(
            **{
                "input_size": 4,
                "hidden_size": 7,
                "horizon": 3,
                "window": 5,
                "cell": cell,
                **options,
            }
        )
    )
    with torch.no_grad():
        for parameter in made.head.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return made.eval()


# ---- ONNX ----------------------------------------------------------------------------------------


def through_onnx(module: torch.nn.Module, x: torch.Tensor, state: State) -> list[np.ndarray]:
    onnxruntime = pytest.importorskip("onnxruntime")
    from memorycell.exchange.onnx_export import export

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 0  # a constant that nothing reads would be told
    session = onnxruntime.InferenceSession(
        export(module).SerializeToString(), options, ["CPUExecutionProvider"]
    )
    feed = {name: value.numpy() for name, value in state.asdict().items() if value.shape[0]}
    return list(session.run(None, {"x": x.numpy(), **feed}))


def same_in_onnx(module: torch.nn.Module, bound: float) -> None:
    for batch, steps in ((1, 1), (3, 17)):
        x = torch.randn(batch, steps, 5 if not isinstance(module, Forecaster) else 4)
        zeros = module.initial_state(batch)
        state = State(**{name: torch.randn_like(value) for name, value in zeros.asdict().items()})
        with torch.no_grad():
            y, after = module(x, state if len(state) > 1 else state[0], backend="reference")
        after = (after,) if isinstance(after, torch.Tensor) else after
        expected = [y, *(value for value in after if value.shape[0])]
        for mine, theirs in zip(through_onnx(module, x, state), expected, strict=True):
            assert np.abs(mine - theirs.numpy()).max() < bound


@pytest.mark.parametrize("options", [*ODD, {"bidirectional": True, "num_layers": 2}], ids=str)
@pytest.mark.parametrize("cell", sorted(CELLS))
def test_layers_in_onnxruntime(cell, options):
    same_in_onnx(layer(cell, **options), 5e-6)


def test_cells_that_onnx_has_are_its_own_operators():
    from memorycell.exchange.onnx_export import export

    for cell, expected in (
        ("lstm", "LSTM"),
        ("peephole", "LSTM"),
        ("coupled", "LSTM"),
        ("gru", "GRU"),
        ("rnn", "RNN"),
    ):
        kinds = [node.op_type for node in export(layer(cell)).graph.node]
        assert expected in kinds
        assert "Scan" not in kinds


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_projections_in_onnxruntime():
    same_in_onnx(layer("lstm", proj_size=3, num_layers=2), 5e-6)


@pytest.mark.parametrize(
    "options",
    [{"window": 1}, {"targets": 2, "quantiles": 5}, {"cell": "gru", "num_layers": 2}],
    ids=str,
)
def test_models_in_onnxruntime(options):
    same_in_onnx(model(**options), 2e-5)


def test_layers_come_back_from_onnx(tmp_path):
    onnx = pytest.importorskip("onnx")
    from memorycell.exchange.onnx_export import export

    for cell in ("lstm", "peephole", "coupled", "gru", "gru_reset_before", "rnn", "rnn_relu"):
        for options in ({}, {"bias": False}):
            ours = layer(cell, **options)
            onnx.save(export(ours), tmp_path / "m.onnx")
            (back,) = memorycell.from_onnx(tmp_path / "m.onnx").values()
            assert back.cell == cell
            x = torch.randn(3, 9, 5)
            torch.testing.assert_close(
                back(x.transpose(0, 1))[0].transpose(0, 1), ours(x)[0], rtol=0, atol=1e-6
            )


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_operators_written_by_hand_are_read(kind, tmp_path):
    """Bidirectional operators with random numbers, run in onnxruntime and in the layer read from
    the file.
    """
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    shapes = {"W": (2, gates * 7, 5), "R": (2, gates * 7, 7), "B": (2, gates * 14)} | (
        {"P": (2, 21)} if kind == "LSTM" else {}
    )
    constants = {n: rng.normal(scale=0.4, size=s).astype(np.float32) for n, s in shapes.items()}
    inputs = ["x", "W", "R", "B", "", "", "", "P"] if kind == "LSTM" else ["x", "W", "R", "B"]
    options = {"linear_before_reset": 1} if kind == "GRU" else {}
    node = helper.make_node(
        kind, inputs, ["y"], name="two ways", hidden_size=7, direction="bidirectional", **options
    )
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", "B", 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, n) for n, v in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(made, tmp_path / "m.onnx")
    x = rng.normal(size=(11, 3, 5)).astype(np.float32)
    session = onnxruntime.InferenceSession(
        made.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    theirs = session.run(None, {"x": x})[0].transpose(0, 2, 1, 3).reshape(11, 3, 14)
    found = memorycell.from_onnx(tmp_path / "m.onnx")
    assert np.abs(found["two ways"](torch.from_numpy(x))[0].detach().numpy() - theirs).max() < 1e-6


def test_onnx_files_that_cannot_become_layers_say_why(tmp_path):
    onnx = pytest.importorskip("onnx")
    from memorycell.exchange.onnx_export import export

    path = tmp_path / "m.onnx"

    def refused(words: str) -> None:
        with pytest.raises(UserError, match=words):
            memorycell.from_onnx(path)

    refused("no such file")
    path.write_bytes(b"\x08not onnx at all")
    refused("not an ONNX model|no LSTM")
    onnx.save(export(layer("layernorm")), path)
    refused("no LSTM, GRU or RNN operator")
    made = export(layer("gru"))
    (node,) = (n for n in made.graph.node if n.op_type == "GRU")
    for attribute in node.attribute:
        if attribute.name == "linear_before_reset":
            attribute.i = 0
    onnx.save(made, path)
    assert memorycell.from_onnx(path).popitem()[1].cell == "gru_reset_before"
    made = export(layer("lstm"))
    (node,) = (n for n in made.graph.node if n.op_type == "LSTM")
    node.attribute.append(onnx.helper.make_attribute("clip", 3.0))
    onnx.save(made, path)
    refused("clip=3.0")
    made = export(layer("lstm"))
    (node,) = (n for n in made.graph.node if n.op_type == "LSTM")
    node.input[1] = "x"
    onnx.save(made, path)
    refused("not a constant")


# ---- C99 -----------------------------------------------------------------------------------------


def compiled(module: torch.nn.Module, folder, precision: str, **options) -> str:
    from memorycell.exchange.c_export import export

    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    if precision == "int8" and (
        binding.engine is None or getattr(module, "cell", "lstm") not in binding.CELL_NUMBERS
    ):
        pytest.skip("its test vector needs the engine")
    made = export(module, "net", precision=precision, **options)
    for name, text in made.files.items():
        (folder / name).write_text(text)
    words = [
        "gcc",
        "-std=c99",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-pedantic",
        "-O2",
        "net.c",
        "net_test.c",
        "-lm",
        "-o",
        "run",
    ]
    built = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    ran = subprocess.run([folder / "run"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout
    assert (
        f"{made.flash_bytes} bytes of constants (flash), {made.state_bytes} bytes of state"
        in ran.stdout
    )
    return ran.stdout


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("cell", sorted(CELLS))
def test_layers_in_c(cell, precision, tmp_path):
    for options in ODD:
        compiled(layer(cell, **options), tmp_path, precision)


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_projections_and_models_in_c(tmp_path):
    compiled(layer("lstm", proj_size=3, num_layers=2), tmp_path, "float32")
    for options in (
        {"window": 1},
        {"targets": 2, "quantiles": 5},
        {"cell": "gru", "num_layers": 2},
    ):
        for precision in ("float32", "int8") if binding.engine is not None else ("float32",):
            targets = options.get("targets", 1)
            compiled(
                model(**options),
                tmp_path,
                precision,
                scale=[3.0] * targets,
                offset=[-1.0, 4.0][:targets],
            )


def test_the_test_vector_can_fail(tmp_path):
    compiled(layer("lstm"), tmp_path, "float32")
    code = (tmp_path / "net.c").read_text()
    (tmp_path / "net.c").write_text(code.replace("f * c[u] + i * g", "f * c[u] - i * g"))
    subprocess.run(
        ["gcc", "-std=c99", "net.c", "net_test.c", "-lm", "-o", "run"], cwd=tmp_path, check=True
    )
    ran = subprocess.run([tmp_path / "run"], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "FAILED" in ran.stdout


def test_c_refuses_what_it_cannot_name_or_run():
    from memorycell.exchange.c_export import export

    with pytest.raises(ValueError, match="cannot name a C function"):
        export(layer("lstm"), "my-net")
    with pytest.raises(ValueError, match="float32, int8"):
        export(layer("lstm"), "net", precision="bfloat16")
    with pytest.raises(ValueError, match="needs the future"):
        export(layer("lstm", bidirectional=True), "net")


# ---- Keras ---------------------------------------------------------------------------------------


OLD_NUMPY = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)  # in Keras itself


@pytest.fixture(scope="module")
def keras():
    os.environ["KERAS_BACKEND"] = "torch"
    return pytest.importorskip("keras")


@OLD_NUMPY
def test_layers_of_a_keras_model(keras, tmp_path):
    """Every recurrent layer of a model, with random weights and biases, against Keras's own
    outputs.
    """
    layers = keras.layers
    made = {
        "an_lstm": layers.LSTM(7, return_sequences=True, name="an_lstm"),
        "no_bias": layers.LSTM(6, return_sequences=True, use_bias=False, name="no_bias"),
        "both_ways": layers.Bidirectional(layers.GRU(3, return_sequences=True), name="both_ways"),
        "a_gru": layers.GRU(4, return_sequences=True, name="a_gru"),
        "first_gru": layers.GRU(4, return_sequences=True, reset_after=False, name="first_gru"),
        "first_both": layers.Bidirectional(
            layers.GRU(2, return_sequences=True, reset_after=False), name="first_both"
        ),
        "gru_without": layers.GRU(4, return_sequences=True, use_bias=False, name="gru_without"),
        "two_lstms": layers.Bidirectional(layers.LSTM(5, return_sequences=True), name="two_lstms"),
        "simple": layers.SimpleRNN(6, return_sequences=True, name="simple"),
        "with_relu": layers.SimpleRNN(
            5, return_sequences=True, activation="relu", name="with_relu"
        ),
    }
    start = keras.Input((None, 5))
    inner = keras.Sequential(
        [keras.Input((None, 5)), layers.LSTM(3, return_sequences=True, name="deep")], name="inner"
    )
    outputs, x = [], start
    for each in made.values():
        outputs.append(each(x))
        x = layers.Dropout(0.5)(outputs[-1])
    net = keras.Model(start, [*outputs, inner(x)])
    rng = np.random.default_rng(0)
    net.set_weights(
        [rng.normal(scale=0.5, size=w.shape).astype(np.float32) for w in net.get_weights()]
    )
    net.save(tmp_path / "m.keras")

    found = memorycell.from_keras(tmp_path / "m.keras")
    assert list(found) == [*made, "deep"]
    inputs = rng.normal(size=(3, 11, 5)).astype(np.float32)
    theirs = [np.asarray(y.detach()) for y in net(torch.from_numpy(inputs))]
    given = inputs
    for name, expected in zip(found, theirs, strict=True):
        mine = found[name](torch.from_numpy(given))[0].detach().numpy()
        assert np.abs(mine - expected).max() < 2e-6, name
        given = expected


@OLD_NUMPY
def test_keras_files_that_cannot_become_layers_say_why(keras, tmp_path):
    layers = keras.layers
    path = tmp_path / "m.keras"

    def refused(words: str, *made) -> None:
        if made:
            keras.Sequential([keras.Input((None, 5)), *made]).save(path)
        with pytest.raises(UserError, match=words):
            memorycell.from_keras(path)

    refused("no such file")
    path.write_bytes(b"nothing like a zip")
    refused("not a Keras 3 model")
    refused("no recurrent layer", layers.Dense(3))
    refused("'own': memorycell has no RNN", layers.RNN(layers.LSTMCell(3), name="own"))
    refused("activation='relu'", layers.LSTM(3, activation="relu"))
    refused("go_backwards=True", layers.LSTM(3, go_backwards=True))
    refused("merge_mode='sum'", layers.Bidirectional(layers.LSTM(3), merge_mode="sum"))
    keras.Sequential([keras.Input((None, 5)), layers.LSTM(3, name="cut")]).save(path)
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
        weights = archive.read("model.weights.h5")
    config["config"]["layers"][1]["config"]["units"] = 4
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", weights)
    refused("'cut': its weights are missing or misshapen .units=4, but the weights have 3")
