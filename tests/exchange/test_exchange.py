"""Exchange formats against the layer itself: ONNX in onnxruntime, C99 in gcc, Keras 3 in Keras."""

import ctypes
import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import memorycell
from memorycell.applications.forecast import exporters
from memorycell.applications.forecast.c_head import ForecastCHead
from memorycell.applications.forecast.codec import SeriesCodec
from memorycell.applications.forecast.model import Forecaster, ForecasterConfig
from memorycell.applications.forecast.series import SERIES, VALUE
from memorycell.cells import CELLS
from memorycell.errors import UserError
from memorycell.exchange import c_cells, c_export, files
from memorycell.language.model import LanguageConfig, LanguageModel
from memorycell.nn.layers import Recurrent, of_cell
from memorycell.ops import binding
from memorycell.state import State
from memorycell.tables.clock import Clock

ODD = [{}, {"num_layers": 3}, {"bias": False}, {"zoneout": 0.2, "num_layers": 2}]
FORECASTERS = [
    {"window": 1},
    {"targets": 2, "quantiles": 5},
    {"cell": "gru", "num_layers": 2},
    {"horizon": 1, "window": 2, "quantiles": 1},
    {"input_size": 6, "horizon": 7, "targets": 3, "window": 9, "quantiles": 3},
    {"cell": "layernorm", "zoneout": 0.1, "targets": 4, "num_layers": 2},
    {"normal": "level", "seen": 3, "targets": 2, "num_layers": 2},
    {"normal": "level", "seen": 2, "window": 1},
]


def layer(cell: str, **options) -> torch.nn.Module:
    """7 units over 5 inputs, all weights different, so that swapped gates are found."""
    torch.manual_seed(0)
    if CELLS[cell].stabilised and options.pop("zoneout", 0):  # which these do not have
        options["heads"] = 7
    module = of_cell(cell, 5, 7, batch_first=True, **options)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.startswith("gain"):
                parameter.uniform_(0.1, 0.4)
    return module.eval()


def model(cell: str = "lstm", **options) -> Forecaster:
    torch.manual_seed(0)
    sizes = {"input_size": 4, "hidden_size": 7, "horizon": 3, "window": 5, "cell": cell}
    module = Forecaster(ForecasterConfig(**{**sizes, **options}))
    with torch.no_grad():
        for parameter in module.head.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return module.eval()


def random_state(module: torch.nn.Module, batch: int) -> State:
    zeros = module.initial_state(batch).asdict()
    state = {name: torch.randn_like(value) for name, value in zeros.items()}
    if "n" in state:  # a normaliser is 1 or more
        state["n"] = 1 + state["n"].abs()
    return State(**state)


