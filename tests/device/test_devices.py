"""Training on another device: a fake one that refuses what a GPU refuses, compared with the CPU."""

import dataclasses

import pytest
import torch
from fake_device import NAME, FakeDevice

from memorycell import explain, train
from memorycell.application import catalogue, modelfile
from memorycell.application.live import open_session
from memorycell.application.train_settings import TrainSettings
from memorycell.applications.anomaly.model import Detector, DetectorConfig
from memorycell.applications.drawing.model import DrawingBatch, Writer, WriterConfig
from memorycell.applications.forecast.model import Forecaster, ForecasterConfig
from memorycell.applications.forecast.settings import ForecastSettings
from memorycell.applications.music.model import Composer, ComposerConfig
from memorycell.applications.translation.model import PairBatch, Translator, TranslatorConfig
from memorycell.cells import CELLS
from memorycell.errors import UserError
from memorycell.language.model import LanguageConfig, LanguageModel
from memorycell.models.batches import LaneBatch, PaddedBatch, on_device
from memorycell.models.classifier import Classifier, ClassifierConfig
from memorycell.nn.layers import of_cell
from memorycell.ops.dispatch import LOOP_COST
from memorycell.signals.transcriber import Transcriber, TranscriberConfig
from memorycell.training import device, loop
from memorycell.training.checkpoint import load_checkpoint, save_checkpoint
from memorycell.training.run import Run

FAKE = torch.device(NAME)
CPU = torch.device("cpu")
PLACES = [FAKE, *([torch.device("cuda")] if torch.cuda.is_available() else [])]


def using(where):
    """The context in which a device exists, and products on it are exact."""
    if where == FAKE:
        return FakeDevice()
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gpu", "device='gpu': expected cpu, cuda"),
        ("", "device=''"),
        ("cuda\x1b[2J", r"device='cuda\\x1b"),
        ("cpu:1", "there is one cpu"),
        ("xpu", "expected cpu, cuda"),
        ("meta", "expected cpu, cuda"),
        ("cuda:99", "CUDA|there is cuda:0"),
        *(() if torch.backends.mps.is_available() else (("mps", "no Apple GPU"),)),
    ],
)
def test_a_device_that_is_not_there(name, words, tmp_path):
    with pytest.raises(UserError, match=words) as error:
        device.choose(name)
    assert "\n" not in str(error.value)
    out = tmp_path / "m.safetensors"
    with pytest.raises(UserError, match=words):  # before the data are read
        loop.train(
            catalogue.load("forecast"),
            "none",
            ForecastSettings(),
            TrainSettings(),
            out,
            device=name,
        )


def test_the_device_of_the_command_line_and_of_python(memorycell, tmp_path):
    out = tmp_path / "m.safetensors"
    for words in (["train", "forecast", "--out", out], ["backtest", "forecast"]):
        status, printed, errors = memorycell(*words, "--device", "tpu")
        assert status == 2
        assert printed == ""
        assert errors.startswith("memorycell: device='tpu': expected cpu, cuda")
        assert errors.count("\n") == 1
    with pytest.raises(UserError, match="device='tpu'"):
        train("forecast", device="tpu")
    assert not list(tmp_path.iterdir())


