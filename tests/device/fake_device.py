"""A device that computes on the CPU and refuses what a GPU refuses: tensors of two devices in one
operation, and `numpy()`.

It borrows the name of a device type that PyTorch knows and has no kernels for. Its tensors hold a
CPU tensor; a dispatch mode makes them where a program asks for that device.
"""

import torch
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

NAME = "lazy"
aten = torch.ops.aten
COPIES = {aten._to_copy.default, aten.copy_.default, aten._copy_from.default}
ON_THE_CPU = {
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
    aten._pack_padded_sequence.default,
    aten._pack_padded_sequence_backward.default,
}
"""As on CUDA, indices may be on the CPU, and lengths must be."""


class FakeTensor(torch.Tensor):
    """A tensor on the fake device."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), dtype=inner.dtype, device=NAME
        )

    def __init__(self, inner):
        self.inner = inner

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})

    # Methods that PyTorch does not dispatch.
    def tolist(self):
        return self.inner.tolist()

    def new_tensor(self, data):
        return FakeTensor(self.inner.new_tensor(data))

    def __repr__(self):
        return f"FakeTensor({self.inner})"


class FakeDevice(TorchDispatchMode):
    """Within it, tensors can be made on the fake device. `moves` counts those that went there,
    `operations` names what ran on it.
    """

    @classmethod
    def _should_skip_dynamo(cls):
        return False  # nothing is compiled, and importing Dynamo takes seconds

    def __init__(self):
        super().__init__()
        self.moves, self.operations = 0, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = _run(func, args, kwargs or {})
        leaves = tree_flatten((args, kwargs))[0]
        if any(isinstance(x, FakeTensor) for x in leaves):
            self.operations.add(func.__name__)
        elif isinstance(result, FakeTensor) and func in COPIES:
            self.moves += 1
        return result


def _run(func, args, kwargs):
    leaves = tree_flatten((args, kwargs))[0]
    tensors = [x for x in leaves if isinstance(x, torch.Tensor)]
    faked = any(isinstance(x, FakeTensor) for x in tensors)
    device = kwargs.get("device")
    if faked and func not in COPIES | ON_THE_CPU:
        for x in tensors:
            if not isinstance(x, FakeTensor) and x.ndim:
                raise RuntimeError(
                    f"Expected all tensors to be on the same device, but {func} found {NAME} and"
                    f" {x.device} {list(x.shape)}"
                )
    if device is not None and torch.device(device).type == NAME:
        kwargs = {**kwargs, "device": torch.device("cpu")}
        if func is aten._to_copy.default and not faked:
            return FakeTensor(func(*_inner(args), **kwargs).clone())
        return FakeTensor(func(*_inner(args), **kwargs))
    result = func(*_inner(args), **_inner(kwargs))
    if device is not None:  # back to the CPU
        return result.clone() if faked and func is aten._to_copy.default else result
    name = func._schema.name
    if name.endswith("_") and isinstance(args[0], torch.Tensor):
        if faked and torch.Tag.inplace_view in func.tags:  # transpose_: the shape changes as well
            with no_dispatch():
                args[0].data = FakeTensor(args[0].inner)
        return args[0]
    if func is aten._pack_padded_sequence.default:
        return FakeTensor(result[0]), result[1]
    return tree_map(_wrapped, result) if faked else result


def _wrapped(x):
    return FakeTensor(x) if isinstance(x, torch.Tensor) else x


def _inner(values):
    return tree_map(lambda x: x.inner if isinstance(x, FakeTensor) else x, values)
