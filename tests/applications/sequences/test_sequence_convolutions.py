"""Convolutions before the answer, and values relative to their own sequence: torch's own layers and
numpy as the truth, every way to run, gradients, live sessions, export to C99.
"""

import dataclasses
import shutil
import subprocess

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sequence_data import TINY
from torch import nn
from torch.nn import functional as F

from memorycell.application.contract import ModelFile
from memorycell.applications.sequences import APPLICATION, choices
from memorycell.applications.sequences.answering import answers_over_time
from memorycell.applications.sequences.codec import SequenceCodec
from memorycell.applications.sequences.codec_fitting import fit_codec
from memorycell.applications.sequences.convolutions import (
    DILATIONS,
    KERNELS,
    CausalConvolutions,
    ConvolutionBranch,
    StepNorm,
)
from memorycell.applications.sequences.model import (
    SequenceBatch,
    SequenceModel,
    SequenceModelConfig,
)
from memorycell.applications.sequences.own_scale import running_moments, scale_floor
from memorycell.applications.sequences.prepare import prepare
from memorycell.applications.sequences.sequence_set import Channel, SequenceSet, Target
from memorycell.applications.sequences.session import SequencesSession
from memorycell.applications.sequences.settings import SequencesSettings
from memorycell.errors import UserError
from memorycell.exchange.files import write
from memorycell.models.batches import padded
from memorycell.proof import prove
from memorycell.streaming.stream import Stream

RNG = np.random.default_rng(0)
RAGGED = [RNG.normal(size=(n, 7)).astype(np.float32) for n in (7, 3, 11)]


def model(**options) -> SequenceModel:
    """Patches of 3 rows of 2 inputs, and a value per sequence."""
    torch.manual_seed(0)
    base = {"target": "class", "input_size": 7, "outputs": 3, "hidden_size": 5, "quantiles": 5}
    conv = {"encoder": "conv", "channels": 4, "patch": 3, "row_size": 2}
    made = SequenceModel(SequenceModelConfig(**{**base, **conv, **options})).eval()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "norms" in name:
                parameter.add_(0.3 * torch.rand_like(parameter))
    return made


@given(st.integers(1, 4), st.integers(1, 5), st.lists(st.integers(1, 9), min_size=1, max_size=4))
@settings(max_examples=12, deadline=None)
def test_normalisation_is_that_of_torch_over_the_rows_inside(channels, steps, lengths):
    x = torch.randn(len(lengths), channels, max(lengths) + steps, dtype=torch.float64)
    inside = torch.arange(x.shape[2]) < torch.tensor(lengths)[:, None]
    ours, theirs = StepNorm(channels).double(), nn.BatchNorm1d(channels, dtype=torch.float64)
    flat = torch.cat([row[:, :length].T for row, length in zip(x, lengths, strict=True)])
    if len(flat) < 2:
        return
    found = ours(x, inside[:, None].double())
    expected = theirs(flat)
    got = torch.cat([row[:, :length].T for row, length in zip(found, lengths, strict=True)])
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(ours.mean, theirs.running_mean, check_dtype=False)
    unbiased = len(flat) / (len(flat) - 1)
    torch.testing.assert_close((ours.variance - 0.9) * unbiased, theirs.running_var - 0.9)


def test_layers_are_causal_convolutions_of_torch():
    tested = CausalConvolutions(2, 3).eval()
    x = torch.randn(2, 13, 2)
    expected = x.transpose(1, 2)
    for layer, norm, kernel, dilation in zip(
        tested.layers, tested.norms, KERNELS, DILATIONS, strict=True
    ):
        filled = F.pad(expected, ((kernel - 1) * dilation, 0))
        expected = norm(F.conv1d(filled, layer.weight, dilation=dilation), None).relu()
    found, _ = tested(x)
    torch.testing.assert_close(found, expected.transpose(1, 2))


