"""Duration of a live step of a sequence model: six channels, hidden size 64, one core.

    python benchmarks/sequences_live.py [--steps 20000] [--smoke]

The rows are random and the models are untrained, which does not change the work. The live answers
are first compared with those for complete sequences. Then for each model, alternately: the kernel
(the recurrent layers on the native engine, called through their stepper), a step of the model
(`Stream.step`: inputs to scores) and a row of a session (`SequencesSession.read`: a row in units of
the table to probabilities, whether it is sure included). Medians of blocks.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from memorycell.application.contract import ModelFile
from memorycell.applications.sequences.codec import Column, SequenceCodec
from memorycell.applications.sequences.mixture_fitting import draw
from memorycell.applications.sequences.model import SequenceModel
from memorycell.applications.sequences.model_config import SequenceModelConfig
from memorycell.applications.sequences.session import SequencesSession
from memorycell.streaming.stepping import LayerStepper
from memorycell.streaming.stream import Stream

CHANNELS, CLASSES, HIDDEN = 6, 4, 64
BLOCK, COMPARED, TOLERANCE = 500, 40, 1e-4
MODELS: dict[str, dict[str, object]] = {
    "pooling=last": {"pooling": "last"},
    "pooling=mean": {"pooling": "mean"},
    "pooling=attention, the default": {},
    "pooling=max": {"pooling": "max"},
    "members=5": {"members": 5},
    "encoder=conv": {"encoder": "conv"},
    "members=10, encoder=conv": {"members": 10, "encoder": "conv"},
    "random convolutions mixed in": {"mix": True},
}
LENGTH = 150
"""Rows of a sequence on which the random convolutions are drawn."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--smoke", action="store_true", help=f"only {2 * BLOCK} steps")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = np.random.default_rng(0).normal(size=(BLOCK, CHANNELS))
    print(f"µs per step: {'':22} kernel  step  over kernel  session row  over kernel")
    for name, how in MODELS.items():
        file = untrained(how)
        compare(file, rows)
        steps = 2 * BLOCK if options.smoke else options.steps
        kernel, step, read = time_model(file, rows, max(1, steps // BLOCK))
        print(
            f"{name:34} {kernel:7.2f} {step:5.2f} {step - kernel:12.2f} {read:12.2f}"
            f" {read - kernel:12.2f}"
        )


def untrained(how: dict[str, object]) -> ModelFile:
    torch.manual_seed(0)
    columns = tuple(Column(f"sensor {k}") for k in range(CHANNELS))
    codec = SequenceCodec("class", tuple("abcd"), columns)
    options = {name: value for name, value in how.items() if name != "mix"}
    config = SequenceModelConfig(
        target="class",
        input_size=codec.input_size,
        row_size=codec.row_size,
        outputs=CLASSES,
        hidden_size=HIDDEN,
        **options,  # type: ignore[arg-type]
    )
    model = SequenceModel(config).eval()
    if "mix" in how:
        inputs = [np.random.default_rng(1).normal(size=(LENGTH, CHANNELS)).astype(np.float32)]
        random = draw(inputs, patch=1, row_size=CHANNELS, classes=CLASSES, seed=0)
        assert random is not None
        random.share.fill_(0.5)
        random.weight.normal_(std=0.01)
        model.mix(random)
    return ModelFile(model, codec, {"task": "sequences"})


def compare(file: ModelFile, rows: np.ndarray) -> None:
    """Raises SystemExit where a live answer is not that for the sequence so far."""
    session, codec = SequencesSession(file), file.codec
    for t in range(COMPARED):
        live = session.read(rows[t])
        x = torch.from_numpy(codec.steps(codec.rows(rows[: t + 1]), np.zeros(0, np.float32)))
        with torch.inference_mode():
            y = file.model.outputs(x[None], torch.tensor([len(x)]))
        difference = float(np.abs(live - codec.answers(y[0].numpy())).max())
        if not difference <= TOLERANCE:
            raise SystemExit(f"live and complete answers differ by {difference:.2g}: not timed")


def time_model(file: ModelFile, rows: np.ndarray, blocks: int) -> tuple[float, float, float]:
    """Medians in µs: the kernel, a step of the model, a row of a session."""
    layers = LayerStepper(file.model.merged_stack(), "float32")
    ring = np.zeros((1, layers.layout.width), np.float32)
    hidden = np.empty(layers.output_size, np.float32)
    inputs = file.codec.rows(rows)
    kernel = layers.stack.step_one
    stream, session = Stream(file.model, history=0), SequencesSession(file)
    found = [
        (
            _block_us(lambda x: kernel(ring, 0, x, hidden), inputs),
            _block_us(stream.step, inputs),
            _block_us(session.read, rows),
        )
        for _ in range(blocks)
    ]
    kernel_us, step_us, read_us = np.median(np.array(found), 0).tolist()
    return kernel_us, step_us, read_us


def _block_us(call: Callable[[np.ndarray], object], rows: np.ndarray) -> float:
    began = time.perf_counter()
    for row in rows:
        call(row)
    return (time.perf_counter() - began) / len(rows) * 1e6


if __name__ == "__main__":
    main()
