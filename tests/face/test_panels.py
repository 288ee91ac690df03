"""Main pictures of drawing, video and control against the predictions of the same model."""

import base64
import io
import json
import re

import numpy as np
import plotly.graph_objects as go
import pytest
from PIL import Image
from quick import QUICK

import memorycell
from memorycell.application.picture import Panel, Picture
from memorycell.face.notebook import picture_html
from memorycell.face.panels import places
from memorycell.face.pictures import picture_figure

SMALL = {**QUICK, "baselines": False}


def test_drawing_shows_characters_of_the_test_split_and_drawn_ones():
    rng = np.random.default_rng(0)
    data = [([rng.normal(size=(9, 2)).cumsum(0)], "abc"[k % 3]) for k in range(120)]
    model = memorycell.train("drawing", data, **SMALL)
    picture = model.picture
    assert picture.rows == ["a", "b", "c"]
    assert len(picture.panels) == 15
    sizes = {"a": set(), "b": set(), "c": set()}
    for strokes, label in data:
        sizes[label].add(round(float(np.ptp(strokes[0][:, 0]) / np.ptp(strokes[0][:, 1])), 2))
    for row, text in enumerate(picture.rows):
        first, *drawn = picture.panels[5 * row : 5 * row + 5]
        width, height = np.ptp(np.array(first.strokes[0]), axis=0)
        assert any(abs(width / height - size) < 0.05 for size in sizes[text])
        expected = model.predict(text, count=4)["drawings"]
        for panel, one in zip(drawn, expected, strict=True):
            assert [np.array(s).tolist() for s in panel.strokes] == one["strokes"]
    assert model._repr_html_().count("<polyline") >= 15
    figure = model.figure("main")
    assert len(figure.data) == sum(len(panel.strokes) for panel in picture.panels)


def test_video_shows_frames_their_predictions_and_the_differences():
    rng = np.random.default_rng(0)
    frames = (255 * rng.random((30, 8, 12, 16))).astype(np.uint8)
    model = memorycell.train("video", frames, context=5, horizon=3, **SMALL)
    picture = model.picture
    assert picture.rows == ["true", "predicted", "difference"]
    rows = np.array([[panel.frame for panel in picture.panels[4 * r + 1 : 4 * r + 4]]
                     for r in range(3)])  # fmt: skip
    assert rows.shape == (3, 3, 12, 16)
    seen = np.array(picture.panels[0].frame)
    (k,) = np.flatnonzero((frames[:, 4] == seen).all((1, 2)))
    np.testing.assert_array_equal(rows[0], frames[k, 5:])
    predicted = np.array(model.predict(frames[k, :5], frames=3)["predicted"])
    assert np.abs(rows[1] - predicted).max() <= 1
    assert np.abs(rows[2] - np.abs(rows[0] - rows[1])).max() <= 1
    assert [panel.caption for panel in picture.panels[9:]] == ["+1", "+2", "+3"]
    heat = model.figure("main").data
    np.testing.assert_array_equal(heat[0].z, seen)
    assert len(heat) == 10


def test_a_policy_shows_its_returns_and_an_episode():
    model = memorycell.train("control", "CartPole-v1", steps=2, hidden=4, environments=4,
                             rollout=16, episodes=20, checked=2, baseline_share=0.05,
                             progress=False)  # fmt: skip
    returns, observations, actions = model.picture.parts
    assert np.mean(returns.lines["memorycell"]) == pytest.approx(model.metrics["return"], rel=1e-3)
    random = model.baselines["random actions"]["return"]
    assert np.mean(returns.lines["random actions"]) == pytest.approx(random, rel=1e-3)
    assert returns.lines["memorycell"] == sorted(returns.lines["memorycell"])
    number = int(re.search("number ([0-9]+)", model.picture.title)[1])
    played = model.predict(episode=number)
    assert played["return"] == pytest.approx(sorted(returns.lines["memorycell"])[9])
    count = len(actions.x)
    assert count == min(played["steps"], 120)
    assert actions.lines["action"] == [step["action"] for step in played["trace"][:count]]
    seen = np.array([step["observation"] for step in played["trace"][:count]])
    np.testing.assert_allclose(np.array(list(observations.lines.values())).T, seen, rtol=1e-4)
    figure = model.figure("main")
    assert len(figure.data) == 2 + 4 + 1
    assert model._repr_html_().count("<svg") == 3


def test_logged_actions_are_shown_next_to_those_of_the_model(tmp_path):
    rng = np.random.default_rng(0)
    sides = ["left", "right"]
    rows = [(f"e{k // 9}", *rng.normal(size=2).round(3), sides[k % 2]) for k in range(180)]
    text = "\n".join(["episode,obs_a,obs_b,action", *(",".join(map(str, row)) for row in rows)])
    (tmp_path / "log.csv").write_text(text)
    model = memorycell.train("control", tmp_path / "log.csv", **SMALL)
    observations, actions = model.picture.parts
    name = model.picture.title.removeprefix("Test episode ")
    own = [row for row in rows if row[0] == name]
    assert observations.lines["obs_a"] == [row[1] for row in own]
    assert actions.lines["logged"] == [sides.index(row[3]) for row in own]
    assert actions.title == "action (0: left, 1: right)"
    (answer,) = [one for one in model.predict(tmp_path / "log.csv")["episodes"]
                 if one["episode"] == name]  # fmt: skip
    assert [sides[int(k)] for k in actions.lines["memorycell"]] == answer["actions"]


def test_panels_of_a_picture():
    frame = [[0, 128, 255], [255, 0, 7]]
    stroke = [(0.0, 0.0), (30.0, 10.0)]
    panels = [Panel(frame=frame, caption="<b>"), Panel(), Panel(strokes=[stroke, [(1.0, 1.0)]]),
              Panel(strokes=[[(5.0, 5.0)]])]  # fmt: skip
    picture = Picture(title="<i>", panels=panels, rows=["<u>", "second"])
    assert Picture.from_json(json.loads(json.dumps(picture.to_json()))) == picture
    html = picture_html(picture)
    assert not {"<b>", "<i>", "<u>"} & set(re.findall("<.>", html.split("</b>", 1)[1]))
    (data,) = re.findall('base64,([^"]*)', html)
    np.testing.assert_array_equal(Image.open(io.BytesIO(base64.b64decode(data))), frame)
    found, height = places(picture)
    for place in found[2:]:
        points = np.concatenate(place.strokes())
        assert (points >= [place.left, place.top]).all()
        assert (points <= [place.left + place.width, place.top + place.height]).all()
    assert found[-1].top + found[-1].height < height
    (x0, y0), (x1, y1) = found[2].strokes()[0]
    assert (x1 - x0) / (y1 - y0) == pytest.approx(3)  # shapes are kept
    assert isinstance(picture_figure(picture), go.Figure)


@pytest.mark.parametrize("rows", [[], ["a", "b"]])
def test_panels_fill_their_rows(rows):
    with pytest.raises(ValueError, match="panels that do not fill the rows"):
        Picture(title="t", panels=[Panel()] * 3, rows=rows)
