"""The page of a conversation."""

from memorycell.applications.chat.figures import chat_page


def test_page():
    turns = [
        {"said": "hello", "reply": "a long reply " * 9, "p": 0.4, "unsure": False},
        {"said": "<b>?", "reply": "", "p": 0.01, "unsure": True},
    ]
    page = chat_page(None, {"turns": turns})
    (figure,) = page.figures().values()
    bars = figure.data[0]
    assert list(bars.x) == [0.01, 0.4]
    assert bars.y[0] == "2. …"
    assert len(bars.y[1]) < 50
    assert "1.0% (unsure)" in page
    assert "<b>?" not in page
