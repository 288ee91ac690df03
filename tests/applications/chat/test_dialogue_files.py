"""Dialogues as other programs write them: layouts, encodings, what is left out and refused."""

import gzip
import json
import re

import pytest

from memorycell.applications.chat.dataset import dialogue_tokens, split_dialogues
from memorycell.applications.chat.dialogues import (
    REPLY_TOKEN,
    USER_TOKEN,
    read_dialogues,
)
from memorycell.applications.chat.replies import PredictOptions
from memorycell.applications.chat.settings import ChatSettings
from memorycell.errors import DataError
from memorycell.language.codec import fit_text_codec

TALK = [["Hello", "Hi there", "How are you?", "Fine"], ["Bye", "See you"]]


def user(content):
    return {"role": "user", "content": content}


def reply(content, **fields):
    return {"role": "assistant", "content": content, **fields}


def read(tmp_path, text, name="a.jsonl", encoding=None, **options):
    """(dialogues, notes)"""
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_dialogues(path, name, encoding, **options)


def read_messages(tmp_path, *messages):
    return read(tmp_path, json.dumps({"messages": messages}))


def test_calls_of_tools_and_their_results_are_left_out(tmp_path):
    dialogues, notes = read_messages(
        tmp_path,
        {"role": "system", "content": "You have a calculator."},
        user("two plus two?"),
        reply(None, tool_calls=[{"function": {"name": "add", "arguments": "{}"}}]),
        {"role": "tool", "content": '{"sum": 4}'},
        reply("It is 4."),
        user("thanks"),
        {"role": "assistant", "tool_calls": []},
        reply("You are welcome."),
    )
    assert dialogues == [["two plus two?", "It is 4.", "thanks", "You are welcome."]]
    assert notes == [
        "1 turn: of the system, not learned",
        "2 turns: without text, such as calls of tools, left out",
        "1 turn: of the tool, not learned",
    ]


def test_content_in_parts_is_its_texts(tmp_path):
    picture = {"type": "image_url", "image_url": {"url": "data:,"}}
    parts = [{"type": "text", "text": "What is"}, picture, {"type": "text", "text": "this?"}]
    dialogues, notes = read_messages(
        tmp_path, user(parts), reply([{"type": "output_text", "text": "A cat."}])
    )
    assert dialogues == [["What is this?", "A cat."]]
    assert notes == ["1 turn: images and other parts without text, left out"]


def test_replies_to_a_picture_alone_are_not_learned(tmp_path):
    picture = user([{"type": "image_url", "image_url": {"url": "data:,"}}])
    dialogues, notes = read_messages(tmp_path, user("Hello"), reply("Hi"), picture, reply("A cat."))
    assert dialogues == [["Hello", "Hi"]]
    assert "1 turn: a dialogue cut before a user's turn without text" in notes


def test_a_greeting_is_a_turn_of_its_own(tmp_path):
    dialogues, _ = read_messages(
        tmp_path, reply("How can I help?"), user("I am Ann"), reply("Hello Ann")
    )
    assert dialogues == [["", "How can I help?", "I am Ann", "Hello Ann"]]
    codec = fit_text_codec(
        [turn for turn in dialogues[0] if turn] * 2,
        "word",
        vocabulary=50,
        special_tokens=(USER_TOKEN, REPLY_TOKEN),
        lower=True,
    )
    surfaces = [codec.surfaces[token] for token in dialogue_tokens(codec, dialogues[0])]
    assert surfaces[:4] == ["<end>", "<me>", " how", " can"]
    assert surfaces.count("<you>") == 1
    # The split depends on the user's first turn, not on the greeting that all share.
    talks = [["", "How can I help?", f"question {k}", "answer"] for k in range(200)]
    assert all(len(part) > 5 for part in split_dialogues(talks).values())


def test_turns_of_one_speaker_in_a_row_are_joined(tmp_path):
    dialogues, notes = read_messages(
        tmp_path, user("Hello"), user("are you there?"), reply("Yes"), reply("I am.")
    )
    assert dialogues == [["Hello are you there?", "Yes I am."]]
    assert notes == ["2 turns: joined with the one before, of the same role"]


