"""memorycell trains an LSTM on your sequences, lets you look inside its gates, and runs it live.

The names below are the public face. They are loaded when first used, so that the command line starts at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "LSTM": "memorycell.nn.recurrent",
    "GRU": "memorycell.nn.recurrent",
    "RNN": "memorycell.nn.recurrent",
    "adopt": "memorycell.nn.recurrent",
    "explain": "memorycell.nn.recurrent",
    "State": "memorycell.state",
}

__all__ = ["GRU", "LSTM", "RNN", "State", "adopt", "explain"]

if TYPE_CHECKING:
    from memorycell.nn.recurrent import GRU, LSTM, RNN, adopt, explain
    from memorycell.state import State


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'memorycell' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
