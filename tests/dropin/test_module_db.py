"""PyTorch's own samples of its recurrent modules (`module_db`), run on our classes.

`DROPIN_FAMILY=torch pytest tests/dropin` runs the tests on torch.nn's own classes; a test that
fails there requires too much.
"""

import copy
import importlib
import inspect
import io
import os
import pickle
import re
import sys
import types
import unittest
import warnings
from unittest import mock

import pytest
import torch
from hypothesis import settings
from torch.nn.utils.rnn import PackedSequence

FAMILY = os.environ.get("DROPIN_FAMILY", "memorycell")
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


@pytest.fixture(scope="module")
def family():
    """The module with the classes under test: memorycell, or torch.nn to test the tests."""
    return torch.nn if FAMILY == "torch" else importlib.import_module(FAMILY)


@pytest.fixture(scope="session")
def database():
    """ModuleInfo by class name. Global changes made by importing torch.testing._internal are
    undone.
    """
    stub = types.ModuleType("expecttest")
    stub.TestCase = (
        unittest.TestCase
    )  # PyTorch's test cases derive from expecttest's, which the samples do not need
    profile = settings.get_current_profile_name()
    try:
        # otherwise `torch.backends.mkldnn.enabled = …` raises from now on
        with warnings.catch_warnings(), mock.patch.object(torch.backends, "disable_global_flags"):
            warnings.simplefilter("ignore")
            try:
                importlib.import_module("expecttest")
            except ImportError:
                sys.modules["expecttest"] = stub
            module_db = importlib.import_module("torch.testing._internal.common_modules").module_db
    except ImportError as error:
        pytest.skip(f"torch.testing._internal.common_modules: {error}")
    finally:
        if sys.modules.get("expecttest") is stub:
            del sys.modules["expecttest"]
        settings.load_profile(profile)
    return {
        info.module_cls.__name__: info for info in module_db if info.module_cls.__name__ in KINDS
    }


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


def map_tensors(value, change):
    """The same structure with `change` applied to every tensor except the index tensors of a
    PackedSequence.
    """
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, PackedSequence):
        return PackedSequence(change(value.data), *value[1:])
    if isinstance(value, (tuple, list)):
        return type(value)(map_tensors(part, change) for part in value)
    if isinstance(value, dict):
        return {name: map_tensors(part, change) for name, part in value.items()}
    return value


def tensors_in(value):
    """The tensors in order, without the index tensors of a PackedSequence."""
    found = []
    map_tensors(value, lambda tensor: found.append(tensor) or tensor)
    return found


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


# ---- construction --------------------------------------------------------------------------------


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


# ---- forward -------------------------------------------------------------------------------------


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


# ---- derivatives ---------------------------------------------------------------------------------


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


# ---- copies and conversions ----------------------------------------------------------------------


def pickle_and_load(module):
    """A copy through pickle."""
    return pickle.loads(pickle.dumps(module))


def save_and_load(module):
    """A copy through torch.save of the module."""
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("way", [pickle_and_load, save_and_load, copy.deepcopy])
@each_kind
@each_dtype
def test_copies(family, database, kind, dtype, way):
    for sample in samples_of(database, kind, dtype):
        module = build(getattr(family, kind), sample, dtype=dtype)
        args, kwargs = copy_inputs(sample)
        expected = tensors_in(module(*args, **kwargs))
        twin = way(module)
        assert type(twin) is type(module)
        assert repr(twin) == repr(module)
        for mine, other in zip(tensors_in(twin(*args, **kwargs)), expected, strict=True):
            assert torch.equal(mine, other)
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter.zero_()
        for mine, other in zip(tensors_in(module(*args, **kwargs)), expected, strict=True):
            assert torch.equal(mine, other)  # the copy has its own memory
        zeros = build(getattr(torch.nn, kind), sample, dtype=dtype)
        zeros.load_state_dict(twin.state_dict())
        mine, other = tensors_in(twin(*args, **kwargs)), tensors_in(zeros(*args, **kwargs))
        assert_same(mine, other, TOLERANCE[dtype])  # and uses it


@each_kind
@torch.no_grad()
@pytest.mark.parametrize("swap", [False, True])
def test_conversions(family, database, kind, swap):
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(swap)
    try:
        for sample in samples_of(database, kind, torch.float32):
            module = build(getattr(family, kind), sample)
            theirs = build(getattr(torch.nn, kind), sample)
            args, kwargs = copy_inputs(sample)
            single = tensors_in(module(*args, **kwargs))
            for dtype, tolerance in (
                (torch.float64, 1e-5),
                (torch.bfloat16, 0.05),
                (torch.float32, 0.05),
            ):
                assert module.to(dtype) is module
                assert {p.dtype for p in module.parameters()} == {dtype}
                args, kwargs = map_tensors(
                    copy_inputs(sample), lambda tensor, dtype=dtype: tensor.to(dtype)
                )
                result = tensors_in(module(*args, **kwargs))
                assert {out.dtype for out in result} == {dtype}
                if dtype != torch.bfloat16:
                    assert_same([out.float() for out in result], single, tolerance)
                else:
                    assert_same(result, tensors_in(theirs.to(dtype)(*args, **kwargs)), tolerance)
    finally:
        torch.__future__.set_swap_module_params_on_conversion(before)


@each_kind
def test_from_the_meta_device(family, database, kind):
    for sample in samples_of(database, kind, torch.float32):
        source = build(getattr(family, kind), sample)
        module = build(getattr(family, kind), sample, device="meta").to_empty(device="cpu")
        module.load_state_dict(source.state_dict())
        args, kwargs = copy_inputs(sample)
        assert_same(tensors_in(module(*args, **kwargs)), tensors_in(source(*args, **kwargs)), 0.0)