@pytest.mark.parametrize(
    "value",
    [
        {"conversations": [{"from": "human", "value": "Bye"}, {"from": "gpt", "value": "See you"}]},
        {"conversations": [user("Bye"), reply("See you")], "id": "x1"},
        {"instruction": "Bye", "input": "", "output": "See you"},
        {"instruction": "Bye", "output": "See you"},
        {"prompt": "Bye", "completion": "See you"},
        {"prompt": [user("Bye")], "completion": [reply("See you")]},
        {"question": "Bye", "answer": "See you"},
        {"dialog": ["Bye", "See you"]},
        {"messages": [{"role": "User", "content": "Bye"}, {"role": "MODEL", "text": "See you"}]},
        ["Bye", "See you"],
        [user("Bye"), reply("See you")],
        {"turns": ["Bye", "See you", None, "never"]},
    ],
)
def test_layouts(tmp_path, value):
    assert read(tmp_path, json.dumps(value) + "\n")[0] == TALK[1:]


def test_alpaca_with_an_input_and_a_history(tmp_path):
    value = {
        "instruction": "Translate.",
        "input": "chat",
        "output": "cat",
        "history": [["Hello", "Hi"]],
        "system": "Be brief.",
    }
    dialogues, notes = read(tmp_path, json.dumps([value, value]), "a.json")
    assert dialogues == [["Hello", "Hi", "Translate.\nchat", "cat"]]
    assert "1 dialogue: repeated, used once" in notes
    assert "2 turns: of the system, not learned" in notes


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(TALK),
        json.dumps([{"turns": turns} for turns in TALK], indent=2),
        json.dumps({"data": [{"turns": turns} for turns in TALK]}),
        json.dumps({"conversations": TALK}),
        '[{"turns": ["Hello", "Hi there", "How are you?", "Fine"]},\n["Bye", "See you"],\n]\n',
        "[\n" + ",\n".join(json.dumps(turns) for turns in TALK) + ",\n]\n",
        ",\r\n".join(json.dumps(turns) for turns in TALK) + ",\r\n",
        "\ufeff" + "\n\n".join(json.dumps(turns) for turns in TALK),
    ],
)
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_arrays_and_lines(tmp_path, text, name):
    assert read(tmp_path, text, name)[0] == TALK


def test_gzipped_files_and_encodings(tmp_path):
    lines = "\n".join(json.dumps(turns) for turns in TALK)
    assert read(tmp_path, gzip.compress(lines.encode()), "a.jsonl.gz")[0] == TALK
    rows = "\r\n".join("\t".join(turns) for turns in [*TALK, ["Café?", "Déjà vu"]])
    for encoding in ("utf-8-sig", "utf-16"):
        found, _ = read(tmp_path, rows.encode(encoding), "a.tsv")
        assert found[-1] == ["Café?", "Déjà vu"]
    with pytest.raises(DataError, match="line 3: byte .* --set encoding=cp1252"):
        read(tmp_path, rows.encode("cp1252"), "a.tsv")
    assert read(tmp_path, rows.encode("cp1252"), "a.tsv", "cp1252")[0][-1][0] == "Café?"
    with pytest.raises(DataError, match="--set encoding=utf-16-le"):
        read(tmp_path, rows.encode("utf-16-le"), "a.tsv")
    with pytest.raises(DataError, match="not a complete gzipped file"):
        read(tmp_path, gzip.compress(rows.encode())[:-9], "a.tsv.gz")


def test_quotation_marks_in_tab_separated_dialogues(tmp_path):
    found, notes = read(tmp_path, 'sep=\t\nHello\t"Hi ""there"""\nBye\tSee you\n', "a.tsv")
    assert found == [["Hello", 'Hi "there"'], ["Bye", "See you"]]
    assert "quotation marks around cells removed" in notes[0]
    found, notes = read(tmp_path, '"Hello\tHi\nBye\t"See" you\nYes\tNo"\n', "a.tsv")
    assert found == [['"Hello', "Hi"], ["Bye", '"See" you'], ["Yes", 'No"']]
    assert notes == []


