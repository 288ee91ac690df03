"""Derivatives of our classes on PyTorch's own samples of its recurrent modules (`module_db`), by
torch's numerical checks.
"""

import torch
from module_samples import (
    LOOSE,
    build,
    copy_inputs,
    each_backend,
    each_dtype,
    each_kind,
    options_of,
    samples_of,
    single_precision,
)
from torch_comparison import map_tensors, tensors_in


def derivative_check(module, sample, **options):
    """(function, inputs) for gradcheck. The inputs include the parameters, which gradcheck changes
    in place.
    """
    given = copy_inputs(sample, grad=True)
    count = len(tensors_in(given))

    def run(*values):
        left = list(values[:count])
        args, kwargs = map_tensors(given, lambda _: left.pop(0))
        return tuple(tensors_in(module(*args, **kwargs, **options)))

    return run, (*tensors_in(given), *module.parameters())


def flat_derivative_check(module, sample, **options):
    """The same with all inputs and parameters in one vector, by functional_call: a tenth of the
    passes.
    """
    given = copy_inputs(sample)
    names, parameters = zip(*module.named_parameters(), strict=True)
    parts = [*tensors_in(given), *parameters]

    def run(vector):
        pieces = vector.split([part.numel() for part in parts])
        values = [piece.view(part.shape) for piece, part in zip(pieces, parts, strict=True)]
        held = dict(zip(names, values[-len(names) :], strict=True))
        args, kwargs = map_tensors(given, lambda _: values.pop(0))
        return tuple(
            tensors_in(torch.func.functional_call(module, held, args, {**kwargs, **options}))
        )

    return run, torch.cat([part.detach().flatten() for part in parts]).requires_grad_()


@each_backend
@each_kind
def test_gradcheck(family, database, kind, backend):
    options = options_of(family, kind, backend)
    for sample in samples_of(database, kind):
        run, inputs = derivative_check(
            build(getattr(family, kind), sample, dtype=torch.float64), sample, **options
        )
        assert torch.autograd.gradcheck(run, inputs, fast_mode=True)


@each_backend
@each_kind
def test_gradgradcheck(family, database, kind, backend):
    options = options_of(family, kind, backend)
    for sample in samples_of(database, kind):
        run, inputs = flat_derivative_check(
            build(getattr(family, kind), sample, dtype=torch.float64), sample, **options
        )
        assert torch.autograd.gradgradcheck(
            run, inputs, fast_mode=True, gen_non_contig_grad_outputs=True
        )


@single_precision
@each_kind
def test_gradcheck_in_float32(family, database, kind):
    for sample in samples_of(database, kind, torch.float32):
        run, inputs = flat_derivative_check(build(getattr(family, kind), sample), sample)
        assert torch.autograd.gradcheck(run, inputs, fast_mode=True, **LOOSE)


@single_precision
@each_kind
def test_gradgradcheck_in_float32(family, database, kind):
    for sample in samples_of(database, kind, torch.float32):
        run, inputs = flat_derivative_check(build(getattr(family, kind), sample), sample)
        assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True, **LOOSE)


@each_kind
@each_dtype
def test_zero_grad(family, database, kind, dtype):
    for sample in samples_of(database, kind, dtype):
        module = build(getattr(family, kind), sample, dtype=dtype)
        for set_to_none in (False, True):
            args, kwargs = copy_inputs(sample)
            sum(out.sum() for out in tensors_in(module(*args, **kwargs))).backward()
            assert all(p.grad is not None and p.grad.shape == p.shape for p in module.parameters())
            module.zero_grad(set_to_none=set_to_none)
            assert all(
                p.grad is None if set_to_none else not p.grad.any() for p in module.parameters()
            )
