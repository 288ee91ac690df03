"""PyTorch's own samples of its recurrent modules (`module_db`), run on our classes.

`DROPIN_FAMILY=torch pytest tests/dropin` runs the tests on torch.nn's own classes; a test that
fails there requires too much.
"""

import re

import pytest
import torch
from module_samples import (
    TOLERANCE,
    assert_same,
    build,
    copy_inputs,
    each_backend,
    each_dtype,
    each_kind,
    options_of,
    outputs_and_gradients,
    samples_of,
    with_gaps,
)
from torch_comparison import map_tensors, tensors_in


@each_kind
def test_classes_and_arguments(family, kind):
    theirs, ours = getattr(torch.nn, kind), getattr(family, kind)
    assert issubclass(ours, theirs)
    assert ours.__name__ == kind


@each_kind
def test_factory_arguments(family, database, kind):
    for sample in samples_of(database, kind):
        for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
            module = build(getattr(family, kind), sample, dtype=dtype, device="cpu")
            assert {(p.dtype, p.device.type) for p in module.parameters()} == {(dtype, "cpu")}
        module = build(getattr(family, kind), sample, device="meta")
        assert {(p.dtype, p.device.type) for p in module.parameters()} == {(torch.float32, "meta")}


@each_kind
@each_dtype
def test_initial_values_and_names(family, database, kind, dtype):
    for sample in samples_of(database, kind):
        theirs, ours = (
            build(getattr(source, kind), sample, dtype=dtype) for source in (torch.nn, family)
        )
        for (name, mine), (their_name, other) in zip(
            ours.named_parameters(), theirs.named_parameters(), strict=True
        ):
            assert name == their_name
            assert torch.equal(mine, other)
        assert list(ours.state_dict()) == list(theirs.state_dict())


@each_kind
def test_repr(family, database, kind):
    for sample in samples_of(database, kind):
        theirs, ours = (build(getattr(source, kind), sample) for source in (torch.nn, family))
        assert repr(ours) == repr(theirs)
        assert str(ours) == str(theirs)


@each_kind
@each_dtype
def test_errors(family, database, kind, dtype):
    for case in samples_of(database, kind, dtype, errors=True):
        sample, at_construction = (
            case.module_error_input,
            case.error_on.name == "CONSTRUCTION_ERROR",
        )
        messages = []
        for source in (torch.nn, family):
            options = {} if at_construction else {"dtype": dtype, "device": "cpu"}
            if at_construction:
                with pytest.raises(case.error_type, match=case.error_regex) as error:
                    build(getattr(source, kind), sample, **options)
            else:
                module = build(getattr(source, kind), sample, **options)
                args, kwargs = copy_inputs(sample)
                with pytest.raises(case.error_type, match=case.error_regex) as error:
                    module(*args, **kwargs)
            messages.append((error.type, re.sub(r"0x[0-9a-f]+", "", str(error.value))))
        assert messages[0] == messages[1]


@each_backend
@each_kind
@each_dtype
@pytest.mark.parametrize("training", [True, False])
def test_forward_against_the_reference_of_the_sample(
    family, database, kind, dtype, training, backend
):
    options = options_of(family, kind, backend)
    for sample in samples_of(database, kind, dtype, training=training):
        module = build(getattr(family, kind), sample, dtype=dtype).train(training)
        args, kwargs = copy_inputs(sample)
        expected = sample.reference_fn(module, *args, **kwargs)
        if kind == "LSTMCell":  # its reference also returns a pair of h and c
            assert isinstance(expected, tuple)
        result = tensors_in(module(*args, **kwargs, **options))
        assert_same(result[: len(tensors_in(expected))], tensors_in(expected), TOLERANCE[dtype])


@each_backend
@each_kind
@each_dtype
@pytest.mark.parametrize("training", [True, False])
def test_outputs_and_gradients_equal_torchs(family, database, kind, dtype, training, backend):
    options = options_of(family, kind, backend)
    for sample in samples_of(
        database, kind, dtype, training=training, packed=kind in ("GRU", "RNN")
    ):
        theirs, ours = (
            build(getattr(source, kind), sample, seed, dtype=dtype).train(training)
            for seed, source in enumerate((torch.nn, family))
        )
        ours.load_state_dict(theirs.state_dict())
        mine = outputs_and_gradients(ours, copy_inputs(sample, grad=True), **options)
        other = outputs_and_gradients(theirs, copy_inputs(sample, grad=True))
        assert_same(mine, other, TOLERANCE[dtype])


@each_kind
@each_dtype
def test_structure_of_the_result(family, database, kind, dtype):
    for sample in samples_of(database, kind, dtype, packed=kind in ("GRU", "RNN")):
        theirs, ours = (
            build(getattr(source, kind), sample, dtype=dtype) for source in (torch.nn, family)
        )
        args, kwargs = copy_inputs(sample)
        mine, other = ours(*args, **kwargs), theirs(*args, **kwargs)
        assert type(mine) is type(other)
        if isinstance(mine, tuple):
            assert [type(part) for part in mine] == [type(part) for part in other]
        assert [type(tensor) for tensor in tensors_in(mine)] == [torch.Tensor] * len(
            tensors_in(other)
        )


@each_backend
@each_kind
@each_dtype
def test_non_contiguous_inputs(family, database, kind, dtype, backend):
    options = options_of(family, kind, backend)
    for sample in samples_of(database, kind, dtype):
        module = build(getattr(family, kind), sample, dtype=dtype)
        expected = outputs_and_gradients(module, copy_inputs(sample, grad=True), **options)
        result = outputs_and_gradients(
            module, map_tensors(copy_inputs(sample, grad=True), with_gaps), **options
        )
        assert_same(result, expected, TOLERANCE[dtype])


@each_kind
@each_dtype
def test_non_contiguous_gradients_of_the_outputs(family, database, kind, dtype):
    for sample in samples_of(database, kind, dtype):
        module = build(getattr(family, kind), sample, dtype=dtype)
        args, kwargs = given = copy_inputs(sample, grad=True)
        wanted = [*tensors_in(given), *module.parameters()]
        outputs = tensors_in(module(*args, **kwargs))
        weights = [torch.randn_like(out) for out in outputs]
        expected = torch.autograd.grad(outputs, wanted, weights, retain_graph=True)
        result = torch.autograd.grad(outputs, wanted, [with_gaps(weight) for weight in weights])
        assert_same(result, expected, TOLERANCE[dtype])


@each_kind
@each_dtype
def test_training_and_evaluation_agree(family, database, kind, dtype):
    for sample in samples_of(database, kind, dtype):  # no sample has dropout
        module = build(getattr(family, kind), sample, dtype=dtype)
        args, kwargs = copy_inputs(sample)
        training = tensors_in(module.train()(*args, **kwargs))
        assert_same(tensors_in(module.eval()(*args, **kwargs)), training, TOLERANCE[dtype])


@each_kind
def test_meta_device(family, database, kind):
    for sample in samples_of(database, kind, torch.float32):
        args, kwargs = copy_inputs(sample)
        expected = tensors_in(build(getattr(family, kind), sample)(*args, **kwargs))
        args, kwargs = map_tensors((args, kwargs), lambda tensor: tensor.to("meta"))
        result = tensors_in(build(getattr(family, kind), sample, device="meta")(*args, **kwargs))
        assert [(r.shape, r.dtype, r.device.type) for r in result] == [
            (e.shape, e.dtype, "meta") for e in expected
        ]