def expected(
    module: torch.nn.Module, x: torch.Tensor, state: State
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The outputs and the new state, by the reference."""
    with torch.no_grad():
        single = isinstance(module, Recurrent) and len(state) == 1
        y, after = module(x, state[0] if single else state, backend="reference")
    return y, list((after,) if isinstance(after, torch.Tensor) else after)


# ---- ONNX ----------------------------------------------------------------------------------------


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


# ---- C99 -----------------------------------------------------------------------------------------


GCC = ["gcc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O2"]


def skip_without_gcc() -> None:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")


def compile_c(folder, *arguments: str) -> None:
    built = subprocess.run(
        [*GCC, *arguments, "-lm"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr


def run_test_vector(module: torch.nn.Module, folder, precision: str, **options) -> str:
    """Compile the exported files and run their own test."""
    skip_without_gcc()
    if precision == "int8" and (
        binding.engine is None or getattr(module, "cell", "lstm") not in binding.CELL_NUMBERS
    ):
        pytest.skip("its test vector needs the engine")
    exported = c_export.export(module, "net", precision=precision, **options)
    files.write(exported.files, folder)
    compile_c(folder, "net.c", "net_test.c", "-o", "run")
    program = subprocess.run([folder / "run"], capture_output=True, text=True, check=False)
    assert program.returncode == 0, program.stdout
    sizes = exported.sizes
    assert (
        f"{sizes['flash_bytes']} bytes of constants (flash), {sizes['state_bytes']} bytes of state"
        in program.stdout
    )
    return program.stdout


def same_in_c(module: torch.nn.Module, folder, bound: float, head=None) -> None:
    """Call the compiled step from a random state: outputs and new state are those of the
    reference.
    """
    skip_without_gcc()
    files.write(c_export.export(module, "net", head=head).files, folder)
    compile_c(folder, "-shared", "-fPIC", "net.c", "-o", "net.so")
    library = ctypes.CDLL(str(folder / "net.so"))
    recurrent = getattr(module, "recurrent", module)
    x = torch.randn(1, 9, recurrent.input_size)
    state = random_state(module, 1)
    y, after = expected(module, x, state)
    y = (head or c_export.c_head(module)).outputs(y[0].numpy())
    floats = np.concatenate([value[:, 0].numpy().ravel() for value in state])
    out = np.empty_like(y[0])
    pointers = [a.ctypes.data_as(ctypes.c_void_p) for a in (floats, out)]
    for step, theirs in zip(x[0].numpy(), y, strict=True):
        library.net_step(pointers[0], step.ctypes.data_as(ctypes.c_void_p), pointers[1])
        assert np.abs(out - theirs).max() < bound
    theirs = np.concatenate([value[:, 0].numpy().ravel() for value in after])
    assert np.abs(floats - theirs).max() < bound


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("cell", sorted(CELLS))
def test_layers_in_c(cell, precision, tmp_path):
    for options in ODD:
        run_test_vector(layer(cell, **options), tmp_path, precision)


@pytest.mark.parametrize("options", ODD, ids=str)
@pytest.mark.parametrize("cell", sorted(CELLS))
def test_compiled_layers_equal_the_reference(cell, options, tmp_path):
    same_in_c(layer(cell, **options), tmp_path, 5e-6)


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_projections_in_c(tmp_path):
    net = layer("lstm", proj_size=3, num_layers=2)
    run_test_vector(net, tmp_path, "float32")
    same_in_c(net, tmp_path, 5e-6)


@pytest.mark.parametrize("options", FORECASTERS, ids=str)
def test_forecasters_in_c(options, tmp_path):
    net = model(**options)
    targets = net.config.targets
    head = ForecastCHead(net, [3.0, 0.5, 2.0, 1.5][:targets], [-1.0, 4.0, 0.0, 2.0][:targets])
    same_in_c(net, tmp_path, 2e-5)
    same_in_c(net, tmp_path / "in_units", 6e-5, head)
    for precision in ("float32", "int8") if binding.engine is not None else ("float32",):
        run_test_vector(net, tmp_path, precision, head=head)


def test_every_cell_has_a_template():
    assert set(c_cells.CELLS_IN_C) == set(CELLS)


def test_the_test_vector_can_fail(tmp_path):
    run_test_vector(layer("lstm"), tmp_path, "float32")
    code = (tmp_path / "net.c").read_text()
    wrong = code.replace("f * c[u] + i * g", "f * c[u] - i * g")
    assert wrong != code
    (tmp_path / "net.c").write_text(wrong)
    compile_c(tmp_path, "net.c", "net_test.c", "-o", "run")
    program = subprocess.run([tmp_path / "run"], capture_output=True, text=True, check=False)
    assert program.returncode == 1
    assert "FAILED" in program.stdout


def test_c_export_refuses_bad_arguments():
    with pytest.raises(ValueError, match="cannot name a C function"):
        c_export.export(layer("lstm"), "my-net")
    with pytest.raises(ValueError, match="float32, int8"):
        c_export.export(layer("lstm"), "net", precision="bfloat16")
    with pytest.raises(ValueError, match="needs the future"):
        c_export.export(layer("lstm", bidirectional=True), "net")


HOSTILE = [
    "a*/b",
    "*/ __attribute__((constructor)) void hostile(void) {} /*",
    "*//*/ void hostile(void) {} /*/",
    "*\n/ void hostile(void) {} /*",
    'a\r\n*/\n#include "/etc/passwd"\n/*',
    "* /\N{RIGHT-TO-LEFT OVERRIDE}/*",
    "ends with a backslash \\",
    "*??/",
    "????/\n/ void hostile(void) {}",
    "\x00\x1b[31m\ud800\u2028",
    "temperature in °C, 気温",
]


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_hostile_names_stay_in_the_comment(name, tmp_path):
    skip_without_gcc()
    net = layer("gru")
    exported = c_export.export(net, "net", inputs=[name] * 5, output=name)
    files.write(exported.files, tmp_path)
    compile_c(tmp_path, "-shared", "-fPIC", "net.c", "-o", "net.so")
    assert not hasattr(ctypes.CDLL(str(tmp_path / "net.so")), "hostile")
    plain = c_export.export(net, "net", inputs=["x"] * 5, output="x")
    (tmp_path / "plain").mkdir()
    files.write(plain.files, tmp_path / "plain")
    preprocessed = [
        subprocess.run(
            ["gcc", "-std=c99", "-E", "-P", "net.c"], cwd=folder, capture_output=True, check=True
        ).stdout
        for folder in (tmp_path, tmp_path / "plain")
    ]
    assert preprocessed[0] == preprocessed[1]


# ---- exporters of applications -------------------------------------------------------------------


def series_codec(**changes) -> SeriesCodec:
    codec = SeriesCodec(
        targets=("load",),
        inputs=("wind",),
        clock=Clock("second", 3600),
        max_gap=3,
        mean=(1.0, 2.0),
        std=(3.0, 4.0),
        change=(0.5, 0.25),
        gappy=("wind",),
        cycles=(),
    )
    return replace(codec, **changes)


def model_file(codec: SeriesCodec, **options):
    net = model(input_size=len(codec.features), targets=len(codec.targets), **options)
    return SimpleNamespace(model=net, codec=codec)


def test_the_header_describes_every_input(tmp_path):
    codec = series_codec(known=("wind",), reach=2)
    file = model_file(codec)
    exporter = exporters.EXPORTERS["c"]
    exporter.check(file)
    exported = exporter.write(file, "net", precision="float32", test=None)
    header = exported.files["net.h"]
    assert "x[0]  load: (value - 1) / 3\n" in header
    assert "x[1]  wind: (value - 2) / 4\n" in header
    assert "x[3]  change of wind: (value - the value one step before" in header
    assert "x[5]  wind missing: 1 if" in header
    assert "x[7]  wind in 2 steps: (value - 2) / 4, known in advance\n" in header
    assert "y  [3][1][15]: quantiles of load for the next 3 steps, in the table's units\n" in header
    assert exporters.input_descriptions(series_codec(targets=("return",), returns="close"))[
        0
    ].endswith("where value = 100 log(close / close one step before)")


def test_hostile_columns_are_exported_safely(tmp_path):
    skip_without_gcc()
    onnx = pytest.importorskip("onnx")
    for k, name in enumerate(HOSTILE):
        file = model_file(series_codec(targets=(name,), gappy=()))
        exported = exporters.EXPORTERS["c"].write(file, "net")
        files.write(exported.files, tmp_path / str(k))
        compile_c(tmp_path / str(k), "net.c", "net_test.c", "-o", "run")
        subprocess.run([tmp_path / str(k) / "run"], check=True, capture_output=True)
        exported = exporters.EXPORTERS["onnx"].write(file, "net")
        (entry,) = onnx.load_from_string(exported.files["net.onnx"]).metadata_props
        assert json.loads(entry.value)["targets"] == [name]


def test_models_that_an_exporter_cannot_write_are_refused():
    own = {"own": {"a": ((0.0, 0.0), (1.0, 1.0), (1.0, 1.0))}}
    for codec, options in (
        (series_codec(), {"head": "counts"}),
        (series_codec(), {"normal": "spread"}),
        (series_codec(static={"kind": ("a", "b")}), {}),
        (series_codec(**own), {}),
        (series_codec(targets=(VALUE,), each=("load", "wind"), group=SERIES), {}),
    ):
        for to in ("onnx", "c"):
            with pytest.raises(UserError, match=f"--to {to}: only for forecasts with head=quant"):
                exporters.EXPORTERS[to].check(model_file(codec, **options))
    file = model_file(series_codec())
    with pytest.raises(UserError, match="--precision int8: ONNX files are in float32"):
        exporters.EXPORTERS["onnx"].write(file, "net", precision="int8")
    with pytest.raises(UserError, match="--precision bfloat16: C code is in float32 or int8"):
        exporters.EXPORTERS["c"].write(file, "net", precision="bfloat16")


def test_a_missing_onnx_is_named(monkeypatch):
    for name in ("onnx_export", "onnx_graph", "onnx_layers"):
        monkeypatch.delitem(sys.modules, f"memorycell.exchange.{name}", raising=False)
    monkeypatch.delattr("memorycell.exchange.onnx_export", raising=False)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"--to onnx needs onnx: pip install 'memorycell\[onnx\]'"):
        exporters.EXPORTERS["onnx"].write(model_file(series_codec()), "net")


def test_identifiers():
    names = ("glucose", "my-net 2", "2nd", "naïve", "")
    assert [files.identifier(n) for n in names] == ["glucose", "my_net_2", "m_2nd", "na_ve", "m_"]


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
    """Every recurrent layer of a model, with random weights, against Keras's own outputs."""
    layers = keras.layers
    keras_layers = {
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
    for each in keras_layers.values():
        outputs.append(each(x))
        x = layers.Dropout(0.5)(outputs[-1])
    net = keras.Model(start, [*outputs, inner(x)])
    rng = np.random.default_rng(0)
    net.set_weights(
        [rng.normal(scale=0.5, size=w.shape).astype(np.float32) for w in net.get_weights()]
    )
    net.save(tmp_path / "m.keras")

    imported = memorycell.from_keras(tmp_path / "m.keras")
    assert list(imported) == [*keras_layers, "deep"]
    inputs = rng.normal(size=(3, 11, 5)).astype(np.float32)
    theirs = [np.asarray(y.detach()) for y in net(torch.from_numpy(inputs))]
    x = inputs
    for name, expected in zip(imported, theirs, strict=True):
        mine = imported[name](torch.from_numpy(x))[0].detach().numpy()
        assert np.abs(mine - expected).max() < 2e-6, name
        x = expected


@OLD_NUMPY
def test_unsupported_keras_files_are_refused_with_the_reason(keras, tmp_path):
    layers = keras.layers
    path = tmp_path / "m.keras"

    def refused(words: str, *added) -> None:
        if added:
            keras.Sequential([keras.Input((None, 5)), *added]).save(path)
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
    refused("'cut': weights are missing or have the wrong shape .units=4, but the weights have 3")
