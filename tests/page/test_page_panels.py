"""The panels of video, control, sequences, sentiment, translation and chat."""

from __future__ import annotations

import base64
import io
import json
import re
from typing import Any

import numpy as np
import panel_models
import pytest
from page_keys import read_items
from page_traffic import Traffic, run_cli
from panel_models import Panels
from PIL import Image

import memorycell


@pytest.fixture(scope="module")
def server(panels: Panels) -> Panels:
    """In place of the server of the other tests."""
    return panels


def pixels(page: Any, title: str) -> np.ndarray:
    """[height, width] uint8 of a canvas of frames, by the start of its label."""
    values = page.locator(f"canvas[aria-label^='{title}']").evaluate(
        """(c) => Array.from(c.getContext("2d").getImageData(0, 0, c.width, c.height).data)"""
    )
    height, width = panel_models.FRAME
    return np.array(values, np.uint8).reshape(height, width, 4)[..., 0]


def test_moving_digits_and_their_predicted_frames(page: Any, server: Panels) -> None:
    traffic = Traffic(page)
    items = traffic.items
    page.add_init_script("Math.random = () => 0.1")  # of the directions: no step below a pixel
    page.goto("/#live/video")
    for k in range(1, 5):
        page.get_by_role("button", name="One frame").click()
        read_items(page, k)
    session = memorycell.load(server.files["video"]).session()
    answers = [session.feed(item)[0] for item in items]
    frames = [np.frombuffer(base64.b64decode(item[4:]), np.uint8) for item in items]
    assert all(frame.max() > 100 for frame in frames)  # a digit is there, and it moves
    assert (frames[0] != frames[1]).any()
    assert (pixels(page, "Frame read of frame 4").ravel() == frames[3]).all()
    predicted = [np.frombuffer(base64.b64decode(a["next"]), np.uint8) for a in answers]
    assert (pixels(page, "Predicted next").ravel() == predicted[3]).all()
    assert (pixels(page, "Expected for frame 4").ravel() == predicted[2]).all()
    difference = np.abs(frames[3].astype(int) - predicted[2])
    assert (pixels(page, "Difference").ravel() == difference).all()
    surprise = float(f"{answers[3]['surprise']:.3g}")
    page.get_by_text(f"Frame 4: surprise {surprise} (mean").wait_for()
    traffic.check(server.files["video"])
    # A channel of the convolutional layer is a unit of the map.
    page.locator("canvas.heat[aria-label*='4 units over the last 4 steps']").wait_for()
    page.get_by_label("Time").fill("2")  # and the digits continue from there
    read_items(page, 2)
    page.get_by_role("button", name="One frame").click()
    page.locator("canvas[aria-label='Frame read of frame 3']").wait_for()
    assert items[-1] == items[2]


def test_a_drawn_shape_and_its_own_predictions(page: Any, server: Panels) -> None:
    traffic = Traffic(page)
    items = traffic.items
    page.goto("/#live/video")
    source = page.get_by_label("Frames", exact=True)
    source.select_option("shape")
    page.get_by_role("button", name="One frame").click()
    assert "Draw a shape" in page.get_by_role("alert").inner_text()
    box = page.locator("canvas.drawing").bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 90, box["y"] + 90, steps=8)
    page.mouse.up()
    page.get_by_role("button", name="One frame").click()
    read_items(page, 1)
    frame = np.frombuffer(base64.b64decode(items[0][4:]), np.uint8)
    assert frame.max() > 100
    source.select_option("itself")
    page.get_by_role("button", name="One frame").click()
    read_items(page, 2)
    session = memorycell.load(server.files["video"]).session()
    assert items[1] == "raw:" + session.feed(items[0])[0]["next"]
    traffic.check(server.files["video"])


def test_frames_from_picture_files(page: Any, server: Panels) -> None:
    traffic = Traffic(page)
    items = traffic.items
    page.goto("/#live/video")
    page.get_by_label("Frames", exact=True).select_option("files")
    files = []
    for k in (10, 2):
        picture = io.BytesIO()
        Image.fromarray(np.full((*panel_models.FRAME, 3), 10 * k, np.uint8)).save(picture, "png")
        files.append({"name": f"{k}.png", "mimeType": "image/png", "buffer": picture.getvalue()})
    page.locator("input[type=file]").set_input_files(files)
    page.get_by_text("2 frames", exact=True).wait_for()
    for k in (1, 2):
        page.get_by_role("button", name="One frame").click()
        read_items(page, k)
    traffic.check(server.files["video"])
    levels = [set(base64.b64decode(item[4:])) for item in items]
    assert levels == [{20}, {100}]  # in the order of the numbers in their names


