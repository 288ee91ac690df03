"""Forward passes without gradients: the same numbers as the reference, and no buffer of the size of
all gates.
"""

import json
import os
import subprocess
import sys

import pytest
import torch

from memorycell.nn.layers import of_cell
from memorycell.ops import binding

engine = binding.engine
pytestmark = pytest.mark.skipif(engine is None, reason=binding.missing or "built")
SETS = engine.instruction_sets() if engine else []
ROWS = (1, 5, 13)  # with few rows the input's products of several steps are computed together


@pytest.fixture(params=SETS)
def isa(request):
    """Each instruction set in turn."""
    engine.use(request.param)
    yield
    engine.use(SETS[0])


def build(cell, inputs, hidden, **options):
    """A layer; gains of one would make layer normalisation amplify rounding step by step."""
    layer = of_cell(cell, inputs, hidden, **options)
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if name.startswith(("gain_ih", "gain_hh")):
                parameter.fill_(0.3)
    return layer


def values(layer, x, **options):
    """The output and the final states."""
    with torch.no_grad():
        output, final = layer(x, **options)
    return [output, *([final] if isinstance(final, torch.Tensor) else final)]


def difference(ours, theirs):
    return max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("option", ["plain", "masked", "zoneout", "no bias"])
def test_layer_normalisation_of_the_input_inside_the_engine(isa, option, batch_first):
    torch.manual_seed(0)
    settings = {"zoneout": (0.3, 0.2)} if option == "zoneout" else {}
    settings |= {"bias": False} if option == "no bias" else {}
    layer = build(
        "layernorm", 5, 19, num_layers=2, bidirectional=True, batch_first=batch_first, **settings
    ).eval()
    for batch in ROWS:
        for steps in (1, 2, 70):
            x = torch.randn((batch, steps, 5) if batch_first else (steps, batch, 5))
            call = {}
            if option == "masked":
                call = {
                    "lengths": torch.randint(1, steps + 1, (batch,)),
                    "reset": torch.rand(batch, steps) < 0.3,
                }
            ours = values(layer, x, backend="native", **call)
            theirs = values(layer, x, backend="reference", **call)
            assert difference(ours, theirs) < 5e-5, (batch, steps)


@pytest.mark.parametrize("cell", ["lstm", "gru", "layernorm"])
def test_bfloat16_with_and_without_gradients(isa, cell):
    torch.manual_seed(0)
    layer = build(cell, 33, 31, bidirectional=True)
    for rows in ROWS:
        x = torch.randn(67, rows, 33)
        with torch.autocast("cpu", torch.bfloat16):
            ours = values(layer, x, backend="native")
            kept = layer(x, backend="native")[0]
        exact = values(layer, x, backend="reference")
        assert 1e-5 < difference(ours, exact) < 0.05
        if cell != "layernorm":  # whose input is normalised by PyTorch where there are gradients
            assert torch.equal(ours[0], kept)


@pytest.mark.parametrize(("cell", "precision"), [("layernorm", "float32"), ("lstm", "bfloat16")])
def test_any_number_of_threads_gives_the_same_bits(cell, precision, monkeypatch):
    """Also where the rows of the threads differ by one: 11 rows are 5 and 6."""
    monkeypatch.setattr(binding, "MIN_WORK_PER_THREAD", 1)
    torch.manual_seed(0)
    layer = of_cell(cell, 7, 17)
    x, found, before = torch.randn(66, 11, 7), [], torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                found.append(values(layer, x, backend="native"))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


# Large blocks are given back at once, so that none is used again without a trace in the peak.
PEAK = """
import json, sys
from pathlib import Path
import torch
from memorycell.nn.layers import of_cell

def peak_bytes(call):
    status = Path("/proc/self/status")
    high_water = lambda: int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024
    Path("/proc/self/clear_refs").write_text("5")  # the peak is the present from here on
    before = high_water()
    call()
    return high_water() - before

cell, precision = sys.argv[1:]
layer, x = of_cell(cell, 8, 64), torch.randn(1000, 24, 8)

def forward(gradients):
    with torch.set_grad_enabled(gradients):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            layer(x, backend="native")

for gradients in (False, True):
    forward(gradients)
print(json.dumps([peak_bytes(lambda: forward(gradients)) for gradients in (False, True)]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("cell", "precision"), [("lstm", "float32"), ("lstm", "bfloat16"), ("layernorm", "float32")]
)
def test_memory_without_gradients_is_that_of_the_output(cell, precision):
    """The gates of all steps would take four times as much as the output. In a process of its own:
    tests before leave free memory that would hide what a pass takes.
    """
    output = subprocess.run(
        [sys.executable, "-c", PEAK, cell, precision],
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"},
        check=True,
        capture_output=True,
        text=True,
        timeout=600,
    ).stdout
    without, with_gradients = json.loads(output)
    output_bytes = 1000 * 24 * 64 * 4
    assert without < 2.5 * output_bytes
    assert with_gradients >= 4 * output_bytes  # and this measures it
