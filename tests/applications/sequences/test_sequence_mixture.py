"""Random convolutions mixed with the networks: the features, their steps, the fit and the files."""

import csv
import dataclasses
import shutil
import subprocess
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sequence_data import train, write_table

from memorycell.applications.sequences import APPLICATION
from memorycell.applications.sequences.answering import answers_over_time
from memorycell.applications.sequences.mixture import RandomConvolutions, quantised
from memorycell.applications.sequences.mixture_fitting import (
    HeldOut,
    best_mixture,
    dilations_for,
    draw,
    features_of,
    fit_mixture,
    log_loss,
    mixed,
    set_prior,
)
from memorycell.applications.sequences.model import SequenceModel
from memorycell.applications.sequences.model_config import SequenceModelConfig
from memorycell.applications.sequences.predict import PredictOptions, predict
from memorycell.applications.sequences.prepare import reopen
from memorycell.applications.sequences.session import SequencesSession
from memorycell.exchange.files import write
from memorycell.models.batches import padded
from memorycell.proof import prove
from memorycell.streaming.stream import Stream

RNG = np.random.default_rng(3)
RAGGED = [RNG.normal(size=(n, 7)).astype(np.float32) for n in (5, 2, 14)]
"""Three rows of two inputs per step, and one further input."""


def random_convolutions(**options) -> RandomConvolutions:
    sizes = {"patch": 3, "row_size": 2, "classes": 4, "seed": 1, **options}
    made = draw(RAGGED, **sizes)
    torch.manual_seed(0)
    made.weight.copy_(torch.randn_like(made.weight) / 20)
    made.bias.copy_(torch.randn_like(made.bias))
    made.share.fill_(0.6)
    set_prior(made, RAGGED)
    return made


def model(**options) -> SequenceModel:
    sizes = {"target": "class", "input_size": 7, "outputs": 4, "hidden_size": 6}
    config = SequenceModelConfig(**{**sizes, "patch": 3, "row_size": 2, **options})
    torch.manual_seed(0)
    made = SequenceModel(config).eval()
    made.mix(random_convolutions())
    return made


def features_by_loops(random: RandomConvolutions, x: np.ndarray) -> np.ndarray:
    """The definition: kernels of nine weights over the rows, one after another."""
    rows = np.rint(np.clip(x[:, :6].reshape(-1, 2), -16, 16) * 1024)
    found = []
    for number, dilation in enumerate(random.dilations):
        reach = 8 * dilation
        for kernel, places in enumerate(combinations(range(9), 3)):
            channels = np.flatnonzero(random.channels[number, kernel].numpy())
            values = []
            for t in range(len(rows)):
                total = 0
                for tap in range(9):
                    at = t - (8 - tap) * dilation
                    weight = 2 if tap in places else -1
                    total += weight * rows[at, channels].sum() if at >= 0 else 0
                values.append(total)
            skipped = reach if (kernel + number) % 2 and len(rows) > reach else 0
            own = np.array(values[skipped:])
            prior, expected = float(random.prior), random.expected[number, kernel].numpy()
            counts = [(own > b).sum() for b in random.biases[number, kernel].numpy()]
            found += [(c + e) / (len(own) + prior) for c, e in zip(counts, expected, strict=True)]
    return np.array(found, np.float32)


def test_features_are_those_of_the_definition():
    random = random_convolutions()
    assert random.dilations == (1, 2, 3, 4, 5)
    found = features_of(random, RAGGED)
    for own, x in zip(found, RAGGED, strict=True):
        np.testing.assert_allclose(own, features_by_loops(random, x), rtol=1e-6)
    assert 0.2 < found.mean() < 0.8


@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_convolutions_are_exact_whole_numbers(scale):
    random = random_convolutions()
    rows = quantised(torch.from_numpy(RAGGED[2][:, :6] * np.float32(scale)).reshape(1, -1, 2))
    rows = torch.nn.functional.pad(rows, (0, 0, random.past, 0))
    for number in range(len(random.dilations)):
        found = random.responses(number, rows)
        assert torch.equal(found, found.round())
        assert torch.equal(found, random.double().responses(number, rows.double()).float())
        random.float()
    assert bool((random.biases % 1 == 0.5).all())


@pytest.mark.parametrize("members", [1, 2])
def test_the_answer_after_a_step_is_that_for_the_rows_so_far(members):
    tested = model(members=members)
    x = torch.from_numpy(RAGGED[2])[None]
    stream = Stream(tested)
    with torch.inference_mode():
        over_time, _ = tested(x)
        for steps in range(1, 15):
            prefix = tested.outputs(x[:, :steps], torch.tensor([steps]))
            np.testing.assert_allclose(over_time[:, steps - 1], prefix, rtol=1e-5, atol=1e-5)
            stepped = stream.step(RAGGED[2][steps - 1])
            np.testing.assert_allclose(stepped, prefix[0], rtol=1e-5, atol=1e-5)
    network = torch.log_softmax(tested.combined(tested.member_outputs(x, torch.tensor([14]))), -1)
    assert (network - prefix).abs().max() > 0.05