def test_simulations_are_those_of_gymnasium(page: Any, server: Panels) -> None:
    """From the same states, with the same actions."""
    gymnasium = pytest.importorskip("gymnasium")
    page.goto("/")
    rng = np.random.default_rng(3)
    run = """async ([name, state, actions]) => {
      const { worldOf } = await import("/worlds.js");
      const kind = worldOf(name), seen = [];
      let world = state;
      for (const action of actions) {
        const { world: next, reward, done } = kind.step(world, action);
        seen.push([...kind.observe(next), reward, Number(done)]);
        world = next;
      }
      return seen }"""
    cases = {
        "CartPole-v1": (
            ["x", "v", "angle", "spin"],
            [0.1, -0.4, 0.05, 0.3],
            rng.integers(0, 2, 60),
        ),
        "Pendulum-v1": (["angle", "spin"], [2.4, -0.7], 3 * rng.normal(size=60)),
    }
    for name, (names, state, actions) in cases.items():
        environment = gymnasium.make(name).unwrapped
        environment.reset(seed=0)
        environment.state = np.array(state, np.float64)
        if name == "CartPole-v1":
            environment.steps_beyond_terminated = None
        expected = []
        for action in actions:
            given = int(action) if name == "CartPole-v1" else np.array([action])
            observation, reward, terminated, _, _ = environment.step(given)
            expected.append([*observation, float(reward), float(terminated)])
            if terminated:
                break
        start = dict(zip(names, state, strict=True))
        found = page.evaluate(run, [name, start, actions[: len(expected)].tolist()])
        assert len(expected) > 10
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


def test_a_policy_acts_on_what_it_sees(page: Any, server: Panels) -> None:
    traffic = Traffic(page)
    items = traffic.items
    page.goto("/#live/cartpole")
    for k in range(1, 6):
        page.get_by_role("button", name="One step").click()
        read_items(page, k)
    seen = [json.loads(item) for item in items]
    assert [len(values) for values in seen] == [2] * 5  # position and angle: no velocities
    session = memorycell.load(server.files["cartpole"]).session()
    actions = [session.feed(item)[0]["action"] for item in items]
    page.get_by_text(f"push {['left', 'right'][actions[-1]]} with probability").wait_for()
    assert page.locator(".not-seen").all_inner_texts() == [
        f"{name}\nhidden" for name in ("velocity", "angular velocity")
    ]
    traffic.check(server.files["cartpole"])
    # The cart's next place follows from the velocity that the last action gave it.
    page.get_by_label("Time").fill("3")
    read_items(page, 3)
    page.get_by_role("button", name="One step").click()
    read_items(page, 4)
    assert items[-1] == items[3]
    page.get_by_role("button", name="Push it →").click()
    read_items(page, 5)
    assert items[-1] != items[4]


