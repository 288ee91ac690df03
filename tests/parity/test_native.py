"""The native engine against the reference, on every instruction set of this processor: values,
states, traces, gradients.

Uninitialised memory is filled with NaN (torch's deterministic mode), so that reading it fails a
test.
"""

import copy
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from native_cases import (
    CELL_NAMES,
    OPTIONS,
    PROJECTED_CELLS,
    WITHOUT_ZONEOUT,
    build,
    difference,
    engine,
    random_case,
    random_state,
    results,
)

from memorycell.cells import CELLS
from memorycell.ops import binding, products

pytestmark = [
    pytest.mark.skipif(engine is None, reason=binding.missing or "built"),
    pytest.mark.usefixtures("poison"),
]
SIZES = [(1, 1, 1), (1, 17, 7), (3, 17, 63), (33, 2, 65)]  # batch, steps, hidden
CASES = [
    (cell, option)
    for cell in CELL_NAMES
    for option in OPTIONS
    if ("projected" not in option or cell in PROJECTED_CELLS)
    and not ("zoneout" in option and cell in WITHOUT_ZONEOUT)
]


@pytest.mark.parametrize(("cell", "option"), CASES)
def test_every_cell_and_option_equals_the_reference(isa, cell, option):
    for sizes in SIZES:
        layer, x, hx, call = random_case(cell, option, *sizes)
        ours, theirs = (
            results(layer, x, hx, backend="native", **call),
            results(layer, x, hx, backend="reference", **call),
        )
        # One unit normalised alone: its variance is 1e-5, so rounding errors are 300 times larger.
        assert difference(ours, theirs) < (3e-5 if cell == "layernorm" else 2e-6), sizes
        exact = results(
            layer.double(), x.double(), [h.double() for h in hx], backend="reference", **call
        )
        if "training" not in option:  # the masks are drawn in the dtype's own numbers
            assert difference(ours, exact) < (5e-5 if cell == "layernorm" else 5e-6), sizes


@given(
    cell=st.sampled_from(CELL_NAMES),
    sizes=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(2, 40)),
    option=st.sampled_from(OPTIONS),
)
def test_random_shapes(cell, sizes, option):
    layer, x, hx, call = random_case(cell, option, *sizes)
    ours = results(layer, x, hx, backend="native", **call)
    if cell != "layernorm":
        assert difference(ours, results(layer, x, hx, backend="reference", **call)) < 2e-6
        return
    # The variance of two or three units that are normalised alone may be near 1e-5: then rounding
    # of the inputs alone changes the exact results by up to 1e-3.
    exact, change = exact_results(layer, x, hx, call)
    assert difference(ours, exact) < max(1e-4, 64 * change)


def exact_results(layer, x, hx, call) -> tuple[list[torch.Tensor], float]:
    """The reference in float64, and its largest difference if every number in x, hx and the
    parameters changes by about 2^-24 of itself, the rounding error of float32.
    """
    exact_layer = copy.deepcopy(layer).double()
    values = [*exact_layer.parameters(), x.double(), *(h.double() for h in hx)]
    given = [value.detach().clone() for value in values]
    generator = torch.Generator().manual_seed(5)

    def run(size: float) -> list[torch.Tensor]:
        for value, old in zip(values, given, strict=True):
            noise = torch.randn(old.shape, generator=generator, dtype=old.dtype)
            value.detach().copy_(old * (1 + size * noise))
        moved_x, *moved_hx = values[-1 - len(hx) :]
        return results(exact_layer, moved_x, moved_hx, backend="reference", **call)

    exact = run(0.0)
    return exact, max(difference(run(2.0**-24), exact) for _ in range(3))


@pytest.mark.parametrize("cell", CELL_NAMES)
def test_trace_and_its_gradients(isa, cell):
    layer, x, hx, call = random_case(cell, "lengths and reset", 3, 9, 7)
    hx = hx[0] if len(hx) == 1 else tuple(hx)
    found = []
    for backend in ("native", "reference"):
        own = x.clone().requires_grad_()
        _, _, traces = layer(own, hx, trace=True, backend=backend, **call)
        values = [value for trace in traces for _, value in sorted(trace.items())]
        generator = torch.Generator().manual_seed(3)
        loss = sum((v * torch.randn(v.shape, generator=generator)).sum() for v in values)
        found.append(
            [*(v.detach() for v in values), *torch.autograd.grad(loss, [own, *layer.parameters()])]
        )
    assert difference(*found) < 1e-5


