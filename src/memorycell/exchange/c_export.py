"""Export a recurrent layer or a model to C99: a source file, its header and a test with a `main`.

Nothing is allocated and no global is written: the state is an array of floats that the caller owns.
The weights are constants in float32; in int8, the recurrent ones are int8 with a scale per row.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from memorycell.errors import quote
from memorycell.exchange.c_cells import CELLS_IN_C, STORE_H, STORE_PROJECTED_H
from memorycell.exchange.c_templates import FUNCTIONS, HEADER, LAYER_HEAD, SOURCE, TEST
from memorycell.exchange.files import MAX_NAME_CHARS, Exported
from memorycell.models.exporting import CHead, CWriter
from memorycell.models.model import Model, exported
from memorycell.nn.layers import Recurrent
from memorycell.streaming.stepping import stepper

PRECISIONS = ("float32", "int8")
TOLERANCE = {"float32": 1e-4, "int8": 1e-3}
"""Largest difference between the C code and `Stream` in the same precision, relative to values over
one. In int8 a value is now and then rounded the other way.
"""
SUMS_BYTES = 32
"""Of the partial sums in `product`."""
BLOCK_ROWS = 16
"""In `product_blocks`."""


def export(
    module: nn.Module,
    name: str,
    *,
    precision: str = "float32",
    head: CHead | None = None,
    inputs: Sequence[str] = (),
    output: str = "",
    test: np.ndarray | None = None,
) -> Exported:
    """A recurrent layer or a model as C99.

    name        of the files and prefix of what they define: letters, digits, underscores
    precision   "float32", or "int8" for the recurrent weights and their products
    head        of the model; the model's own (`Model.c_head`) by default
    inputs      descriptions of x[0], x[1], … for the header, and `output` of y
    test        [T, I] float32, the inputs of the test vector; 32 random steps by default

    Raises ValueError for a bidirectional layer, a model that cannot be exported, weights that are
    not finite and a name that is not a C identifier.
    """
    if not name.isidentifier() or not name.isascii() or len(name) > MAX_NAME_CHARS:
        raise ValueError(
            f"name: {quote(name)} cannot name a C function; use up to {MAX_NAME_CHARS} letters,"
            " digits and underscores"
        )
    if precision not in PRECISIONS:
        raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, got {precision!r}")
    ready = stepper(exported(module), precision)
    if head is None:
        default = c_head(module)
        if isinstance(default, str):
            raise ValueError(f"export: {default}")
        head = default
    rng = np.random.default_rng(0)
    x = np.ascontiguousarray(
        rng.normal(size=(32, ready.input_size)) if test is None else test, np.float32
    )
    y, _ = ready.step_one(np.zeros((1, ready.layout.width), np.float32), 0, x)
    expected = head.outputs(y)
    source = _Source(head, precision)
    sizes = {
        "flash_bytes": source.flash_bytes,
        "state_bytes": 4 * ready.layout.width,
        "stack_bytes": source.stack_bytes,
    }
    fields = {
        **sizes,
        "name": name,
        "NAME": name.upper(),
        "state_size": ready.layout.width,
        "input_size": ready.input_size,
        "output_size": head.output_size,
    }
    files = {
        f"{name}.h": HEADER.substitute(fields, description=_description(inputs, output)),
        f"{name}.c": source.text(fields),
        f"{name}_test.c": TEST.substitute(
            fields,
            steps=len(x),
            bound=f"{TOLERANCE[precision]:g}",
            x=_rows(x),
            expected=_rows(expected),
        ),
    }
    return Exported(files, sizes)


def c_head(module: nn.Module) -> CHead | str:
    """The head of a recurrent layer or a model, or the reason why it cannot be exported. Raises
    TypeError for any other module.
    """
    if isinstance(module, Model):
        return module.c_head()
    if isinstance(module, Recurrent):
        return LayerCHead(module)
    raise TypeError(f"export: expected a recurrent layer or a model, got {type(module).__name__}")


class LayerCHead:
    """A recurrent layer alone: the last layer's h is the output."""

    stack_bytes = 0
    normalises = False

    def __init__(self, recurrent: Recurrent) -> None:
        self.recurrent = recurrent
        self.output_size = recurrent.output_size

    def write(self, writer: CWriter) -> str:
        """See `CHead`."""
        return LAYER_HEAD.substitute(size=self.output_size)

    def outputs(self, y: np.ndarray) -> np.ndarray:
        """See `CHead`."""
        return y


