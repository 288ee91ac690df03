"""PyTorch's own samples of its recurrent modules (`module_db`): what they are built of and called
with, and how results are compared.
"""

import inspect

import pytest
import torch
from torch_comparison import map_tensors, tensors_in

LAYERS, CELLS = ("LSTM", "GRU", "RNN"), ("LSTMCell", "GRUCell", "RNNCell")
KINDS = LAYERS + CELLS
DTYPES = (torch.float32, torch.float64)
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
LOOSE = {"eps": 1e-3, "atol": 1e-2}  # finite differences in float32

each_kind = pytest.mark.parametrize("kind", KINDS)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
each_backend = pytest.mark.parametrize("backend", ["default", "reference"])
single_precision = pytest.mark.filterwarnings(
    "ignore:Input #[0-9]+ requires gradient and is not a double precision"
)


def samples_of(
    database, kind, dtype=torch.float64, *, errors=False, grad=False, training=True, packed=False
):
    """PyTorch's samples of one class: arguments of constructor and forward, and a reference."""
    torch.manual_seed(0)
    info = database[kind]
    make = info.module_error_inputs_func if errors else info.module_inputs_func
    extra = {"with_packed_sequence": True} if packed else {}
    samples = list(
        make(info, device="cpu", dtype=dtype, requires_grad=grad, training=training, **extra)
    )
    assert samples
    return samples


def build(module_class, sample, seed=1, **factory):
    """The module of a sample with the initial values of this seed."""
    torch.manual_seed(seed)
    given = sample.constructor_input
    return module_class(*given.args, **{**given.kwargs, **factory})


def options_of(family, kind, backend):
    """Keywords of forward that select a backend; skips if there is no choice."""
    if backend == "default":
        return {}
    if family is torch.nn:
        pytest.skip("torch.nn has no backends")
    if (
        kind in CELLS
        and "backend" not in inspect.signature(getattr(family, kind).forward).parameters
    ):
        pytest.skip("the cell has only one backend")
    return {"backend": backend}


def copy_inputs(sample, grad=False):
    """A copy of the forward arguments, as (args, kwargs)."""
    return map_tensors(
        (sample.forward_input.args, sample.forward_input.kwargs),
        lambda tensor: tensor.detach().clone().requires_grad_(grad),
    )


def outputs_and_gradients(module, given, **options):
    """[outputs…, gradients of every input and parameter…] for a loss that weights every element."""
    args, kwargs = given
    outputs = tensors_in(module(*args, **kwargs, **options))
    generator = torch.Generator().manual_seed(7)
    weights = [
        torch.randn(out.shape, generator=generator, dtype=torch.float64).to(out.dtype)
        for out in outputs
    ]
    gradients = torch.autograd.grad(outputs, [*tensors_in(given), *module.parameters()], weights)
    return [*outputs, *gradients]


def assert_same(mine, other, tolerance):
    """Same number, shapes, dtypes and values; the tolerance is relative to the largest value of
    each tensor.
    """
    assert len(mine) == len(other)
    for ours, theirs in zip(mine, other, strict=True):
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
        scale = max(1.0, float(theirs.detach().abs().max()))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance * scale)


def with_gaps(tensor):
    """The same values with gaps between them in memory."""
    wide = torch.stack([tensor.detach(), torch.full_like(tensor, float("nan"))], -1)
    result = wide[..., 0]
    assert not result.is_contiguous()
    return result.requires_grad_(tensor.requires_grad)
