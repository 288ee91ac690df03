"""Our layers under what PyTorch does to functions: torch.compile, export, fake tensors, torch.func.

The truth is the equations written out in float64, which every transform goes through; for the
variants, our reference loop in float64. torch.nn's own layers go through few of them.
"""

import io
import subprocess
import sys

import pytest
import torch
import torch._dynamo
import torch._dynamo.testing
from torch import nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import FlopCounterMode

import memorycell

PLAIN = ["LSTM", "GRU", "RNN", "relu"]
VARIANTS = ["peephole", "coupled", "layernorm"]
INPUTS, HIDDEN, STEPS, BATCH = 3, 4, 5, 2
pytestmark = [  # what torch says of itself
    pytest.mark.filterwarnings("ignore:`torch.jit.script.*` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated"),
    pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node with no underlying"),
    pytest.mark.filterwarnings("ignore:.*_flat_weights.*assigned during export:UserWarning"),
]


def build(name: str, family=memorycell, **options) -> nn.Module:
    """A layer with that cell."""
    torch.manual_seed(0)
    if name in VARIANTS:
        return family.LSTM(INPUTS, HIDDEN, cell=name, **options)
    if name == "relu":
        return family.RNN(INPUTS, HIDDEN, nonlinearity="relu", **options)
    return getattr(family, name)(INPUTS, HIDDEN, **options)