class _Source:
    """The source file: constants, functions and their sizes."""

    def __init__(self, head: CHead, precision: str) -> None:
        recurrent = self.recurrent = head.recurrent
        self.flash_bytes = 0
        self._int8 = precision == "int8"
        self._max_columns = max(recurrent.hidden_size, recurrent.input_size)
        self._constants: list[str] = []
        self._layers = [self._layer(k) for k in range(recurrent.num_layers)]
        self._head, self._normalises = head.write(self), head.normalises
        cell = CELLS_IN_C[recurrent.cell]
        floats = cell.local_arrays * recurrent.hidden_size + recurrent.proj_size
        floats += cell.input_arrays * self._max_columns
        self.stack_bytes = head.stack_bytes + 4 * floats + self._int8 * self._max_columns
        self.stack_bytes += SUMS_BYTES

    def text(self, fields: dict[str, Any]) -> str:
        """The file."""
        recurrent = self.recurrent
        layers, P = recurrent.num_layers, recurrent.output_size
        sizes = [size for _, _, size in recurrent.state_shapes(1).values()]
        starts = [layers * start for start in itertools.accumulate(sizes, initial=0)]
        more_at = starts.pop()
        calls = []
        if self._normalises:
            calls.append(f"    float inputs[{recurrent.input_size}];\n")
            calls.append(f"    normalise_input(x, state + {more_at}, inputs);")
        for k in range(layers):
            x = f"state + {(k - 1) * P}" if k else "inputs" if self._normalises else "x"
            parts = [
                f"state + {start + k * size}" for start, size in zip(starts, sizes, strict=True)
            ]
            calls.append(f"    layer_{k}({', '.join([x, *parts])});")
        return SOURCE.substitute(
            fields,
            constants="\n".join(self._constants),
            functions="\n".join([*self._functions(), *self._layers, self._head]),
            layers="\n".join(calls),
            hidden_at=(layers - 1) * P,
            more_at=more_at,
        )

    def _functions(self) -> list[str]:
        """The functions that the layers, the head and other functions call."""
        calling, found = "\n".join([*self._layers, self._head]), list[str]()
        for name, template in reversed(FUNCTIONS.items()):  # one calls only those before it
            if re.search(rf"\b{name}\(", calling):
                found.insert(0, template.substitute(max_columns=self._max_columns))
                calling += found[0]
        return found

    def constant(self, name: str, values: Any, *, int8: bool = False) -> str:
        """See `CWriter`; in int8 an array of signed char."""
        array = np.asarray(values.detach() if isinstance(values, Tensor) else values).ravel()
        if not np.isfinite(array).all():
            raise ValueError(f"export: {name} holds NaN or infinite values")
        numbers = [str(int(v)) if int8 else _float(v) for v in array]
        lines = ",\n    ".join(_lines(numbers))
        kind = "signed char" if int8 else "float"
        self._constants.append(f"static const {kind} {name}[{len(array)}] = {{\n    {lines}}};\n")
        self.flash_bytes += len(array) * (1 if int8 else 4)
        return name

    def matrix(self, name: str, weight: Tensor, bias: Tensor, *, product: str = "product") -> str:
        """Add a weight and a bias; the arguments that one of the three products takes."""
        weight = weight.detach()
        arrays = [name]
        if product == "product_int8":
            largest = weight.abs().amax(1)
            scale = (largest / 127).where(largest > 0, 1.0)
            self.constant(name, (weight / scale[:, None]).round(), int8=True)
            arrays.append(self.constant(f"{name}_scale", scale))
        else:
            self.constant(name, in_blocks(weight) if product == "product_blocks" else weight)
        arrays.append(self.constant(f"{name}_bias", bias))
        return ", ".join([*arrays, *map(str, weight.shape)])

    def _layer(self, k: int) -> str:
        """The step function of a layer."""
        recurrent, layer = self.recurrent, f"layer_{k}"
        cell = CELLS_IN_C[recurrent.cell]
        params = {n: p.detach() for n, p in recurrent.layer_parameters(k, "").items()}
        zeros = params["weight_ih"].new_zeros(len(params["weight_ih"]))
        for name in ("bias_ih", "bias_hh"):  # an absent bias is a scalar zero
            params[name] = params.get(name, zeros) + zeros
        product = "product_int8" if self._int8 else "product_blocks"
        fields = {
            name: self.matrix(f"{layer}_{name}", weight, bias, product=product)
            for name, (weight, bias) in cell.matrices(params).items()
        }
        fields |= {name: self.constant(f"{layer}_{name}", params[name]) for name in cell.vectors}
        zoneout_h, zoneout_c = recurrent.zoneout
        return cell.template.substitute(
            fields,
            layer=layer,
            H=recurrent.hidden_size,
            I=params["weight_ih"].shape[1],
            heads=recurrent.heads,
            product=product,
            new_c=_zoneout("c[u]", "c_new", zoneout_c),
            store_h=self._store_h(layer, params, zoneout_h),
        )

    def _store_h(self, layer: str, params: dict[str, Tensor], zoneout: float) -> str:
        size = self.recurrent.output_size
        if "weight_hr" not in params:
            return STORE_H.substitute(P=size, new_h=_zoneout("h[u]", "h_new[u]", zoneout))
        weight = params["weight_hr"]
        return STORE_PROJECTED_H.substitute(
            P=size,
            W_hr=self.matrix(f"{layer}_W_hr", weight, weight.new_zeros(size)),
            new_h=_zoneout("h[u]", "projected[u]", zoneout),
        )


