"""Duration of a training step and of a live step of every cell, relative to the LSTM's, one core.

    python benchmarks/cells.py [--hidden 64 --hidden 256] [--smoke]

The cells take turns in one process; the median processor time counts. Training: forward and
backward over 16 sequences of 100 steps with the backend that is chosen by default. Live: one step
of one sequence through `Stream`. C99: one step of the export, compiled with cc -O2, its outputs
compared first; for hidden sizes up to 64, whose source compiles quickly.
"""

import argparse
import shutil
import statistics
import time

import numpy as np
import torch
from c_step import step_us

import memorycell
from memorycell.nn.layers import of_cell

CELLS = {
    "lstm": {},
    "gru": {},
    "mogrifier": {},
    "slstm": {},
    "mlstm": {},
    "mlstm, 4 heads": {"heads": 4},
    "minlstm": {},
    "mingru": {},
}
MAX_IN_C = 64
BATCH, STEPS, ROUNDS, LIVE_STEPS = 16, 100, 7, 50


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hidden", type=int, action="append")
    parser.add_argument("--smoke", action="store_true", help="one round at hidden size 16")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for hidden in options.hidden or ([16] if options.smoke else [64, 256]):
        measure(hidden, 1 if options.smoke else ROUNDS)


def measure(hidden: int, rounds: int) -> None:
    """Print one line per cell."""
    layers = {
        name: of_cell(name.split(",")[0], hidden, hidden, batch_first=True, **options)
        for name, options in CELLS.items()
    }
    x = torch.randn(BATCH, STEPS, hidden)
    training: dict[str, list[float]] = {name: [] for name in layers}
    for _ in range(rounds):
        for name, layer in layers.items():
            start = time.process_time()
            layer(x)[0].sum().backward()
            training[name].append(time.process_time() - start)
    streams = {name: memorycell.stream(layer.eval()) for name, layer in layers.items()}
    row, live = np.zeros(hidden, np.float32), {name: [] for name in layers}
    for _ in range(2 * rounds):
        for name, stream in streams.items():
            start = time.process_time()
            for _ in range(LIVE_STEPS):
                stream.step(row)
            live[name].append((time.process_time() - start) / LIVE_STEPS)
    first = {kind: statistics.median(t["lstm"]) for kind, t in (("t", training), ("l", live))}
    print(f"hidden size {hidden}")
    for name, layer in layers.items():
        trained, stepped = (statistics.median(times[name]) for times in (training, live))
        print(
            f"  {name:15} {memorycell.explain(layer, x).backend:10}"
            f" training {1e3 * trained:7.1f} ms, x{trained / first['t']:.2f};"
            f" live {1e6 * stepped:7.1f} us, x{stepped / first['l']:.2f};"
            f" C99 {c99(layer, hidden, rounds)};"
            f" state {streams[name].stepper.layout.width:,} values;"
            f" {sum(p.numel() for p in layer.parameters()):,} parameters"
        )


def c99(layer: torch.nn.Module, hidden: int, rounds: int) -> str:
    """Microseconds per step."""
    if hidden > MAX_IN_C or shutil.which("cc") is None:
        return "not run"
    return f"{step_us(layer, ['-O2'], rounds=rounds, steps=500):.2f} us"


if __name__ == "__main__":
    main()
