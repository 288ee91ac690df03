"""Sequence models in C99 and ONNX, with probabilities and units of the table."""

import json
import shutil
import subprocess

import numpy as np
import pytest

from memorycell.applications.sequences.answering import answers_over_time
from memorycell.applications.sequences.exporters import EXPORTERS, input_descriptions
from memorycell.applications.sequences.prepare import reopen
from memorycell.errors import UserError
from memorycell.exchange.files import write


@pytest.mark.parametrize("name", ["class_model", "number_model", "steps_model"])
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_the_c_program_gives_the_test_vector(name, precision, request, tmp_path):
    """Its own `main` compares; the expected values are those of the model, checked here."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    _, file, _ = request.getfixturevalue(name)
    dataset = reopen(None, file)
    inputs = dataset.inputs("test")[0]
    exporter = EXPORTERS["c"]
    exporter.check(file)
    exported = exporter.write(file, "m", precision=precision, test=inputs)
    write(exported.files, tmp_path)
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-O1"]
    command = [compiler, *flags, "m.c", "m_test.c", "-lm", "-o", "t"]
    subprocess.run(command, cwd=tmp_path, check=True)
    out = subprocess.run([tmp_path / "t"], capture_output=True, text=True, check=True).stdout
    assert f"{exported.sizes['flash_bytes']} bytes of constants (flash)" in out
    assert f"{exported.sizes['state_bytes']} bytes of state" in out
    (over_time,) = answers_over_time(file.model, file.codec, [inputs])
    text = exported.files["m_test.c"].split("expected[")[1].split("{", 1)[1].split("};")[0]
    numbers = [float(v.strip(" {}\n").rstrip("f")) for v in text.split(",") if v.strip(" {}\n")]
    expected = np.array(numbers).reshape(over_time.shape)
    tolerance = 1e-4 if precision == "float32" else 0.1
    np.testing.assert_allclose(expected, over_time, rtol=tolerance, atol=tolerance)


def test_the_header_says_how_inputs_are_made(class_model):
    _, file, _ = class_model
    lines = input_descriptions(file.codec)
    assert len(lines) == file.codec.input_size
    assert lines[0].startswith("row 1 of 3: a: (value - ")
    assert any(line.startswith("row 3 of 3: 1 where b is missing") for line in lines)
    assert "row 2 of 3: 1 where mode is work, else 0" in lines
    assert lines[-1].startswith("of the sequence: site: (value - ")
    header = EXPORTERS["c"].write(file, "m", precision="float32", test=None).files["m.h"]
    assert "the probabilities of the sequence so far of down, up" in header


def test_onnx_carries_the_pooled_state(class_model):
    runtime = pytest.importorskip("onnxruntime")
    _, file, _ = class_model
    (model,) = EXPORTERS["onnx"].write(file, "m", precision="float32", test=None).files.values()
    session = runtime.InferenceSession(model, providers=["CPUExecutionProvider"])
    inputs = reopen(None, file).inputs("test")[0]
    state = {name: tensor.numpy() for name, tensor in file.model.initial_state().asdict().items()}
    assert "pooled" in state
    outputs = []
    for part in np.array_split(inputs, 3):
        y, *after = session.run(None, {"x": part[None], **state})
        state = dict(zip(state, after, strict=True))
        outputs.append(y[0])
    (wanted,) = answers_over_time(file.model, file.codec, [inputs])
    np.testing.assert_allclose(file.codec.answers(np.concatenate(outputs)), wanted, atol=1e-5)
    note = json.loads(session.get_modelmeta().custom_metadata_map["memorycell"])
    assert note["names"] == ["down", "up"]
    assert note["patch"] == 3


def test_what_cannot_be_exported_says_why(class_model):
    import copy
    import dataclasses

    _, file, _ = class_model
    other = copy.copy(file)
    other.model = copy.copy(file.model)
    other.model.config = dataclasses.replace(file.model.config, bidirectional=True)
    with pytest.raises(UserError, match="bidirectional"):
        EXPORTERS["onnx"].check(other)
    with pytest.raises(UserError, match="bfloat16: C code is in float32 or int8"):
        EXPORTERS["c"].write(file, "m", precision="bfloat16", test=None)
