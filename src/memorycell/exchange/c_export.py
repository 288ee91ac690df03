"""To C99: one file and its header without dependencies, for a microcontroller or anything else with
a C compiler.

The weights are constants in float32, or the recurrent ones in int8 with a scale a row. Nothing is
allocated and no global is written: the state is an array of floats the caller owns. A third file
holds a `main` that runs a test vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from memorycell.applications.forecast.model import Forecaster
from memorycell.cells import CELLS
from memorycell.nn.layers import Recurrent
from memorycell.streaming.stepping import stepper

PRECISIONS = ("float32", "int8")
TOLERANCE = {"float32": 1e-4, "int8": 1e-3}
"""Largest difference, relative to values over one, between the C code and `Stream` in the same
precision: in int8 a rounding now and then falls the other way.
"""

# one unit u: x and h are its products, {k} the block; writes h_new[u] and c[u]. Equations: cells.py
CELL_CODE = {
    "rnn": "h_new[u] = tanhf(a(0));",
    "rnn_relu": "const float v = a(0); h_new[u] = v > 0.0f ? v : 0.0f;",
    "lstm": (
        """const float i = sigmoid(a(0)), f = sigmoid(a(1)), g = tanhf(a(2)), o = sigmoid(a(3));
        C_NEXT(f * c[u] + i * g);
        h_new[u] = o * tanhf(c_new);"""
    ),
    "peephole": (
        """const float i = sigmoid(a(0) + peephole[u] * c[u]), f = sigmoid(a(1) + peephole[H + u] * c[u]);
        const float g = tanhf(a(2));
        C_NEXT(f * c[u] + i * g);
        h_new[u] = sigmoid(a(3) + peephole[2 * H + u] * c_new) * tanhf(c_new);"""
    ),
    "coupled": (
        """const float f = sigmoid(a(0)), g = tanhf(a(1)), o = sigmoid(a(2));
        C_NEXT(f * c[u] + (1.0f - f) * g);
        h_new[u] = o * tanhf(c_new);"""
    ),
    "layernorm": (
        """const float i = sigmoid(a(0)), f = sigmoid(a(1)), g = tanhf(a(2));
        C_NEXT(f * c[u] + i * g);
        shown[u] = c_new;"""
    ),
    "gru": (
        """const float r = sigmoid(a(0)), z = sigmoid(a(1)), n = tanhf(x_part[2 * H + u] + r * h_part[2 * H + u]);
        h_new[u] = (1.0f - z) * n + z * h[u];"""
    ),
    "gru_reset_before": (
        """gated[u] = sigmoid(a(0)) * h[u];
        x_part[H + u] = sigmoid(a(1));"""
    ),
}


@dataclass(frozen=True)
class Exported:
    """The files by name, and what they take: bytes of constants (flash), of state, and of stack a
    step uses.
    """

    files: dict[str, str]
    flash_bytes: int
    state_bytes: int
    stack_bytes: int


def export(
    module: nn.Module,
    name: str,
    *,
    precision: str = "float32",
    scale: Sequence[float] = (),
    offset: Sequence[float] = (),
    inputs: Sequence[str] = (),
    output: str = "",
    test: np.ndarray | None = None,
) -> Exported:
    """A recurrent layer of ours or a `Forecaster` as C99.

    name            of the files and of what they define: letters, digits, underscores
    precision       "float32", or "int8" for the recurrent weights and their products
    scale, offset   of a model's targets: its quantiles are given as value · scale + offset
    inputs, output  what the header says of x and y
    test            [T, I] float32, the test vector; random where there is none

    Raises ValueError for a bidirectional layer and for a name C cannot have.
    """
    if not name.isidentifier() or not name.isascii():
        raise ValueError(
            f"name: {name!r} cannot name a C function; use letters, digits and underscores"
        )
    if precision not in PRECISIONS:
        raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, got {precision!r}")
    ready = stepper(module, precision)
    writer = _Writer(module, name, precision)
    recurrent = writer.recurrent
    length = ready.layout.width
    count = recurrent.output_size
    if isinstance(module, Forecaster):
        count = module.config.horizon * module.config.targets * module.config.quantiles
    x = np.random.default_rng(0).normal(size=(32, ready.input_size)) if test is None else test
    x = np.ascontiguousarray(x, np.float32)
    y, _ = ready.walk(np.zeros((1, length), np.float32), 0, x)
    if isinstance(module, Forecaster):
        targets = module.config.targets
        scales = (
            np.array(scale or [1.0] * targets, np.float32),
            np.array(offset or [0.0] * targets, np.float32),
        )
        y = y * scales[0][:, None] + scales[1][:, None]
        writer.model(module, *scales)
    else:
        writer.layers_only()
    files = {
        f"{name}.h": writer.header(length, ready.input_size, count, inputs, output),
        f"{name}.c": writer.source(length),
        f"{name}_test.c": _test(name, x, y.reshape(len(x), -1), TOLERANCE[precision]),
    }
    return Exported(files, writer.flash, 4 * length, writer.stack)


class _Writer:
    """Collects constants and functions."""

    def __init__(self, module: nn.Module, name: str, precision: str) -> None:
        found = module.recurrent if isinstance(module, Forecaster) else module
        assert isinstance(found, Recurrent)
        self.recurrent: Recurrent = found
        self.name, self.int8 = name, precision == "int8"
        self.constants: list[str] = []
        self.functions: list[str] = []
        self.body: list[str] = []
        self.flash = 0
        cell, H = self.recurrent.cell, self.recurrent.hidden_size
        rows = len(CELLS[cell].blocks) * H
        # x_part, h_part, h_new; what layer normalisation shows; the int8 copy of an input
        self.stack = 4 * (
            2 * rows
            + H
            + (H if cell in ("layernorm", "gru_reset_before") else 0)
            + (H if self.recurrent.proj_size else 0)
        )
        self.widest = max(H, self.recurrent.input_size)
        self.stack += self.widest if self.int8 else 0
        for layer in range(self.recurrent.num_layers):
            self._layer(layer)

    def constant(self, name: str, value: Tensor | np.ndarray, kind: str = "float") -> str:
        """A constant array; returns its name."""
        array = value.detach().numpy() if isinstance(value, Tensor) else value
        texts = (
            [str(int(v)) for v in array.ravel()]
            if kind != "float"
            else [_float(v) for v in array.ravel()]
        )
        lines = [", ".join(texts[k : k + 12]) for k in range(0, len(texts), 12)]
        body = ",\n    ".join(lines)
        self.constants.append(f"static const {kind} {name}[{len(texts)}] = {{\n    {body}}};\n")
        self.flash += len(texts) * (1 if kind == "signed char" else 4)
        return name

    def product(
        self, name: str, weight: Tensor, bias: Tensor | np.ndarray, source: str, target: str
    ) -> str:
        """A call that computes target = W source + bias."""
        rows, columns = weight.shape
        b = self.constant(f"{name}_bias", bias)
        if not self.int8 or name.startswith("head"):
            return (
                f"product({self.constant(name, weight)}, {b}, {rows}, {columns}, {source},"
                f" {target});"
            )
        largest = weight.detach().abs().amax(1)
        scale = (largest / 127).where(largest > 0, 1.0)
        quantised = (weight.detach() / scale[:, None]).round()
        w, s = self.constant(name, quantised, "signed char"), self.constant(f"{name}_scale", scale)
        return f"product_int8({w}, {s}, {b}, {rows}, {columns}, {source}, {target});"

    def _layer(self, layer: int) -> None:
        r = self.recurrent
        early = r.cell == "gru_reset_before"
        cell, H, P = r.cell, r.hidden_size, r.output_size
        params = {n: p.detach() for n, p in r.layer_parameters(layer, "").items()}
        rows = len(params["weight_ih"])
        zero = params["weight_ih"].new_zeros(rows)
        bias_ih, bias_hh = params["bias_ih"] + zero, params["bias_hh"] + zero
        apart = early or cell in ("gru", "layernorm")
        prefix = f"layer_{layer}"
        lines = [f"float x_part[{rows}], h_part[{rows}], h_new[{H}];"]
        normal = cell == "layernorm"
        lines += [f"float shown[{H}];"] if normal else [f"float gated[{H}];"] if early else []
        lines += [f"const int H = {H};", "int u;"]
        lines.append(
            self.product(
                f"{prefix}_ih",
                params["weight_ih"],
                zero if normal else bias_ih if apart else bias_ih + bias_hh,
                "x",
                "x_part",
            )
        )
        hh_bias = bias_hh if early or cell == "gru" else zero
        first = 2 * H if early else rows
        lines.append(
            self.product(
                f"{prefix}_hh", params["weight_hh"][:first], hh_bias[:first], "h", "h_part"
            )
        )
        if normal:
            for part, gain, bias in (
                ("x_part", "gain_ih", bias_ih),
                ("h_part", "gain_hh", bias_hh),
            ):
                g, b = (
                    self.constant(f"{prefix}_{gain}", params[gain]),
                    self.constant(f"{prefix}_{gain}_bias", bias),
                )
                lines.append(f"normalise({part}, {rows}, {g}, {b});")
        if cell == "peephole":
            lines.append(
                "const float *peephole ="
                f" {self.constant(f'{prefix}_peephole', params['weight_ch'])};"
            )
        zone_h, zone_c = (_float(z) for z in r.zoneout)
        code = CELL_CODE[cell].replace("C_NEXT(", "const float c_new = (")
        keep = (
            f"c[u] = {zone_c} * c[u] + (1.0f - {zone_c}) * c_new;"
            if r.zoneout[1]
            else "c[u] = c_new;"
        )
        loop = f"for (u = 0; u < H; u++) {{\n        {code}\n"
        loop += f"        {keep}\n    }}" if "c_new" in code else "    }"
        lines.append(loop)
        if normal:
            g, b = (
                self.constant(f"{prefix}_gain_c", params["gain_c"]),
                self.constant(f"{prefix}_bias_c", params["bias_c"]),
            )
            lines.append(f"normalise(shown, H, {g}, {b});")
            lines.append(
                "for (u = 0; u < H; u++)\n        h_new[u] = sigmoid(a(3)) * tanhf(shown[u]);"
            )
        if early:
            lines.append(
                self.product(
                    f"{prefix}_hn",
                    params["weight_hh"][2 * H :],
                    bias_hh[2 * H :],
                    "gated",
                    "h_part",
                )
            )
            update = (
                "h_new[u] = (1.0f - x_part[H + u]) * tanhf(x_part[2 * H + u] + h_part[u]) +"
                " x_part[H + u] * h[u];"
            )
            lines.append(f"for (u = 0; u < H; u++)\n        {update}")
        new = "h_new"
        if r.proj_size:
            lines.insert(0, f"float projected[{P}];")
            lines.append(
                self.product(
                    f"head_projection_{layer}",
                    params["weight_hr"],
                    np.zeros(P, np.float32),
                    "h_new",
                    "projected",
                )
            )
            new = "projected"
        value = f"{zone_h} * h[u] + (1.0f - {zone_h}) * {new}[u]" if r.zoneout[0] else f"{new}[u]"
        lines.append(f"for (u = 0; u < {P}; u++)\n        h[u] = {value};")
        takes = "float *h, float *c" if "c" in CELLS[cell].state else "float *h"
        declarations = [line for line in lines if line.startswith(("float ", "const ", "int "))]
        rest = [line for line in lines if not line.startswith(("float ", "const ", "int "))]
        text = "\n    ".join(declarations + rest)
        self.functions.append(f"static void {prefix}(const float *x, {takes}) {{\n    {text}\n}}\n")
        h_at = layer * P
        c_at = r.num_layers * P + layer * H
        source = "x" if layer == 0 else f"state + {(layer - 1) * P}"
        states = f"state + {h_at}" + (f", state + {c_at}" if "c" in CELLS[cell].state else "")
        self.body.append(f"{prefix}({source}, {states});")

    def layers_only(self) -> None:
        """Y is the last layer's h."""
        size = self.recurrent.output_size
        at = (self.recurrent.num_layers - 1) * size
        self.body.append(f"for (k = 0; k < {size}; k++)\n        y[k] = state[{at} + k];")

    def model(self, module: Forecaster, scale: np.ndarray, offset: np.ndarray) -> None:
        """The window and the head: see `heads.Forecast`."""
        config, head = module.config, module.head
        states = 2 if "c" in CELLS[config.cell].state else 1
        F, W, K = config.input_size, config.window, config.quantiles
        window_at = states * config.num_layers * config.hidden_size
        cells, past = config.horizon * config.targets, (W - 1) * F
        self.stack += 4 * (W * F + cells)
        top = f"state + {(config.num_layers - 1) * config.hidden_size}"
        s, o = self.constant("head_scale", scale), self.constant("head_offset", offset)
        shift = f"for (k = 0; k < {past}; k++)\n        state[{window_at} + k] = window[{F} + k];"
        keep = f"for (k = 0; k < {past}; k++)\n        window[k] = state[{window_at} + k];"
        self.body += [
            *([keep] if past else []),
            f"for (k = 0; k < {F}; k++)\n        window[{past} + k] = x[k];",
            *([shift] if past else []),
            self.product("head", head.recurrent.weight, head.recurrent.bias, top, "y"),
            self.product("head_linear", head.linear.weight, head.linear.bias, "window", "median"),
            f"""for (k = 0; k < {cells}; k++) {{
        const int target = k % {config.targets};
        float *q = y + k * {K};
        const float middle = q[{K // 2}] + median[k] + x[target];
        float reach = 0.0f;
        int j;
        for (j = {K // 2} + 1; j < {K}; j++) {{
            reach += softplus(q[j]);
            q[j] = middle + reach;
        }}
        reach = 0.0f;
        for (j = {K // 2} - 1; j >= 0; j--) {{
            reach += softplus(q[j]);
            q[j] = middle - reach;
        }}
        q[{K // 2}] = middle;
        for (j = 0; j < {K}; j++)
            q[j] = q[j] * {s}[target] + {o}[target];
    }}""",
        ]
        self.body.insert(0, f"float window[{W * F}], median[{cells}];")

    def header(
        self, state: int, inputs: int, outputs: int, described: Sequence[str], output: str
    ) -> str:
        """What a caller needs."""
        n, upper = self.name, self.name.upper()
        told = [f" *   x[{k}]  {text}" for k, text in enumerate(described)] + (
            [f" *   y  {output}"] if output else []
        )
        about = "\n".join([" *", *told, ""]) if told else ""
        return f"""/* Written by memorycell. A live sequence, one step at a time: no allocation, no global written, C99 and libm.
 *
 *   float state[{upper}_STATE], x[{upper}_INPUTS], y[{upper}_OUTPUTS];
 *   {n}_init(state);
 *   for (;;) {{ read x; {n}_step(state, x, y); use y; }}
 *
 * Constants take {self.flash} bytes (flash), a state {4 * state} bytes, a step {self.stack} bytes of stack for its arrays.
 * Several sequences: one state each.
{about} */
#ifndef {upper}_H
#define {upper}_H

#include <stddef.h>

#define {upper}_STATE {state}
#define {upper}_INPUTS {inputs}
#define {upper}_OUTPUTS {outputs}
#define {upper}_FLASH_BYTES {self.flash}
#define {upper}_STACK_BYTES {self.stack}

size_t {n}_state_size(void); /* bytes */
void {n}_init(float *state);
void {n}_step(float *state, const float *x, float *y);

#endif
"""

    def source(self, state: int) -> str:
        """The code."""
        n = self.name
        functions = "\n".join(self.functions)
        body = [line for line in self.body if line.startswith("float ")]
        body += ["int k;"] if any("(k = 0" in line for line in self.body) else []
        body += [line for line in self.body if not line.startswith("float ")]
        text = "\n    ".join(body)
        uses = functions + text
        helpers = [f"#define QUANTISED {self.widest}\n"] if self.int8 else []
        helpers += [code for word, code in HELPERS.items() if f"{word}(" in uses]
        macro = "/* the sum of both products in a block */\n"
        macro += "#define a(block) (x_part[(block) * H + u] + h_part[(block) * H + u])\n"
        parts = [
            f'/* Written by memorycell; see {n}.h. */\n#include "{n}.h"\n\n#include <math.h>\n',
            *self.constants,
            *helpers,
            macro,
            functions,
            f"size_t {n}_state_size(void) {{ return {state} * sizeof(float); }}\n",
            (
                f"void {n}_init(float *state) {{\n    int k;\n    for (k = 0; k < {state}; k++)\n  "
                "      state[k] = 0.0f;\n}\n"
            ),
            f"void {n}_step(float *state, const float *x, float *y) {{\n    {text}\n}}\n",
        ]
        return "\n".join(parts)


