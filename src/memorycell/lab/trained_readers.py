"""The readers of stories that come with the package. `python -m memorycell.lab.trained_readers`
trains them again, in about ten minutes.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from torch import nn

from memorycell.files import read_tensors, tensors_to_bytes, write_atomically
from memorycell.lab.reader import MAX_UPDATES, OnProgress, Reader, train_reader

LSTM, RNN, LONG_RNN = "lstm", "rnn", "rnn_long"
"""An LSTM, a plain RNN after the same number of updates, and one that was trained on."""
FILE = "readers.safetensors"


def shipped_readers() -> tuple[dict[str, Reader], dict[str, int]]:
    """The three readers that come with the package, and the updates of their training."""
    note, tensors = read_tensors((files("memorycell.lab") / FILE).read_bytes())
    readers = {}
    for name in note["updates"]:
        readers[name] = Reader("lstm" if name == LSTM else "rnn").eval()
        prefix = f"{name}."
        readers[name].load_state_dict(
            {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
        )
    return readers, note["updates"]


def train_readers(
    seed: int, on_progress: OnProgress, max_updates: int = MAX_UPDATES
) -> tuple[dict[str, Reader], dict[str, int]]:
    """Train an LSTM until it reads stories, in about 20 seconds, and a plain RNN for the same
    number of updates; as `shipped_readers`, without the third.
    """
    lstm, updates = train_reader("lstm", seed, max_updates, on_progress)
    rnn, _ = train_reader("rnn", seed, updates, on_progress)
    return {LSTM: lstm, RNN: rnn}, {LSTM: updates, RNN: updates}


def readers_to_bytes(readers: Mapping[str, nn.Module], updates: Mapping[str, int]) -> bytes:
    """A safetensors file of readers."""
    tensors = {
        f"{name}.{key}": value
        for name, reader in readers.items()
        for key, value in reader.state_dict().items()
    }
    return tensors_to_bytes(tensors, {"updates": dict(updates)})


if __name__ == "__main__":

    def show(cell: str, updates: int, valid_accuracy: float) -> None:
        """One line per 1,000 updates."""
        if updates % 1000 == 0:
            print(f"{cell}: {updates:,} updates, {valid_accuracy:.1%} correct on validation")

    trained, counts = train_readers(0, show)
    trained[LONG_RNN], counts[LONG_RNN] = train_reader("rnn", 0, on_progress=show)
    path = Path(__file__).with_name(FILE)
    write_atomically(path, readers_to_bytes(trained, counts))
    print(f"written: {path}")
