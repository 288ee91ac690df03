"""The video application: models, predictions, pictures and sessions on small clips."""

import base64
import io
import json

import numpy as np
import pytest
import torch

pytest.importorskip("av", reason="pip install 'memorycell[video]'")
pytest.importorskip("PIL", reason="pip install 'memorycell[video]'")

from PIL import Image
from video_clips import shifting, write_npz

import memorycell
from memorycell.application import catalogue
from memorycell.application.contract import ModelFile, NamedDataset
from memorycell.application.modelfile import from_bytes
from memorycell.application.train_settings import TrainSettings
from memorycell.applications.video.model import FrameBatch, FrameConfig, FramePredictor
from memorycell.applications.video.predict import rolled
from memorycell.applications.video.settings import VideoSettings
from memorycell.errors import DataError, StateError
from memorycell.proof import prove
from memorycell.server.served import served_file
from memorycell.training import loop

APPLICATION = catalogue.load("video")
TINY = {"hidden": 4, "patch": 4, "context": 4, "horizon": 3, "lanes": 4}


def file_of(data: str, **settings) -> ModelFile:
    """An untrained model file."""
    torch.manual_seed(0)
    dataset = APPLICATION.prepare(data, APPLICATION.settings(**{**TINY, **settings}))
    model = dataset.build().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    if settings.get("goal") != "class":
        dataset.calibrate(model)
    info = {"task": "video", "primary": "mse", **dataset.info(), "history": []}
    return ModelFile(model, dataset.codec, info, dataset.arrays())


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> str:
    return write_npz(tmp_path_factory.mktemp("video") / "c.npz", clips=shifting(12, 9))


@pytest.fixture(scope="module")
def file(clips) -> ModelFile:
    return file_of(clips)