@pytest.mark.parametrize("cell", CELL_NAMES)
def test_second_derivatives(cell):
    layer, x, hx, call = random_case(cell, "reset", 2, 4, 3)
    hx = hx[0] if len(hx) == 1 else tuple(hx)
    found = []
    for backend in ("native", "reference"):
        own = x.clone().requires_grad_()
        output = layer(own, hx, backend=backend, **call)[0]
        (first,) = torch.autograd.grad(output.pow(2).sum(), own, create_graph=True)
        found.append(
            torch.autograd.grad(first.pow(2).sum(), [own, *layer.parameters()], allow_unused=True)
        )
    pairs = [(a, b) for a, b in zip(*found, strict=True) if b is not None]
    assert difference([a for a, _ in pairs], [b for _, b in pairs]) < 1e-4


@pytest.mark.parametrize("cell", CELL_NAMES)
def test_bfloat16_products(isa, cell):
    """Under autocast: errors of the order of bfloat16's 8 bits."""
    torch.manual_seed(0)
    layer = build(cell, 33, 63)
    with torch.no_grad():  # gains of one make layer normalisation amplify rounding step by step
        for name, parameter in layer.named_parameters():
            if name.startswith(("gain_ih", "gain_hh")):
                parameter.fill_(0.3)
    x, hx = torch.randn(7, 11, 33), random_state(layer, 7)
    exact = results(layer, x, hx, backend="native")
    with torch.autocast("cpu", torch.bfloat16):
        half = results(layer, x, hx, backend="native")
    # Output and states have the types of torch's layers under autocast, whose GRU stays in float32;
    # gradients in float32.
    # n and m are counts and exponents, which bfloat16 would round to nothing: float32.
    output_type = torch.float32 if layer.mode == "GRU" else torch.bfloat16
    state_type = torch.float32 if cell == "slstm" else output_type
    count = len(CELLS[cell].state)
    assert [value.dtype for value in half] == [output_type, *([state_type] * count)] + [
        torch.float32
    ] * (len(half) - count - 1)
    # PyTorch's products, of the cells that the engine only scans, are rounded to bfloat16 too.
    assert 1e-5 < difference(half, exact) < (0.05 if CELLS[cell].recurrent else 0.1)


def test_functions_over_the_full_float_range(isa):
    """exp within 1 ulp (|x| < 87), sigmoid within 2.5, tanh within 1.5; infinities at their limits;
    NaN stays NaN.
    """
    x = np.arange(0, 2**32, 4099, dtype=np.uint64).astype(np.uint32).view(np.float32)
    x = np.concatenate(
        [x, np.float32([0.0, -0.0, np.inf, -np.inf, np.nan, 0.625, -0.625, 1e-38, 87, -87])]
    )
    with np.errstate(all="ignore"):
        exact = {
            0: np.exp(x.astype(float)),
            1: 1 / (1 + np.exp(-x.astype(float))),
            2: np.tanh(x.astype(float)),
        }
    for function, bound in ((0, 1.0), (1, 2.5), (2, 1.5)):
        y = np.full_like(x, 7.0)
        engine.map(function, x.ctypes.data, y.ctypes.data, len(x))
        inside = (np.abs(x) < 87) if function == 0 else ~np.isnan(x)
        ulp = np.maximum(
            np.spacing(np.abs(exact[function][inside]).astype(np.float32)), np.float32(1.2e-38)
        )
        assert (np.abs(y[inside] - exact[function][inside]) / ulp).max() <= bound
        assert np.isnan(y[np.isnan(x)]).all()


def rounding(unit: float, count: int) -> float:
    """An error bound of a sum of `count` products of normal numbers: the factors are rounded to
    `unit`, whose errors add up like a random walk, and every partial sum, of size √k, is rounded to
    float32. Several standard deviations of both.
    """
    return 8 * unit * count**0.5 + 4 * 2**-24 * count


