"""Live models in a browser: typing, drawing, tables, rewinding, forking, saving."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from page_keys import read_items
from page_traffic import Traffic
from page_words import expected_words, wait_for_words

import memorycell


@pytest.fixture
def typing(page: Any, model_files: dict[str, Path]) -> Any:
    """The page with the text model, after "the cat "."""
    page.traffic = Traffic(page)
    page.goto("/#live/text")
    page.get_by_label("Text", exact=True).type("the cat ")
    wait_for_words(page, page, expected_words(model_files["text"], "the cat "))
    read_items(page, 8)
    return page


def test_typing_and_going_back_in_the_text(typing: Any, model_files: dict[str, Path]) -> None:
    file = model_files["text"]
    assert typing.locator(".time output").inner_text() == "8 of 8"
    typing.traffic.check(file)
    for _ in range(5):
        typing.keyboard.press("Backspace")
    wait_for_words(typing, typing, expected_words(file, "the"))
    typing.get_by_label("Text", exact=True).fill("then what")  # an edit in one go
    wait_for_words(typing, typing, expected_words(file, "then what"))


def test_a_long_text_is_read_in_parts(typing: Any, model_files: dict[str, Path]) -> None:
    text = "the cat sat on the mat and the dog sat on the cat. " * 40 + "so a d"
    typing.get_by_label("Text", exact=True).fill(text)
    wait_for_words(typing, typing, expected_words(model_files["text"], text))
    read = int(typing.locator(".time output").inner_text().split()[0])
    assert read < len(text) / 10
    label = typing.locator("canvas.heat").get_attribute("aria-label")
    assert 0 < int(label.split()[-2]) <= 400  # the last steps have gates
    typing.get_by_label("Text", exact=True).fill(text[:-3])
    wait_for_words(typing, typing, expected_words(model_files["text"], text[:-3]))


def test_time_rewinds_the_state(typing: Any, model_files: dict[str, Path]) -> None:
    file = model_files["text"]
    typing.get_by_label("Time").fill("3")
    wait_for_words(typing, typing, expected_words(file, "the"))
    typing.locator("h2", has_text="text").click()
    assert typing.locator(".time output").inner_text() == "3 of 8"
    typing.get_by_label("Time").fill("7")  # and forwards again
    wait_for_words(typing, typing, expected_words(file, "the cat"))


def test_a_fork_is_independent_or_reads_the_same(typing: Any, model_files: dict[str, Path]) -> None:
    file = model_files["text"]
    typing.get_by_role("button", name="Fork").click()
    first, second = (typing.locator(".column").nth(k) for k in (0, 1))
    wait_for_words(typing, second, expected_words(file, "the cat "))
    second.get_by_label("Text", exact=True).type("sat")
    wait_for_words(typing, second, expected_words(file, "the cat sat"))
    wait_for_words(typing, first, expected_words(file, "the cat sat"))
    typing.get_by_label("Every column reads the same input").uncheck()
    second.get_by_label("Text", exact=True).type(" on")
    wait_for_words(typing, second, expected_words(file, "the cat sat on"))
    wait_for_words(typing, first, expected_words(file, "the cat sat"))
    second.get_by_role("button", name="Close this column").click()
    assert typing.locator(".column").count() == 1


def test_two_precisions_on_the_same_input(typing: Any) -> None:
    typing.get_by_label("Another model or precision").select_option(label="text in int8")
    typing.get_by_role("button", name="Compare with").click()
    second = typing.locator(".column").nth(1)
    second.get_by_text("int8").wait_for()
    second.locator(".word").first.wait_for()
    assert second.locator(".time output").inner_text() == "8 of 8"


def test_a_saved_state_is_opened_again(typing: Any, model_files: dict[str, Path]) -> None:
    typing.get_by_label("Name of the saved state").fill("my cat")
    typing.get_by_role("button", name="Save state").click()
    saved = typing.get_by_label("Saved states")
    saved.wait_for()
    typing.get_by_label("Text", exact=True).type("is")
    read_items(typing, 10)
    saved.select_option(label="my-cat")
    typing.get_by_role("button", name="Open state").click()
    typing.locator(".time output", has_text="8 of 8").wait_for()
    area = typing.get_by_label("Text", exact=True)
    area.type("sat")
    wait_for_words(typing, typing, expected_words(model_files["text"], "the cat sat"))


def test_the_gates_of_every_step_are_drawn(typing: Any) -> None:
    assert "units over the last 8 steps" in typing.locator("canvas.heat").get_attribute(
        "aria-label"
    )
    assert "Memory horizon: half of the units" in typing.locator(".horizon").inner_text()
    typing.get_by_role("button", name="Cell c").click()
    assert typing.get_by_role("button", name="Cell c").get_attribute("aria-pressed") == "true"
    typing.get_by_role("spinbutton", name="Unit").fill("2")
    typing.keyboard.press("Enter")
    colours = typing.evaluate(
        """() => { const c = document.querySelector("canvas.heat");
        const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
        return new Set(new Uint32Array(d.buffer)).size }"""
    )
    assert colours > 20


def test_a_character_drawn_with_the_mouse(page: Any, model_files: dict[str, Path]) -> None:
    traffic = Traffic(page)
    items = traffic.items
    page.goto("/#live/digits")
    box = page.locator("canvas.drawing").bounding_box()
    page.mouse.move(box["x"] + 120, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 125, box["y"] + 210, steps=25)
    page.mouse.up()
    page.locator(".labels").wait_for()
    traffic.wait_for(page, lambda: items[-1:] == ["up"])
    read_items(page, len(items))
    assert len(items) > 20
    session = memorycell.load(model_files["digits"]).session()
    answers = [answer for item in items for answer in session.feed(item)]
    assert page.locator(".labels .country").first.inner_text() == answers[-1]["label"]
    shares = page.locator(".labels .value").first.inner_text()
    assert shares == f"{int(100 * answers[-1]['p'] + 0.5)}%"
    traffic.check(model_files["digits"])
    page.get_by_role("button", name="Undo stroke").click()
    page.get_by_text("Write a character in the field.").wait_for()


def forecast_rows(file: Path, count: int) -> list[dict[str, str]]:
    """Rows of the columns that a model reads."""
    from datetime import datetime, timedelta

    columns = memorycell.load(file).codec.row_columns
    start = datetime(2024, 1, 1)
    return [
        {
            c: f"{start + timedelta(hours=k)}" if c == "time" else str(round(50 + 10 * (k % 5), 1))
            for c in ["time", *(c for c in columns if c != "time")]
        }
        for k in range(count)
    ]


def test_a_table_that_is_dropped_is_played(page: Any, model_files: dict[str, Path]) -> None:
    rows = forecast_rows(model_files["forecast"], 30)
    text = "\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)])
    traffic = Traffic(page)
    page.goto("/#live/forecast")
    page.get_by_label("Speed", exact=True).select_option("Infinity")
    page.locator(".drop").evaluate(
        """(zone, text) => { const data = new DataTransfer();
        data.items.add(new File([text], "rows.csv", {type: "text/csv"}));
        const how = {dataTransfer: data, bubbles: true, cancelable: true};
        zone.dispatchEvent(new DragEvent("drop", how)) }""",
        text,
    )
    page.get_by_text("rows.csv: row 30 of 30").wait_for()
    session = memorycell.load(model_files["forecast"]).session()
    answers = [session.feed(row)[0] for row in rows]
    target, fan = next(iter(answers[-1]["forecast"].items()))
    assert target
    chart = page.locator(f"canvas[aria-label^='{answers[-1]['time']}']")
    note = chart.get_attribute("aria-label")
    assert "with probability 80%" in note
    assert f"in {len(fan['median'])} steps" in note
    traffic.check(model_files["forecast"])
    page.get_by_label("Time").fill("10")
    page.locator(f"canvas[aria-label^='{answers[9]['time']}']").wait_for()


def test_an_anomaly_is_named_with_its_columns(page: Any, model_files: dict[str, Path]) -> None:
    rows = [
        {
            "time": f"2024-01-01 00:{k:02d}:00",
            "account": f"a{k % 2}",
            "amount": "900" if k == 50 else str(10 + k % 3),
            "kind": "card" if k % 3 else "cash",
        }
        for k in range(51)
    ]
    text = "\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)])
    traffic = Traffic(page)
    page.goto("/#live/anomaly")
    page.get_by_label("Speed", exact=True).select_option("Infinity")
    page.locator("input[type=file]").set_input_files(
        {"name": "rows.csv", "mimeType": "text/csv", "buffer": text.encode()}
    )
    page.get_by_text("rows.csv: row 51 of 51").wait_for()
    session = memorycell.load(model_files["anomaly"]).session()
    answer = [session.feed(row)[0] for row in rows][-1]
    assert answer["anomaly"]
    page.locator(".blame", has_text=re.compile("^Anomaly. Responsible: amount")).wait_for()
    score = f"score {answer['score']:.3g}, threshold {answer['threshold']:.3g}"
    page.locator(f"canvas[aria-label$='{score}']").wait_for()
    traffic.check(model_files["anomaly"])


def test_a_bare_layer_reads_vectors(page: Any) -> None:
    page.goto("/#live/layer")
    page.get_by_label("3 numbers").fill("1 2 3")
    page.get_by_role("button", name="Step").click()
    page.locator("p.mono", has_text="…").wait_for()  # 12 of 16 outputs
    assert len(page.locator("p.mono").inner_text().split()) == 13


def test_a_table_without_the_columns_is_refused(page: Any) -> None:
    page.goto("/#live/forecast")
    page.locator(".drop").wait_for()
    page.locator("input[type=file]").set_input_files(
        {"name": "other.csv", "mimeType": "text/csv", "buffer": b"a,b\n1,2\n"}
    )
    page.get_by_role("alert").wait_for()
    assert "no column" in page.get_by_role("alert").inner_text()
    page.locator("input[type=file]").set_input_files(
        {"name": "broken.csv", "mimeType": "text/csv", "buffer": b"a,b\n1\n"}
    )
    page.get_by_text("broken.csv: line 2: 1 cells, but 2 columns").wait_for()
    for content, message in (
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00", "not a text file"),
        (b"", "line 1: expected the names of the columns"),
        (b"a,b\n", "no rows"),
    ):
        page.locator("input[type=file]").set_input_files(
            {"name": "other.csv", "mimeType": "text/csv", "buffer": content}
        )
        page.get_by_role("alert").filter(has_text=message).wait_for()


def test_a_row_that_cannot_be_read_is_named(page: Any, model_files: dict[str, Path]) -> None:
    """The rows before it are read, although all are sent together."""
    rows = forecast_rows(model_files["forecast"], 4)
    rows[3] = dict.fromkeys(rows[0], "<i>x</i>")
    text = "\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)])
    page.goto("/#live/forecast")
    page.get_by_label("Speed", exact=True).select_option("Infinity")
    page.locator("input[type=file]").set_input_files(
        {"name": "rows.csv", "mimeType": "text/csv", "buffer": text.encode("utf-16")}
    )
    page.get_by_role("alert").filter(has_text="rows.csv, row 4: ").wait_for()
    assert "<i>x</i>" in page.get_by_role("alert").inner_text()
    page.locator(".time output", has_text="3 of 3").wait_for()


def test_inspect_shows_metrics_gates_and_exports(page: Any, server: Any) -> None:
    page.goto("/#inspect/forecast")
    about = server.get("/v1/models/forecast")
    page.get_by_role("heading", name="Architecture").wait_for()
    assert page.locator(".methods .first").inner_text() == "this model"
    assert page.locator(".methods li").count() == 1 + len(about["baselines"])
    page.get_by_text(f"{about['architecture']['parameters']:,}", exact=True).wait_for()
    page.expected += ["inspection", "Failed to load resource"]  # its data are not here
    page.get_by_role("button", name="Measure them on its own data").click()
    page.get_by_text("Not measured: ").wait_for()


def test_a_model_file_is_described_without_being_served(
    page: Any, model_files: dict[str, Path]
) -> None:
    page.goto("/#inspect")
    page.locator("#upload").set_input_files(model_files["anomaly"])
    page.get_by_role("heading", name="anomaly.safetensors").wait_for()
    page.expected += ["400: ", "422: ", "Failed to load resource"]
    page.locator("#upload").set_input_files(
        {"name": "x.safetensors", "mimeType": "application/octet-stream", "buffer": b"no model"}
    )
    assert "x.safetensors" in page.get_by_role("alert").inner_text()