@pytest.mark.parametrize("cell", ["lstm", "peephole", "gru", "gru_reset_before"])
def test_parts_resets_and_steps_are_the_complete_sequence(cell):
    torch.manual_seed(0)
    config = FrameConfig(height=10, width=9, hidden_size=3, cell=cell, num_layers=2, kernel=2)
    model = FramePredictor(config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    x = torch.rand(2, 7, 10, 9).double()
    with torch.no_grad():
        y, _ = model(x)
        first, state = model(x[:, :3])
        second, _ = model(x[:, 3:], state)
        torch.testing.assert_close(torch.cat([first, second], 1), y, rtol=0, atol=1e-12)
        reset = torch.zeros(2, 7, dtype=torch.bool)
        reset[0, 3] = True
        parted, _ = model(x, reset=reset)
        torch.testing.assert_close(parted[0, 3:], model(x[:1, 3:])[0][0], rtol=0, atol=1e-12)
        torch.testing.assert_close(parted[1], y[1], rtol=0, atol=1e-12)


def test_the_next_frame_is_the_equation_by_loops():
    """With random kernels, on a frame whose sides are no multiples of a patch."""
    torch.manual_seed(0)
    model = FramePredictor(FrameConfig(height=6, width=5, hidden_size=2, reach=1)).double()
    hidden, maps = torch.randn(1, 2, 2, 2).double(), torch.rand(1, 4, 6, 5).double()
    patches = model._patches(maps[:, None])[0]
    with torch.no_grad():
        model.head.weight.normal_()
        model.linear_weight.normal_()
        y = model._next(hidden, patches, maps)[0]
        out = model.head(torch.cat([hidden, patches], 1))[0]
    padded = torch.nn.functional.pad(maps, (1, 1, 1, 1), mode="replicate")[0]
    for p in range(6):
        for q in range(5):
            row, column = p // 4, q // 4
            block = (p % 4) // 2 * 2 + (q % 4) // 2
            w = out[:36, row, column].reshape(9, 4)[:, block]
            window = padded[:, p : p + 3, q : q + 3]
            x = maps[0, 0, p, q]
            moved = w[4] * x + sum(w[k] * (window[0].flatten()[k] - x) for k in range(9) if k != 4)
            expected = (model.linear_weight[0] * window).sum() + moved
            expected += out[36 + p % 4 * 4 + q % 4, row, column]
            assert float(y[p, q]) == pytest.approx(float(expected), abs=1e-10)


def test_the_loss_leaves_out_frames_after_the_end_of_a_clip_and_rolls_out():
    torch.manual_seed(0)
    model = FramePredictor(FrameConfig(height=8, width=8, hidden_size=3))
    frames = torch.rand(2, 6, 8, 8)
    reset = torch.zeros(2, 6, dtype=torch.bool)
    reset[0, 4] = True
    loss, state = model.loss(FrameBatch(frames, reset), None)
    y, _ = model(frames[:, :5], reset=reset[:, :5])
    errors = ((y - frames[:, 1:]) ** 2).mean((2, 3))
    expected = 100 * (errors.sum() - errors[0, 3]) / 9
    torch.testing.assert_close(loss, expected)
    assert model.loss_count(FrameBatch(frames, reset)) == 9
    assert state.batch_size == 2
    rolled_loss, _ = model.loss(FrameBatch(frames, reset & False, rollout=2), None)
    y, state = model(frames[:, :3])
    more, _ = model.roll(y[:, -1], state, 2)
    errors = (torch.cat([y, more], 1) - frames[:, 1:]) ** 2
    torch.testing.assert_close(rolled_loss, 100 * errors.mean())


def test_proofs_hold_for_both_kinds(file, tmp_path):
    labels = np.array(["a", "b"] * 6)
    path = write_npz(tmp_path / "l.npz", clips=shifting(12, 9), labels=labels)
    for each in (file, file_of(path, goal="class")):
        proof = prove(each, exports=("onnx", "c"), precisions=("float32", "int8"))
        assert proof.ok, proof.checks
        assert "onnx in float32" in proof.skipped
        names = " ".join(check.name for check in proof.checks)
        for way in ("whole sequence", "chunks", "pool", "saved", "rewound"):
            assert way in names


def squares(count: int, directions: int, frames: int = 8, side: int = 12) -> np.ndarray:
    """Clips of a square that moves left, right, up or down by turns, and comes back at the other
    side.
    """
    rng = np.random.default_rng(0)
    clips = np.zeros((count, frames, side, side), np.uint8)
    for k, clip in enumerate(clips):
        square = np.zeros((side, side), np.uint8)
        square[:4, :4] = 255
        square = np.roll(square, rng.integers(0, side, 2), (0, 1))
        axis, sign = ((1, -1), (1, 1), (0, -1), (0, 1))[k % directions]
        for t in range(frames):
            clip[t] = np.roll(square, sign * t, axis)
    return clips


def test_next_frames_are_learned_better_than_the_baselines(tmp_path):
    path = write_npz(tmp_path / "c.npz", clips=squares(60, 4))
    settings = VideoSettings(hidden=8, context=3, horizon=1, lanes=8, bptt=7)
    out = tmp_path / "m.safetensors"
    how = TrainSettings(epochs=30, lr=1e-2, weight_decay=0.0, average=0.9)
    result = loop.train(APPLICATION, path, settings, how, out)
    ours, others = result["metrics"]["mse"], result["baselines"]
    assert ours < 0.7 * min(others[name]["mse"] for name in ("ridge", "last frame", "mean", "zero"))
    assert others["linear motion"]["mse"] < 0.5 * others["last frame"]["mse"]
    again = from_bytes(out.read_bytes())
    assert APPLICATION.reopen(None, again).evaluate(again.model, "test") == pytest.approx(
        result["metrics"]
    )


def test_the_class_of_a_clip_is_learned(tmp_path):
    """Left or right: no single frame tells."""
    clips = squares(40, 2)
    path = write_npz(tmp_path / "c.npz", clips=clips, labels=np.array(["left", "right"] * 20))
    settings = VideoSettings(goal="class", hidden=8, lanes=8)
    how = TrainSettings(epochs=30, lr=1e-2, weight_decay=0.0, average=0.9)
    result = loop.train(APPLICATION, path, settings, how, tmp_path / "m.safetensors")
    assert result["metrics"]["error"] == 0
    assert result["baselines"]["majority"]["error"] == 0.5
    file = from_bytes((tmp_path / "m.safetensors").read_bytes())
    record = APPLICATION.predict(file, path, APPLICATION.predict_options(clip=1))
    assert record["label"] == "right"
    assert "right" in APPLICATION.render(record)
    animation = Image.open(io.BytesIO(APPLICATION.figures[".gif"](file, record)))
    assert animation.n_frames == 8
    assert APPLICATION.figures[".png"](file, record).startswith(b"\x89PNG")
    session = APPLICATION.session(file, "float32", APPLICATION.stream_options())
    answers = [a for frame in clips[1] for a in session.feed(frame.tobytes())]
    assert answers[-1]["label"] == "right"
    assert answers[-1]["p"] == pytest.approx(record["p"], abs=1e-3)


def test_surprise_finds_labelled_frames(tmp_path):
    clips = shifting(1, 200, (8, 8))[0]
    anomaly = np.zeros(200, bool)
    anomaly[[170, 185, 193]] = True
    clips[anomaly] = 255 - clips[anomaly]
    path = write_npz(tmp_path / "c.npz", frames=clips, anomaly=anomaly)
    file = file_of(path, goal="anomaly", horizon=1)
    dataset = APPLICATION.reopen(None, file)
    model = dataset.build()
    assert dataset.metric(APPLICATION.metric).name == "auc_pr"
    found = dataset.evaluate(model, "test")
    assert found["auc_pr"] > 0.5  # the frame after an anomaly surprises, too
    assert "auc_pr" in dataset.baselines("test")["ridge"]
    assert "auc_pr" not in dataset.evaluate(model, "valid")
    unlabelled = write_npz(tmp_path / "u.npz", frames=clips)
    with pytest.raises(DataError, match="goal=anomaly is evaluated on labelled frames"):
        APPLICATION.reopen(unlabelled, file).evaluate(model, "test")


def test_predictions_are_the_model_rolled_out(file, clips):
    record = APPLICATION.predict(file, clips, APPLICATION.predict_options(clip=2, compare=True))
    frames = np.load(clips)["clips"][2]
    assert np.array_equal(record["truth"], frames[-3:])
    seen = frames[:-3].astype(np.float32) / 255
    ours, surprise = rolled(file.model, seen, 3)
    assert np.array_equal(record["predicted"], (ours * 255).round())
    with torch.no_grad():
        y, _ = file.model(torch.from_numpy(seen)[None])
    np.testing.assert_allclose(
        surprise, ((y[0, :-1] - torch.from_numpy(seen[1:])) ** 2).mean((1, 2)), rtol=1e-4
    )
    assert record["surprise"] == pytest.approx(surprise.tolist(), abs=1e-7)
    json.dumps(record, allow_nan=False)
    text = APPLICATION.render(record)
    assert "memorycell" in text
    assert "ridge" in text
    more = APPLICATION.predict(file, clips, APPLICATION.predict_options(frames=5))
    assert len(more["predicted"]) == 5
    assert "truth" not in more
    assert "5 frames predicted after 9" in APPLICATION.render(more)
    with pytest.raises(DataError, match="has 12 clips, numbered from 0; there is no clip=12"):
        APPLICATION.predict(file, clips, APPLICATION.predict_options(clip=12))
    with pytest.raises(DataError, match="predicting its last 8 needs 10"):
        APPLICATION.predict(file, clips, APPLICATION.predict_options(frames=8, compare=True))


def test_a_clip_of_another_size_is_resized_and_the_prediction_says_so(file, clips, tmp_path):
    same = np.load(clips)["clips"][0]
    large = write_npz(tmp_path / "large.npz", frames=same.repeat(2, 1).repeat(3, 2))
    options = APPLICATION.predict_options(clip=0)
    record = APPLICATION.predict(file, large, options)
    assert record["notes"] == ["large.npz: frames of 42x24 resized to 14x12"]
    assert f"# {record['notes'][0]}" in APPLICATION.render(record)
    own = APPLICATION.predict(file, clips, options)
    assert "notes" not in own
    assert record["predicted"] == own["predicted"]  # means over equal pixels
    assert record["notes"][0] in APPLICATION.inspect(file, large).notes


def test_pictures_of_a_prediction(file, clips, tmp_path):
    import av

    record = APPLICATION.predict(file, None, APPLICATION.predict_options())
    animation = Image.open(io.BytesIO(APPLICATION.figures[".gif"](file, record)))
    assert animation.n_frames == 6 + 3
    strip = Image.open(io.BytesIO(APPLICATION.figures[".png"](file, record)))
    assert strip.width > strip.height > 96 * 2
    (tmp_path / "x.mp4").write_bytes(APPLICATION.figures[".mp4"](file, record))
    with av.open(str(tmp_path / "x.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 6 + 3


def test_a_session_answers_as_predict(file, clips, tmp_path):
    frames = np.load(clips)["clips"][2]
    record = APPLICATION.predict(file, clips, APPLICATION.predict_options(clip=2, frames=1))
    session = APPLICATION.session(file, "float32", APPLICATION.stream_options())
    answers = []
    for k, frame in enumerate(frames):
        if k == 4:  # a snapshot, by another session
            data = session.snapshot()
            session = APPLICATION.session(file, "float32", APPLICATION.stream_options())
            session.restore(data)
        Image.fromarray(frame).save(tmp_path / f"{k}.png")
        item = (frame.tobytes(), f"raw:{base64.b64encode(frame.tobytes()).decode()}", None)[k % 3]
        answers += session.feed(item or str(tmp_path / f"{k}.png"))
    assert [a["frame"] for a in answers] == [*range(1, 10)]
    assert answers[0]["surprise"] is None
    assert [a["surprise"] for a in answers[1:]] == pytest.approx(record["surprise"], abs=1e-6)
    following = np.frombuffer(base64.b64decode(answers[-1]["next"]), np.uint8).reshape(12, 14)
    assert np.abs(following.astype(int) - np.array(record["predicted"][0])).max() <= 1
    fork = session.fork()
    assert fork.feed(frames[0].tobytes()) == session.feed(frames[0].tobytes())
    assert session.close() == []
    quiet = APPLICATION.session(file, "float32", APPLICATION.stream_options(next="no"))
    assert set(quiet.feed(frames[0].tobytes())[0]) == {"frame", "surprise", "alarm"}
    with pytest.raises(StateError):
        quiet.restore(data[:-5])


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ("", "expected the path of a picture"),
        ("missing.png", "no such file"),
        ("raw:not base64!", "not base64 text"),
        ("raw:AAAA", "3 bytes; a frame of 14 x 12 pixels has 168"),
        (b"123", "3 bytes; a frame of 14 x 12 pixels has 168"),
        ({"frame": 1}, "expected the path of a picture"),
    ],
)
def test_items_that_are_no_frames_change_nothing(file, item, words):
    session = APPLICATION.session(file, "float32", APPLICATION.stream_options())
    before = session.snapshot()
    with pytest.raises(DataError, match=f"stdin, line 1: .*{words}"):
        session.feed(item)
    assert session.snapshot() == before


def test_the_clients_of_a_server_cannot_name_its_files(file, clips, tmp_path):
    frame = np.load(clips)["clips"][0][0]
    Image.fromarray(frame).save(tmp_path / "frame.png")
    out = tmp_path / "v.safetensors"
    file.save(out)
    served = served_file("v", 1, memorycell.load(out), out)
    for session in (served.open_item("float32", {}), served.open_item("float32", {}).fork()):
        for path in (str(tmp_path / "frame.png"), "/etc/passwd", "missing.png"):
            with pytest.raises(DataError) as error:
                session.feed(path)
            assert str(error.value) == "stdin, line 1: expected raw:base64"
        assert session.feed(frame.tobytes())[0]["frame"] == 1


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_inspection_shows_the_gates_as_maps(clips, cell):
    pytest.importorskip("plotly")
    file = file_of(clips, cell=cell, layers=2)
    found = APPLICATION.inspect(file, None)
    assert len(found.layers) == 2
    assert found.layers[0].trace.units == 4 * 3 * 4
    values = found.to_json()
    json.dumps(values)
    assert 0 < values["horizon"]["gradient"]["uses"] <= 9
    figures = found.figures()
    assert {"maps", "gates", "saturation", "memory horizon"} <= set(figures)
    assert APPLICATION.inspect(file, clips).notes[-1].endswith("9 frames")


def test_named_sets_say_how_they_are_read():
    names = [dataset.name for dataset in APPLICATION.datasets]
    assert names == ["moving-digits", "pedestrians"]
    assert all(isinstance(dataset, NamedDataset) for dataset in APPLICATION.datasets)
    with pytest.raises(DataError, match="has no classes"):
        APPLICATION.prepare("moving-digits", APPLICATION.settings(goal="class"))