@pytest.mark.parametrize("precision", [0, 1, 2])
def test_products(isa, precision):
    """Against float64 on odd sizes, with a bias; a row is bitwise independent of the others."""
    rng = np.random.default_rng(0)
    for rows, columns, depth in ((1, 1, 1), (7, 63, 65), (33, 129, 5), (100, 65, 257)):
        a, w = (
            rng.normal(size=(rows, depth)).astype(np.float32),
            rng.normal(size=(columns, depth)).astype(np.float32),
        )
        bias = rng.normal(size=columns).astype(np.float32)
        weight = engine.Weight(w.ctypes.data, columns, depth, depth, 1, precision)
        whole, alone = (
            np.full((rows, columns), np.nan, np.float32),
            np.full((rows, columns), np.nan, np.float32),
        )
        engine.product(weight, a.ctypes.data, rows, bias.ctypes.data, whole.ctypes.data, 2)
        for row in range(rows):
            engine.product(
                weight, a[row:].ctypes.data, 1, bias.ctypes.data, alone[row:].ctypes.data, 1
            )
        assert np.array_equal(whole, alone)
        exact = a.astype(float) @ w.T.astype(float) + bias
        assert np.abs(whole - exact).max() < rounding((2**-24, 2**-8, 1 / 127)[precision], depth)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_weight_gradients(isa, precision):
    """left^T right and the sums of left, over several chunks of steps and odd sizes."""
    rng = np.random.default_rng(0)
    for batch, steps, rows, columns in ((1, 1, 1, 1), (5, 101, 63, 65), (3, 64, 49, 7)):
        left = torch.from_numpy(rng.normal(size=(batch, steps, rows)).astype(np.float32))
        right = torch.from_numpy(rng.normal(size=(batch, steps, columns)).astype(np.float32))
        found, sums = products.sum_outer(left, right, precision)
        exact = left.flatten(0, 1).double().T @ right.flatten(0, 1).double()
        unit = 2**-24 if precision == "float32" else 2**-8
        assert float((found.double() - exact).abs().max()) < rounding(unit, batch * steps)
        assert float((sums.double() - left.double().sum((0, 1))).abs().max()) < 1e-4


@pytest.mark.parametrize("cell", CELL_NAMES)
def test_threads(cell):
    """On 1, 2 and 5 threads, outputs and input gradients are bitwise equal; weight gradients, sums
    over the threads, are equal up to rounding and reproducible for a fixed number of threads.
    """
    layer, x, hx, _ = random_case(cell, "plain", 23, 90, 65)
    before = torch.get_num_threads()
    found = {}
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            if CELLS[cell].recurrent:
                used = binding.threads_for(23 * 90 * layer.weight_hh_l0.numel(), 23)
                assert used == count
            found[count] = results(layer, x, hx, backend="native")
            again = results(layer, x, hx, backend="native")
            assert all(torch.equal(a, b) for a, b in zip(found[count], again, strict=True))
    finally:
        torch.set_num_threads(before)
    exact = 2 * len(hx) + 2  # output, final states, gradients of x and of the initial states
    for count in (2, 5):
        assert all(
            torch.equal(a, b) for a, b in zip(found[count][:exact], found[1][:exact], strict=True)
        )
        assert difference(found[count][exact:], found[1][exact:]) < 1e-5


def test_a_forked_child_starts_its_own_threads():
    """GNU OpenMP's threads do not exist there; waiting for them would deadlock."""
    code = """
import os, torch, memorycell
torch.set_num_threads(2)
layer, x = memorycell.LSTM(64, 128), torch.randn(50, 64, 64)
with torch.no_grad():
    before = layer(x)[0]
    child = os.fork()
    if child == 0:
        same = bool((layer(x)[0].numpy() == before.numpy()).all())
        os._exit(0 if same else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)


def test_threads_without_openmp():
    layer, x, hx, _ = random_case("lstm", "plain", 23, 40, 65)
    torch.set_num_threads(2)
    try:
        shared = results(layer, x, hx, backend="native")
        engine.share_team(0, 0, 0)
        alone = results(layer, x, hx, backend="native")
    finally:
        torch.set_num_threads(1)
        binding._share_threads()
    assert all(torch.equal(a, b) for a, b in zip(shared, alone, strict=True))
