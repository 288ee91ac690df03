"""ONNX against the layer itself, in onnxruntime; and imported again."""

import numpy as np
import pytest
import torch
from exported_models import FORECASTERS, ODD, expected, layer, model, random_state

import memorycell
from memorycell.applications.forecast.model import Forecaster
from memorycell.cells import CELLS
from memorycell.errors import UserError
from memorycell.exchange import c_export
from memorycell.language.model import LanguageConfig, LanguageModel
from memorycell.state import State


def through_onnx(module: torch.nn.Module, x: torch.Tensor, state: State) -> list[np.ndarray]:
    onnxruntime = pytest.importorskip("onnxruntime")
    from memorycell.exchange.onnx_export import export

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 0  # warns of unused constants
    session = onnxruntime.InferenceSession(
        export(module).SerializeToString(), options, ["CPUExecutionProvider"]
    )
    feed = {name: value.numpy() for name, value in state.asdict().items() if value.shape[0]}
    return list(session.run(None, {"x": x.numpy(), **feed}))


def same_in_onnx(module: torch.nn.Module, bound: float) -> None:
    for batch, steps in ((1, 1), (3, 17)):
        if isinstance(module, LanguageModel):
            x = torch.randint(module.config.vocabulary, (batch, steps))
        else:
            x = torch.randn(
                batch, steps, module.recurrent.input_size if isinstance(module, Forecaster) else 5
            )
        state = random_state(module, batch)
        y, after = expected(module, x, state)
        outputs = [y, *(value for value in after if value.shape[0])]
        for mine, theirs in zip(through_onnx(module, x, state), outputs, strict=True):
            assert np.abs(mine - theirs.numpy()).max() < bound


@pytest.mark.parametrize("options", [*ODD, {"bidirectional": True, "num_layers": 2}], ids=str)
@pytest.mark.parametrize("cell", sorted(CELLS))
def test_layers_in_onnxruntime(cell, options):
    same_in_onnx(layer(cell, **options), 5e-6)


def test_cells_that_onnx_defines_are_its_operators():
    from memorycell.exchange.onnx_export import export

    for cell, operator in (
        ("lstm", "LSTM"),
        ("peephole", "LSTM"),
        ("coupled", "LSTM"),
        ("gru", "GRU"),
        ("rnn", "RNN"),
    ):
        kinds = [node.op_type for node in export(layer(cell)).graph.node]
        assert operator in kinds
        assert "Scan" not in kinds


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_projections_in_onnxruntime():
    same_in_onnx(layer("lstm", proj_size=3, num_layers=2), 5e-6)


@pytest.mark.parametrize("options", FORECASTERS, ids=str)
def test_forecasters_in_onnxruntime(options):
    same_in_onnx(model(**options), 2e-5)


@pytest.mark.parametrize(
    "options", [{}, {"tied": False}, {"embedding_size": 7, "cell": "gru", "num_layers": 2}], ids=str
)
def test_language_models_in_onnxruntime(options):
    torch.manual_seed(0)
    sizes = {"vocabulary": 11, "embedding_size": 5, "hidden_size": 7}
    same_in_onnx(LanguageModel(LanguageConfig(**{**sizes, **options})).eval(), 2e-5)


def test_models_without_a_head_for_export_say_why():
    pytest.importorskip("onnx")
    from memorycell.exchange import onnx_export

    with pytest.raises(ValueError, match="export: only for forecasters with head=quantiles"):
        onnx_export.export(model(head="student"))
    with pytest.raises(ValueError, match="export: only for forecasters with head=quantiles"):
        c_export.export(model(normal="spread"), "net")
    language = LanguageModel(LanguageConfig(vocabulary=11, embedding_size=5, hidden_size=7))
    with pytest.raises(ValueError, match="export: not for a language model yet"):
        c_export.export(language, "net")
    for export in (onnx_export.export, lambda module: c_export.c_head(module)):
        with pytest.raises(TypeError, match="expected a recurrent layer or a model, got Linear"):
            export(torch.nn.Linear(3, 4))


def test_layers_survive_export_and_import(tmp_path):
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
def test_bidirectional_operators_are_imported(kind, tmp_path):
    """A hand-made file with random weights, run in onnxruntime and by the imported layer."""
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
    file = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(file, tmp_path / "m.onnx")
    x = rng.normal(size=(11, 3, 5)).astype(np.float32)
    session = onnxruntime.InferenceSession(
        file.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    theirs = session.run(None, {"x": x})[0].transpose(0, 2, 1, 3).reshape(11, 3, 14)
    imported = memorycell.from_onnx(tmp_path / "m.onnx")
    assert (
        np.abs(imported["two ways"](torch.from_numpy(x))[0].detach().numpy() - theirs).max() < 1e-6
    )


def test_unsupported_onnx_files_are_refused_with_the_reason(tmp_path):
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
    file = export(layer("gru"))
    (node,) = (n for n in file.graph.node if n.op_type == "GRU")
    for attribute in node.attribute:
        if attribute.name == "linear_before_reset":
            attribute.i = 0
    onnx.save(file, path)
    assert memorycell.from_onnx(path).popitem()[1].cell == "gru_reset_before"
    file = export(layer("lstm"))
    (node,) = (n for n in file.graph.node if n.op_type == "LSTM")
    node.attribute.append(onnx.helper.make_attribute("clip", 3.0))
    onnx.save(file, path)
    refused("clip=3.0")
    file = export(layer("lstm"))
    (node,) = (n for n in file.graph.node if n.op_type == "LSTM")
    node.input[1] = "x"
    onnx.save(file, path)
    refused("not a constant")
