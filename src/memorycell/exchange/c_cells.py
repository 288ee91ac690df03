"""The recurrent cells in C99: the step function of a layer, one template per cell.

A template is C with these fields, filled in for every layer:

    $layer           the function's name
    $H               hidden_size
    $product         `product` or `product_int8`, see `c_templates.FUNCTIONS`
    $W_ih, $W_hh     arguments of the products: weights, scales (int8), bias, rows, columns
    $new_c           the cell state after zoneout, from c_new
    $store_h         the end of the function: h from h_new, with projection and zoneout
    others           constant arrays by name, as listed in `CELLS_IN_C`

x is the layer's input, h and c its state; they are updated in place. For the equations and their
sources see `memorycell.cells`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from string import Template

from torch import Tensor

from memorycell.cells import Params

RNN = Template("""\
static void $layer(const float *x, float *h) {
    enum { H = $H };
    float x_part[H], h_part[H], h_new[H];

    $product($W_ih, x, x_part);
    $product($W_hh, h, h_part);
    for (int u = 0; u < H; u++)
        h_new[u] = tanhf(x_part[u] + h_part[u]);
$store_h}
""")

RNN_RELU = Template("""\
static void $layer(const float *x, float *h) {
    enum { H = $H };
    float x_part[H], h_part[H], h_new[H];

    $product($W_ih, x, x_part);
    $product($W_hh, h, h_part);
    for (int u = 0; u < H; u++)
        h_new[u] = fmaxf(x_part[u] + h_part[u], 0.0f);
$store_h}
""")

LSTM = Template("""\
static void $layer(const float *x, float *h, float *c) {
    enum { H = $H };
    float x_part[4 * H], h_part[4 * H], h_new[H];

    $product($W_ih, x, x_part);
    $product($W_hh, h, h_part);
    for (int u = 0; u < H; u++) {
        const float i = sigmoid(x_part[u] + h_part[u]);
        const float f = sigmoid(x_part[H + u] + h_part[H + u]);
        const float g = tanhf(x_part[2 * H + u] + h_part[2 * H + u]);
        const float o = sigmoid(x_part[3 * H + u] + h_part[3 * H + u]);
        const float c_new = f * c[u] + i * g;
        h_new[u] = o * tanhf(c_new);
        c[u] = $new_c;
    }
$store_h}
""")

PEEPHOLE = Template("""\
static void $layer(const float *x, float *h, float *c) {
    enum { H = $H };
    const float *w_ci = $weight_ch, *w_cf = w_ci + H, *w_co = w_cf + H;
    float x_part[4 * H], h_part[4 * H], h_new[H];

    $product($W_ih, x, x_part);
    $product($W_hh, h, h_part);
    for (int u = 0; u < H; u++) {
        const float i = sigmoid(x_part[u] + h_part[u] + w_ci[u] * c[u]);
        const float f = sigmoid(x_part[H + u] + h_part[H + u] + w_cf[u] * c[u]);
        const float g = tanhf(x_part[2 * H + u] + h_part[2 * H + u]);
        const float c_new = f * c[u] + i * g;
        const float o = sigmoid(x_part[3 * H + u] + h_part[3 * H + u] + w_co[u] * c_new);
        h_new[u] = o * tanhf(c_new);
        c[u] = $new_c;
    }
$store_h}
""")

COUPLED = Template("""\
static void $layer(const float *x, float *h, float *c) {
    enum { H = $H };
    float x_part[3 * H], h_part[3 * H], h_new[H];

    $product($W_ih, x, x_part);
    $product($W_hh, h, h_part);
    for (int u = 0; u < H; u++) {
        const float f = sigmoid(x_part[u] + h_part[u]);
        const float g = tanhf(x_part[H + u] + h_part[H + u]);
        const float o = sigmoid(x_part[2 * H + u] + h_part[2 * H + u]);
        const float c_new = f * c[u] + (1.0f - f) * g;
        h_new[u] = o * tanhf(c_new);
        c[u] = $new_c;
    }
$store_h}
""")

LAYERNORM = Template("""\
static void $layer(const float *x, float *h, float *c) {
    enum { H = $H };
    float x_part[4 * H], h_part[4 * H], normal_c[H], h_new[H];

    $product($W_ih, x, x_part);
    $product($W_hh, h, h_part);
    normalise(x_part, 4 * H, $gain_ih, $bias_ih);
    normalise(h_part, 4 * H, $gain_hh, $bias_hh);
    for (int u = 0; u < H; u++) {
        const float i = sigmoid(x_part[u] + h_part[u]);
        const float f = sigmoid(x_part[H + u] + h_part[H + u]);
        const float g = tanhf(x_part[2 * H + u] + h_part[2 * H + u]);
        const float c_new = f * c[u] + i * g;
        normal_c[u] = c_new;
        c[u] = $new_c;
    }
    normalise(normal_c, H, $gain_c, $bias_c);
    for (int u = 0; u < H; u++) {
        const float o = sigmoid(x_part[3 * H + u] + h_part[3 * H + u]);
        h_new[u] = o * tanhf(normal_c[u]);
    }
$store_h}
""")

GRU = Template("""\
static void $layer(const float *x, float *h) {
    enum { H = $H };
    float x_part[3 * H], h_part[3 * H], h_new[H];

    $product($W_ih, x, x_part);
    $product($W_hh, h, h_part);
    for (int u = 0; u < H; u++) {
        const float r = sigmoid(x_part[u] + h_part[u]);
        const float z = sigmoid(x_part[H + u] + h_part[H + u]);
        const float n = tanhf(x_part[2 * H + u] + r * h_part[2 * H + u]);
        h_new[u] = (1.0f - z) * n + z * h[u];
    }
$store_h}
""")

GRU_RESET_BEFORE = Template("""\
static void $layer(const float *x, float *h) {
    enum { H = $H };
    float x_part[3 * H], h_part[2 * H], reset_h[H], n_part[H], h_new[H];

    $product($W_ih, x, x_part);
    $product($W_hh, h, h_part); /* without the rows of n */
    for (int u = 0; u < H; u++)
        reset_h[u] = sigmoid(x_part[u] + h_part[u]) * h[u];
    $product($W_hn, reset_h, n_part);
    for (int u = 0; u < H; u++) {
        const float z = sigmoid(x_part[H + u] + h_part[H + u]);
        const float n = tanhf(x_part[2 * H + u] + n_part[u]);
        h_new[u] = (1.0f - z) * n + z * h[u];
    }
$store_h}
""")

STORE_H = Template("""\
    for (int u = 0; u < $P; u++)
        h[u] = $new_h;
