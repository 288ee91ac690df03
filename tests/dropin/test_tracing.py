"""Dispatch modes, make_fx, fake and meta tensors, and torch.library's checks of the operator."""

import subprocess
import sys

import pytest
import torch
import torch._dynamo
import torch._dynamo.testing
from torch.func import grad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import FlopCounterMode
from transform_cases import (
    BATCH,
    INPUTS,
    PLAIN,
    STEPS,
    VARIANTS,
    assert_close,
    build,
    expected_output,
    loss,
    ours,
    precision,
    sequence,
    tensors_in,
    weights,
)

import memorycell

pytestmark = [
    pytest.mark.usefixtures("clean_compiler"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script.*` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated"),
    pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node with no underlying"),
    pytest.mark.filterwarnings("ignore:.*_flat_weights.*assigned during export:UserWarning"),
]


# ---- modes ---------------------------------------------------------------------------------------


class Counting(TorchDispatchMode):
    """Records every operator."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls.append((func, args, kwargs or {}))
        return func(*args, **(kwargs or {}))


class Watching(TorchFunctionMode):
    """Intercepts every function."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


MODES = {
    "dispatch": Counting,
    "function": Watching,
    "flops": lambda: FlopCounterMode(display=False),
    "device": lambda: torch.device("cpu"),
    "anomaly": lambda: torch.autograd.detect_anomaly(check_nan=True),
    "one gradient thread": lambda: torch.autograd.set_multithreading_enabled(False),
}


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled:UserWarning")
@pytest.mark.parametrize("mode", sorted(MODES))
@pytest.mark.parametrize("name", [*PLAIN, *VARIANTS])
def test_under_a_mode(name, mode):
    expected = grad(loss(expected_output(name)), argnums=(0, 1))(
        weights(name, torch.float64), sequence().double()
    )
    layer = build(name)
    x = sequence().requires_grad_()
    with MODES[mode]() as active:
        output = layer(x)[0]
        output.square().sum().backward()
    gradients = {n: p.grad for n, p in layer.named_parameters()}
    assert_close((gradients, x.grad), expected, precision(name))
    if mode == "dispatch":
        assert active.calls


@pytest.mark.parametrize("tracing", ["real", "fake", "symbolic"])
@pytest.mark.parametrize("name", [*PLAIN, *VARIANTS])
def test_make_fx(name, tracing):
    f = ours(name)
    params, x = weights(name), sequence()
    traced = make_fx(f, tracing_mode=tracing)(params, x)
    other = {
        n: 1.5 * p for n, p in params.items()
    }  # the graph contains no values of the traced run
    assert_close(traced(other, 2 * x), f(other, 2 * x), 1e-6)
    if tracing == "symbolic":
        longer = sequence(9, 4)
        # Untraced, the engine itself normalises the input: other rounding errors, amplified.
        assert_close(traced(other, longer), f(other, longer), 3e-5 if name == "layernorm" else 1e-6)


@pytest.mark.parametrize("name", ["LSTM", "GRU", "peephole"])
def test_make_fx_of_gradients(name):
    f = grad(loss(ours(name)), argnums=(0, 1))
    params, x = weights(name), sequence()
    traced = make_fx(f)(params, x)
    assert_close(traced(params, 2 * x), f(params, 2 * x), 1e-5)


OPTIONS = {
    "plain": {},
    "deep": {"num_layers": 2, "bidirectional": True},
    "batch first": {"batch_first": True},
    "no bias": {"bias": False},
    "float64": {"dtype": torch.float64},
    "projected": {"proj_size": 2},
    "unbatched": {},
    "no batch": {},
    "lengths": {},
    "trace": {},
}


@pytest.mark.parametrize("option", sorted(OPTIONS))
@pytest.mark.parametrize("name", [*PLAIN, *VARIANTS])
def test_fake_tensors(name, option):
    """Shapes, dtypes and strides equal those of real tensors, forward and backward."""
    if option == "projected" and name in ("GRU", "RNN", "relu", "layernorm"):
        pytest.skip("no projection")
    if option == "no bias" and name == "layernorm":
        pytest.skip("its bias is part of the normalisation")

    def run():
        layer = build(name, **OPTIONS[option])
        shapes = {"unbatched": (STEPS, INPUTS), "no batch": (STEPS, 0, INPUTS)}
        shape = shapes.get(option, (STEPS, BATCH, INPUTS))
        x = torch.randn(shape, dtype=layer.weight_hh_l0.dtype, requires_grad=True)
        keywords = {"lengths": torch.tensor([STEPS, 2])} if option == "lengths" else {}
        keywords |= {"trace": True} if option == "trace" else {}
        result = layer(x, **keywords)
        tensors_in(result)[0].sum().backward()
        return [*tensors_in(result), x.grad, *(p.grad for p in layer.parameters())]

    real = run()
    with torch._subclasses.FakeTensorMode():
        fake = run()
    assert [v.shape for v in fake] == [v.shape for v in real]
    assert [v.dtype for v in fake] == [v.dtype for v in real]
    assert [v.stride() for v in fake[:3]] == [v.stride() for v in real[:3]]
    assert all(isinstance(v, torch._subclasses.FakeTensor) for v in fake)
    assert not any(isinstance(v, torch._subclasses.FakeTensor) for v in real)


META = """
import torch
import memorycell

torch.set_num_threads(1)


def summary(call):
    try:
        output, final = call()[:2]
    except (RuntimeError, ValueError, NotImplementedError, TypeError) as error:
        return type(error).__name__
    values = [output, *(final if isinstance(final, tuple) else (final,))]
    return [(v.device.type, list(v.shape)) for v in values]


def compare(*words, **calls):
    mine, other = summary(calls["ours"]), summary(calls["theirs"])
    print("same" if mine == other else "DIFFERENT", *words, mine, other, flush=True)


for kind in ("LSTM", "GRU", "RNN"):
    for dtype in (torch.float32, torch.float64):
        x = torch.randn(5, 2, 3, dtype=dtype)
        states = torch.zeros(2, 1, 2, 4, dtype=dtype)
        for a in ("cpu", "meta"):
            ours = getattr(memorycell, kind)(3, 4, device=a, dtype=dtype)
            theirs = getattr(torch.nn, kind)(3, 4, device=a, dtype=dtype)
            for b in ("cpu", "meta"):
                for c in (None, "cpu", "meta"):
                    hx = None if c is None else states.to(c)
                    hx = None if c is None else tuple(hx) if kind == "LSTM" else hx[0]
                    for gradients in (True, False):
                        with torch.set_grad_enabled(gradients):
                            compare(
                                kind, dtype, a, b, c, gradients,
                                ours=lambda: ours(x.to(b), hx), theirs=lambda: theirs(x.to(b), hx),
                            )

x = torch.randn(5, 2, 3)
for kind in ("LSTM", "GRU", "RNN", "peephole", "coupled", "layernorm"):
    def make():
        if kind[0].islower():
            return memorycell.LSTM(3, 4, cell=kind)
        return getattr(memorycell, kind)(3, 4)
    for name, parameter in list(make().named_parameters()):
        layer = make()
        setattr(layer, name, torch.nn.Parameter(parameter.to("meta")))
        print("mixed", kind, name, summary(lambda: layer(x)), flush=True)
    layer = make()
    lengths, reset = torch.tensor([5, 2]), torch.zeros(2, 5, dtype=torch.bool)
    for keywords in ({"lengths": lengths.to("meta")}, {"reset": reset.to("meta")}):
        print("mixed", kind, *keywords, summary(lambda: layer(x, **keywords)), flush=True)
    for backend in ("native", "torch", "reference"):
        got = summary(lambda: layer(x.to("meta"), backend=backend))
        print("mixed", kind, backend, got, flush=True)
    layer = layer.to("meta")
    for keywords in ({}, {"trace": True}):
        got = summary(lambda: layer(x.to("meta"), **keywords))
        as_expected = got[0] == ("meta", [5, 2, 4])
        print("same" if as_expected else "DIFFERENT", kind, *keywords, got, flush=True)
print("alive")
"""


def test_meta_tensors_behave_as_in_torch():
    """Weights, states and lengths on "meta" never crash the process."""
    done = subprocess.run(
        [sys.executable, "-c", META],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"{done.returncode} after {lines[-1:]}: {done.stderr[-1000:]}"
    assert lines[-1] == "alive"
    assert not [line for line in lines if line.startswith("DIFFERENT")]
    assert not [line for line in lines if line.startswith("mixed") and "'cpu'" in line]


# ---- the operator --------------------------------------------------------------------------------


CHECKED = [("LSTM", c) for c in ("plain", "reverse", "lengths", "reset", "zoneout", "trace")]
CHECKED += [(name, "plain") for name in ("GRU", "RNN", "relu", *VARIANTS)]
CHECKED += [("layernorm", "zoneout")]


@pytest.mark.parametrize(("name", "case"), CHECKED)
def test_opcheck(name, case):
    """torch.library's own checks of the operator: schema, fake tensors, autograd, tracing."""
    if not hasattr(torch.ops.memorycell, "recurrence"):
        pytest.skip("no torch.ops.memorycell.recurrence")
    options = {"reverse": {"bidirectional": True}, "zoneout": {"zoneout": 0.2}}.get(case, {})
    layer = build(name, **options)
    if memorycell.explain(layer).backend != "native":
        pytest.skip("needs the native engine")
    reset = torch.zeros(BATCH, STEPS, dtype=torch.bool)
    reset[1, 1] = True
    keywords = {
        "lengths": {"lengths": torch.tensor([STEPS, 2])},
        "reset": {"reset": reset},
        "trace": {"trace": True},
    }.get(case, {})
    with Counting() as seen:
        layer(sequence().requires_grad_(), **keywords)
    calls = [call for call in seen.calls if call[0].namespace == "memorycell"]
    assert calls

    def fresh(value):
        if not isinstance(value, torch.Tensor):
            return value
        value = value.detach().clone()
        return value.requires_grad_() if value.is_floating_point() else value

    func, args, kwargs = calls[-1]
    args, kwargs = tree_map(fresh, (args, kwargs))
    utils = ["test_schema", "test_autograd_registration", "test_faketensor"]
    slow = ["test_aot_dispatch_dynamic"] if (name, case) in CHECKED[:3] + CHECKED[-1:] else []
    torch.library.opcheck(func, args, kwargs, test_utils=utils + slow, rtol=1e-4, atol=1e-5)