# ---- text ----------------------------------------------------------------------------------------


def comment(text: str) -> str:
    """Foreign text for a C comment: nothing in it can end the comment, continue a line or hide."""
    text = "".join(c if c.isprintable() else f"<U+{ord(c):04X}>" for c in text)
    return re.sub(r"(?<=\*)(?=/)|(?<=/)(?=\*)|(?<=\?)(?=\?)", " ", text)


def _description(inputs: Sequence[str], output: str) -> str:
    lines = [f" *   x[{k}]  {comment(text)}\n" for k, text in enumerate(inputs)]
    lines += [f" *   y  {comment(output)}\n"] if output else []
    return " *\n" + "".join(lines) if lines else ""


def in_blocks(weight: Tensor) -> Tensor:
    """Rows [R, C] in the order of `product_blocks`."""
    complete = len(weight) - len(weight) % BLOCK_ROWS
    blocks = weight[:complete].unflatten(0, (-1, BLOCK_ROWS)).transpose(1, 2)
    return torch.cat([blocks.flatten(), weight[complete:].flatten()])


def _zoneout(before: str, new: str, rate: float) -> str:
    if not rate:
        return new
    return f"{_float(rate)} * {before} + (1.0f - {_float(rate)}) * {new}"


def _float(value: Any) -> str:
    text = f"{float(value):.9g}"
    return text + ("f" if "." in text or "e" in text else ".0f")


def _lines(numbers: Sequence[str]) -> Iterable[str]:
    return (", ".join(numbers[k : k + 12]) for k in range(0, len(numbers), 12))


def _rows(array: np.ndarray) -> str:
    return ",\n".join("    {" + ", ".join(map(_float, row)) + "}" for row in array)