@given(st.lists(st.integers(1, 14), min_size=1, max_size=4))
@settings(max_examples=15, deadline=None)
def test_chunks_give_the_state_and_the_answers_of_single_steps(sizes):
    tested = model()
    x = torch.from_numpy(RNG.normal(size=(2, sum(sizes), 7)).astype(np.float32))
    with torch.inference_mode():
        whole, last = tested(x)
        state, parts = tested.initial_state(2), []
        for part in x.split(sizes, 1):
            y, state = tested(part, state)
            parts.append(y)
    np.testing.assert_allclose(torch.cat(parts, 1), whole, rtol=1e-5, atol=1e-5)
    assert torch.equal(state.random, last.random)
    assert last.random[0, 0, -1] == 3 * sum(sizes)


def test_sessions_do_not_depend_on_each_other_and_the_history_is_kept():
    stepper = model().stepper()
    x = RNG.normal(size=(3, 9, 7)).astype(np.float32)
    block, rows = np.zeros((4, stepper.layout.width), np.float32), np.array([2, 0, 3])
    many = np.stack([stepper.step_many(block, rows, x[:, t].copy()) for t in range(9)], 1)
    ring = np.zeros((16, stepper.layout.width), np.float32)
    chunk, last = stepper.step_one(ring, 0, x[0])
    np.testing.assert_array_equal(chunk, many[0])
    np.testing.assert_array_equal(ring[last], block[2])
    alone, row = np.zeros((16, stepper.layout.width), np.float32), 0
    for t in range(9):
        y, row = stepper.step_one(alone, row, x[0, t])
        np.testing.assert_array_equal(y, many[0, t])
    np.testing.assert_array_equal(alone, ring)


def test_a_mixed_model_is_proved():
    assert prove(model()).ok


@pytest.mark.parametrize("members", [1, 2])
def test_onnx_gives_the_outputs_of_the_model(members):
    """In chunks for three sequences, with the state of every part carried between them."""
    runtime = pytest.importorskip("onnxruntime")
    from memorycell.exchange import onnx_export

    made = model(members=members)
    session = runtime.InferenceSession(
        onnx_export.export(made).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    x = RNG.normal(size=(3, 18, 7)).astype(np.float32)
    state = {name: t.numpy() for name, t in made.initial_state(3).asdict().items()}
    outputs = []
    for part in np.split(x, [4, 5, 12], 1):
        y, *after = session.run(None, {"x": part, **state})
        names = [output.name.removesuffix("_n") for output in session.get_outputs()[1:]]
        state = dict(zip(names, after, strict=True))
        outputs.append(y)
    with torch.inference_mode():
        expected, last = made(torch.from_numpy(x))
    np.testing.assert_allclose(np.concatenate(outputs, 1), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(state["random"], last.random)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "number"}, "only for one class"),
        ({"mix_dilations": (0,)}, "at most 32 of 1 to 512"),
        ({"mix_dilations": (1, 513)}, "at most 32 of 1 to 512"),
        ({"mix_biases": 1000}, "mix_biases: at most"),
    ],
)
def test_impossible_configurations_are_refused(options, message):
    sizes = {"target": "class", "input_size": 7, "outputs": 4, "hidden_size": 6}
    with pytest.raises(ValueError, match=message):
        SequenceModelConfig(**{**sizes, "mix_dilations": (1,), **options})


# ---- fit -----------------------------------------------------------------------------------------


