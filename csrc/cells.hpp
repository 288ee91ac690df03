// One step of one row, forward and backward, for every cell. The equations and their sources are in
// src/memorycell/cells.py; here x is the row of W_ih x with its biases, p the row of W_hh h_{t-1}.
#pragma once

#include "engine.hpp"
#include "simd.hpp"

namespace memorycell::MEMORYCELL_ISA {

// The data of a step of a row. `gates` [kept, H] holds the values for the backward pass: i, f, g, o, for the sLSTM also
// the sigmoid of pre_f; for the GRU r, z, n and the product of its n block; for the plain recurrent networks h itself.
// c and c_prev hold cell_parts vectors of H.
struct Row {
    int64_t H;
    const float *x, *h_prev, *c_prev;
    float *p; // layernorm writes the normalised product here
    float *gates, *c, *h;
    float *rstd; // layernorm
    Extras extras;
};

// The same backward: dh and dc are the gradients of this step's h and c, before zoneout.
struct BackRow {
    int64_t H;
    const float *gates, *h_prev, *c_prev, *normalised;
    float rstd;
    const float *dh;
    float *dc;                                          // in: of c_t, out: of c_{t-1}
    float *dx, *dp;                                     // [G * H]: of x and of p; the same memory if they are equal
    float *dh_prev;                                     // added to: the gradient of h_{t-1} that does not pass W_hh
    float *scratch;                                     // [2 * H]
    float *d_gain_c, *d_bias_c, *d_gain_hh, *d_bias_hh; // layernorm: added to
    Extras extras;
    float *m = nullptr;           // o tanh(c), for the sLSTM o c / n, or null
    float *d_weight_ch = nullptr; // [3 * H] peephole: added to, or null
};

struct Moments {
    float mean, rstd;
};

// Mean and 1 / sqrt(variance + 1e-5) of a row, in two passes.
inline Moments moments(const float *a, int64_t count) {
    F total[SUMS] = {}, squares[SUMS] = {};
    for_lanes_apart(count, [&](int64_t u, auto lanes, int j) { total[j] += lanes.load(a + u); });
    const float mean = sum(total) / count;
    for_lanes_apart(count, [&](int64_t u, auto lanes, int j) {
        const F d = lanes.load(a + u) - mean;
        if (lanes.full)
            squares[j] += d * d;
        else
            for (int k = 0; k < lanes.n; k++)
                squares[j][k] += d[k] * d[k];
    });
    return {mean, 1.0f / __builtin_sqrtf(sum(squares) / count + 1e-5f)};
}

// Layernorm of the product of the input, in place.
inline void normalise_input(float *x, const float *gain, const float *bias, int64_t count) {
    const Moments m = moments(x, count);
    for_lanes(count, [&](int64_t u, auto lanes) {
        const F normal = (lanes.load(x + u) - m.mean) * m.rstd * lanes.load(gain + u);
        lanes.store(x + u, bias ? normal + lanes.load(bias + u) : normal);
    });
}

// The new values of the units of one vector.
struct Units {
    F kept[5]; // for the backward pass, in the order of Row::gates
    F c, h;
    F n, m; // slstm
};

constexpr float NO_MEMORY = -1e30f; // as in cells_recent.py

// minlstm and mingru: a + 1/2 for a >= 0, else sigmoid(a).
[[gnu::always_inline]] inline F positive(F a) { return a < 0.0f ? sigmoid(a) : a + 0.5f; }

// What h = o shown reads of the new cell state.
template <Cell C> [[gnu::always_inline]] inline F shown(const Units &u) {
    return C == Cell::slstm ? u.c / u.n : tanh(u.c);
}

// pre: the summed inputs of each block, for the GRU of r and z alone; x_n and product: the two parts of its n block.
// peephole(k): its weights; part(k): the parts n and m of the cell state, k = 1 and 2. Cells with a cell state compute
// h from c afterwards, in a separate dependency chain.
template <Cell C, class Peephole, class Part>
[[gnu::always_inline]] inline Units units_after(const F *pre, F x_n, F product, F h_prev, F c_prev, Peephole peephole,
                                                Part part) {
    Units u{};
    if constexpr (C == Cell::rnn || C == Cell::rnn_relu) {
        u.h = u.kept[0] = C == Cell::rnn ? tanh(pre[0]) : (pre[0] < 0.0f ? splat(0.0f) : pre[0]);
    } else if constexpr (C == Cell::gru) {
        const F reset = sigmoid(pre[0]), z = sigmoid(pre[1]), n = tanh(x_n + reset * product);
        u.kept[0] = reset, u.kept[1] = z, u.kept[2] = n, u.kept[3] = product;
        u.h = (1.0f - z) * n + z * h_prev;
    } else if constexpr (C == Cell::minlstm) {
        const F ratio = log_sigmoid(pre[1]) - log_sigmoid(pre[0]);
        const F i = sigmoid(-ratio), f = sigmoid(ratio), g = positive(pre[2]);
        u.kept[0] = i, u.kept[1] = f, u.kept[2] = g;
        u.h = f * h_prev + i * g;
    } else if constexpr (C == Cell::mingru) {
        const F z = sigmoid(pre[0]), n = positive(pre[1]);
        u.kept[0] = z, u.kept[1] = n;
        u.h = sigmoid(-pre[0]) * h_prev + z * n;
    } else if constexpr (C == Cell::slstm) {
        const F n_prev = part(1), carried = log_sigmoid(pre[1]) + part(2);
        const F left = n_prev == 0.0f ? splat(NO_MEMORY) : carried;
        u.m = left > pre[0] ? left : pre[0];
        const F i = exp(pre[0] - u.m), f = exp(left - u.m), g = tanh(pre[2]), o = sigmoid(pre[3]);
        u.c = f * c_prev + i * g;
        u.n = f * n_prev + i;
        u.kept[0] = i, u.kept[1] = f, u.kept[2] = g, u.kept[3] = o, u.kept[4] = sigmoid(pre[1]);
    } else {
        constexpr int at_f = C == Cell::coupled ? 0 : 1;
        constexpr bool sees_c = C == Cell::peephole;
        const F f = sigmoid(sees_c ? pre[at_f] + peephole(1) * c_prev : pre[at_f]), g = tanh(pre[at_f + 1]);
        const F i = C == Cell::coupled ? 1.0f - f : sigmoid(sees_c ? pre[0] + peephole(0) * c_prev : pre[0]);
        u.c = f * c_prev + i * g;
        const F o = sigmoid(sees_c ? pre[at_f + 2] + peephole(2) * u.c : pre[at_f + 2]);
        u.kept[0] = i, u.kept[1] = f, u.kept[2] = g, u.kept[3] = o;
    }
    return u;
}

template <Cell C> inline void forward_row(const Row &r) {
    const int64_t H = r.H;
    if constexpr (C == Cell::layernorm) {
        const Moments m = moments(r.p, 4 * H);
        for_lanes(4 * H, [&](int64_t u, auto lanes) { lanes.store(r.p + u, (lanes.load(r.p + u) - m.mean) * m.rstd); });
        if (r.rstd)
            *r.rstd = m.rstd;
    }
    for_lanes(H, [&](int64_t u, auto lanes) {
        auto in = [&](const float *row, int block) { return lanes.load(row + block * H + u); };
        F pre[4] = {}, x_n{}, product{}, c_prev{};
        for (int block = 0; block < (C == Cell::gru ? 2 : blocks(C)); block++)
            if constexpr (!recurrent(C))
                pre[block] = in(r.x, block);
            else if constexpr (C == Cell::layernorm)
                pre[block] =
                    in(r.x, block) + (in(r.p, block) * in(r.extras.gain_hh, block) + in(r.extras.bias_hh, block));
            else if constexpr (C == Cell::gru)
                pre[block] = in(r.x, block) + (in(r.p, block) + in(r.extras.bias_hh, block));
            else
                pre[block] = in(r.x, block) + in(r.p, block);
        if constexpr (C == Cell::gru)
            x_n = in(r.x, 2), product = in(r.p, 2) + in(r.extras.bias_hh, 2);
        if constexpr (has_cell_state(C))
            c_prev = lanes.load(r.c_prev + u);
        const F h_prev = C == Cell::gru || !recurrent(C) ? lanes.load(r.h_prev + u) : F{};
        const Units now = units_after<C>(
            pre, x_n, product, h_prev, c_prev, [&](int block) { return in(r.extras.peephole, block); },
            [&](int part) { return in(r.c_prev, part); });
        for (int block = 0; block < kept(C); block++)
            lanes.store(r.gates + block * H + u, now.kept[block]);
        if constexpr (has_cell_state(C))
            lanes.store(r.c + u, now.c);
        if constexpr (C == Cell::slstm)
            lanes.store(r.c + H + u, now.n), lanes.store(r.c + 2 * H + u, now.m);
        if constexpr (has_cell_state(C) && C != Cell::layernorm)
            lanes.store(r.h + u, now.kept[3] * shown<C>(now));
        if constexpr (!has_cell_state(C))
            lanes.store(r.h + u, now.h);
    });
    if constexpr (C == Cell::layernorm) {
        const Moments m = moments(r.c, H);
        for_lanes(H, [&](int64_t u, auto lanes) {
            const F shown = (lanes.load(r.c + u) - m.mean) * m.rstd * lanes.load(r.extras.gain_c + u);
            lanes.store(r.h + u, lanes.load(r.gates + 3 * H + u) * tanh(shown + lanes.load(r.extras.bias_c + u)));
        });
    }
}

// Backward through the units [u, u + lanes) of a row, from the gradient of their h. d_c_shown: layernorm's gradient of
// c through h. What can be is read before anything is written, since a store may alias whatever is read after it.
template <Cell C, class L, class Shown>
[[gnu::always_inline]] inline void backward_units(const BackRow &r, int64_t u, L lanes, F dh, Shown d_c_shown) {
    const int64_t H = r.H;
    auto gate = [&](int block) { return lanes.load(r.gates + block * H + u); };
    auto out = [&](int block, F v) { lanes.store(r.dx + block * H + u, v); };
    auto add_to_peephole = [&](int block, F v) {
        if (r.d_weight_ch)
            lanes.store(r.d_weight_ch + block * H + u, lanes.load(r.d_weight_ch + block * H + u) + v);
    };
    if constexpr (C == Cell::rnn) {
        const F h = gate(0);
        out(0, dh * (1.0f - h * h));
    } else if constexpr (C == Cell::rnn_relu) {
        out(0, gate(0) > 0.0f ? dh : splat(0.0f));
    } else if constexpr (C == Cell::gru) {
        const F reset = gate(0), z = gate(1), n = gate(2), product = gate(3);
        const F h_prev = lanes.load(r.h_prev + u), dh_prev = lanes.load(r.dh_prev + u);
        const F dn = dh * (1.0f - z) * (1.0f - n * n), dr = dn * product * reset * (1.0f - reset);
        const F dz = dh * (h_prev - n) * z * (1.0f - z);
        out(0, dr), out(1, dz), out(2, dn);
        lanes.store(r.dp + u, dr), lanes.store(r.dp + H + u, dz), lanes.store(r.dp + 2 * H + u, dn * reset);
        lanes.store(r.dh_prev + u, dh_prev + dh * z);
    } else if constexpr (C == Cell::slstm) {
        const F i = gate(0), f = gate(1), g = gate(2), o = gate(3), sigmoid_f = gate(4);
        const F c_prev = lanes.load(r.c_prev + u), n_prev = lanes.load(r.c_prev + H + u);
        const F n = f * n_prev + i, t = (f * c_prev + i * g) / n;
        const F dc = lanes.load(r.dc + u) + dh * o / n, dn = lanes.load(r.dc + H + u) - dh * o * t / n;
        const F d_log_i = (dc * g + dn) * i, d_log_f = (dc * c_prev + dn * n_prev) * f; // of pre_i - m, left - m
        const F dm = lanes.load(r.dc + 2 * H + u) - d_log_i - d_log_f;
        const F d_left = f < 1.0f ? d_log_f : d_log_f + dm; // m is `left` where f = 1, else pre_i
        out(0, f < 1.0f ? d_log_i + dm : d_log_i), out(1, d_left * (1.0f - sigmoid_f));
        out(2, dc * i * (1.0f - g * g)), out(3, dh * t * o * (1.0f - o));
        if (r.m)
            lanes.store(r.m + u, o * t);
        lanes.store(r.dc + u, dc * f), lanes.store(r.dc + H + u, dn * f), lanes.store(r.dc + 2 * H + u, d_left);
    } else {
        const F i = gate(0), f = gate(1), g = gate(2), o = gate(3), c_prev = lanes.load(r.c_prev + u);
        F dc = lanes.load(r.dc + u), t{}, d_o{};
        if constexpr (C == Cell::layernorm) {
            dc += d_c_shown(u, lanes);
        } else {
            t = tanh(f * c_prev + i * g), d_o = dh * t * o * (1.0f - o);
            dc += dh * o * (1.0f - t * t);
            if constexpr (C == Cell::peephole)
                dc += d_o * lanes.load(r.extras.peephole + 2 * H + u);
        }
        const F dg = dc * i * (1.0f - g * g);
        F dc_prev = dc * f;
        if constexpr (C == Cell::coupled) {
            out(0, dc * (c_prev - g) * f * (1.0f - f)), out(1, dg), out(2, d_o);
        } else {
            const F di = dc * g * i * (1.0f - i), df = dc * c_prev * f * (1.0f - f);
            if constexpr (C == Cell::peephole) {
                dc_prev += di * lanes.load(r.extras.peephole + u) + df * lanes.load(r.extras.peephole + H + u);
                add_to_peephole(0, di * c_prev), add_to_peephole(1, df * c_prev);
                add_to_peephole(2, d_o * (f * c_prev + i * g));
            }
            out(0, di), out(1, df), out(2, dg);
            if constexpr (C != Cell::layernorm)
                out(3, d_o);
        }
        lanes.store(r.dc + u, dc_prev);
        if (C != Cell::layernorm && r.m)
            lanes.store(r.m + u, o * t);
    }
}

template <Cell C> inline void backward_row(const BackRow &r) {
    const int64_t H = r.H;
    Moments m{};
    float mean_d = 0, mean_dc = 0;
    float *d_normal = r.scratch, *candidate = r.scratch + H;
    if constexpr (C == Cell::layernorm) { // through h = o tanh(gain_c LN(c) + bias_c) to LN(c)
        for_lanes(H, [&](int64_t u, auto lanes) {
            auto gate = [&](int block) { return lanes.load(r.gates + block * H + u); };
            lanes.store(candidate + u, gate(1) * lanes.load(r.c_prev + u) + gate(0) * gate(2));
        });
        m = moments(candidate, H);
        F total[SUMS] = {}, along[SUMS] = {};
        for_lanes_apart(H, [&](int64_t u, auto lanes, int j) {
            const F normal = (lanes.load(candidate + u) - m.mean) * m.rstd, gain = lanes.load(r.extras.gain_c + u);
            const F t = tanh(normal * gain + lanes.load(r.extras.bias_c + u)), dh = lanes.load(r.dh + u);
            const F o = lanes.load(r.gates + 3 * H + u), shown = dh * o * (1.0f - t * t), d = shown * gain;
            lanes.store(r.d_gain_c + u, lanes.load(r.d_gain_c + u) + shown * normal);
            lanes.store(r.d_bias_c + u, lanes.load(r.d_bias_c + u) + shown);
            lanes.store(d_normal + u, d);
            lanes.store(r.dx + 3 * H + u, dh * t * o * (1.0f - o));
            total[j] += d; // lanes past the end hold zeros: dh is zero there
            along[j] += d * normal;
        });
        mean_d = sum(total) / H;
        mean_dc = sum(along) / H;
    }
    for_lanes(H, [&](int64_t u, auto lanes) {
        backward_units<C>(r, u, lanes, lanes.load(r.dh + u), [&](int64_t at, auto some) {
            const F normal = (some.load(candidate + at) - m.mean) * m.rstd;
            return m.rstd * (some.load(d_normal + at) - mean_d - normal * mean_dc);
        });
    });
    if constexpr (C == Cell::layernorm) { // through gain_hh LN(p) + bias_hh to p
        F total[SUMS] = {}, along[SUMS] = {};
        auto inner = [&](int64_t u, auto lanes) { return lanes.load(r.dx + u) * lanes.load(r.extras.gain_hh + u); };
        for_lanes_apart(4 * H, [&](int64_t u, auto lanes, int j) {
            const F d = inner(u, lanes), dx = lanes.load(r.dx + u), normal = lanes.load(r.normalised + u);
            total[j] += d;
            along[j] += d * normal;
            lanes.store(r.d_gain_hh + u, lanes.load(r.d_gain_hh + u) + dx * normal);
            lanes.store(r.d_bias_hh + u, lanes.load(r.d_bias_hh + u) + dx);
        });
        const float mean = sum(total) / (4 * H), slope = sum(along) / (4 * H);
        for_lanes(4 * H, [&](int64_t u, auto lanes) {
            lanes.store(r.dp + u, r.rstd * (inner(u, lanes) - mean - lanes.load(r.normalised + u) * slope));
        });
    }
}

} // namespace memorycell::MEMORYCELL_ISA