HELPERS = {
    "product": (
        """/* out [rows] = w [rows, columns] a [columns] + bias */
static void product(const float *w, const float *bias, int rows, int columns, const float *a, float *out) {
    int r, k;
    for (r = 0; r < rows; r++) {
        float sum = 0.0f;
        for (k = 0; k < columns; k++)
            sum += w[(long)r * columns + k] * a[k];
        out[r] = sum + bias[r];
    }
}
"""
    ),
    "product_int8": (
        """/* the same with int8 weights; a is rounded to 127 steps of its largest value, sums are whole numbers */
static void product_int8(const signed char *w, const float *scale, const float *bias, int rows, int columns,
                         const float *a, float *out) {
    signed char q[QUANTISED];
    float largest = 0.0f, unit;
    int r, k;
    for (k = 0; k < columns; k++)
        largest = fmaxf(largest, fabsf(a[k]));
    unit = largest > 0.0f ? largest / 127.0f : 1.0f;
    for (k = 0; k < columns; k++)
        q[k] = (signed char)rintf(a[k] * (1.0f / unit));
    for (r = 0; r < rows; r++) {
        long sum = 0;
        for (k = 0; k < columns; k++)
            sum += (long)w[(long)r * columns + k] * q[k];
        out[r] = (float)sum * scale[r] * unit + bias[r];
    }
}
"""
    ),
    "sigmoid": "static float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }\n",
    "softplus": (
        "static float softplus(float x) { return fmaxf(x, 0.0f) + log1pf(expf(-fabsf(x))); }\n"
    ),
    "normalise": (
        """/* v = gain (v - mean v) / sqrt(var v + 1e-5) + bias */
static void normalise(float *v, int count, const float *gain, const float *bias) {
    float mean = 0.0f, squares = 0.0f, rstd;
    int k;
    for (k = 0; k < count; k++)
        mean += v[k];
    mean /= (float)count;
    for (k = 0; k < count; k++)
        squares += (v[k] - mean) * (v[k] - mean);
    rstd = 1.0f / sqrtf(squares / (float)count + 1e-5f);
    for (k = 0; k < count; k++)
        v[k] = (v[k] - mean) * rstd * gain[k] + bias[k];
}
"""
    ),
}


