"""memorycell trains an LSTM on your sequences, lets you look inside its gates, and runs it live.

The names below are the public face. They are loaded when first used, so that the command line
starts at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {
    "LSTM": "memorycell.nn.layers",
    "GRU": "memorycell.nn.layers",
    "RNN": "memorycell.nn.layers",
    "LSTMCell": "memorycell.nn.step_layers",
    "GRUCell": "memorycell.nn.step_layers",
    "RNNCell": "memorycell.nn.step_layers",
    "adopt": "memorycell.nn.adopt",
    "release": "memorycell.nn.adopt",
    "explain": "memorycell.nn.explain",
    "State": "memorycell.state",
    "Stream": "memorycell.streaming.stream",
    "Pool": "memorycell.streaming.pool",
    "from_keras": "memorycell.exchange.keras_import",
    "from_onnx": "memorycell.exchange.onnx_import",
    "inspect": "memorycell.inspection.inspect",
    "prove": "memorycell.proof",
    "stream": "memorycell.application.live",
    "load": "memorycell.face.trained",
    "Trained": "memorycell.face.trained",
    "train": "memorycell.face.train",
    "tune": "memorycell.face.tuning",
    "settings": "memorycell.face.setting_list",
    "serve": "memorycell.server.running",
    "DataWarning": "memorycell.errors",
    "UserError": "memorycell.errors",
}

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "DataWarning",
    "GRUCell",
    "LSTMCell",
    "Pool",
    "RNNCell",
    "State",
    "Stream",
    "Trained",
    "UserError",
    "adopt",
    "explain",
    "from_keras",
    "from_onnx",
    "inspect",
    "load",
    "prove",
    "release",
    "serve",
    "settings",
    "stream",
    "train",
    "tune",
]

if TYPE_CHECKING:
    from memorycell.application.live import stream
    from memorycell.errors import DataWarning, UserError
    from memorycell.exchange.keras_import import from_keras
    from memorycell.exchange.onnx_import import from_onnx
    from memorycell.face.setting_list import settings
    from memorycell.face.train import train
    from memorycell.face.trained import Trained, load
    from memorycell.face.tuning import tune
    from memorycell.inspection.inspect import inspect
    from memorycell.nn.adopt import adopt, release
    from memorycell.nn.explain import explain
    from memorycell.nn.layers import GRU, LSTM, RNN
    from memorycell.nn.step_layers import GRUCell, LSTMCell, RNNCell
    from memorycell.proof import prove
    from memorycell.server.running import serve
    from memorycell.state import State
    from memorycell.streaming.pool import Pool
    from memorycell.streaming.stream import Stream


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("memorycell")
    if name not in _HOME:
        raise AttributeError(f"module 'memorycell' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
