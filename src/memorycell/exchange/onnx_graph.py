"""An ONNX graph under construction, and tensors that record operations as its nodes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

try:
    import onnx
    from onnx import helper, numpy_helper
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "ONNX files need onnx: pip install 'memorycell[onnx]'", name="onnx"
    ) from error


class Graph:
    """Nodes and constants, in order. Values are identified by name.

    prefix   of every name: a graph inside another one must not reuse the outer names
    """

    def __init__(self, prefix: str = "") -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._prefix = prefix
        self._count = 0

    def name(self, hint: str) -> str:
        """A new, unique name."""
        self._count += 1
        return f"{self._prefix}{hint}_{self._count}"

    def constant(self, value: Any, hint: str = "constant") -> str:
        """Add a tensor, array or number as float32, or int64 for integers; return its name."""
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
        array = array.astype(np.int64 if array.dtype.kind in "iu" else np.float32)
        name = self.name(hint)
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output; return the output's name."""
        return self.ops(kind, *inputs, outputs=1, **attributes)[0]

    def ops(self, kind: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """Add a node with several outputs; return their names."""
        names = [self.name(kind.lower()) for _ in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names

    def split(self, value: str, axis: int, sizes: Sequence[int]) -> list[str]:
        """Split a value along an axis; return the parts' names."""
        return self.ops("Split", value, self.constant(sizes), outputs=len(sizes), axis=axis)

    def running_max(self, values: str, first: str) -> str:
        """Values [B, T, G], and those before [B, G] -> their maxima up to every step [B, T, G].
        ONNX has no operator for it: a Scan over time.
        """
        body = Graph(prefix=self.name("maximum_"))
        before, step = body.name("before"), body.name("step")
        after = body.op("Max", before, step)
        out = body.op("Identity", after)
        before_info, step_info, after_info, out_info = (
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            for name in (before, step, after, out)
        )
        graph = helper.make_graph(
            body.nodes, "maximum", [before_info, step_info], [after_info, out_info]
        )
        steps = self.op("Transpose", values, perm=[1, 0, 2])
        scanned = self.ops("Scan", first, steps, outputs=2, body=graph, num_scan_inputs=1)[1]
        return self.op("Transpose", scanned, perm=[1, 0, 2])

    def output(self, value: str, name: str) -> None:
        """Give a value the name of an output of the graph."""
        self.nodes.append(helper.make_node("Identity", [value], [name]))

    def used_constants(self) -> list[onnx.TensorProto]:
        """The constants that a node reads, also a node of an inner graph."""
        inner = [
            node
            for outer in self.nodes
            for attribute in outer.attribute
            if attribute.HasField("g")
            for node in attribute.g.node
        ]
        read = {name for node in (*self.nodes, *inner) for name in node.input}
        return [constant for constant in self.constants if constant.name in read]


class SymbolicTensor:
    """A tensor known by name and shape only; an axis of unknown length is 0. Operations on it are
    added to the graph as nodes. It supports what the equations in `cells.py` use.
    """

    def __init__(self, graph: Graph, name: str, shape: tuple[int, ...]) -> None:
        self.graph, self.name, self.shape = graph, name, shape
        self.ndim = len(shape)

    def _binary(self, kind: str, other: Any, *, swapped: bool = False) -> SymbolicTensor:
        if isinstance(other, SymbolicTensor):
            name, shape = other.name, other.shape
        else:
            name, shape = self.graph.constant(float(other)), ()
        inputs = (name, self.name) if swapped else (self.name, name)
        return SymbolicTensor(
            self.graph, self.graph.op(kind, *inputs), _broadcast(self.shape, shape)
        )

    def _same(self, kind: str, *more: str) -> SymbolicTensor:
        """The result of an operator that keeps the shape."""
        return SymbolicTensor(self.graph, self.graph.op(kind, self.name, *more), self.shape)

    def _reshaped(self, shape: tuple[int, ...]) -> SymbolicTensor:
        name = self.graph.op("Reshape", self.name, self.graph.constant(shape))
        return SymbolicTensor(self.graph, name, shape)

    def __add__(self, other: Any) -> SymbolicTensor:
        return self._binary("Add", other)

    def __mul__(self, other: Any) -> SymbolicTensor:
        return self._binary("Mul", other)

    def __rmul__(self, other: Any) -> SymbolicTensor:
        return self._binary("Mul", other)

    def __neg__(self) -> SymbolicTensor:
        return self._same("Neg")

    def __sub__(self, other: Any) -> SymbolicTensor:
        return self._binary("Sub", other)

    def __truediv__(self, other: Any) -> SymbolicTensor:
        return self._binary("Div", other)

    def __eq__(self, other: object) -> SymbolicTensor:  # type: ignore[override]  # as of tensors
        return self._binary("Equal", other)

    __hash__ = None  # type: ignore[assignment]

    def abs(self) -> SymbolicTensor:
        """Of every value."""
        return self._same("Abs")

    def sum(self, dim: int) -> SymbolicTensor:
        """Along an axis."""
        axis = dim % self.ndim
        name = self.graph.op("ReduceSum", self.name, self.graph.constant([axis]), keepdims=0)
        return SymbolicTensor(self.graph, name, self.shape[:axis] + self.shape[axis + 1 :])

    def unsqueeze(self, dim: int) -> SymbolicTensor:
        """With an axis of length 1."""
        axis = dim % (self.ndim + 1)
        name = self.graph.op("Unsqueeze", self.name, self.graph.constant([axis]))
        return SymbolicTensor(self.graph, name, (*self.shape[:axis], 1, *self.shape[axis:]))

    def unflatten(self, dim: int, sizes: tuple[int, ...]) -> SymbolicTensor:
        """With the last axis as several."""
        assert dim == -1
        return self._reshaped((*self.shape[:-1], *sizes))

    def flatten(self, dim: int) -> SymbolicTensor:
        """With the axes from `dim` on as one."""
        return self._reshaped((*self.shape[:dim], math.prod(self.shape[dim:])))

    def unbind(self) -> list[SymbolicTensor]:
        """The parts along the first axis."""
        names = self.graph.split(self.name, 0, [1] * self.shape[0])
        axis = self.graph.constant([0])
        return [
            SymbolicTensor(self.graph, self.graph.op("Squeeze", name, axis), self.shape[1:])
            for name in names
        ]

    def __rsub__(self, other: Any) -> SymbolicTensor:
        return self._binary("Sub", other, swapped=True)

    def __matmul__(self, other: SymbolicTensor) -> SymbolicTensor:
        name = self.graph.op("MatMul", self.name, other.name)
        return SymbolicTensor(self.graph, name, (*self.shape[:-1], other.shape[-1]))

    @property
    def T(self) -> SymbolicTensor:
        """The transposed matrix."""
        name = self.graph.op("Transpose", self.name, perm=[1, 0])
        return SymbolicTensor(self.graph, name, self.shape[::-1])

    def chunk(self, count: int, dim: int = 0) -> list[SymbolicTensor]:
        """Equal parts along an axis."""
        return self.split([self.shape[dim] // count] * count, dim)

    def split(self, sizes: Sequence[int], dim: int = 0) -> list[SymbolicTensor]:
        """Parts of given sizes along an axis."""
        axis = dim % self.ndim
        names = self.graph.split(self.name, axis, sizes)
        before, after = self.shape[:axis], self.shape[axis + 1 :]
        return [
            SymbolicTensor(self.graph, name, (*before, size, *after))
            for name, size in zip(names, sizes, strict=True)
        ]

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> SymbolicTensor:
        x = args[0]
        if function in ACTIVATIONS:
            return x._same(ACTIVATIONS[function])
        if function is F.logsigmoid:
            return -((-x)._same("Softplus"))
        if function is torch.maximum:
            return x._binary("Max", args[1])
        if function is torch.clamp:
            return x._same("Clip", *map(x.graph.constant, map(float, args[1:])))
        if function is torch.full_like:
            return SymbolicTensor(x.graph, x.graph.constant(float(args[1])), ())
        if function is torch.ones_like:
            ones = torch.ones(x.shape[1:])
            return SymbolicTensor(x.graph, x.graph.constant(ones), x.shape[1:])
        if function is torch.where:
            name = x.graph.op("Where", *(part.name for part in args))
            return SymbolicTensor(x.graph, name, _broadcast(args[1].shape, args[2].shape))
        if function is F.layer_norm:
            _, _, gain, bias = (*args, kwargs.get("weight"), kwargs.get("bias"))[:4]
            parameters = [p.name for p in (gain, bias) if p is not None]
            name = x.graph.op(
                "LayerNormalization", x.name, *parameters, axis=-1, epsilon=kwargs["eps"]
            )
            return SymbolicTensor(x.graph, name, x.shape)
        return NotImplemented


def _broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of an elementwise result."""
    count = max(len(a), len(b))
    a, b = ((1,) * (count - len(shape)) + shape for shape in (a, b))
    return tuple(y if x == 1 else x for x, y in zip(a, b, strict=True))


ACTIVATIONS: dict[Any, str] = {
    torch.sigmoid: "Sigmoid",
    torch.tanh: "Tanh",
    torch.relu: "Relu",
    torch.exp: "Exp",
    F.softplus: "Softplus",
}
