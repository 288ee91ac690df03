"""torch.func, torch.autograd.functional and gradcheck."""

import pytest
import torch
import torch._dynamo
import torch._dynamo.testing
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap
from torch.utils._pytree import tree_map
from transform_cases import (
    BATCH,
    HIDDEN,
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

pytestmark = [
    pytest.mark.usefixtures("clean_compiler"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script.*` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated"),
    pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node with no underlying"),
    pytest.mark.filterwarnings("ignore:.*_flat_weights.*assigned during export:UserWarning"),
]


# ---- torch.func and torch.autograd.functional ----------------------------------------------------


def random_like(tree, seed: int):
    """Random directions, with the same values in either dtype."""
    generator = torch.Generator().manual_seed(seed)
    return tree_map(lambda v: torch.randn(v.shape, generator=generator).to(v.dtype), tree)


def stacked(tree, count: int = 3):
    return tree_map(lambda v: torch.stack([v * (1 + 0.3 * k) for k in range(count)]), tree)


def by_grad(f, params, x):
    return grad(loss(f), argnums=(0, 1))(params, x)


def by_vjp(f, params, x):
    output, back = vjp(f, params, x)
    return output, back(random_like(output, 2))


def by_jvp(f, params, x):
    return jvp(f, (params, x), (random_like(params, 2), random_like(x, 3)))


def by_jvp_of_x(f, params, x):
    return jvp(lambda x: f(params, x), (x,), (random_like(x, 3),))


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
    return jvp(lambda p: grad(loss(f))(p, x), (params,), (random_like(params, 2),))


def by_vmap(f, params, x):
    return vmap(f, in_dims=(None, 0))(params, stacked(x))


def by_vmap_over_the_batch(f, params, x):
    """Each sequence alone, unbatched."""
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


def by_per_sample_gradients(f, params, x):
    return vmap(grad(loss(f)), in_dims=(None, 0))(params, stacked(x))


def by_per_sample_gradients_unbatched(f, params, x):
    return vmap(grad(loss(f)), in_dims=(None, 1))(params, x)


def by_gradients_of_an_ensemble(f, params, x):
    return vmap(grad(loss(f)), in_dims=(0, None))(stacked(params), x)


def by_grad_of_vmap(f, params, x):
    return grad(lambda p: vmap(f, in_dims=(None, 0))(p, stacked(x)).square().sum())(params)


def by_jvp_of_vmap(f, params, x):
    def of(x):
        return vmap(f, in_dims=(None, 0))(params, x)

    return jvp(of, (stacked(x),), (random_like(stacked(x), 3),))


def by_batched_gradients(f, params, x):
    leaves = [v.clone().requires_grad_() for v in (*params.values(), x)]
    output = f(dict(zip(params, leaves[:-1], strict=True)), leaves[-1])
    many = random_like(torch.stack([output.detach()] * 3), 4)
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
    return torch.autograd.functional.hvp(lambda x: loss(f)(params, x), x, random_like(x, 3))


def by_vhp(f, params, x):
    return torch.autograd.functional.vhp(lambda x: loss(f)(params, x), x, random_like(x, 3))


def by_functional_jvp(f, params, x):
    return torch.autograd.functional.jvp(lambda x: f(params, x), x, random_like(x, 3))


def by_functional_hessian(f, params, x):
    return torch.autograd.functional.hessian(lambda x: loss(f)(params, x), x, vectorize=True)


def by_dual_numbers(f, params, x):
    with forward_ad.dual_level():
        dual = {n: forward_ad.make_dual(v, random_like(v, 5)) for n, v in params.items()}
        output = forward_ad.unpack_dual(f(dual, forward_ad.make_dual(x, random_like(x, 3))))
        return output.primal.clone(), output.tangent.clone()


def by_linearize(f, params, x):
    output, push = torch.func.linearize(lambda x: f(params, x), x)
    return output, push(random_like(x, 3))


TRANSFORMS = {name[3:]: value for name, value in list(globals().items()) if name.startswith("by_")}
SELECTED = ["grad", "jvp", "jacrev", "vmap", "per_sample_gradients"]
SELECTED += ["second_backward", "batched_gradients"]


@pytest.mark.parametrize("transform", sorted(TRANSFORMS))
@pytest.mark.parametrize("name", [*PLAIN[:3], "peephole", "layernorm"])
def test_transform(name, transform):
    found = TRANSFORMS[transform](ours(name), weights(name), sequence())
    expected = TRANSFORMS[transform](
        expected_output(name), weights(name, torch.float64), sequence().double()
    )
    assert_close(found, expected, precision(name))


@pytest.mark.parametrize("transform", SELECTED)
@pytest.mark.parametrize("name", ["relu", "coupled"])
def test_some_transforms_of_the_other_cells(name, transform):
    found = TRANSFORMS[transform](ours(name), weights(name), sequence())
    expected = TRANSFORMS[transform](
        expected_output(name), weights(name, torch.float64), sequence().double()
    )
    assert_close(found, expected, precision(name))


@pytest.mark.parametrize("transform", SELECTED)
@pytest.mark.parametrize("name", ["LSTM", "GRU", "layernorm"])
def test_transforms_in_float64(name, transform):
    if name != "layernorm" and transform in ("vmap", "per_sample_gradients"):
        pytest.skip("float64 runs on PyTorch's own layer, which vmap does not support")
    layer = build(name).double()

    def f(params, x):
        return functional_call(layer, params, (x,))[0]

    params, x = weights(name, torch.float64), sequence().double()
    expected = TRANSFORMS[transform](expected_output(name), params, x)
    assert_close(TRANSFORMS[transform](f, params, x), expected, 1e-10)


@pytest.mark.parametrize("transform", SELECTED)
@pytest.mark.parametrize("name", ["LSTM", "GRU", "peephole"])
def test_transforms_with_lengths_and_resets(name, transform):
    reset = torch.zeros(BATCH, STEPS, dtype=torch.bool)
    reset[0, 2] = True
    keywords = {"lengths": torch.tensor([STEPS, 3]), "reset": reset}
    found = TRANSFORMS[transform](ours(name, **keywords), weights(name), sequence())
    params, x = weights(name, torch.float64), sequence().double()
    expected = TRANSFORMS[transform](expected_output(name, **keywords), params, x)
    assert_close(found, expected, precision(name))


@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_transforms_of_a_stack_in_both_directions_with_states(name):
    """Compared with torch's own layer in float64."""
    layer = build(name, num_layers=2, bidirectional=True)
    theirs = build(name, torch.nn, num_layers=2, bidirectional=True).double()
    theirs.load_state_dict(layer.state_dict())
    h, c = torch.randn(4, BATCH, HIDDEN), torch.randn(4, BATCH, HIDDEN)

    def of(module, dtype):
        hx = (h.to(dtype), c.to(dtype)) if name == "LSTM" else h.to(dtype)
        params = {n: p.detach() for n, p in module.named_parameters()}

        def f(params, x, hx):
            output, final = functional_call(module, params, (x, hx))
            return output.square().sum() + sum(v.sum() for v in tensors_in(final))

        return f, (params, sequence().to(dtype), hx)

    (f, arguments), (g, exact) = of(layer, torch.float32), of(theirs, torch.float64)
    found = grad(f, argnums=(0, 1, 2))(*arguments)
    assert_close(found, grad(g, argnums=(0, 1, 2))(*exact), 1e-4)
    tangent = jvp(lambda x: f(arguments[0], x, arguments[2]), (arguments[1],), (arguments[1],))
    assert_close(tangent, jvp(lambda x: g(exact[0], x, exact[2]), (exact[1],), (exact[1],)), 1e-4)


# ---- torch.autograd.gradcheck --------------------------------------------------------------------


def function_and_tensors(name: str, dtype: torch.dtype):
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
        return output, *tensors_in(final)

    return f, tuple(t.requires_grad_() for t in tensors)


@pytest.mark.parametrize("name", [*PLAIN, *VARIANTS])
def test_gradcheck_in_float64(name):
    f, tensors = function_and_tensors(name, torch.float64)
    assert torch.autograd.gradcheck(f, tensors, check_forward_ad=True, check_batched_grad=True)


@pytest.mark.filterwarnings("ignore:Input #.* is not a double precision:UserWarning")
@pytest.mark.parametrize("name", [*PLAIN[:3], *VARIANTS])
def test_gradcheck_in_float32(name):
    """With a wide tolerance: finite differences in float32 have three significant digits."""
    f, tensors = function_and_tensors(name, torch.float32)
    options = {"eps": 1e-2, "atol": 2e-2, "rtol": 2e-2}  # batched gradients: to 1e-5 only
    assert torch.autograd.gradcheck(f, tensors, **options, check_forward_ad=True)


@pytest.mark.parametrize("name", [*PLAIN[:3], *VARIANTS])
def test_gradgradcheck(name):
    f, tensors = function_and_tensors(name, torch.float64)
    assert torch.autograd.gradgradcheck(f, tensors, fast_mode=True)
