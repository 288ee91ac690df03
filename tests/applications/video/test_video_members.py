"""Several networks as one model of videos: the average of their answers, complete and live."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from video_clips import shifting, write_npz

from memorycell.application import catalogue
from memorycell.application.modelfile import from_bytes
from memorycell.application.train_settings import TrainSettings
from memorycell.applications.video.classifier import ClassBatch, ClassConfig, ClipClassifier
from memorycell.applications.video.model import FrameBatch, FrameConfig, FramePredictor
from memorycell.errors import ModelFileError
from memorycell.proof import prove
from memorycell.streaming.pool import Pool
from memorycell.streaming.stream import Stream
from memorycell.training import loop

APPLICATION = catalogue.load("video")
SIZES = {"height": 7, "width": 6, "hidden_size": 3, "num_layers": 2}
CONFIGS = {
    ClipClassifier: ClassConfig(**SIZES, classes=3),
    FramePredictor: FrameConfig(**SIZES),
}


def model_with(kind, members: int, **more):
    torch.manual_seed(0)
    model = kind(replace(CONFIGS[kind], members=members, **more)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for name, buffer in model.named_buffers():
            if name.startswith("others"):
                buffer.add_(0.05 * torch.randn_like(buffer))
    return model


def separate(model) -> list:
    """Each member as a model of its own, by the names in the state."""
    weights, alone = model.state_dict(), []
    for k in range(model.config.members):
        single = type(model)(replace(model.config, members=1)).eval()
        prefix = f"others.{k - 1}." if k else ""
        single.load_state_dict({name: weights[prefix + name] for name in single.state_dict()})
        alone.append(single)
    return alone


def frames(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, 7, 6, generator=torch.Generator().manual_seed(1))


def averaged(model, x: torch.Tensor) -> torch.Tensor:
    """The mean of the answers of the members alone: frames, or log-probabilities."""
    answers = [one(x)[0].detach().double() for one in separate(model)]
    assert (answers[0] - answers[1]).abs().max() > 0.01
    if isinstance(model, FramePredictor):
        return sum(answers).div(len(answers)).float()
    return sum(answer.exp() for answer in answers).div(len(answers)).log().float()


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("kind", CONFIGS)
def test_the_mean_of_the_members_complete_in_parts_and_live(kind, cell):
    model, x = model_with(kind, 3, cell=cell), frames(2, 6)
    expected = averaged(model, x)
    with torch.no_grad():
        y, _ = model(x)
        first, state = model(x[:, :4])
        second, _ = model(x[:, 4:], state)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(torch.cat([first, second], 1), expected)
    rows = x.flatten(2).numpy()
    pool = Pool(model)
    names = pool.open_many(2)
    for session, steps in enumerate(rows):
        stream = Stream(model, history=3)
        live = [stream.step(row) for row in steps[:3]]
        other = Stream(model)
        other.restore(stream.snapshot())
        live += [other.step(row) for row in steps[3:]]
        np.testing.assert_allclose(np.stack(live), expected[session], atol=1e-5)
        stream.rewind(2)
        np.testing.assert_allclose(stream.step(steps[1]), expected[session, 1], atol=1e-5)
    for t in range(6):
        np.testing.assert_allclose(pool.step(names, rows[:, t]), expected[:, t], atol=1e-5)


def test_frames_are_rolled_out_from_the_mean_frame():
    model, x = model_with(FramePredictor, 3), frames(2, 4)
    members = separate(model)
    with torch.no_grad():
        steps = [member(x) for member in members]
        frame, state = model(x)
        ours, _ = model.roll(frame[:, -1], state, 3)
        for k in range(3):
            mean = torch.stack([y[:, -1:] for y, _ in steps]).mean(0).clamp(0, 1)
            steps = [m(mean, own) for m, (_, own) in zip(members, steps, strict=True)]
            expected = torch.stack([y[:, 0] for y, _ in steps]).mean(0)
            torch.testing.assert_close(ours[:, k], expected)


def test_a_reset_begins_a_clip_for_every_member():
    model, x = model_with(FramePredictor, 2), frames(2, 6)
    reset = torch.zeros(2, 6, dtype=torch.bool)
    reset[1, 3] = True
    with torch.no_grad():
        y, _ = model(x, reset=reset)
    torch.testing.assert_close(y[1, 3:], averaged(model, x[1:, 3:])[0])
    torch.testing.assert_close(y[0], averaged(model, x)[0])


def test_the_loss_is_the_mean_of_the_members_each_with_its_own_predictions():
    classes = ClassBatch(frames(2, 5), torch.tensor([5, 3]), torch.tensor([1, 2]))
    clips = FrameBatch(frames(2, 6), torch.zeros(2, 6, dtype=torch.bool), rollout=3)
    for kind, batch in ((ClipClassifier, classes), (FramePredictor, clips)):
        model = model_with(kind, 3)
        loss, state = model.loss(batch, None)
        own = [one.loss(batch, None) for one in separate(model)]
        assert loss.item() == pytest.approx(np.mean([each.item() for each, _ in own]), rel=1e-5)
        loss.backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    with torch.no_grad():  # the state after a batch is carried to the next one
        after = model.loss(clips, state)[0].item()
        alone = [m.loss(clips, s)[0].item() for m, (_, s) in zip(separate(model), own, strict=True)]
    assert after == pytest.approx(np.mean(alone), rel=1e-5)
    assert after != pytest.approx(loss.item(), rel=1e-3)


def test_one_member_is_the_model_of_versions_without_members():
    """The numbers were computed before there were members."""
    wave = torch.arange(2 * 5 * 7 * 6, dtype=torch.float32).reshape(2, 5, 7, 6)
    wave = wave.mul(0.37).sin().add(1).div(2)
    torch.manual_seed(3)
    model = ClipClassifier(ClassConfig(height=7, width=6, classes=3, hidden_size=4))
    drawn = torch.rand(1).item()
    y, state = model(wave)
    expected = [[-1.0776, -1.3597, -0.9092], [-1.0896, -1.3810, -0.8859]]
    np.testing.assert_allclose(y[:, -1].detach(), expected, atol=1e-4)
    assert drawn == pytest.approx(0.1759, abs=1e-4)
    assert list(state.asdict()) == ["h", "c", "past", "total", "count"]
    torch.manual_seed(3)
    model = FramePredictor(FrameConfig(height=7, width=6, hidden_size=4))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    y, state = model(wave)
    expected = [-0.1815, -0.0746, 0.6924, 0.9990, -0.5712, 0.0496]
    np.testing.assert_allclose(y[0, -1, 3].detach(), expected, atol=1e-4)
    rolled, _ = model.roll(y[:, -1], state, 2)
    expected = [0.8712, 0.7700, 0.1680, -0.3789, 2.1890, 1.3688]
    np.testing.assert_allclose(rolled[0, -1, 0].detach(), expected, atol=5e-4)
    assert list(state.asdict()) == ["h", "c", "past", "slow", "seen"]
    assert not any(name.startswith("others") for name in model.state_dict())


def trained(tmp_path, goal: str, members: int):
    """(the data, what training reported, the model file)"""
    labels = {"labels": np.array(["a", "b"] * 6)} if goal == "class" else {}
    data = write_npz(tmp_path / f"{goal}.npz", clips=shifting(12, 8), **labels)
    settings = APPLICATION.settings(
        goal=goal, hidden=3, context=4, horizon=3, lanes=4, members=members
    )
    out = tmp_path / "m.safetensors"
    result = loop.train(APPLICATION, data, settings, TrainSettings(epochs=1), out)
    return data, result, from_bytes(out.read_bytes())


@pytest.mark.parametrize("goal", ["class", "frames"])
def test_training_saving_predicting_and_sessions(tmp_path, goal):
    data, result, file = trained(tmp_path, goal, 2)
    again = APPLICATION.reopen(None, file).evaluate(file.model, "test")
    assert again == pytest.approx(result["metrics"])
    first, second = separate(file.model)
    name = "recurrent.weight_hh_l0"
    assert (first.state_dict()[name] - second.state_dict()[name]).abs().max() > 0.01
    record = APPLICATION.predict(file, data, APPLICATION.predict_options(clip=3, frames=1))
    clip = np.load(data)["clips"][3]
    session = APPLICATION.session(file, "float32", APPLICATION.stream_options())
    answers = [answer for frame in clip for answer in session.feed(frame.tobytes())]
    if goal == "class":
        p = averaged_p([first, second], clip)
        assert list(record["classes"].values()) == pytest.approx(p.tolist(), abs=1e-4)
        assert answers[-1]["p"] == pytest.approx(p.max(), abs=1e-4)
    else:
        surprise = [answer["surprise"] for answer in answers[1:]]
        assert surprise == pytest.approx(record["surprise"], abs=1e-6)
    proof = prove(file, exports=("onnx", "c"))
    assert proof.ok, proof.checks
    assert "onnx in float32" in proof.skipped
    pytest.importorskip("plotly")
    found = APPLICATION.inspect(file, data)
    assert "the first of 2 members" in found.notes
    assert found.layers[0].trace.units == 3 * 3 * 4


def averaged_p(members, clip: np.ndarray) -> np.ndarray:
    x = torch.from_numpy(clip.astype(np.float32) / 255)[None]
    return np.mean([member(x)[0][0, -1].exp().detach().numpy() for member in members], 0)


def test_every_member_begins_as_the_regression(tmp_path):
    data = write_npz(tmp_path / "c.npz", clips=shifting(12, 8))
    settings = APPLICATION.settings(hidden=3, context=4, horizon=3, members=1)
    x = torch.from_numpy(np.load(data)["clips"][:2].astype(np.float32) / 255)
    answers = []
    for members in (1, 3):
        model = APPLICATION.prepare(data, replace(settings, members=members)).build()
        answers += [one(x)[0] for one in separate(model)]
    for answer in answers[1:]:  # the recurrent layers add nothing yet
        torch.testing.assert_close(answer, answers[0])
    assert (answers[0][:, :-1] - x[:, :-1]).abs().max() > 0.1  # not the last frame


@pytest.mark.parametrize("members", [0, 33, -1, 2.0, True, "3", None])
def test_other_numbers_of_members_are_refused(members):
    for build in (
        lambda: APPLICATION.settings(members=members),
        lambda: FrameConfig(**SIZES, members=members),
        lambda: ClassConfig(**SIZES, classes=2, members=members),
    ):
        with pytest.raises(ValueError, match=r"^members: expected a whole number from 1 to 32, "):
            build()


def test_a_model_file_without_members_has_one(tmp_path, monkeypatch):
    to_json = FrameConfig.to_json

    def without(config) -> dict:
        return {name: value for name, value in to_json(config).items() if name != "members"}

    _, _, two = trained(tmp_path, "frames", 2)
    _, result, file = trained(tmp_path, "frames", 1)
    del file.info["settings"]["members"]
    monkeypatch.setattr(FrameConfig, "to_json", without)
    data = file.to_bytes()
    assert b"members" not in data
    old = from_bytes(data)
    assert old.model.config.members == 1
    again = APPLICATION.reopen(None, old).evaluate(old.model, "test")
    assert again == pytest.approx(result["metrics"])
    with pytest.raises(ModelFileError):  # weights of two, where one is expected
        from_bytes(two.to_bytes())