def bursts(count: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Noise with a short zigzag of one of two kinds at a random place, one row per step."""
    rng = np.random.default_rng(seed)
    shapes = np.array([[2, -2, 2, -2, 2, -2], [2, 2, -2, -2, 2, 2]])
    inputs, classes = [], rng.integers(0, 2, count)
    for k in classes:
        x = 0.5 * rng.normal(size=(int(rng.integers(30, 50)), 1))
        at = int(rng.integers(0, len(x) - 6))
        x[at : at + 6, 0] += shapes[k]
        inputs.append(x.astype(np.float32))
    return inputs, classes


def test_the_share_comes_from_sequences_that_neither_learnt_from():
    inputs, classes = bursts(60, 1)
    fold = np.arange(60) % 3
    unsure = HeldOut(inputs, classes, np.full((60, 2), 0.5), fold)
    fitted = fit_mixture(inputs, classes, fold, unsure, patch=1, row_size=1)
    assert fitted.random.share > 0.5
    assert "mixed with random convolutions" in fitted.note
    others, truth = bursts(60, 2)
    scores = features_of(fitted.random, others) @ fitted.random.weight.numpy().T
    scores += fitted.random.bias.numpy()
    assert (scores.argmax(1) == truth).mean() > 0.85
    assert set(fitted.held_out) == {0, 1, 2}
    changed = np.where(fold == 1, 1 - classes, classes)  # a fold's own classifier ignores them
    again = fit_mixture(
        inputs, changed, fold, dataclasses.replace(unsure, classes=changed), patch=1, row_size=1
    )
    if not isinstance(again, str):
        ratio = again.held_out[1].weight / fitted.held_out[1].weight
        np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-4)


def test_usual_features_are_assumed_before_the_first_rows():
    random = random_convolutions()
    assert float(random.prior) == 0.5 * 3 * 5
    usual = random.expected / random.prior
    plain = random_convolutions()
    plain.prior.zero_(), plain.expected.zero_()
    raw, found = features_of(plain, RAGGED), features_of(random, RAGGED)
    np.testing.assert_allclose(usual.flatten(), raw.mean(0), rtol=1e-5, atol=1e-6)
    assert (np.abs(found - raw.mean(0)) <= np.abs(raw - raw.mean(0)) + 1e-6).all()


def test_nothing_is_mixed_where_it_does_not_help():
    inputs, classes = bursts(60, 1)
    sure = HeldOut(inputs, classes, np.eye(2)[classes] * 0.99 + 0.005, np.arange(60) % 3)
    found = fit_mixture(inputs, classes, sure.fold, sure, patch=1, row_size=1)
    assert isinstance(found, str)
    assert found.startswith("not mixed")


def test_the_best_mixture_has_the_lowest_log_loss():
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 3, 200)
    scores = rng.normal(size=(200, 3)) + 2 * np.eye(3)[classes]
    p = mixed(np.full((200, 3), 1 / 3), rng.normal(size=(200, 3)) + np.eye(3)[classes], 1.0, 1.0)
    share, temperature, losses = best_mixture(p, scores, classes)
    assert losses[1] <= min(losses[0], log_loss(mixed(p, scores, 0.9, 1.0), classes)) + 1e-9
    assert losses[1] == log_loss(mixed(p, scores, share, temperature), classes)


def test_dilations_reach_over_the_sequence():
    assert dilations_for(8) == (1,)
    assert dilations_for(29) == (1, 2, 3)
    assert dilations_for(10**6)[-1] == 512


def test_a_bidirectional_model_is_mixed_too():
    tested = model(bidirectional=True)
    x, lengths = padded(RAGGED)
    with torch.inference_mode():
        y = tested.outputs(x, lengths)
    np.testing.assert_allclose(y.exp().sum(1), 1, rtol=1e-5)


# ---- from training to a session ------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixed_model(tmp_path_factory):
    """(result, model file, table) of two networks that read patches of 3 rows, mixed."""
    folder = tmp_path_factory.mktemp("sequence_mixture")
    table = write_table(folder / "classes.csv", count=60, seed=4)
    return *train(table, folder / "m.safetensors", members=2, patch=3, mix=True), table


def test_training_mixes_and_says_so(mixed_model):
    result, file, _ = mixed_model
    assert file.model.config.mix_dilations == (1,)
    assert 0 < float(file.model.random.share) <= 0.9
    assert any("mixed with random convolutions, share" in note for note in file.notes)
    again = reopen(None, file).evaluate(file.model, "test")
    assert again["log_loss"] == pytest.approx(result["metrics"]["log_loss"], rel=1e-5)


def test_a_session_of_a_mixed_model_answers_as_predict(mixed_model):
    _, file, table = mixed_model
    expected = predict(file, str(table), PredictOptions())["sequences"][:3]
    session = SequencesSession(file)
    with table.open() as lines:
        names = ("r000", "r001", "r002")
        rows = [row for row in csv.DictReader(lines) if row["recording"] in names]
    for k, row in enumerate(rows):
        session.step({**row, "b": row["b"] or None})
        if k == 10:  # in the middle of a patch
            saved, session = session.snapshot(), SequencesSession(file)
            session.restore(saved)
    found = {record["recording"]: record for record in session.close()}
    for record in expected:
        own = found[record["name"]]
        assert own["label"] == record["label"]
        assert own["p"] == pytest.approx(record["p"], abs=2e-4)


def test_the_c_program_gives_the_outputs_of_a_mixed_model(mixed_model, tmp_path):
    _, file, _ = mixed_model
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    inputs = reopen(None, file).inputs("test")[0]
    exported = APPLICATION.exporters["c"].write(file, "m", precision="float32", test=inputs)
    write(exported.files, tmp_path)
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-O1"]
    command = [compiler, *flags, "m.c", "m_test.c", "-lm", "-o", "t"]
    subprocess.run(command, cwd=tmp_path, check=True)
    subprocess.run([tmp_path / "t"], check=True)
    (over_time,) = answers_over_time(file.model, file.codec, [inputs])
    text = exported.files["m_test.c"].split("expected[")[1].split("{", 1)[1].split("};")[0]
    numbers = [float(v.strip(" {}\n").rstrip("f")) for v in text.split(",") if v.strip(" {}\n")]
    np.testing.assert_allclose(numbers, over_time.ravel(), rtol=1e-4, atol=1e-4)
