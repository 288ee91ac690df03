"""The recurrent cells in C99: the step function of a layer, one template per cell.

A template is C with these fields, filled in for every layer:

    $layer           the function's name
    $H               hidden_size
    $product         `product_blocks` or `product_int8`, see `c_templates.FUNCTIONS`
    $W_ih, $W_hh     arguments of the products: weights, scales (int8), bias, rows, columns
    $I               the size of the layer's input
    $heads           the heads of an mlstm
    $new_c           the cell state after zoneout, from c_new
    $store_h         the end of the function: h from h_new, with projection and zoneout
    others           constant arrays by name, as listed in `CELLS_IN_C`

x is the layer's input; h, c, n and m are its state, those that the cell has, updated in place. For
the equations and their sources see `memorycell.cells`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from string import Template

from torch import Tensor

from memorycell.cells import Params
from memorycell.cells_recent import MOGRIFIER_ROUNDS

RNN = Template("""\
static void $layer(const float *x, float *h) {
    enum { H = $H };
    float x_part[H], h_part[H], h_new[H];

    $product($W_ih, x, x_part);
    $product($W_hh, h, h_part);
    for (int u = 0; u < H; u++)
        h_new[u] = hyperbolic_tangent(x_part[u] + h_part[u]);
$store_h}
""")

RNN_RELU = Template("""\
static void $layer(const float *x, float *h) {
    enum { H = $H };
    float x_part[H], h_part[H], h_new[H];

    $product($W_ih, x, x_part);
    $product($W_hh, h, h_part);
    for (int u = 0; u < H; u++)
        h_new[u] = choose(x_part[u] + h_part[u] < 0.0f, 0.0f, x_part[u] + h_part[u]);
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
        const float g = hyperbolic_tangent(x_part[2 * H + u] + h_part[2 * H + u]);
        const float o = sigmoid(x_part[3 * H + u] + h_part[3 * H + u]);
        const float c_new = f * c[u] + i * g;
        h_new[u] = o * hyperbolic_tangent(c_new);
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
        const float g = hyperbolic_tangent(x_part[2 * H + u] + h_part[2 * H + u]);
        const float c_new = f * c[u] + i * g;
        const float o = sigmoid(x_part[3 * H + u] + h_part[3 * H + u] + w_co[u] * c_new);
        h_new[u] = o * hyperbolic_tangent(c_new);
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
        const float g = hyperbolic_tangent(x_part[H + u] + h_part[H + u]);
        const float o = sigmoid(x_part[2 * H + u] + h_part[2 * H + u]);
        const float c_new = f * c[u] + (1.0f - f) * g;
        h_new[u] = o * hyperbolic_tangent(c_new);
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
        const float g = hyperbolic_tangent(x_part[2 * H + u] + h_part[2 * H + u]);
        const float c_new = f * c[u] + i * g;
        normal_c[u] = c_new;
        c[u] = $new_c;
    }
    normalise(normal_c, H, $gain_c, $bias_c);
    for (int u = 0; u < H; u++) {
        const float o = sigmoid(x_part[3 * H + u] + h_part[3 * H + u]);
        h_new[u] = o * hyperbolic_tangent(normal_c[u]);
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
        const float n = hyperbolic_tangent(x_part[2 * H + u] + r * h_part[2 * H + u]);
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
        const float n = hyperbolic_tangent(x_part[2 * H + u] + n_part[u]);
        h_new[u] = (1.0f - z) * n + z * h[u];
    }
