"""Copies and conversions of our classes on PyTorch's own samples of its recurrent modules
(`module_db`).
"""

import copy
import io
import pickle

import pytest
import torch
from module_samples import (
    TOLERANCE,
    assert_same,
    build,
    copy_inputs,
    each_dtype,
    each_kind,
    samples_of,
)
from torch_comparison import map_tensors, tensors_in


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