def sequence(steps: int = STEPS, batch: int = BATCH, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(steps, batch, INPUTS, generator=generator)


def by_hand(name: str, params: dict, x: torch.Tensor) -> torch.Tensor:
    """Output [T, B, H], or [T, H] of an unbatched x: the equations of torch.nn, step after step."""
    h = c = x.new_zeros((*x.shape[1:-1], HIDDEN))
    w, u = params["weight_ih_l0"], params["weight_hh_l0"]
    outputs = []
    for x_t in x.unbind(0):
        a, b = x_t @ w.T + params["bias_ih_l0"], h @ u.T + params["bias_hh_l0"]
        if name == "LSTM":
            i, f, g, o = (a + b).chunk(4, -1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        elif name == "GRU":
            (a_r, a_z, a_n), (b_r, b_z, b_n) = a.chunk(3, -1), b.chunk(3, -1)
            z = (a_z + b_z).sigmoid()
            h = (1 - z) * (a_n + (a_r + b_r).sigmoid() * b_n).tanh() + z * h
        else:
            h = (a + b).tanh() if name == "RNN" else (a + b).relu()
        outputs.append(h)
    return torch.stack(outputs)


def ours(name: str, **keywords):
    """(parameters, x) -> output of our layer."""
    layer = build(name)
    return lambda params, x: functional_call(layer, params, (x,), keywords)[0]


def truth(name: str, **keywords):
    """The same in float64: by hand where the equations are torch's, else our reference loop."""
    if name in VARIANTS or keywords:
        layer = build(name).double()
        keywords = {"backend": "reference"} | keywords
        return lambda params, x: functional_call(layer, params, (x,), keywords)[0]
    return lambda params, x: by_hand(name, params, x)


def weights(name: str, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone().to(dtype) for n, p in build(name).named_parameters()}


def flat(tree) -> list[torch.Tensor]:
    return [v for v in tree_leaves(tree) if isinstance(v, torch.Tensor)]


def precision(name: str) -> float:
    """Of float32 results. The normalisation of the first, empty state has a slope of 300."""
    return 1e-3 if name == "layernorm" else 1e-4


def assert_close(found, expected, tolerance: float = 1e-5) -> None:
    """To the tolerance, relative to the largest value where that is over one."""
    found, expected = flat(found), flat(expected)
    assert len(found) == len(expected) > 0
    for mine, other in zip(found, expected, strict=True):
        assert mine.shape == other.shape
        mine, other = mine.detach().double(), other.detach().double()
        scale = max(1.0, float(other.abs().max()))
        torch.testing.assert_close(mine, other, rtol=0, atol=tolerance * scale)


def loss(f):
    return lambda params, x: f(params, x).square().sum()


# ---- torch.func and its elders -------------------------------------------------------------------


def like(tree, seed: int):
    """Directions: the same numbers in either dtype."""
    generator = torch.Generator().manual_seed(seed)
    return tree_map(lambda v: torch.randn(v.shape, generator=generator).to(v.dtype), tree)


def stacked(tree, count: int = 3):
    return tree_map(lambda v: torch.stack([v * (1 + 0.3 * k) for k in range(count)]), tree)


def by_grad(f, params, x):
    return grad(loss(f), argnums=(0, 1))(params, x)


def by_vjp(f, params, x):
    output, back = vjp(f, params, x)
    return output, back(like(output, 2))


def by_jvp(f, params, x):
    return jvp(f, (params, x), (like(params, 2), like(x, 3)))


def by_jvp_of_x(f, params, x):
    return jvp(lambda x: f(params, x), (x,), (like(x, 3),))


def by_jacrev(f, params, x):
    return jacrev(f, argnums=(0, 1))(params, x)


def by_jacrev_in_chunks(f, params, x):
    return jacrev(f, argnums=1, chunk_size=3)(params, x)


def by_jacfwd(f, params, x):
    return jacfwd(f, argnums=(0, 1))(params, x)


def by_hessian(f, params, x):
    return hessian(loss(f), argnums=1)(params, x)


def by_hessian_of_a_bias(f, params, x):
    def of(bias):
        return loss(f)(params | {"bias_hh_l0": bias}, x)

    return jacrev(jacrev(of))(params["bias_hh_l0"]), jacfwd(jacrev(of))(params["bias_hh_l0"])


def by_grad_of_grad(f, params, x):
    return grad(lambda x: grad(loss(f), argnums=1)(params, x).square().sum())(x)


def by_jvp_of_grad(f, params, x):
    return jvp(lambda p: grad(loss(f))(p, x), (params,), (like(params, 2),))


def by_vmap(f, params, x):
    return vmap(f, in_dims=(None, 0))(params, stacked(x))


def by_vmap_over_the_batch(f, params, x):
    """Every sequence alone, unbatched."""
    return vmap(f, in_dims=(None, 1), out_dims=1)(params, x)


def by_vmap_over_weights(f, params, x):
    """An ensemble."""
    return vmap(f, in_dims=(0, None))(stacked(params), x)


def by_vmap_over_both(f, params, x):
    return vmap(f, in_dims=(0, 2), out_dims=1)(stacked(params), stacked(x).movedim(0, 2))


def by_vmap_over_one_weight(f, params, x):
    def of(weight, x):
        return f(params | {"weight_hh_l0": weight}, x)

    return vmap(of, in_dims=(0, None))(stacked(params["weight_hh_l0"]), x)


def by_nested_vmap(f, params, x):
    return vmap(vmap(f, in_dims=(None, 0)), in_dims=(0, None))(stacked(params, 2), stacked(x))


def by_gradients_a_sample(f, params, x):
    return vmap(grad(loss(f)), in_dims=(None, 0))(params, stacked(x))


def by_gradients_a_sample_unbatched(f, params, x):
    return vmap(grad(loss(f)), in_dims=(None, 1))(params, x)


def by_gradients_of_an_ensemble(f, params, x):
    return vmap(grad(loss(f)), in_dims=(0, None))(stacked(params), x)


def by_grad_of_vmap(f, params, x):
    return grad(lambda p: vmap(f, in_dims=(None, 0))(p, stacked(x)).square().sum())(params)


def by_jvp_of_vmap(f, params, x):
    def of(x):
        return vmap(f, in_dims=(None, 0))(params, x)

    return jvp(of, (stacked(x),), (like(stacked(x), 3),))


def by_batched_gradients(f, params, x):
    leaves = [v.clone().requires_grad_() for v in (*params.values(), x)]
    output = f(dict(zip(params, leaves[:-1], strict=True)), leaves[-1])
    many = like(torch.stack([output.detach()] * 3), 4)
    return torch.autograd.grad(output, leaves, many, is_grads_batched=True)


def by_second_backward(f, params, x):
    leaves = [v.clone().requires_grad_() for v in (*params.values(), x)]
    output = f(dict(zip(params, leaves[:-1], strict=True)), leaves[-1])
    first = torch.autograd.grad(output.square().sum(), leaves, create_graph=True)
    return first, torch.autograd.grad(sum(g.square().sum() for g in first), leaves)


def by_jacobian(f, params, x):
    return torch.autograd.functional.jacobian(lambda x: f(params, x), x)


def by_jacobian_vectorised(f, params, x):
    return torch.autograd.functional.jacobian(lambda x: f(params, x), x, vectorize=True)


def by_jacobian_forward(f, params, x):
    options = {"vectorize": True, "strategy": "forward-mode"}
    return torch.autograd.functional.jacobian(lambda x: f(params, x), x, **options)


def by_hvp(f, params, x):
    return torch.autograd.functional.hvp(lambda x: loss(f)(params, x), x, like(x, 3))


def by_vhp(f, params, x):
    return torch.autograd.functional.vhp(lambda x: loss(f)(params, x), x, like(x, 3))


def by_functional_jvp(f, params, x):
    return torch.autograd.functional.jvp(lambda x: f(params, x), x, like(x, 3))


def by_functional_hessian(f, params, x):
    return torch.autograd.functional.hessian(lambda x: loss(f)(params, x), x, vectorize=True)


def by_dual_numbers(f, params, x):
    with forward_ad.dual_level():
        dual = {n: forward_ad.make_dual(v, like(v, 5)) for n, v in params.items()}
        output = forward_ad.unpack_dual(f(dual, forward_ad.make_dual(x, like(x, 3))))
        return output.primal.clone(), output.tangent.clone()


def by_linearize(f, params, x):
    output, push = torch.func.linearize(lambda x: f(params, x), x)
    return output, push(like(x, 3))


TRANSFORMS = {name[3:]: value for name, value in list(globals().items()) if name.startswith("by_")}
del TRANSFORMS["hand"]
SOME = ["grad", "jvp", "jacrev", "vmap", "gradients_a_sample"]
SOME += ["second_backward", "batched_gradients"]


@pytest.mark.parametrize("transform", sorted(TRANSFORMS))
@pytest.mark.parametrize("name", [*PLAIN[:3], "peephole", "layernorm"])
def test_transform(name, transform):
    found = TRANSFORMS[transform](ours(name), weights(name), sequence())
    expected = TRANSFORMS[transform](truth(name), weights(name, torch.float64), sequence().double())
    assert_close(found, expected, precision(name))


@pytest.mark.parametrize("transform", SOME)
@pytest.mark.parametrize("name", ["relu", "coupled"])
def test_some_transforms_of_the_other_cells(name, transform):
    found = TRANSFORMS[transform](ours(name), weights(name), sequence())
    expected = TRANSFORMS[transform](truth(name), weights(name, torch.float64), sequence().double())
    assert_close(found, expected, precision(name))


@pytest.mark.parametrize("transform", SOME)
@pytest.mark.parametrize("name", ["LSTM", "GRU", "layernorm"])
def test_transforms_in_float64(name, transform):
    if name != "layernorm" and transform in ("vmap", "gradients_a_sample"):
        pytest.skip("what runs in float64 is PyTorch's own layer, which vmap does not know")
    layer = build(name).double()

    def f(params, x):
        return functional_call(layer, params, (x,))[0]

    params, x = weights(name, torch.float64), sequence().double()
    expected = TRANSFORMS[transform](truth(name), params, x)
    assert_close(TRANSFORMS[transform](f, params, x), expected, 1e-10)


@pytest.mark.parametrize("transform", SOME)
@pytest.mark.parametrize("name", ["LSTM", "GRU", "peephole"])
def test_transforms_with_lengths_and_resets(name, transform):
    reset = torch.zeros(BATCH, STEPS, dtype=torch.bool)
    reset[0, 2] = True
    keywords = {"lengths": torch.tensor([STEPS, 3]), "reset": reset}
    found = TRANSFORMS[transform](ours(name, **keywords), weights(name), sequence())
    params, x = weights(name, torch.float64), sequence().double()
    expected = TRANSFORMS[transform](truth(name, **keywords), params, x)
    assert_close(found, expected, precision(name))


@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_transforms_of_a_stack_in_both_directions_with_states(name):
    """By what torch's own layer gives in float64."""
    layer = build(name, num_layers=2, bidirectional=True)
    theirs = build(name, torch.nn, num_layers=2, bidirectional=True).double()
    theirs.load_state_dict(layer.state_dict())
    h, c = torch.randn(4, BATCH, HIDDEN), torch.randn(4, BATCH, HIDDEN)

    def of(module, dtype):
        hx = (h.to(dtype), c.to(dtype)) if name == "LSTM" else h.to(dtype)
        params = {n: p.detach() for n, p in module.named_parameters()}

        def f(params, x, hx):
            output, final = functional_call(module, params, (x, hx))
            return output.square().sum() + sum(v.sum() for v in flat(final))

        return f, (params, sequence().to(dtype), hx)

    (f, arguments), (g, exact) = of(layer, torch.float32), of(theirs, torch.float64)
    found = grad(f, argnums=(0, 1, 2))(*arguments)
    assert_close(found, grad(g, argnums=(0, 1, 2))(*exact), 1e-4)
    tangent = jvp(lambda x: f(arguments[0], x, arguments[2]), (arguments[1],), (arguments[1],))
    assert_close(tangent, jvp(lambda x: g(exact[0], x, exact[2]), (exact[1],), (exact[1],)), 1e-4)


# ---- torch.autograd.gradcheck --------------------------------------------------------------------


def leaves_of(name: str, dtype: torch.dtype):
    """A function of plain tensors, and the tensors: x, the states and the parameters."""
    layer = build(name).to(dtype)
    names = [n for n, _ in layer.named_parameters()]
    states = 1 if name in ("GRU", "RNN", "relu") else 2
    tensors = [sequence(3).to(dtype)]
    tensors += [torch.randn(1, BATCH, HIDDEN, dtype=dtype) for _ in range(states)]
    tensors += [p.detach().clone() for p in layer.parameters()]

    def f(x, *rest):
        hx = rest[:2] if states == 2 else rest[0]
        params = dict(zip(names, rest[states:], strict=True))
        output, final = functional_call(layer, params, (x, hx))
        return output, *flat(final)

    return f, tuple(t.requires_grad_() for t in tensors)


@pytest.mark.parametrize("name", [*PLAIN, *VARIANTS])
def test_gradcheck_in_float64(name):
    f, tensors = leaves_of(name, torch.float64)
    assert torch.autograd.gradcheck(f, tensors, check_forward_ad=True, check_batched_grad=True)


@pytest.mark.filterwarnings("ignore:Input #.* is not a double precision:UserWarning")
@pytest.mark.parametrize("name", [*PLAIN[:3], *VARIANTS])
def test_gradcheck_in_float32(name):
    """Loosely: differences of float32 numbers have three digits left."""
    f, tensors = leaves_of(name, torch.float32)
    options = {"eps": 1e-2, "atol": 2e-2, "rtol": 2e-2}  # batched gradients: to 1e-5 only
    assert torch.autograd.gradcheck(f, tensors, **options, check_forward_ad=True)


@pytest.mark.parametrize("name", [*PLAIN[:3], *VARIANTS])
def test_gradgradcheck(name):
    f, tensors = leaves_of(name, torch.float64)
    assert torch.autograd.gradgradcheck(f, tensors, fast_mode=True)


# ---- modes ---------------------------------------------------------------------------------------


class Counting(TorchDispatchMode):
    """Sees every operator go by."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls.append((func, args, kwargs or {}))
        return func(*args, **(kwargs or {}))


class Watching(TorchFunctionMode):
    """Sees every function go by."""

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
    expected = by_grad(truth(name), weights(name, torch.float64), sequence().double())
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
    other = {n: 1.5 * p for n, p in params.items()}  # nothing of the traced run is baked in
    assert_close(traced(other, 2 * x), f(other, 2 * x), 1e-6)
    if tracing == "symbolic":
        longer = sequence(9, 4)
        assert_close(traced(other, longer), f(other, longer), 1e-6)


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
    """Shapes, dtypes and strides as of real ones, forward and backward."""
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
        flat(result)[0].sum().backward()
        return [*flat(result), x.grad, *(p.grad for p in layer.parameters())]

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


def told(call):
    try:
        output, final = call()[:2]
    except (RuntimeError, ValueError, NotImplementedError, TypeError) as error:
        return type(error).__name__
    values = [output, *(final if isinstance(final, tuple) else (final,))]
    return [(v.device.type, list(v.shape)) for v in values]


def compare(*words, **calls):
    mine, other = told(calls["ours"]), told(calls["theirs"])
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
        print("odd", kind, name, told(lambda: layer(x)), flush=True)
    layer = make()
    lengths, reset = torch.tensor([5, 2]), torch.zeros(2, 5, dtype=torch.bool)
    for keywords in ({"lengths": lengths.to("meta")}, {"reset": reset.to("meta")}):
        print("odd", kind, *keywords, told(lambda: layer(x, **keywords)), flush=True)
    for backend in ("native", "torch", "reference"):
        print("odd", kind, backend, told(lambda: layer(x.to("meta"), backend=backend)), flush=True)
    layer = layer.to("meta")
    for keywords in ({}, {"trace": True}):
        got = told(lambda: layer(x.to("meta"), **keywords))
        as_expected = got[0] == ("meta", [5, 2, 4])
        print("same" if as_expected else "DIFFERENT", kind, *keywords, got, flush=True)
print("alive")
"""


def test_meta_tensors_are_refused_or_computed_as_torch_does():
    """And never a crash: a weight, a state or lengths without numbers are an error at most."""
    done = subprocess.run(
        [sys.executable, "-c", META],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"{done.returncode} after {lines[-1:]}: {done.stderr[-1000:]}"
    assert lines[-1] == "alive"
    assert not [line for line in lines if line.startswith("DIFFERENT")]
    assert not [line for line in lines if line.startswith("odd") and "'cpu'" in line]


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
        pytest.skip("no native engine, so no operator")
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


# ---- torch.compile -------------------------------------------------------------------------------


class Net(nn.Module):
    """A recurrent layer inside other layers."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.before, self.rnn, self.after = nn.Linear(INPUTS, INPUTS), layer, nn.Linear(HIDDEN, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output, final = self.rnn(torch.tanh(self.before(x)))
        final = final[0] if isinstance(final, tuple) else final
        return self.after(output) + self.after(final)


def step(model: nn.Module, net: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Output, and the gradients of x and of the parameters."""
    x = x.clone().requires_grad_()
    output = model(x)
    return [output.detach(), *torch.autograd.grad(output.square().sum(), [x, *net.parameters()])]


@pytest.fixture(autouse=True)
def clean_compiler():
    """Nothing compiled is left, and torch's switch for recurrent layers is as it was."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
    assert torch._dynamo.config.allow_rnn is False


@pytest.mark.parametrize("name", [*PLAIN[:3], "peephole"])
def test_compiled_in_one_graph_for_all_shapes(name):
    net = Net(build(name))
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(net, fullgraph=True, backend=counter)
    for steps, batch in ((7, 3), (5, 2), (9, 4), (4, 6), (12, 5)):
        x = sequence(steps, batch)
        assert_close(step(compiled, net, x), step(net, net, x), 1e-5)
    assert counter.frame_count <= 2
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.3)
        assert_close(compiled(x), net(x), 1e-5)


def test_compiled_with_keywords_and_trace():
    layer = build("LSTM")

    def f(x, lengths):
        output, _, traces = layer(x, lengths=lengths, trace=True)
        return output.sum() + traces[0]["f"].sum()

    compiled = torch.compile(f, fullgraph=True, backend="aot_eager")
    for lengths in (torch.tensor([STEPS, 2]), torch.tensor([1, STEPS])):
        assert_close(compiled(sequence(), lengths), f(sequence(), lengths), 1e-5)


def test_compiled_where_torch_lets_its_own_layers_in():
    net = Net(build("LSTM"))
    with torch._dynamo.config.patch(allow_rnn=True):
        compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
        assert_close(step(compiled, net, sequence()), step(net, net, sequence()), 1e-5)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # of any break
@pytest.mark.parametrize("name", PLAIN[:3])
def test_compiled_beside_a_layer_of_torch(name):
    """That one the compiler leaves to eager mode, as ever; the numbers are those of torch."""
    net = nn.Sequential(Net(build(name)), nn.Linear(2, INPUTS), Net(build(name, torch.nn)))
    first, second = Net(build(name, torch.nn)), Net(build(name, torch.nn))
    theirs = nn.Sequential(first, nn.Linear(2, INPUTS), second)
    theirs.load_state_dict(net.state_dict())
    compiled = torch.compile(net, backend="aot_eager")
    for steps, batch in ((7, 3), (5, 2)):
        x = sequence(steps, batch)
        assert_close(step(compiled, net, x), step(theirs, theirs, x), 1e-5)
    torch._dynamo.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported, match="RNN, GRU, or LSTM"):
        torch.compile(net, fullgraph=True, backend="aot_eager")(sequence())


def test_compiled_step_by_step():
    """A step at a time, the state carried: nothing is compiled anew for the later steps."""
    layer = build("LSTM")
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(layer, fullgraph=True, backend=counter)
    x = sequence(6)
    state = expected = (torch.zeros(1, BATCH, HIDDEN), torch.zeros(1, BATCH, HIDDEN))
    with torch.no_grad():
        for x_t in x.split(1):
            y, state = compiled(x_t, state)
            other, expected = layer(x_t, expected)
            assert_close([y, *state], [other, *expected], 1e-6)
    assert counter.frame_count <= 2


def test_compiled_by_inductor():
    net = Net(build("LSTM"))
    compiled = torch.compile(net, fullgraph=True)
    assert_close(step(compiled, net, sequence()), step(net, net, sequence()), 1e-5)


# ---- torch.export --------------------------------------------------------------------------------


def through_file(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    return torch.export.load(file)


@pytest.mark.parametrize("name", [*PLAIN, *VARIANTS])
def test_exported(name):
    layer = build(name).eval()
    x = sequence(7, 3)
    program = torch.export.export(layer, (x,))
    for each in (program, program.run_decompositions(), through_file(program)):
        assert_close(each.module()(2 * x), layer(2 * x), 1e-5)


@pytest.mark.parametrize("name", [*PLAIN[:3], "peephole"])
def test_exported_for_all_shapes(name):
    layer = build(name).eval()
    steps, batch = torch.export.Dim("steps", min=2), torch.export.Dim("batch", min=2)
    program = torch.export.export(layer, (sequence(7, 3),), dynamic_shapes=({0: steps, 1: batch},))
    for x in (sequence(7, 3), sequence(12, 2), sequence(3, 9)):
        assert_close(program.module()(x), layer(x), 1e-5)


@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_exported_with_states(name):
    layer = build(name, num_layers=2, bidirectional=True).eval()
    h = torch.randn(4, 3, HIDDEN)
    hx = (h, h.flip(0)) if name == "LSTM" else h
    module = torch.export.export(layer, (sequence(7, 3), hx)).module()
    twice = (2 * h, h) if name == "LSTM" else 2 * h
    assert_close(module(sequence(7, 3), twice), layer(sequence(7, 3), twice), 1e-5)


@pytest.mark.parametrize("name", ["LSTM", "GRU", "layernorm"])
def test_exported_with_lengths(name):
    layer = build(name).eval()
    x, lengths = sequence(7, 3), torch.tensor([7, 2, 5])
    module = torch.export.export(layer, (x,), {"lengths": lengths}).module()
    for other in (lengths, torch.tensor([1, 7, 7])):
        assert_close(module(x, lengths=other), layer(x, lengths=other), 1e-5)


def test_exported_inside_a_model_for_all_shapes():
    net = Net(build("LSTM")).eval()
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(net, (sequence(7, 3),), dynamic_shapes=({1: batch},))
    assert_close(program.module()(sequence(7, 8)), net(sequence(7, 8)), 1e-5)
