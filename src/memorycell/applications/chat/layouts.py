"""The turns of a dialogue in the JSON layouts of other programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from memorycell.errors import quote
from memorycell.reading import Losses

MESSAGE_FIELDS = ("messages", "conversations", "conversation", "turns", "dialogue", "dialog")
PAIR_FIELDS = (
    ("prompt", ("reply", "completion", "response", "answer")),
    ("question", ("answer", "response")),
    ("input", ("output", "response")),
)
"""The fields of a single message and of its reply."""
ROLE_FIELDS, CONTENT_FIELDS = ("role", "from"), ("content", "value", "text")
ROLES = {
    "user": ("user", "human", "prompter"),
    "assistant": ("assistant", "gpt", "bot", "model", "chatgpt"),
    "system": ("system", "developer"),
    "tool": ("tool", "function", "observation", "function_call", "tool_call"),
}
ROLE_OF = {name: role for role, names in ROLES.items() for name in names}
TEXT_PARTS = ("text", "input_text", "output_text")
CUT = "a dialogue cut before a user's turn without text"


def parse_dialogue(value: Any, losses: Losses) -> list[str]:
    """The alternating turns of a JSON value, the user's first; it is "" where the assistant speaks
    first. `losses` counts the turns that are left out or joined.

    A list of turns, {"messages": [{"role", "content"}, …]} as in OpenAI's files, {"messages":
    [[{"text", "sender"}, …], …]} of lists of messages per turn, {"conversations": [{"from",
    "value"}, …]} as in ShareGPT's, {"instruction", "input", "output"} as in Alpaca's, {"prompt",
    "reply"}.

    Raises ValueError for another layout and for an unknown role.
    """
    if isinstance(value, list):
        return _turns(value, losses)
    if not isinstance(value, Mapping):
        raise ValueError(f"expected a list of turns or an object, got {quote(value)}")
    if value.get("system"):
        losses.repair("of the system, not learned")
    for name in MESSAGE_FIELDS:
        if name in value:
            return _turns(value[name], losses)
    if "instruction" in value and "output" in value:
        return _alpaca(value)
    for name, replies in PAIR_FIELDS:
        for reply in replies:
            if name in value and reply in value:
                return _pair(value[name], value[reply], losses)
    raise ValueError(
        'expected a list of turns, {"prompt": …, "reply": …}, {"instruction": …, "output": …} or'
        f' {{"messages": […]}}, got the fields {quote(", ".join(map(str, value)))}'
    )


def _alpaca(value: Mapping[str, Any]) -> list[str]:
    """With the earlier pairs in "history", where it has any."""
    turns = []
    for pair in value.get("history") or ():
        if not isinstance(pair, list) or len(pair) != 2:
            raise ValueError(f"history: expected pairs of texts, got {quote(pair)}")
        turns += [_text(turn) for turn in pair]
    question = [_text(value["instruction"]), _text(value.get("input"))]
    return [*turns, "\n".join(filter(None, question)), _text(value["output"])]


def _pair(message: Any, reply: Any, losses: Losses) -> list[str]:
    """Each a text, or a list of messages."""
    if isinstance(message, list) and isinstance(reply, list):
        return _turns([*message, *reply], losses)
    return [_text(message), _text(reply)]


def _turns(items: Any, losses: Losses) -> list[str]:
    if not isinstance(items, list):
        raise ValueError(f"expected a list of turns, got {quote(items)}")
    if items and all(isinstance(item, list) for item in items):
        return [_joined(item) for item in items]
    if not any(isinstance(item, Mapping) for item in items):
        return [_text(item) for item in items]
    turns: list[str] = []
    for item in items:
        if not isinstance(item, Mapping):
            raise ValueError(f"expected messages with a role, got {quote(item)}")
        role = _role(item)
        if role in ("system", "tool"):
            losses.repair(f"of the {role}, not learned")
            continue
        text = _content(item, losses).strip()
        if text:
            _append(turns, role, text, losses)
        elif role == "user":
            losses.repair(CUT)
            break
        else:
            losses.repair("without text, such as calls of tools, left out")
    return turns


def _joined(messages: list[Any]) -> str:
    """The messages of one turn, each with its "text"."""
    texts = [_text(m.get("text")) if isinstance(m, Mapping) else _text(m) for m in messages]
    return " ".join(filter(None, texts))


def _append(turns: list[str], role: str, text: str, losses: Losses) -> None:
    """Even turns are the user's."""
    if (len(turns) % 2 == 0) == (role == "user"):
        turns.append(text)
    elif turns:
        turns[-1] += f" {text}"
        losses.repair("joined with the one before, of the same role")
    else:
        turns += ["", text]


def _role(message: Mapping[str, Any]) -> str:
    name = next((message[field] for field in ROLE_FIELDS if field in message), None)
    role = ROLE_OF.get(name.strip().lower()) if isinstance(name, str) else None
    if role is None:
        raise ValueError(
            f"role {quote(name)}: expected user, assistant, system or tool (or human, gpt)"
        )
    return role


def _content(message: Mapping[str, Any], losses: Losses) -> str:
    """The text of a message; of one in parts, its texts."""
    content = next((message[field] for field in CONTENT_FIELDS if field in message), None)
    if not isinstance(content, (list, Mapping)):
        return _text(content)
    texts = []
    for part in content if isinstance(content, list) else [content]:
        if not isinstance(part, Mapping):
            texts.append(_text(part))
        elif part.get("type", "text") in TEXT_PARTS:
            texts.append(_text(part.get("text")))
        else:
            losses.repair("images and other parts without text, left out")
    return " ".join(filter(None, texts))


def _text(value: Any) -> str:
    """A text, a number as text, or "" for null. Raises ValueError for anything else."""
    if value is None:
        return ""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise ValueError(f"expected a text, got {quote(value)}")
    return value
