"""The native engine against the reference, on every instruction set of this processor: values,
states, traces, gradients.

Uninitialised memory is filled with NaN (torch's deterministic mode), so that reading it fails a
test.
"""

import copy
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import memorycell
from memorycell.cells import CELLS
from memorycell.nn.layers import of_cell
from memorycell.ops import binding, products
from memorycell.ops.step import StackStep

engine = binding.engine
pytestmark = pytest.mark.skipif(engine is None, reason=binding.missing or "built")
SETS = engine.instruction_sets() if engine else []
CELL_NAMES = sorted(binding.CELL_NUMBERS)
SIZES = [(1, 1, 1), (1, 17, 7), (3, 17, 63), (33, 2, 65)]  # batch, steps, hidden
OPTIONS = [
    "plain",
    "lengths",
    "reset",
    "lengths and reset",
    "zoneout",
    "zoneout training",
    "no bias",
    "projected",
    "projected zoneout training",
]
PROJECTED_CELLS = ("lstm", "peephole", "coupled", "slstm")
WITHOUT_ZONEOUT = ("slstm", "minlstm", "mingru")
CASES = [
    (cell, option)
    for cell in CELL_NAMES
    for option in OPTIONS
    if ("projected" not in option or cell in PROJECTED_CELLS)
    and not ("zoneout" in option and cell in WITHOUT_ZONEOUT)
]