$store_h}
""")


def _mogrifier_round(k: int) -> str:
    read, gated, size = ("x", "h", "H") if k % 2 else ("h", "x", "I")
    return f"""\
    $product($W_{gated}{read}_{k // 2}, gated_{read}, gate);
    for (int u = 0; u < {size}; u++)
        gated_{gated}[u] *= 2.0f * sigmoid(gate[u]);
"""


MOGRIFIER = Template(
    """\
static void $layer(const float *x, float *h, float *c) {
    enum { H = $H, I = $I, WIDER = I > H ? I : H };
    float x_part[4 * H], h_part[4 * H], h_new[H], gated_h[H], gated_x[I], gate[WIDER];

    for (int u = 0; u < I; u++)
        gated_x[u] = x[u];
    for (int u = 0; u < H; u++)
        gated_h[u] = h[u];
"""
    + "".join(map(_mogrifier_round, range(MOGRIFIER_ROUNDS)))
    + LSTM.template.partition("\n\n")[2]
    .replace(" x, x_part", " gated_x, x_part")
    .replace(" h, h_part", " gated_h, h_part")
)

SLSTM = Template("""\
static void $layer(const float *x, float *h, float *restrict c, float *restrict n,
                   float *restrict m) {
    enum { H = $H };
    float x_part[4 * H], h_part[4 * H], h_new[H];

    $product($W_ih, x, x_part);
    $product($W_hh, h, h_part);
    for (int u = 0; u < H; u++) {
        const float log_i = x_part[u] + h_part[u];
        const float kept = m[u] - softplus(-x_part[H + u] - h_part[H + u]);
        const float log_f = choose(n[u] != 0.0f, kept, -1e30f);
        const float m_new = choose(log_i > log_f, log_i, log_f);
        const float i = exponential(log_i - m_new), f = exponential(log_f - m_new);
        const float g = hyperbolic_tangent(x_part[2 * H + u] + h_part[2 * H + u]);
        const float o = sigmoid(x_part[3 * H + u] + h_part[3 * H + u]);
        c[u] = f * c[u] + i * g;
        n[u] = f * n[u] + i;
        m[u] = m_new;
        h_new[u] = o * c[u] / n[u];
    }
$store_h}
""")

MLSTM = Template("""\
static void $layer(const float *x, float *h, float *c, float *n, float *m) {
    enum { H = $H, HEADS = $heads, D = H / HEADS };
    float x_part[4 * H + 2 * HEADS];
    const float *q = x_part, *k = q + H, *v = k + H, *o = v + H, *pre_i = o + H;

    $product($W_ih, x, x_part);
    for (int a = 0; a < HEADS; a++) {
        const float log_i = pre_i[a], log_f = m[a] - softplus(-pre_i[HEADS + a]);
        const float m_new = fmaxf(log_i, log_f), scale = 1.0f / sqrtf((float)D);
        const float i = exponential(log_i - m_new) * scale, f = exponential(log_f - m_new);
        float product_n = 0.0f, norm;

        for (int r = 0; r < D; r++) {
            n[r] = f * n[r] + i * k[r];
            product_n += n[r] * q[r];
        }
        norm = fmaxf(fabsf(product_n), exponential(-fminf(fmaxf(m_new, -80.0f), 80.0f)));
        for (int r = 0; r < D; r++) {
            float read = 0.0f;
            for (int s = 0; s < D; s++) {
                c[r * D + s] = f * c[r * D + s] + i * v[r] * k[s];
                read += c[r * D + s] * q[s];
            }
            h[r] = sigmoid(o[r]) * read / norm;
        }
        m[a] = m_new;
        q += D, k += D, v += D, o += D, c += D * D, n += D, h += D;
    }
}
""")

MINLSTM = Template("""\
static void $layer(const float *x, float *h) {
    enum { H = $H };
    float x_part[3 * H], h_new[H];

    $product($W_ih, x, x_part);
    for (int u = 0; u < H; u++) {
        const float ratio = softplus(-x_part[u]) - softplus(-x_part[H + u]);
        h_new[u] = sigmoid(ratio) * h[u] + sigmoid(-ratio) * positive(x_part[2 * H + u]);
    }
$store_h}
""")

MINGRU = Template("""\
static void $layer(const float *x, float *h) {
    enum { H = $H };
    float x_part[2 * H], h_new[H];

    $product($W_ih, x, x_part);
    for (int u = 0; u < H; u++)
        h_new[u] = sigmoid(-x_part[u]) * h[u] + sigmoid(x_part[u]) * positive(x_part[H + u]);
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


def _input_alone(params: Params) -> Matrices:
    return {"W_ih": (params["weight_ih"], params["bias_ih"])}


def _mogrifier(params: Params) -> Matrices:
    gates = {
        f"W_{name}_{k}": (weight, weight.new_zeros(len(weight)))
        for name in ("xh", "hx")
        for k, weight in enumerate(params[f"weight_{name}"])
    }
    return {**_biases_added(params), **gates}


@dataclass(frozen=True)
class CCell:
    """A cell in C.

    template       of a layer's step function
    local_arrays   floats of the function's arrays, in units of hidden_size, at most
    input_arrays   the same in units of the size of the input
    vectors        parameters that it reads as constant arrays
    matrices       parameters -> the operands of its products
    """

    template: Template
    local_arrays: int
    input_arrays: int = field(default=0, kw_only=True)
    vectors: tuple[str, ...] = ()
    matrices: Callable[[Params], Matrices] = _biases_added


CELLS_IN_C = {
    "rnn": CCell(RNN, 3),
    "rnn_relu": CCell(RNN_RELU, 3),
    "lstm": CCell(LSTM, 9),
    "peephole": CCell(PEEPHOLE, 9, vectors=("weight_ch",)),
    "coupled": CCell(COUPLED, 7),
    "layernorm": CCell(
        LAYERNORM,
        10,
        vectors=("gain_ih", "bias_ih", "gain_hh", "bias_hh", "gain_c", "bias_c"),
        matrices=_no_biases,
    ),
    "gru": CCell(GRU, 7, matrices=_biases_apart),
    "gru_reset_before": CCell(GRU_RESET_BEFORE, 8, matrices=_candidate_apart),
    "mogrifier": CCell(MOGRIFIER, 11, input_arrays=2, matrices=_mogrifier),
    "slstm": CCell(SLSTM, 9),
    "mlstm": CCell(MLSTM, 6, matrices=_input_alone),
    "minlstm": CCell(MINLSTM, 4, matrices=_input_alone),
    "mingru": CCell(MINGRU, 3, matrices=_input_alone),
}
"""One entry for each cell of `memorycell.cells.CELLS`."""
