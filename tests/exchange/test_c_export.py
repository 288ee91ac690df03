"""C99 against the layer itself, compiled by gcc; exporters of applications."""

import ctypes
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from exported_models import FORECASTERS, ODD, expected, layer, model, random_state

from memorycell.applications.forecast import exporters
from memorycell.applications.forecast.c_head import ForecastCHead
from memorycell.applications.forecast.codec import SeriesCodec
from memorycell.applications.forecast.series import SERIES, VALUE
from memorycell.cells import CELLS
from memorycell.errors import UserError
from memorycell.exchange import c_cells, c_export, files
from memorycell.ops import binding
from memorycell.tables.clock import Clock

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