@pytest.fixture(autouse=True)
def poison():
    """Fill uninitialised tensors with NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(params=SETS)
def isa(request):
    """Each instruction set in turn."""
    engine.use(request.param)
    yield request.param
    engine.use(os.environ.get("MEMORYCELL_ISA") or SETS[0])


def build(cell: str, inputs: int, hidden: int, **options):
    """A layer with this cell, batch first, float32."""
    return of_cell(cell, inputs, hidden, batch_first=True, **options)


def results(layer, x, hx, **options) -> list[torch.Tensor]:
    """Output, final states and every gradient, for a loss that weights every element, with a fixed
    seed.
    """
    x = x.detach().clone().requires_grad_()
    hx = [h.detach().clone().requires_grad_() for h in hx]
    torch.manual_seed(11)
    output, final = layer(x, hx[0] if len(hx) == 1 else tuple(hx), **options)[:2]
    values = [output, *([final] if isinstance(final, torch.Tensor) else final)]
    generator = torch.Generator().manual_seed(7)
    weights = [
        torch.randn(v.shape, generator=generator, dtype=torch.float32).to(v.dtype) for v in values
    ]
    loss = sum((v * w).sum() for v, w in zip(values, weights, strict=True))
    return [v.detach() for v in values] + list(
        torch.autograd.grad(loss, [x, *hx, *layer.parameters()])
    )


def difference(ours, theirs) -> float:
    """The largest difference, relative to values above one; NaN counts as infinite."""
    pairs = list(zip(ours, theirs, strict=True))
    assert all(a.shape == b.shape for a, b in pairs)
    worst = max(
        float((a.double() - b.double()).abs().max() / max(1.0, float(b.abs().max())))
        for a, b in pairs
    )
    return worst if worst == worst else float("inf")


def random_case(cell, option, batch, steps, hidden):
    """(layer, x, states, options of the call)"""
    torch.manual_seed(batch * 100 + steps * 10 + hidden)
    settings = {"bias": False} if option == "no bias" else {}
    zoned = "zoneout" in option and cell not in WITHOUT_ZONEOUT
    settings |= {"zoneout": (0.3, 0.2)} if zoned else {}
    projected = "projected" in option and cell in PROJECTED_CELLS and hidden > 1
    settings |= {"proj_size": (hidden + 1) // 2} if projected else {}
    layer = build(cell, 5, hidden, bidirectional=True, **settings)
    layer.train("training" in option)
    call = {}
    if "lengths" in option or projected:
        call["lengths"] = torch.randint(1, steps + 1, (batch,))
    if "reset" in option or projected:
        call["reset"] = torch.rand(batch, steps) < 0.3
    return layer, torch.randn(batch, steps, 5), random_state(layer, batch), call


def random_state(layer, batch: int) -> list[torch.Tensor]:
    """Normal numbers; a normaliser is 1 or more."""
    zeros = layer.initial_state(batch).asdict()
    return [
        torch.randn_like(v).abs() + 1 if name == "n" else torch.randn_like(v)
        for name, v in zeros.items()
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


# ---- single steps --------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELL_NAMES)
@pytest.mark.parametrize(
    ("precision", "bound"), [("float32", 1e-5), ("bfloat16", 0.01), ("int8", 0.02)]
)
def test_steps_equal_the_full_sequence(isa, cell, precision, bound):
    for inputs, hidden in ((1, 2), (5, 63), (33, 64)):
        torch.manual_seed(0)
        layer = build(cell, inputs, hidden, zoneout=0.0 if cell == "slstm" else 0.1).eval()
        with torch.no_grad():
            for name, parameter in layer.named_parameters():
                if name.startswith(("gain_ih", "gain_hh")):
                    parameter.fill_(0.3)
        x = torch.randn(20, inputs)
        whole = layer(x[None], backend="reference")[0][0].detach()
        step = StackStep(
            cell,
            [layer.layer_parameters(0, "")],
            precision=precision,
            zoneout=layer.zoneout,
            extra_width=3,
        )
        width = step.layout.width + 3
        mine = np.full((20, hidden), np.nan, np.float32)
        ring = np.zeros((4, width), np.float32)
        assert step.step_one(ring, 3, x.numpy(), mine) == (3 + 20) % 4
        assert np.abs(mine - whole.numpy()).max() < bound * (
            20 if cell == "layernorm" and hidden == 2 else 1
        )
        # Several sessions at once are bitwise equal to one alone, and change no other.
        block = np.zeros((9, width), np.float32)
        slots = np.array([3, 8, 0, 5, 1, 2, 7])
        for k, row in enumerate(x):
            others = torch.randn(3, inputs), torch.randn(3, inputs)
            y = step.step_many(block, slots, torch.cat([others[0], row[None], others[1]]).numpy())
            assert np.array_equal(y[3], mine[k])
        assert not block[[4, 6]].any()
        assert not block[:, -3:].any()


def test_steps_of_stacked_layers_equal_the_full_sequence(isa):
    layer = memorycell.LSTM(5, 7, num_layers=3, batch_first=True)
    x = torch.randn(30, 5)
    step = StackStep("lstm", [layer.layer_parameters(k, "") for k in range(3)])
    y, ring = np.empty((30, 7), np.float32), np.zeros((1, step.layout.width), np.float32)
    step.step_one(ring, 0, x.numpy(), y)
    whole, state = layer(x[None], backend="reference")
    assert np.abs(y - whole[0].detach().numpy()).max() < 1e-6
    for mine, theirs in zip(step.layout.state(ring), state, strict=True):
        assert float((mine - theirs).detach().abs().max()) < 1e-6
    block = np.zeros(
        (200, step.layout.width), np.float32
    )  # more than the engine runs through the layers together
    for k in range(30):
        many = step.step_many(
            block, np.arange(199, -1, -1), np.repeat(x[k : k + 1].numpy(), 200, 0)
        )
    assert all(np.array_equal(row, y[29]) for row in many)


def test_two_threads_step_different_slots():
    layer = build("lstm", 8, 32)
    x = np.random.default_rng(0).normal(size=(2, 300, 4, 8)).astype(np.float32)
    step = StackStep("lstm", [layer.layer_parameters(0, "")])

    def run(block: np.ndarray, half: int, out: list) -> None:
        slots = np.arange(4) + 4 * half
        out[half] = np.stack([step.step_many(block, slots, row) for row in x[half]])

    alone, together = [None, None], [None, None]
    block = np.zeros((8, step.layout.width), np.float32)
    for half in (0, 1):
        run(block, half, alone)
    block = np.zeros((8, step.layout.width), np.float32)
    threads = [threading.Thread(target=run, args=(block, half, together)) for half in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_nan_is_propagated():
    for precision in ("float32", "bfloat16", "int8"):
        step = StackStep("lstm", [build("lstm", 4, 6).layer_parameters(0, "")], precision=precision)
        y = np.zeros(6, np.float32)
        step.step_one(np.zeros((1, 12), np.float32), 0, np.array([1, np.nan, 2, 3], np.float32), y)
        assert np.isnan(y).all()


def raises(words: str):
    return pytest.raises(ValueError, match=words)


def test_errors_name_the_argument():
    layer = build("lstm", 4, 6)
    params = layer.layer_parameters(0, "")
    step = StackStep("lstm", [params])
    ring, y = np.zeros((3, 12), np.float32), np.zeros((1, 6), np.float32)
    with raises("x: expected 8 values, got 5"):
        step.step_one(ring, 0, np.zeros(5, np.float32), y)
    with raises("x: expected type 'f', got 'd'"):
        step.step_one(ring, 0, np.zeros(4), y)
    with raises(r"row: expected 0\.\.2, got 3"):
        step.step_one(ring, 3, np.zeros(4, np.float32), y)
    with raises("contiguous"):
        step.step_one(ring, 0, np.zeros(8, np.float32)[::2], y)
    x = np.zeros((2, 4), np.float32)
    for rows, words in (
        ([0, 3], r"rows: expected 0\.\.2, got 3"),
        ([-1, 0], "got -1"),
        ([1, 1], "rows: 1 twice"),
    ):
        with raises(words):
            step.step_many(ring, np.array(rows), x)
    with raises("rows: expected type 'l', got 'd'"):
        step.step_many(ring, np.array([0.0, 1.0]), x)
    assert not ring.any()
    step.step_many(ring, np.array([1, 2]), x)  # rejected calls changed nothing
    with raises("precision"):
        StackStep("lstm", [params], precision="int4")
    with raises("NaN"):
        StackStep("lstm", [{**params, "weight_hh": params["weight_hh"] * float("nan")}])
    with raises("float64"):
        StackStep("lstm", [{name: p.double() for name, p in params.items()}])
    with raises("out of range"):
        engine.Weight(0, 2**40, 2**40, 1, 1, 0)
    with raises("projection"):
        build("layernorm", 4, 6, proj_size=2)(torch.zeros(1, 2, 4), backend="native")
    with raises("float64"):
        build("lstm", 4, 6).double()(torch.zeros(1, 2, 4).double(), backend="native")
    noncontiguous = torch.randn(4, 9, 2).transpose(0, 2)  # [2, 9, 4]: another layout of valid data
    torch.testing.assert_close(
        layer(noncontiguous, backend="native")[0], layer(noncontiguous.contiguous())[0]
    )


def test_changed_weights_are_packed_again():
    layer = build("lstm", 4, 6)
    x = torch.randn(1, 3, 4)
    before = layer(x, backend="native")[0]
    with torch.no_grad():
        layer.weight_hh_l0.mul_(2)
    changed = layer(x, backend="native")[0]
    assert not torch.equal(before, changed)
    torch.testing.assert_close(changed, layer(x, backend="reference")[0])
    layer.load_state_dict({name: p * 0.5 for name, p in layer.state_dict().items()})
    torch.testing.assert_close(layer(x, backend="native")[0], layer(x, backend="reference")[0])


# ---- selection of the engine ---------------------------------------------------------------------


def explain_in_subprocess(**environment: str) -> str:
    program = "import memorycell; print(memorycell.explain(memorycell.LSTM(2, 3)))"
    words = [sys.executable, "-c", program]
    return subprocess.run(
        words, env={**os.environ, **environment}, capture_output=True, text=True, check=True
    ).stdout


def test_the_instruction_set_can_be_selected_and_is_reported():
    for name in SETS:
        assert f"({name})" in explain_in_subprocess(MEMORYCELL_ISA=name)
    explanation = explain_in_subprocess(MEMORYCELL_ISA="sparc")
    assert explanation.startswith("torch:")
    assert "sparc" in explanation
    assert "this processor has" in explanation


def test_without_the_engine_everything_still_runs(monkeypatch):
    layer, x, hx, _ = random_case("lstm", "plain", 3, 5, 7)
    with_engine = results(layer, x, hx)
    monkeypatch.setattr(binding, "engine", None)
    monkeypatch.setattr(
        binding,
        "missing",
        "the native engine is not available (no compiler); install g++ or clang++",
    )
    assert difference(results(layer, x, hx), with_engine) < 2e-6
    assert memorycell.explain(layer).backend == "torch"
    assert "install g++" in memorycell.explain(layer).reason
    assert memorycell.explain(layer, torch.zeros(1, 1, 5)).backend == "reference"


@pytest.mark.data
@pytest.mark.slow
def test_lower_precision_costs_the_demo_less_than_half_a_percent(glucose, tmp_path):
    """CRPS of the glucose forecaster on the test split, with steps in bfloat16 and int8."""
    from memorycell.application import catalogue, modelfile
    from memorycell.application.train_settings import TrainSettings
    from memorycell.applications.forecast.reopening import reopen
    from memorycell.applications.forecast.settings import ForecastSettings
    from memorycell.training import loop as training

    torch.use_deterministic_algorithms(False)
    path = tmp_path / "g.safetensors"
    training.train(
        catalogue.load("forecast"), "glucose", ForecastSettings(), TrainSettings(epochs=6), path
    )
    file = modelfile.load(path)
    dataset = reopen(None, file)
    at = dataset.origins("test")
    model, x = file.model, dataset.inputs[at[0] - 2000 :]
    scores = {}
    for precision in ("float32", "bfloat16", "int8"):
        quantiles = memorycell.stream(model, precision).step(x)
        scores[precision] = dataset.score(quantiles[at - at[0] + 2000], at)["crps"]
    assert scores["float32"] == pytest.approx(dataset.evaluate(model, "test")["crps"], rel=1e-3)
    for precision in ("bfloat16", "int8"):
        assert abs(scores[precision] / scores["float32"] - 1) < 0.005, scores