def test_the_sign_of_the_maze_is_seen_once(page: Any, server: Panels) -> None:
    traffic = Traffic(page)
    items = traffic.items
    page.goto("/#live/maze")
    page.get_by_label("Sign of the next episode").select_option("1")
    for k in range(1, 6):
        page.get_by_role("button", name="One step").click()
        read_items(page, k)
    assert [json.loads(item) for item in items[:4]] == [[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert items[4] == "reset"
    session = memorycell.load(server.files["maze"]).session()
    turn = [session.feed(item) for item in items[:4]][-1][0]["action"]
    page.get_by_text(f"The episode has ended. Step 4, return {turn}").wait_for()
    traffic.check(server.files["maze"])


def test_classes_of_a_sequence_over_time(page: Any, server: Panels) -> None:
    traffic = Traffic(page)
    page.goto("/#live/sequences")
    page.get_by_label("Speed", exact=True).select_option("Infinity")
    page.locator("input[type=file]").set_input_files(
        {"name": "rows.csv", "mimeType": "text/csv", "buffer": server.rows.encode()}
    )
    page.get_by_text("rows.csv: row 24 of 24").wait_for()
    names, *lines = [line.split(",") for line in server.rows.split("\n")]
    session = memorycell.load(server.files["sequences"]).session()
    answers = [session.feed(dict(zip(names, line, strict=True)))[0] for line in lines]
    last = answers[-1]
    own = [a for a in answers if a["recording"] == last["recording"]]
    sure = next((a["step"] for a in own if a["sure"]), None)
    expected = f"recording r1, row 12: {last['label']}, {int(100 * last['p'] + 0.5)}%"
    expected += f" Sure since row {sure}." if sure else " Not sure yet"
    page.locator(".verdict", has_text=expected).wait_for()
    chart = page.locator("canvas[aria-label*='over 12 rows']")
    assert "low" in chart.get_attribute("aria-label")
    traffic.check(server.files["sequences"])
    page.get_by_role("button", name="End sequence").click()
    page.locator(".verdict", has_text="recording r1, ended after 12 rows").wait_for()
    # The map has a column for each row, also of rows that were sent together.
    page.get_by_label("Time").fill("20")
    page.locator("canvas.heat[aria-label*='over the last 20 steps']").wait_for()


def test_words_behind_a_label(page: Any, server: Panels) -> None:
    traffic = Traffic(page)
    page.goto("/#live/sentiment")
    page.get_by_label("Text", exact=True).fill("a great and lovely film")
    page.keyboard.press("Enter")
    page.locator(".weighted mark").first.wait_for()
    traffic.check(server.files["sentiment"])
    words = ("predict", str(server.files["sentiment"]), "a great and lovely film", "--json")
    record = json.loads(run_cli(b"", *words)[-1])["texts"][0]
    words = page.locator(".weighted mark")
    titles = [word.get_attribute("title") for word in words.all()]
    points = [float(title.split()[0].replace("−", "-")) for title in titles]
    np.testing.assert_allclose(points, [100 * w["weight"] for w in record["words"]], atol=0.051)
    assert page.locator(".labelled .chip").count() == 5


def test_a_translation_with_its_attention(page: Any, server: Panels) -> None:
    page.goto("/#live/translation")
    text = "the red cat sees the dog"
    page.get_by_label("Text to translate").fill(text)
    page.get_by_role("button", name="Translate").click()
    words = ("predict", str(server.files["translation"]), text, "--json")
    stored = "similarity" in json.loads(run_cli(b"", *words)[-1])["translations"][0]
    page.locator(".reply").wait_for()
    assert page.get_by_text("the stored translation of a sentence").count() == stored
    page.get_by_label("Use its translation memory").uncheck()
    page.get_by_role("button", name="Translate").click()
    page.locator(".attention").wait_for()
    record = json.loads(run_cli(b"", *words, "--set", "memory=no")[-1])
    one = record["translations"][0]
    assert page.locator(".reply").inner_text() == one["text"]
    cells = page.locator(".attention td[title]").all()
    shares = [int(cell.get_attribute("title").rstrip("%")) for cell in cells]
    expected = [int(100 * v + 0.5) for row in one["attention"] for v in row]
    assert shares == expected
    first = page.locator("button.chip").first
    first.focus()
    assert "most attention to" in first.get_attribute("aria-label")
    assert "chosen" in first.get_attribute("class")


def test_only_the_exports_that_a_model_has(page: Any, server: Panels) -> None:
    for name in ("translation", "cartpole"):
        exports = server.server.get(f"/v1/models/{name}")["exports"]
        model = memorycell.load(server.files[name])
        able = []
        for to in model.application.exporters:
            try:
                model.application.exporters[to].check(model)
                able.append(to)
            except memorycell.errors.UserError:
                pass
        assert [to for to, reason in exports.items() if reason is None] == able
        page.goto("about:blank")
        page.goto(f"/#inspect/{name}")
        page.get_by_role("heading", name=name, exact=True).wait_for()
        names = {"onnx": "Export to ONNX", "c": "Export to C99"}
        buttons = page.get_by_role("button", name=re.compile("^Export to")).all_inner_texts()
        assert buttons == [names[to] for to in able]


def test_a_conversation(page: Any, server: Panels) -> None:
    traffic = Traffic(page)
    page.goto("/#live/chat")
    page.get_by_label("Message").fill("I like red number 7")
    page.keyboard.press("Enter")
    page.locator(".theirs").wait_for()
    page.get_by_label("Message").fill("<b>what do I like?</b>")
    page.get_by_role("button", name="Send").click()
    page.locator(".theirs").nth(1).wait_for()
    traffic.check(server.files["chat"])
    replies = [records[0] for records in traffic.answers]
    for element, reply in zip(page.locator(".theirs").all(), replies, strict=True):
        assert element.inner_text().startswith(f"{reply['reply']} {int(100 * reply['p'] + 0.5)}%")
    assert page.locator(".mine").all_inner_texts()[1] == "<b>what do I like?</b>"


@pytest.mark.parametrize(
    ("name", "other", "title"),
    [("cartpole", "cartpole in int8", "cartpole int8"), ("video", "twin", "twin")],
)
def test_a_fork_and_a_comparison(
    page: Any, server: Panels, name: str, other: str, title: str
) -> None:
    """The fork has the same past; all columns read what one of them reads."""
    traffic = Traffic(page)
    page.goto(f"/#live/{name}")
    step = page.get_by_role("button", name=re.compile("^One (frame|step)$"))
    step.click()
    read_items(page, 1)
    page.get_by_role("button", name="Fork").click()
    page.locator(".column").nth(1).locator(".time output", has_text="1 of 1").wait_for()
    first = page.locator(".column").first
    first.get_by_label("Another model or precision").select_option(label=other)
    first.get_by_role("button", name="Compare with").click()
    third = page.locator(".column").nth(2)
    third.get_by_role("heading", name=title).wait_for()
    third.locator(".time output", has_text="1 of 1").wait_for()
    assert traffic.items[0] == traffic.items[1]  # the comparison reads the past
    step.first.click()
    for column in page.locator(".column").all():
        column.locator(".time output", has_text="2 of 2").wait_for()
    assert len(set(traffic.items[2:])) == 1
    assert len(traffic.items) == 5
    assert traffic.answers[2] == traffic.answers[3]  # the column and its fork
    page.get_by_label("Every column reads the same input").uncheck()
    page.locator(".column").nth(1).get_by_role("button", name="Start again").click()
    page.locator(".column").nth(1).locator(".time output", has_text="0 of 0").wait_for()
    assert first.locator(".time output").inner_text() == "2 of 2"
