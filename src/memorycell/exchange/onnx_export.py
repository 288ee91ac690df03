"""To ONNX: a layer or a model with its state as inputs and outputs, any batch size, any number of
steps.

Cells that ONNX has are its own operators (LSTM with peepholes and with coupled gates, GRU, RNN).
The rest, and whatever has zoneout or a projection, is a Scan over the cell's equation: `cells.py`
is run on symbols that write down nodes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memorycell.applications.forecast.head import Forecast
from memorycell.applications.forecast.model import Forecaster
from memorycell.cells import CELLS
from memorycell.language.model import LanguageModel
from memorycell.nn.layers import Recurrent

try:
    import onnx
    from onnx import TensorProto, helper, numpy_helper
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "ONNX files need onnx: pip install 'memorycell[onnx]'", name="onnx"
    ) from error

OPSET, IR_VERSION = 17, 9
OPERATORS = {
    "lstm": "LSTM",
    "peephole": "LSTM",
    "coupled": "LSTM",
    "gru": "GRU",
    "gru_reset_before": "GRU",
    "rnn": "RNN",
    "rnn_relu": "RNN",
}
BLOCKS = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}
"""ONNX keeps the LSTM's blocks as i, o, f, c and the GRU's as z, r, h: where each of its blocks
lies in torch's rows.
"""


class Graph:
    """Nodes and constants as they are written down."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._count = 0

    def name(self, hint: str) -> str:
        """A new one."""
        self._count += 1
        return f"{hint}_{self._count}"

    def constant(self, value: Any, hint: str = "constant") -> str:
        """A tensor or numbers, float32 or int64."""
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
        array = array.astype(np.int64 if array.dtype.kind in "iu" else np.float32)
        name = self.name(hint)
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """A node; its output's name, or a list of names."""
        names = [self.name(kind.lower()) for _ in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def rename(self, name: str, to: str) -> None:
        """Give a value the name of an output."""
        self.nodes.append(helper.make_node("Identity", [name], [to]))


MODELS = (Forecaster, LanguageModel)
"""The models that can be written."""


def export(module: nn.Module, *, note: Mapping[str, Any] | None = None) -> onnx.ModelProto:
    """A recurrent layer of ours, a `Forecaster` or a `LanguageModel` as an ONNX model, checked by
    onnx's checker.

    Inputs: x [B, T, I], or tokens x [B, T] int64, and the state by name (h, c, window), each [R, B,
    S] as in `State`. Outputs: y [B, T, H] of a layer (directions side by side), quantiles [B, T,
    horizon, targets, K] in scaled units of a forecaster, or log_p [B, T, V] of a language model;
    and the state afterwards, named h_n, c_n, window_n. All float32. `note` goes into the metadata
    as JSON.
    """
    module.eval()
    graph = Graph()
    recurrent = module.recurrent if isinstance(module, MODELS) else module
    if not isinstance(recurrent, Recurrent):
        raise TypeError(
            f"export: expected a recurrent layer or a model, got {type(module).__name__}"
        )
    sizes = {
        name: (int(t.shape[0]), int(t.shape[2]))
        for name, t in module.initial_state().asdict().items()
    }  # type: ignore[operator]
    sizes = {
        name: size for name, size in sizes.items() if size[0]
    }  # a window of one step keeps nothing
    tokens, read = isinstance(module, LanguageModel), "x"
    if isinstance(module, LanguageModel):
        read = graph.op("Gather", graph.constant(module.embedding.weight, "embedding"), "x")
    hidden = _stack(graph, recurrent, read)
    answer = "y"
    shape: list[Any] = ["B", "T", recurrent.output_size * len(recurrent.directions)]
    if isinstance(module, Forecaster):
        config = module.config
        _forecast(graph, module.head, hidden, config.window, config.input_size)
        answer, shape = "quantiles", ["B", "T", config.horizon, config.targets, config.quantiles]
    elif isinstance(module, LanguageModel):
        _next_step(graph, module, hidden)
        answer, shape = "log_p", ["B", "T", module.config.vocabulary]
    else:
        graph.rename(hidden, "y")
    info = helper.make_tensor_value_info
    inputs = [
        (
            info("x", TensorProto.INT64, ["B", "T"])
            if tokens
            else info("x", TensorProto.FLOAT, ["B", "T", recurrent.input_size])
        )
    ]
    outputs = [info(answer, TensorProto.FLOAT, shape)]
    for name, (rows, size) in sizes.items():
        inputs.append(info(name, TensorProto.FLOAT, [rows, "B", size]))
        outputs.append(info(f"{name}_n", TensorProto.FLOAT, [rows, "B", size]))
    made = helper.make_graph(graph.nodes, "memorycell", inputs, outputs, _used(graph))
    model = helper.make_model(
        made,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="memorycell",
    )
    if note:
        helper.set_model_props(model, {"memorycell": json.dumps(note)})
    onnx.checker.check_model(model, full_check=True)
    return model


def _used(graph: Graph) -> list[onnx.TensorProto]:
    """The constants that a node reads, also one inside a Scan."""
    inner = [
        node
        for outer in graph.nodes
        for a in outer.attribute
        if a.HasField("g")
        for node in a.g.node
    ]
    read = {name for node in (*graph.nodes, *inner) for name in node.input}
    return [constant for constant in graph.constants if constant.name in read]


# ---- the recurrent layers ------------------------------------------------------------------------


def _stack(graph: Graph, module: Recurrent, x: str) -> str:
    """Hidden states [B, T, directions·H] of the last layer; writes h_n and c_n."""
    names = CELLS[module.cell].state
    rows = module.num_layers * len(module.directions)
    states = {
        name: [name] if rows == 1 else graph.op("Split", name, outputs=rows, axis=0)
        for name in names
    }  # each [1, B, S]
    x = graph.op("Transpose", x, perm=[1, 0, 2])
    finals: dict[str, list[str]] = {name: [] for name in names}
    composed = module.cell not in OPERATORS or any(module.zoneout) or bool(module.proj_size)
    for layer in range(module.num_layers):
        outputs = []
        for d, direction in enumerate(module.directions):
            row = layer * len(module.directions) + d
            params = {n: p.detach() for n, p in module.layer_parameters(layer, direction).items()}
            given = {name: states[name][row] for name in names}
            write = _scan if composed else operator
            y, after = write(graph, module, params, x, given, bool(d))
            outputs.append(y)
            for name in names:
                finals[name].append(after[name])
        x = outputs[0] if len(outputs) == 1 else graph.op("Concat", *outputs, axis=2)
    for name in names:
        graph.rename(
            finals[name][0] if rows == 1 else graph.op("Concat", *finals[name], axis=0), f"{name}_n"
        )
    return str(graph.op("Transpose", x, perm=[1, 0, 2]))


def operator(
    graph: Graph,
    module: Recurrent,
    params: dict[str, Tensor],
    x: str,
    state: dict[str, str],
    reverse: bool,
) -> tuple[str, dict[str, str]]:
    """One layer in one direction as ONNX's own operator: y [T, B, H] and the state after it."""
    cell, kind = module.cell, OPERATORS[module.cell]
    hidden = module.hidden_size

    def blocks(value: Tensor) -> Tensor:
        parts = value.split(hidden)
        if cell == "coupled":  # i = 1 - σ(a) = σ(-a), and with input_forget f = 1 - i
            parts = (-parts[0], parts[0], parts[1], parts[2])
        return torch.cat([parts[k] for k in BLOCKS[kind]])

    zero = params["weight_ih"].new_zeros(len(params["weight_ih"]))
    bias = torch.cat([blocks(params[n] + zero) for n in ("bias_ih", "bias_hh")])
    inputs = [
        x,
        *(graph.constant(blocks(params[f"weight_{n}"])[None], f"W_{n}") for n in ("ih", "hh")),
    ]
    inputs += [graph.constant(bias[None], "B"), "", *state.values()]
    options: dict[str, Any] = {
        "hidden_size": hidden,
        "direction": "reverse" if reverse else "forward",
    }
    if cell == "peephole":  # ONNX has them as i, o, f
        w_ci, w_cf, w_co = params["weight_ch"].chunk(3)
        inputs.append(graph.constant(torch.cat([w_ci, w_co, w_cf])[None], "P"))
    if cell == "coupled":
        options["input_forget"] = 1
    if cell == "gru":
        options["linear_before_reset"] = 1
    if cell.startswith("rnn"):
        options["activations"] = ["Relu" if cell == "rnn_relu" else "Tanh"]
    y, *after = graph.op(kind, *inputs, outputs=1 + len(state), **options)
    return str(graph.op("Squeeze", y, graph.constant([1]))), dict(zip(state, after, strict=True))


def _scan(
    graph: Graph,
    module: Recurrent,
    params: dict[str, Tensor],
    x: str,
    state: dict[str, str],
    reverse: bool,
) -> tuple[str, dict[str, str]]:
    """The same, composed: a Scan whose body is the cell's equation."""
    cell = CELLS[module.cell]
    # To the equations a symbol is a tensor; to the type checker it is anything.
    known: Any = {n: Symbol(graph, graph.constant(p, n), tuple(p.shape)) for n, p in params.items()}
    rows = len(params["weight_ih"])
    product: Any = Symbol(
        graph, graph.op("MatMul", x, graph.constant(params["weight_ih"].T, "W_ih")), (0, 0, rows)
    )
    x_part: Any = cell.ahead(product, known)
    weight_hh = graph.constant(params["weight_hh"].T, "W_hh")
    body = Graph()
    body._count = 10_000_000  # its names must not meet those outside
    sizes = {"h": module.output_size, "c": module.hidden_size}
    before: dict[str, Any] = {
        name: Symbol(body, body.name(name), (0, sizes[name])) for name in state
    }
    step_x: Any = Symbol(body, body.name("x_part"), (0, rows))
    h_part: Any = Symbol(body, body.op("MatMul", before["h"].name, weight_hh), (0, rows))
    inside: Any = {n: Symbol(body, s.name, s.shape) for n, s in known.items()}
    new, _ = cell.step(step_x, h_part, tuple(before.values()), inside)
    after: dict[str, Any] = dict(zip(state, new, strict=True))
    if "weight_hr" in params:
        after["h"] = Symbol(
            body,
            body.op("MatMul", after["h"].name, graph.constant(params["weight_hr"].T, "W_hr")),
            before["h"].shape,
        )
    if any(module.zoneout):
        shares = dict(zip("hc", module.zoneout, strict=True))
        after = {n: before[n] * shares[n] + value * (1 - shares[n]) for n, value in after.items()}
    outputs = {name: body.op("Identity", value.name) for name, value in after.items()}
    y = body.op("Identity", outputs["h"])

    def info(name: str, size: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", size])

    made = helper.make_graph(
        body.nodes,
        "step",
        [*(info(s.name, sizes[n]) for n, s in before.items()), info(step_x.name, rows)],
        [*(info(outputs[n], sizes[n]) for n in state), info(y, sizes["h"])],
        body.constants,
    )
    axis = graph.constant([0])
    start = [graph.op("Squeeze", value, axis) for value in state.values()]
    results = graph.op(
        "Scan",
        *start,
        x_part.name,
        outputs=len(state) + 1,
        body=made,
        num_scan_inputs=1,
        scan_input_directions=[int(reverse)],
        scan_output_directions=[int(reverse)],
    )
    return results[-1], {
        n: graph.op("Unsqueeze", r, axis) for n, r in zip(state, results[:-1], strict=True)
    }


class Symbol:
    """A tensor of which only the name and the shape are known (0: any length): what is done with it
    becomes nodes.
    """

    def __init__(self, graph: Graph, name: str, shape: tuple[int, ...]) -> None:
        self.graph, self.name, self.shape = graph, name, shape
        self.ndim = len(shape)

    def _with(self, kind: str, *others: Any, first: bool = True) -> Symbol:
        names = [o.name if isinstance(o, Symbol) else self.graph.constant(float(o)) for o in others]
        shapes = [o.shape for o in (self, *others) if isinstance(o, Symbol)]
        ordered = [self.name, *names] if first else [*names, self.name]
        return Symbol(self.graph, self.graph.op(kind, *ordered), max(shapes, key=len))

    def __add__(self, other: Any) -> Symbol:
        return self._with("Add", other)

    def __mul__(self, other: Any) -> Symbol:
        return self._with("Mul", other)

    def __rmul__(self, other: Any) -> Symbol:
        return self._with("Mul", other)

    def __rsub__(self, other: Any) -> Symbol:
        return self._with("Sub", other, first=False)

    def __matmul__(self, other: Symbol) -> Symbol:
        return Symbol(
            self.graph,
            self.graph.op("MatMul", self.name, other.name),
            (*self.shape[:-1], other.shape[-1]),
        )

    @property
    def T(self) -> Symbol:
        """Of a matrix."""
        return Symbol(
            self.graph, self.graph.op("Transpose", self.name, perm=[1, 0]), self.shape[::-1]
        )

    def chunk(self, count: int, dim: int = 0) -> list[Symbol]:
        """Equal parts along an axis."""
        axis = dim % self.ndim
        names = self.graph.op("Split", self.name, outputs=count, axis=axis)
        sizes = (*self.shape[:axis], self.shape[axis] // count, *self.shape[axis + 1 :])
        return [Symbol(self.graph, n, sizes) for n in names]

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Symbol:
        kinds = {torch.sigmoid: "Sigmoid", torch.tanh: "Tanh", torch.relu: "Relu"}
        if function in kinds:
            return Symbol._with(args[0], kinds[function])
        if function is F.layer_norm:
            own, _, gain, bias = (*args, kwargs.get("weight"), kwargs.get("bias"))[:4]
            others = [gain] if bias is None else [gain, bias]
            name = own.graph.op(
                "LayerNormalization",
                own.name,
                *(o.name for o in others),
                axis=-1,
                epsilon=kwargs["eps"],
            )
            return Symbol(own.graph, name, own.shape)
        return NotImplemented


# ---- the head ------------------------------------------------------------------------------------


def _next_step(graph: Graph, module: LanguageModel, hidden: str) -> None:
    """`heads.NextStep` over hidden [B, T, H]; writes log_p."""
    head = module.head
    if head.project is not None:
        hidden = graph.op("MatMul", hidden, graph.constant(head.project.weight.T, "project"))
    weight = module.embedding.weight if head.weight is None else head.weight
    scores = graph.op(
        "Add",
        graph.op("MatMul", hidden, graph.constant(weight.T, "head")),
        graph.constant(head.bias),
    )
    graph.rename(graph.op("LogSoftmax", scores, axis=-1), "log_p")


def _forecast(graph: Graph, head: Forecast, hidden: str, window: int, features: int) -> None:
    """`heads.Forecast` over hidden [B, T, H] and the input x; writes quantiles and window_n."""
    middle, sides = head.quantiles // 2, head.quantiles - head.quantiles // 2 - 1
    out = graph.op("MatMul", hidden, graph.constant(head.recurrent.weight.T, "head"))
    out = graph.op("Add", out, graph.constant(head.recurrent.bias))
    out = graph.op(
        "Reshape", out, graph.constant([0, 0, head.horizon, head.targets, head.quantiles])
    )
    below, centre, above = graph.op(
        "Split", out, graph.constant([middle, 1, sides]), outputs=3, axis=4
    )
    whole = "x"
    if window > 1:
        whole = graph.op("Concat", graph.op("Transpose", "window", perm=[1, 0, 2]), "x", axis=1)
        ends = [graph.constant([v]) for v in (1 - window, np.iinfo(np.int64).max, 1)]
        graph.rename(
            graph.op("Transpose", graph.op("Slice", whole, *ends), perm=[1, 0, 2]), "window_n"
        )
    # The linear path over the last W inputs is a convolution over time.
    kernel = head.linear.weight.detach().view(-1, window, features).transpose(1, 2)
    linear = graph.op(
        "Conv",
        graph.op("Transpose", whole, perm=[0, 2, 1]),
        graph.constant(kernel, "linear"),
        graph.constant(head.linear.bias),
    )
    shape = graph.constant([0, 0, head.horizon, head.targets, 1])
    linear = graph.op("Reshape", graph.op("Transpose", linear, perm=[0, 2, 1]), shape)
    level = graph.op(
        "Slice", "x", graph.constant([0]), graph.constant([head.targets]), graph.constant([2])
    )
    level = graph.op("Unsqueeze", level, graph.constant([2, 4]))
    median = graph.op("Add", graph.op("Add", centre, linear), level)
    last = graph.constant(np.int64(4))
    above = graph.op("CumSum", graph.op("Softplus", above), last)
    below = graph.op("CumSum", graph.op("Softplus", below), last, reverse=1)
    parts = [graph.op("Sub", median, below), median, graph.op("Add", median, above)]
    graph.rename(graph.op("Concat", *parts, axis=4), "quantiles")