""")

STORE_PROJECTED_H = Template("""\
    float projected[$P];
    product($W_hr, h_new, projected);
    for (int u = 0; u < $P; u++)
        h[u] = $new_h;
""")

Matrices = Mapping[str, tuple[Tensor, Tensor]]
"""Field of the template -> weight [rows, columns] and bias [rows]."""


def _biases_added(params: Params) -> Matrices:
    bias = params["bias_ih"] + params["bias_hh"]
    return {
        "W_ih": (params["weight_ih"], bias),
        "W_hh": (params["weight_hh"], bias.new_zeros(bias.shape)),
    }


def _biases_apart(params: Params) -> Matrices:
    return {
        "W_ih": (params["weight_ih"], params["bias_ih"]),
        "W_hh": (params["weight_hh"], params["bias_hh"]),
    }


def _no_biases(params: Params) -> Matrices:
    zero = params["weight_ih"].new_zeros(len(params["weight_ih"]))
    return {"W_ih": (params["weight_ih"], zero), "W_hh": (params["weight_hh"], zero)}


def _candidate_apart(params: Params) -> Matrices:
    weight, bias = params["weight_hh"], params["bias_hh"]
    rows = 2 * len(weight) // 3
    return {
        "W_ih": (params["weight_ih"], params["bias_ih"]),
        "W_hh": (weight[:rows], bias[:rows]),
        "W_hn": (weight[rows:], bias[rows:]),
    }


@dataclass(frozen=True)
class CCell:
    """A cell in C.

    template       of a layer's step function
    local_arrays   floats of the function's arrays, in units of hidden_size
    functions      of `c_templates.FUNCTIONS` that it calls, besides the products
    vectors        parameters that it reads as constant arrays
    matrices       parameters -> the operands of its products
    """

    template: Template
    local_arrays: int
    functions: tuple[str, ...] = ("sigmoid",)
    vectors: tuple[str, ...] = ()
    matrices: Callable[[Params], Matrices] = _biases_added


CELLS_IN_C = {
    "rnn": CCell(RNN, 3, functions=()),
    "rnn_relu": CCell(RNN_RELU, 3, functions=()),
    "lstm": CCell(LSTM, 9),
    "peephole": CCell(PEEPHOLE, 9, vectors=("weight_ch",)),
    "coupled": CCell(COUPLED, 7),
    "layernorm": CCell(
        LAYERNORM,
        10,
        functions=("sigmoid", "normalise"),
        vectors=("gain_ih", "bias_ih", "gain_hh", "bias_hh", "gain_c", "bias_c"),
        matrices=_no_biases,
    ),
    "gru": CCell(GRU, 7, matrices=_biases_apart),
    "gru_reset_before": CCell(GRU_RESET_BEFORE, 8, matrices=_candidate_apart),
}
"""One entry for each cell of `memorycell.cells.CELLS`."""