def _float(value: Any) -> str:
    text = f"{float(value):.9g}"
    return text + ("f" if any(c in text for c in ".e") else ".0f")


def _test(name: str, x: np.ndarray, y: np.ndarray, bound: float) -> str:
    upper = name.upper()

    def rows(array: np.ndarray) -> str:
        return ",\n".join("    {" + ", ".join(_float(v) for v in row) + "}" for row in array)

    return f"""/* Runs the test vector of {name}.c; 0 when every value is within {bound:g} of memorycell's. */
#include "{name}.h"

#include <math.h>
#include <stdio.h>

static const float x[{len(x)}][{upper}_INPUTS] = {{
{rows(x)}}};
static const float expected[{len(y)}][{upper}_OUTPUTS] = {{
{rows(y)}}};

int main(void) {{
    float state[{upper}_STATE], y[{upper}_OUTPUTS], worst = 0.0f;
    int t, k, bad = 0;
    {name}_init(state);
    for (t = 0; t < {len(x)}; t++) {{
        {name}_step(state, x[t], y);
        for (k = 0; k < {upper}_OUTPUTS; k++) {{
            const float difference = fabsf(y[k] - expected[t][k]) / fmaxf(1.0f, fabsf(expected[t][k]));
            bad += !(difference <= {bound:g}f);
            worst = difference > worst ? difference : worst;
        }}
    }}
    printf("{name}: {len(x)} steps, largest difference %.3g (bound {bound:g}): %s\\n", (double)worst, bad ? "FAILED" : "ok");
    printf("{name}: %ld bytes of constants (flash), %ld bytes of state, %ld bytes of stack for arrays\\n",
           (long){upper}_FLASH_BYTES, (long){name}_state_size(), (long){upper}_STACK_BYTES);
    return bad ? 1 : 0;
}}
"""