def test_the_device_by_default(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device.choose(None) == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device.choose(None) == torch.device("cuda")
    assert device.choose("cpu") == CPU


# ---- every model's loss --------------------------------------------------------------------------

G = torch.Generator().manual_seed(1)
LENGTHS = torch.tensor([5, 3])


def floats(*shape):
    return torch.randn(*shape, generator=G)


def tokens(*shape, low=1, high=9):
    return torch.randint(low, high, shape, generator=G)


def lanes(x, target):
    reset = torch.zeros(x.shape[:2], dtype=torch.bool)
    reset[1, 2] = True
    return LaneBatch(x, target, reset, carry=False)


def forecaster(**options):
    config = ForecasterConfig(hidden_size=4, input_size=5, horizon=3, window=4, **options)
    return Forecaster(config), lanes(floats(2, 6, 5), floats(2, 6, 3, 1).abs().round())


MODELS = {
    "quantiles": lambda: forecaster(),
    "student, level": lambda: forecaster(head="student", normal="level", seen=4),
    "counts": lambda: forecaster(head="counts"),
    "spread": lambda: forecaster(normal="spread", seen=4, linear=1),
    "peephole": lambda: forecaster(cell="peephole", zoneout=0.1, num_layers=2),
    "detector": lambda: (
        Detector(DetectorConfig(hidden_size=4, input_size=7, columns=2, sizes=(3,), window=2)),
        lanes(floats(2, 6, 7), torch.cat([floats(2, 6, 2), tokens(2, 6, 1, low=0, high=3)], -1)),
    ),
    "language": lambda: (
        LanguageModel(
            LanguageConfig(
                hidden_size=4, vocabulary=9, embedding_size=3, noise=0.3, activation=1, slowness=1
            )
        ),
        lanes(tokens(2, 6), tokens(2, 6)),
    ),
    "classes of features": lambda: (
        Classifier(ClassifierConfig(hidden_size=4, vocabulary=0, input_size=3, classes=3)),
        PaddedBatch(floats(2, 5, 3), LENGTHS, tokens(2, low=0, high=3)),
    ),
    "classes of words": lambda: (
        Classifier(
            ClassifierConfig(
                hidden_size=4,
                vocabulary=9,
                input_size=3,
                classes=3,
                pairs=True,
                word_dropout=0.2,
                pooling="last",
            )
        ),
        PaddedBatch(tokens(2, 5), LENGTHS, tokens(2, low=0, high=3)),
    ),
    "transcriber": lambda: (
        Transcriber(
            TranscriberConfig(hidden_size=4, input_size=3, vocabulary=5, bidirectional=True)
        ),
        PaddedBatch(floats(2, 5, 3), LENGTHS, tokens(2, 2, high=5)),
    ),
    "translator": lambda: (
        Translator(TranslatorConfig(hidden_size=4, vocabulary=9, embedding_size=3)),
        PairBatch(tokens(2, 5), LENGTHS, tokens(2, 4), tokens(2, 4)),
    ),
    "writer": lambda: (
        Writer(WriterConfig(hidden_size=4, signs=9, windows=2, mixtures=2, embedding_size=3)),
        DrawingBatch(
            torch.cat([floats(2, 5, 2), tokens(2, 5, 1, low=0, high=2)], -1), LENGTHS, tokens(2, 3)
        ),
    ),
    "composer": lambda: (
        Composer(ComposerConfig(hidden_size=4, noise=0.2)),
        PaddedBatch((floats(2, 5, 88) > 2).byte(), LENGTHS, LENGTHS),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_loss_and_its_gradients_on_a_device(name):
    torch.manual_seed(0)
    model, batch = MODELS[name]()
    model.train()
    results = []
    for where in (CPU, FAKE):
        with FakeDevice():
            model.to(where)
            model.zero_grad()
            torch.manual_seed(5)
            loss, _ = model.loss(on_device(batch, where), None)
            loss.backward()
            assert loss.device == where
            grads = {n: p.grad.to(CPU) for n, p in model.named_parameters() if p.grad is not None}
            results.append((loss.detach().to(CPU), grads))
    (loss, grads), (other_loss, other_grads) = results
    torch.testing.assert_close(other_loss, loss, rtol=1e-5, atol=1e-5)
    assert set(grads) == set(other_grads)
    for key, grad in grads.items():
        torch.testing.assert_close(other_grads[key], grad, rtol=1e-3, atol=1e-5, msg=key)


def test_the_fake_device_refuses_mixed_tensors():
    with FakeDevice():
        x = floats(2, 3).to(FAKE)
        with pytest.raises(RuntimeError, match="same device"):
            x + floats(2, 3)
        with pytest.raises(RuntimeError, match="numpy"):
            x.numpy()


# ---- a run ---------------------------------------------------------------------------------------

SMALL = ForecastSettings(target="y", hidden=4, horizon=3, context=24, dropout=0, bptt=24, lanes=3)
HOW = TrainSettings(epochs=2, lr=0.02)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    path = tmp_path_factory.mktemp("device") / "y.csv"
    wave = torch.sin(torch.arange(150) / 4) + 0.1 * floats(150)
    path.write_text("y\n" + "\n".join(f"{v:.4f}" for v in wave.tolist()) + "\n")
    return catalogue.load("forecast").prepare(str(path), SMALL)


def trained(dataset, where, how=HOW, stop=None):
    run = Run(dataset, how, "crps", None, None, where)
    losses = []

    def on_event(event):
        losses.append(event.loss)
        if len(losses) == stop:
            raise KeyboardInterrupt

    run.fit(on_event, lambda better: None)
    return run, losses


@pytest.mark.parametrize("where", PLACES, ids=str)
def test_a_run_on_a_device_is_the_run_on_the_cpu(where, dataset, tmp_path):
    run, losses = trained(dataset, CPU)
    with using(where) as mode:
        other, other_losses = trained(dataset, where)
    assert other_losses == pytest.approx(losses, rel=1e-3)
    assert next(other.model.parameters()).device.type == where.type
    if where == FAKE:
        assert mode.moves > 10
        assert {"_foreach_lerp_.List", "mm.default"} & mode.operations
    best, other_best = run.best_model(), other.best_model()
    for (name, value), (_, found) in zip(
        best.state_dict().items(), other_best.state_dict().items(), strict=True
    ):
        assert type(found) is torch.Tensor, name
        assert found.device == CPU
        torch.testing.assert_close(found, value, rtol=1e-3, atol=1e-4)
    assert other.progress.history[0]["valid_crps"] == pytest.approx(
        run.progress.history[0]["valid_crps"], rel=1e-4
    )
    checkpoint = tmp_path / "m.resume"
    with using(where):
        save_checkpoint(other, checkpoint)
    resumed = Run(dataset, HOW, "crps", None, None, CPU)  # a run may continue elsewhere
    load_checkpoint(resumed, checkpoint)
    assert resumed.progress.epoch == 2
    for p, q in zip(resumed.model.parameters(), run.model.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-4)


def test_a_file_of_another_device_is_the_cpus(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(device, "_missing_reason", lambda device: None)
    application = dataclasses.replace(catalogue.load("forecast"), prepare=lambda *_: dataset)
    out, lines = tmp_path / "m.safetensors", []
    with FakeDevice():
        loop.train(
            application,
            None,
            SMALL,
            dataclasses.replace(HOW, epochs=1),
            out,
            device=NAME,
            log=lines.append,
        )
    assert f"trains on {NAME}; validation and test on the CPU" in lines
    file = modelfile.load(out)
    session = open_session(file)
    (answer,) = session.feed({"y": 0.5})
    assert len(answer["forecast"]["y"]["median"]) == 3


def test_half_precision_is_the_devices(dataset):
    half = dataclasses.replace(HOW, precision="bfloat16", epochs=1)
    with FakeDevice(), pytest.raises(UserError, match=f"precision=bfloat16: not on {NAME}"):
        Run(dataset, half, "crps", None, None, FAKE)
    with FakeDevice():
        assert not Run(
            dataset, dataclasses.replace(half, precision="auto"), "crps", None, None, FAKE
        ).bfloat16
    run, losses = trained(dataset, CPU, half)
    _, full = trained(dataset, CPU, dataclasses.replace(half, precision="float32"))
    assert run.bfloat16
    assert losses != full
    assert losses == pytest.approx(full, rel=0.1)


# ---- layers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["lstm", "gru", "peephole", "layernorm"])
@pytest.mark.parametrize("option", ["none", "lengths", "reset", "no resets"])
@pytest.mark.parametrize("where", PLACES, ids=str)
def test_layers_on_a_device(where, cell, option):
    torch.manual_seed(0)
    layer = of_cell(cell, 3, 4, 2, batch_first=True, bidirectional=True)
    x, reset = floats(2, 5, 3), torch.zeros(2, 5, dtype=torch.bool)
    reset[1, 3] = option == "reset"
    options = {
        "none": {},
        "lengths": {"lengths": LENGTHS},
        "reset": {"reset": reset},
        "no resets": {"reset": reset},
    }[option]
    expected, state = layer(x, backend="reference", **options)
    with using(where):
        layer.to(where)
        moved = {name: value.to(where) for name, value in options.items()}
        found, other = layer(x.to(where), **moved)
        torch.testing.assert_close(found.to(CPU), expected, rtol=1e-4, atol=1e-6)
        pairs = zip(
            (state,) if isinstance(state, torch.Tensor) else state,
            (other,) if isinstance(other, torch.Tensor) else other,
            strict=True,
        )
        for a, b in pairs:
            torch.testing.assert_close(b.to(CPU), a, rtol=1e-4, atol=1e-6)
        said = explain(layer, x.to(where), lengths="lengths" in options, reset="reset" in options)
    assert said.backend == ("torch" if cell in ("lstm", "gru") else "reference")
    assert "the native engine runs on the CPU, not on" in said.reason
    assert (LOOP_COST in said.reason) == (said.backend == "reference")


class CountKernels(torch.utils._python_dispatch.TorchDispatchMode):
    count = 0

    @classmethod
    def _should_skip_dynamo(cls):
        return False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += not func.is_view and func is not torch.ops.aten.detach.default
        return func(*args, **(kwargs or {}))


def test_the_cost_of_the_loop_is_counted():
    forward, backward = [], []
    for cell in CELLS:
        layer, counts = of_cell(cell, 3, 4, batch_first=True), []
        for steps in (4, 12):
            with CountKernels() as counter:
                y, _ = layer(floats(2, steps, 3), backend="reference")
                there = counter.count
                y.sum().backward()
            counts.append((there, counter.count - there))
        forward.append((counts[1][0] - counts[0][0]) / 8)
        backward.append((counts[1][1] - counts[0][1]) / 8)
    said = (
        f"a loop of {min(forward):.0f} to {max(forward):.0f} kernels per step, and"
        f" {min(backward):.0f} to {max(backward):.0f} in the backward pass"
    )
    assert said == LOOP_COST