def test_every_gradient_is_the_numerical_one():
    branch = ConvolutionBranch(2, 2, 3).double().train()
    x = torch.randn(3, 5, 4, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([5, 2, 4])
    names = [n for n, _ in branch.named_parameters() if not n.endswith(("mean", "variance"))]
    values = [branch.get_parameter(name) for name in names]

    def run(x, *values):
        with torch.random.fork_rng():
            given = dict(zip(names, values, strict=True))
            return torch.func.functional_call(branch, given, (x, lengths))

    assert torch.autograd.gradcheck(run, (x, *values), atol=1e-6, fast_mode=True)


@pytest.mark.parametrize(
    "options",
    [
        {"members": 2},
        {"pooling": "mean", "target": "number"},
        {"pooling": "last", "target": "labels", "bidirectional": True},
    ],
    ids=str,
)
def test_an_answer_does_not_depend_on_the_batch(options):
    tested = model(**options)
    x, lengths = padded(RAGGED)
    for row, length in enumerate(lengths.tolist()):
        x[row, length:] = 1e3
    with torch.inference_mode():
        together = tested.outputs(x, lengths)
        for k, own in enumerate(RAGGED):
            alone = tested.outputs(torch.from_numpy(own)[None], torch.tensor([len(own)]))[0]
            np.testing.assert_allclose(together[k], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pooling", ["attention", "max", "last"])
def test_the_answer_after_a_step_is_that_for_the_sequence_so_far(pooling):
    tested = model(pooling=pooling, members=2)
    x = torch.from_numpy(RAGGED[2])[None]
    stream = Stream(tested)
    with torch.inference_mode():
        over_time, _ = tested(x)
        for steps in range(1, 12):
            prefix = tested.outputs(x[:, :steps], torch.tensor([steps]))
            np.testing.assert_allclose(over_time[:, steps - 1], prefix, rtol=1e-5, atol=1e-5)
            stepped = stream.step(RAGGED[2][steps - 1])
            np.testing.assert_allclose(stepped, prefix[0], rtol=1e-5, atol=1e-5)


def test_a_model_with_convolutions_is_proved():
    assert prove(model()).ok


def test_a_member_learns_and_normalises_without_what_it_leaves_out():
    x, lengths = padded(RAGGED)
    statistics = []
    for scale in (1.0, 50.0):
        tested = model(members=2).train()
        changed = x.clone()
        changed[0] *= scale
        weight = torch.tensor([[0.0, 1.0], [1.0, 1.0], [1.0, 1.0]])
        batch = SequenceBatch(changed, lengths, torch.tensor([0, 1, 2]), weight)
        loss, _ = tested.loss(batch, None)
        loss.backward()
        first, second = tested.networks
        statistics.append([m.branch.convolutions.norms[0].mean.detach() for m in (first, second)])
    assert torch.equal(statistics[0][0], statistics[1][0])
    assert not torch.equal(statistics[0][1], statistics[1][1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "step_class"}, "encoder=conv"),
        ({"patch": 4}, "patch"),
        ({"stride": 2}, "stride=2: expected a divisor of patch=3"),
        ({"encoder": "fourier"}, "encoder: expected"),
        ({"channels": 0}, "channels"),
    ],
)
def test_impossible_configurations_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        model(**options)


# ---- values relative to their own sequence -------------------------------------------------------