def test_yaml_scalars_stay_text(tmp_path):
    text = (
        "conversations:\n- - Is it on?\n  - yes\n- - When?\n  - 12:30\n- - A\n  - note: this\n- B\n"
    )
    found, notes = read(tmp_path, text, "a.yml", lossy=True)
    assert found == [["Is it on?", "yes"], ["When?", "12:30"], ["A", "note: this"]]
    assert notes == ["1 of 4 dialogues left out: without a reply"]
    deep = "conversations: " + "[" * 3000 + "]" * 3000
    with pytest.raises(DataError, match="not a chatterbot YAML file"):
        read(tmp_path, deep, "a.yml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('["a", "b"]\n{"train": 1, "b": 2}', "line 2: .*got the fields 'train, b'"),
        ('{"messages": [{"role": "narrator", "content": "x"}]}', "line 1: role 'narrator'"),
        ('["a", "b"]\n{"messages": [{"content": "x"}]}', "line 2: role None"),
        ('{"messages": 5}', "line 1: expected a list of turns, got 5"),
        ('{"messages": ["a", {"role": "user"}]}', "line 1: expected messages with a role"),
        ('["a", "b"]\n["a", true]', "line 2: expected a text, got True"),
        ('{"messages": [{"role": "user", "content": {"text": ["x"]}}]}', "expected a text"),
        ('["a", "b"]\n5', "line 2: expected a list of turns or an object, got 5"),
        ('["a", "b"]\n' + "[" * 200_000, "line 2: is not JSON"),
        ('["a", "b"]\n["a", NaN]', "line 2: is not JSON"),
        ('["a", "b"]\n["a", "\\ud800"]', "line 2: is not JSON"),
        ('{"prompt": "\x1b[31m", "chosen": "\\u001b[2J\\nmemorycell: ok"}', "line 1"),
        ('{"instruction": "a", "output": "b", "history": [["x"]]}', "history: expected pairs"),
    ],
)
def test_errors_are_one_line(tmp_path, text, message):
    with pytest.raises(DataError) as caught:
        read(tmp_path, text)
    line = str(caught.value)
    assert re.search(message, line), line
    assert len(line) < 300 + len(str(tmp_path))
    assert line.isprintable()


def test_a_damaged_document_names_the_line(tmp_path):
    text = json.dumps([{"turns": turns} for turns in TALK], indent=1).replace('"Bye"', "Bye")
    with pytest.raises(DataError, match=rf"line {text[: text.index('Bye')].count(chr(10)) + 1}: "):
        read(tmp_path, text, "a.json")


def test_more_than_a_twentieth_left_out_is_refused(tmp_path):
    rows = [json.dumps([f"question {k}", f"answer {k}"]) for k in range(90)]
    rows += [json.dumps([f"statement {k}"]) for k in range(10)]
    with pytest.raises(DataError, match=r"10 of 100 dialogues .*without a reply.*lossy=true"):
        read(tmp_path, "\n".join(rows))
    dialogues, notes = read(tmp_path, "\n".join(rows), lossy=True)
    assert len(dialogues) == 90
    assert notes == ["10 of 100 dialogues left out: without a reply"]
    assert len(read(tmp_path, "\n".join(rows[:94]))[0]) == 90


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (ChatSettings, {"encoding": "klingon"}),
        (ChatSettings, {"encoding": "hex"}),
        (ChatSettings, {"encoding": "idna"}),
        (ChatSettings, {"encoding": "a\0b"}),
        (PredictOptions, {"temperature": float("nan")}),
        (PredictOptions, {"temperature": float("inf")}),
        (PredictOptions, {"temperature": -1.0}),
        (PredictOptions, {"top_p": 0.0}),
        (PredictOptions, {"top_p": float("nan")}),
        (PredictOptions, {"top_p": 1.1}),
        (PredictOptions, {"top_k": -1}),
        (PredictOptions, {"seed": -1}),
        (PredictOptions, {"beam": 101}),
        (PredictOptions, {"length": 0}),
        (PredictOptions, {"length": 10**9}),
    ],
)
def test_settings_and_options_are_checked(kind, values):
    with pytest.raises(ValueError, match=rf"^{next(iter(values))}="):
        kind(**values)
