"""A step of an export to C99, compiled and timed; for `control.py` and `cells.py`."""

import subprocess
import tempfile
from pathlib import Path

from torch import nn

from memorycell.exchange import c_export

FLAGS = (["-O2"], ["-O3"], ["-O2", "-march=native"], ["-O3", "-march=native"])
MAIN = """
#include "net.h"
#include <stdio.h>
#include <time.h>
int main(void) {
    static float state[NET_STATE], x[NET_INPUTS], y[NET_OUTPUTS];
    double best = 1e9;
    net_init(state);
    for (int r = 0; r < ROUNDS; r++) {
        clock_t began = clock();
        for (int t = 0; t < STEPS; t++) {
            x[0] = (float)(t & 7) * 0.1f;
            net_step(state, x, y);
        }
        double us = (double)(clock() - began) / CLOCKS_PER_SEC / STEPS * 1e6;
        if (us < best) best = us;
    }
    printf("%.3f\\n", best);
    return y[0] > 1e9f;
}
"""


def step_us(module: nn.Module, flags: list[str], *, rounds: int = 15, steps: int = 5000) -> float:
    """Processor microseconds per step of a layer or a model, the best of several rounds, after its
    test vector: the outputs are those of `Stream`.

    Raises CalledProcessError where the code does not compile or its outputs differ.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name, text in c_export.export(module, "net").files.items():
            Path(folder, name).write_text(str(text))
        Path(folder, "main.c").write_text(MAIN)
        sizes = [f"-DROUNDS={rounds}", f"-DSTEPS={steps}"]
        for program in ("net_test.c", "main.c"):
            command = ["cc", "-std=c99", *flags, *sizes, program, "net.c", "-o", "net", "-lm"]
            subprocess.run(command, cwd=folder, check=True)
            run = [str(Path(folder, "net"))]
            found = subprocess.run(run, check=True, capture_output=True, text=True)
    return float(found.stdout)