@given(st.integers(1, 30), st.integers(0, 29), st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_running_moments_are_those_of_numpy_in_any_chunks(count, cut, seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(5, 10 ** rng.uniform(-5, 5, 3), (count, 3))
    values[rng.random(values.shape) < 0.2] = np.nan
    mean, std, after = running_moments(values)
    for t in range(count):
        for k in range(3):
            known = values[: t + 1, k][~np.isnan(values[: t + 1, k])]
            if not len(known):
                assert np.isnan(mean[t, k])
                assert std[t, k] == 0
            else:
                spread = np.abs(known - known[0]).max()
                np.testing.assert_allclose(mean[t, k], known.mean(), rtol=1e-12)
                np.testing.assert_allclose(std[t, k], known.std(), rtol=1e-6, atol=1e-7 * spread)
    cut = min(cut, count - 1)
    if cut:
        first = running_moments(values[:cut])
        second = running_moments(values[cut:], first[2])
        np.testing.assert_array_equal(np.concatenate([first[0], second[0]]), mean)
        np.testing.assert_array_equal(np.concatenate([first[1], second[1]]), std)
        np.testing.assert_array_equal(second[2], after)


def test_sequences_of_like_scale_are_not_read_relative_to_themselves():
    rng = np.random.default_rng(0)
    shapes = [rng.normal(size=20) for _ in range(40)]
    assert scale_floor(shapes) == 0
    scales = np.logspace(-4, 2, 40)
    assert 0 < scale_floor([s * own for s, own in zip(scales, shapes, strict=True)]) < 1e-4


def waves(count: int, seed: int) -> SequenceSet:
    """Sines and squares, of amplitudes that differ a million times, with some gaps."""
    rng = np.random.default_rng(seed)
    values, classes = [], []
    for k in range(count):
        t = np.arange(int(rng.integers(25, 40))) / rng.uniform(4, 6)
        wave = np.sin(t) if k % 2 else np.sign(np.sin(t))
        wave = 10 ** rng.uniform(-4, 2) * (wave + 0.05 * rng.normal(size=len(t)))
        wave[rng.random(len(t)) < 0.05] = np.nan
        values.append(wave[:, None])
        classes.append(k % 2)
    target = Target("class", ("square", "sine"), np.array(classes))
    names = [f"w{k}" for k in range(count)]
    return SequenceSet("waves", names, [Channel("volts")], values, target)


@pytest.fixture(scope="module")
def wave_codec() -> SequenceCodec:
    return fit_codec(waves(40, 1), patch=4, changes=True)


def test_the_codec_keeps_its_scales_in_json(wave_codec):
    column = wave_codec.channels[0]
    assert column.floor > 0
    assert wave_codec.row_size == 5  # value, change, relative value, log deviation, gap
    assert SequenceCodec.from_json(wave_codec.to_json()) == wave_codec
    broken = wave_codec.to_json()
    broken["channels"] = [{**broken["channels"][0], "log_std": 0.0}]
    with pytest.raises(ValueError, match="log_std"):
        SequenceCodec.from_json(broken)


def test_relative_inputs_do_not_depend_on_the_scale(wave_codec):
    values = waves(1, 3).values[0]
    one, other = (wave_codec.rows(values * scale) for scale in (1.0, 1e3))
    np.testing.assert_allclose(one[:, 2], other[:, 2], atol=1e-5)
    shift = np.log(1e3) / wave_codec.channels[0].log_std
    np.testing.assert_allclose(other[5:, 3] - one[5:, 3], shift, rtol=1e-4)


@pytest.fixture(scope="module", params=[1, 2], ids=["stride 1", "stride 2"])
def wave_file(request, wave_codec) -> ModelFile:
    torch.manual_seed(1)
    how = SequencesSettings(encoder="conv", channels=5, hidden=6, stride=request.param)
    config = how.model_config(
        "class", wave_codec.input_size, 2, members=2, patch=4, row_size=wave_codec.row_size
    )
    made = SequenceModel(config).eval()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "norms" in name:
                parameter.add_(0.3 * torch.rand_like(parameter))
    return ModelFile(made, wave_codec, {}, {})


def test_a_session_answers_as_predict_does_for_the_rows_so_far(wave_file):
    codec, session = wave_file.codec, SequencesSession(wave_file)
    values = waves(1, 7).values[0]
    for t in range(len(values)):
        session.step({"volts": None if np.isnan(values[t, 0]) else float(values[t, 0])})
        if t == 13:  # in the middle of a patch
            saved, session = session.snapshot(), SequencesSession(wave_file)
            session.restore(saved)
        inputs = torch.from_numpy(codec.steps(codec.rows(values[: t + 1]), np.zeros(0)))
        with torch.inference_mode():
            y = wave_file.model.outputs(inputs[None], torch.tensor([len(inputs)]))
        expected = codec.answers(y[0].numpy())
        if t > 13:
            np.testing.assert_allclose(session.answer, expected, rtol=1e-4, atol=1e-5)


def test_the_c_program_gives_the_outputs_of_the_model(wave_file, tmp_path):
    """Its own `main` compares; the expected values are those of the model, checked here."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    inputs = wave_file.codec.encode(waves(3, 9))[2]
    exporter = APPLICATION.exporters["c"]
    exporter.check(wave_file)
    exported = exporter.write(wave_file, "m", precision="float32", test=inputs)
    write(exported.files, tmp_path)
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-O1"]
    command = [compiler, *flags, "m.c", "m_test.c", "-lm", "-o", "t"]
    subprocess.run(command, cwd=tmp_path, check=True)
    out = subprocess.run([tmp_path / "t"], capture_output=True, text=True, check=True).stdout
    assert f"{exported.sizes['state_bytes']} bytes of state" in out
    (over_time,) = answers_over_time(wave_file.model, wave_file.codec, [inputs])
    text = exported.files["m_test.c"].split("expected[")[1].split("{", 1)[1].split("};")[0]
    numbers = [float(v.strip(" {}\n").rstrip("f")) for v in text.split(",") if v.strip(" {}\n")]
    np.testing.assert_allclose(numbers, over_time.ravel(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"members": 2, "pooling": "max"},
        {"target": "number", "pooling": "last"},
        {"pooling": "max", "encoder": "none"},
        {"patch": 4, "row_size": 1, "stride": 2, "pooling": "mean"},
    ],
)
def test_onnx_gives_the_outputs_of_the_model(options):
    """In two calls for three sequences, with the state of every layer carried between them."""
    runtime = pytest.importorskip("onnxruntime")
    from memorycell.exchange import onnx_export

    made = model(**options)
    file = onnx_export.export(made).SerializeToString()
    session = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])
    x = RNG.normal(size=(3, 9, 7)).astype(np.float32)
    state = {name: t.numpy() for name, t in made.initial_state(3).asdict().items()}
    outputs = []
    for part in np.split(x, [4], 1):
        y, *after = session.run(None, {"x": part, **state})
        names = [output.name.removesuffix("_n") for output in session.get_outputs()[1:]]
        state = dict(zip(names, after, strict=True))
        outputs.append(y)
    with torch.inference_mode():
        expected, last = made(torch.from_numpy(x))
    np.testing.assert_allclose(np.concatenate(outputs, 1), expected, rtol=1e-4, atol=1e-5)
    for name, tensor in last.asdict().items():
        np.testing.assert_allclose(state[name], tensor, rtol=1e-4, atol=1e-5)


def test_what_convolutions_cannot_do_is_refused(wave_file):
    with pytest.raises(UserError, match="float32"):
        APPLICATION.exporters["c"].write(wave_file, "m", precision="int8", test=None)


def test_a_session_runs_beside_others_and_in_int8(wave_file):
    """Steps of several sessions at once, and in chunks, are those of one; int8 is near them."""
    made = wave_file.model
    stepper, short = made.stepper(), made.stepper("int8")
    x = RNG.normal(size=(3, 9, made.config.input_size)).astype(np.float32)
    with torch.inference_mode():
        expected = made(torch.from_numpy(x))[0].numpy()
    width = stepper.layout.width
    block, rows = np.zeros((4, width), np.float32), np.array([2, 0, 3])
    many = np.stack(
        [stepper.step_many(block, rows, np.ascontiguousarray(x[:, t])) for t in range(9)], 1
    )
    np.testing.assert_allclose(many, expected, rtol=1e-4, atol=1e-5)
    ring = np.zeros((16, width), np.float32)
    chunk, last = stepper.step_one(ring, 0, x[0])
    np.testing.assert_array_equal(chunk, many[0])
    np.testing.assert_array_equal(ring[last], block[2])
    alone = np.zeros((16, width), np.float32)
    row = 0
    for t in range(9):
        y, row = stepper.step_one(alone, row, x[0, t])
        np.testing.assert_array_equal(y, many[0, t])
    np.testing.assert_array_equal(alone, ring)
    coarse, _ = short.step_one(np.zeros((1, short.layout.width), np.float32), 0, x[0])
    assert 0 < np.abs(coarse - expected[0]).max() < 0.1


def test_the_encoder_is_chosen_by_trials(tmp_path, monkeypatch):
    monkeypatch.setattr(choices, "TRIAL_UPDATES", 3)
    monkeypatch.setattr(choices, "CONVOLVED_UPDATES", 4)
    data = waves(40, 1)
    longest = max(map(len, data.values))
    x = np.zeros((40, longest, 1))
    for k, own in enumerate(data.values):
        x[k, : len(own)] = np.nan_to_num(own)
    path = tmp_path / "waves.npz"
    np.savez(path, X=x, y=data.target.values, lengths=data.lengths)
    given = SequencesSettings(**{**TINY, "members": 1, "augment": None, "channels": 6})
    chosen = prepare(str(path), given)
    note = next(note for note in chosen.notes if "trials" in note)
    assert f"encoder={chosen.settings.encoder} and augment=" in note
    assert "encoder=none: " in note
    assert "encoder=conv: " in note
    fixed = prepare(str(path), dataclasses.replace(given, augment="none"))
    assert fixed.settings.encoder == "none"
    assert chosen.build().config.encoder == chosen.settings.encoder
    few = prepare(str(path), dataclasses.replace(given, members=2))
    assert few.settings.encoder == "conv"
    note = next(note for note in few.notes if "trials" in note)
    assert note.startswith("encoder=conv and augment=")
    assert "trials of 4 updates" in note
