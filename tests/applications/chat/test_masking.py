"""Names that people give, addresses, numbers and links are masked before learning."""

import json

import pytest

from memorycell.applications.chat.dialogues import read_dialogues
from memorycell.applications.chat.masking import mask, mask_dialogue


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("write to ann.b+c@mail.example.org please", "write to ‹email› please"),
        ("call (801) 555-0199 or 801-555-0199", "call ‹phone› or ‹phone›"),
        ("+49 30 1234 5678 works", "‹phone› works"),
        ("I live at 12 Old Mill Road, come", "I live at ‹address›, come"),
        ("see https://example.org/a?b=c now", "see ‹link› now"),
        ("My name is Ann Lee, and yours?", "My name is ‹name› ‹name›, and yours?"),
        ("people call me Rob", "people call me ‹name›"),
        ("my name's not important", "my name's not important"),
        ("call me later, it was 2014-2016", "call me later, it was 2014-2016"),
        ("I have 300 dollars and 12 cats", "I have 300 dollars and 12 cats"),
        ("4 8 15 16 23 42", "4 8 15 16 23 42"),
        ("on 12-04-99 it rained", "on 12-04-99 it rained"),
    ],
)
def test_what_is_masked(text, masked):
    assert mask(text) == masked


def test_a_given_name_is_masked_in_the_whole_dialogue():
    turns = ["hello", "hi, my name is Maria", "nice to meet you maria!", "Marian is my sister"]
    masked, count = mask_dialogue(turns)
    assert masked == [
        "hello",
        "hi, my name is ‹name›",
        "nice to meet you ‹name›!",
        "Marian is my sister",
    ]
    assert count == 2


def test_conversations_by_identifier_with_several_messages_per_turn(tmp_path):
    def turn(*texts):
        return [{"text": text, "sender": "x", "timestamp": "t"} for text in texts]

    path = tmp_path / "dataset.json"
    conversations = {
        "id-1": {"messages": [turn("Hello", "I am Ann"), turn("hey"), turn("bye")], "ratings": {}},
        "id-2": {"messages": [turn("anyone?"), turn("my name is Bob")], "prompt": ""},
    }
    path.write_text(json.dumps(conversations))
    dialogues, notes = read_dialogues(path, "x")
    assert dialogues == [["Hello I am Ann", "hey", "bye"], ["anyone?", "my name is ‹name›"]]
    assert any("masked: 1" in note for note in notes)
