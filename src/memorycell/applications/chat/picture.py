"""The main picture of a chat model: replies to messages of the test split."""

from __future__ import annotations

from typing import Any

from memorycell.application.picture import MAX_CELL_CHARS, Picture
from memorycell.applications.chat.dataset import ChatDataset
from memorycell.language.model import LanguageModel

MAX_SHOWN = 6


def chat_picture(
    dataset: ChatDataset, model: LanguageModel, result: dict[str, Any]
) -> Picture | None:
    """The first of the replies that were compared with those of people; see `compare_replies`."""
    examples = result.get("examples") or []
    rows = [
        [str(one[key])[:MAX_CELL_CHARS] for key in ("source", "ours", "wanted")]
        for one in examples[:MAX_SHOWN]
    ]
    header = ["message", "reply of the model", "reply in the data"]
    return Picture(title="Replies on the test split", table=[header, *rows]) if rows else None
