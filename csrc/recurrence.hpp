// The loop over time, forward and backward, for the rows [begin, end) of a batch. Rows are independent.
#pragma once

#include "cells.hpp"
#include "gemm.hpp"

namespace memorycell::MEMORYCELL_ISA {

// Divides a block of memory into arrays aligned to cache lines; without a block it only counts.
struct Arena {
    uint8_t *base;
    size_t used = 0;
    float *floats(int64_t count) {
        auto *p = reinterpret_cast<float *>(base + used);
        used += align64(count * sizeof(float));
        return p;
    }
    void *bytes(size_t count) {
        void *p = base + used;
        used += align64(count);
        return p;
    }
};

// The bytes that arrange(arena, rows) uses at most, for a thread with `rows` rows or one less: the shares of threads
// differ by one, and fewer rows may process more steps together.
template <class Arrange> inline size_t most_scratch(int64_t rows, Arrange arrange) {
    Arena full{nullptr}, one_less{nullptr};
    arrange(full, rows);
    if (rows > 1)
        arrange(one_less, rows - 1);
    return full.used > one_less.used ? full.used : one_less.used;
}

inline void copy(float *to, const float *from, int64_t count) { memcpy(to, from, count * sizeof(float)); }
inline void zero(float *p, int64_t count) { memset(p, 0, count * sizeof(float)); }

// new = keep * old + (1 - keep) * new, with keep from the mask if there is one.
inline void zone(float *now, const float *old, const float *mask, float share, int64_t count) {
    for_lanes(count, [&](int64_t u, auto lanes) {
        const F keep = mask ? lanes.load(mask + u) : splat(share);
        lanes.store(now + u, keep * lanes.load(old + u) + (1.0f - keep) * lanes.load(now + u));
    });
}

constexpr int64_t MAX_INPUT_STEPS = 64;
constexpr int64_t ENOUGH_ROWS = 6;

// The steps whose input products are computed together: with few rows, each step would read all of W_ih.
inline int64_t input_steps(const Forward &f, int64_t rows) {
    if (rows >= ENOUGH_ROWS)
        return 1;
    return f.steps < MAX_INPUT_STEPS ? f.steps : MAX_INPUT_STEPS;
}

struct ForwardBuffers {
    float *h, *c, *product, *h_new, *c_new, *gates;
    void *scratch;
    float *x_part; // [steps, rows, G * H] of input_steps(), if x_part is computed here
    void *scratch_x;
};

// w: W_hh, or null where it is not read.
inline ForwardBuffers forward_buffers(Arena &a, const Packed *w, Cell cell, int64_t H, int64_t rows) {
    const int64_t S = cell_parts(cell);
    ForwardBuffers b;
    b.h = a.floats(rows * H), b.c = a.floats(rows * S * H), b.product = a.floats(w ? rows * blocks(cell) * H : 0);
    b.h_new = a.floats(H), b.c_new = a.floats(S * H), b.gates = a.floats(kept(cell) * H);
    b.scratch = a.bytes(w ? product_scratch(*w, rows) : 0);
    return b;
}

inline ForwardBuffers forward_buffers(Arena &a, const Forward &f, int64_t rows) {
    ForwardBuffers b = forward_buffers(a, f.weight, f.cell, f.hidden, rows);
    if (f.x_part)
        return b;
    const int64_t steps = input_steps(f, rows);
    b.x_part = a.floats(steps * rows * blocks(f.cell) * f.hidden);
    b.scratch_x = a.bytes(product_scratch(*f.weight_ih, steps > rows ? steps : rows));
    return b;
}

// The input products [rows, G * H] of the steps t .. t + count - 1 of the rows from `begin` on.
template <Cell C>
inline void input_products(const Forward &f, int64_t begin, int64_t rows, int64_t t, int64_t count,
                           const ForwardBuffers &buffer) {
    const int64_t GH = blocks(C) * f.hidden;
    const float *x = f.x + (begin * f.row_stride + t * f.step_stride) * f.input;
    const float *bias = C == Cell::layernorm ? nullptr : f.bias; // layernorm adds it after the normalisation
    if (count == 1)
        product(*f.weight_ih, x, f.row_stride * f.input, rows, buffer.x_part, GH, buffer.scratch_x, bias);
    else
        for (int64_t b = 0; b < rows; b++)
            product(*f.weight_ih, x + b * f.row_stride * f.input, f.step_stride * f.input, count,
                    buffer.x_part + b * GH, rows * GH, buffer.scratch_x, bias);
    if constexpr (C == Cell::layernorm)
        for (int64_t m = 0; m < count * rows; m++)
            normalise_input(buffer.x_part + m * GH, f.gain_ih, f.bias, GH);
}

template <Cell C> inline void forward_cell(const Forward &f, int64_t begin, int64_t end, void *memory) {
    const int64_t H = f.hidden, T = f.steps, G = blocks(C), S = cell_parts(C), rows = end - begin;
    Arena arena{static_cast<uint8_t *>(memory)};
    const ForwardBuffers buffer = forward_buffers(arena, f, rows);
    const int64_t together = f.x_part ? 1 : input_steps(f, rows);
    copy(buffer.h, f.h_0 + begin * H, rows * H);
    if (has_cell_state(C))
        copy(buffer.c, f.c_0 + begin * S * H, rows * S * H);
    for (int64_t k = 0; k < T; k++) {
        const int64_t t = f.reverse ? T - 1 - k : k;
        if (!f.x_part && k % together == 0) {
            const int64_t count = T - k < together ? T - k : together;
            input_products<C>(f, begin, rows, f.reverse ? t - count + 1 : t, count, buffer);
        }
        if (f.border)
            for (int64_t b = 0; b < rows; b++)
                if (f.border[(begin + b) * T + t])
                    zero(buffer.h + b * H, H), zero(buffer.c + b * S * H, S * H);
        product(*f.weight, buffer.h, H, rows, buffer.product, G * H, buffer.scratch);
        for (int64_t b = 0; b < rows; b++) {
            const int64_t at = (begin + b) * f.row_stride + t * f.step_stride, mask_at = ((begin + b) * T + t) * H;
            float *gates = f.gates ? f.gates + at * kept(C) * H : buffer.gates;
            if (f.lengths && t >= f.lengths[begin + b]) { // padding: the state does not change
                zero(f.output + at * H, H);
                if (f.gates)
                    zero(gates, kept(C) * H);
                if (f.cells)
                    zero(f.cells + at * S * H, S * H);
                if (f.normalised)
                    zero(f.normalised + at * G * H, G * H), f.rstd[at] = 0;
                continue;
            }
            float *h = buffer.h + b * H, *c = buffer.c + b * S * H, *p = buffer.product + b * G * H;
            const float *x = f.x_part + at * G * H;
            if (!f.x_part) {
                const int64_t first = k - k % together, count = T - first < together ? T - first : together;
                x = buffer.x_part + ((f.reverse ? count - 1 - k % together : k % together) * rows + b) * G * H;
            } else if (b + 1 < rows) { // the next row's inputs are far away
                fetch(f.x_part + (at + f.row_stride) * G * H, G * H);
            }
            forward_row<C>(
                {H, x, h, c, p, gates, buffer.c_new, buffer.h_new, f.rstd ? f.rstd + at : nullptr, f.extras});
            if (f.normalised)
                copy(f.normalised + at * G * H, p, G * H);
            if (f.mask_h || f.zone_h > 0)
                zone(buffer.h_new, h, f.mask_h ? f.mask_h + mask_at : nullptr, f.zone_h, H);
            copy(h, buffer.h_new, H);
            copy(f.output + at * H, h, H);
            if (has_cell_state(C)) {
                if (f.mask_c || f.zone_c > 0)
                    zone(buffer.c_new, c, f.mask_c ? f.mask_c + mask_at : nullptr, f.zone_c, H);
                copy(c, buffer.c_new, S * H);
                if (f.cells)
                    copy(f.cells + at * S * H, c, S * H);
            }
        }
    }
    copy(f.h_n + begin * H, buffer.h, rows * H);
    if (has_cell_state(C))
        copy(f.c_n + begin * S * H, buffer.c, rows * S * H);
}

struct BackwardBuffers {
    float *dh, *carry, *dc, *dp, *dh_row, *dc_kept, *scratch_row, *zeros;
    void *scratch;
};

inline BackwardBuffers backward_buffers(Arena &a, const Backward &f, int64_t rows) {
    const int64_t H = f.hidden, S = cell_parts(f.cell);
    BackwardBuffers b;
    b.dh = a.floats(rows * H), b.carry = a.floats(rows * H), b.dc = a.floats(rows * S * H);
    b.dp = a.floats(rows * blocks(f.cell) * H);
    b.dh_row = a.floats(H), b.dc_kept = a.floats(H), b.scratch_row = a.floats(2 * H), b.zeros = a.floats(S * H);
    b.scratch = a.bytes(product_scratch(*f.weight_t, rows));
    return b;
}

template <Cell C> inline void backward_cell(const Backward &f, int64_t begin, int64_t end, void *memory) {
    const int64_t H = f.hidden, T = f.steps, GH = blocks(C) * H, S = cell_parts(C), rows = end - begin;
    Arena arena{static_cast<uint8_t *>(memory)};
    const BackwardBuffers buffer = backward_buffers(arena, f, rows);
    const bool zoned_h = f.mask_h || f.zone_h > 0, zoned_c = f.mask_c || f.zone_c > 0;
    zero(buffer.zeros, S * H);
    zero(buffer.dp, rows * GH);
    copy(buffer.carry, f.d_h_n + begin * H, rows * H);
    if (has_cell_state(C))
        copy(buffer.dc, f.d_c_n + begin * S * H, rows * S * H);
    // dh = dp W_hh + carry: the gradient of h_t from the next step.
    auto reach_h = [&](bool first) {
        if (first)
            zero(buffer.dh, rows * H);
        else
            product(*f.weight_t, buffer.dp, GH, rows, buffer.dh, H, buffer.scratch);
        for_lanes(rows * H, [&](int64_t u, auto lanes) {
            lanes.store(buffer.dh + u, lanes.load(buffer.dh + u) + lanes.load(buffer.carry + u));
        });
    };
    for (int64_t k = 0; k < T; k++) {
        const int64_t t = f.reverse ? k : T - 1 - k, before = f.reverse ? t + 1 : t - 1;
        reach_h(k == 0);
        for (int64_t b = 0; b < rows; b++) {
            const int64_t row = begin + b, length = f.lengths ? f.lengths[row] : T;
            const int64_t at = row * f.row_stride + t * f.step_stride, mask_at = (row * T + t) * H;
            const int64_t at_before = row * f.row_stride + before * f.step_stride;
            float *dh = buffer.dh + b * H, *carry = buffer.carry + b * H, *dc = buffer.dc + b * S * H,
                  *dp = buffer.dp + b * GH;
            if (t >= length) {
                copy(carry, dh, H);
                zero(dp, GH);
                zero(f.d_x_part + at * GH, GH);
                if (f.d_h_part)
                    zero(f.d_h_part + at * GH, GH);
                continue;
            }
            if (b + 1 < rows) {
                fetch(f.gates + (at + f.row_stride) * kept(C) * H, kept(C) * H);
                fetch(f.d_output + (at + f.row_stride) * H, H);
                if (has_cell_state(C) && before >= 0 && before < T)
                    fetch(f.cells + (at_before + f.row_stride) * S * H, S * H);
            }
            const bool border = f.border && f.border[row * T + t], at_start = before < 0 || before >= length;
            const float *h_prev = border ? buffer.zeros : at_start ? f.h_0 + row * H : f.output + at_before * H;
            const float *c_prev = nullptr;
            if (has_cell_state(C))
                c_prev = border ? buffer.zeros : at_start ? f.c_0 + row * S * H : f.cells + at_before * S * H;
            for_lanes(H, [&](int64_t u, auto lanes) {
                F d = lanes.load(dh + u) + lanes.load(f.d_output + at * H + u), past = splat(0);
                if (zoned_h) {
                    const F keep = f.mask_h ? lanes.load(f.mask_h + mask_at + u) : splat(f.zone_h);
                    past = d * keep;
                    d = d * (1.0f - keep);
                }
                lanes.store(buffer.dh_row + u, d);
                lanes.store(carry + u, past);
                if (has_cell_state(C) && zoned_c) {
                    const F keep = f.mask_c ? lanes.load(f.mask_c + mask_at + u) : splat(f.zone_c),
                            d_c = lanes.load(dc + u);
                    lanes.store(buffer.dc_kept + u, d_c * keep);
                    lanes.store(dc + u, d_c * (1.0f - keep));
                }
            });
            float *dx = f.d_h_part ? f.d_x_part + at * GH : dp;
            backward_row<C>({H, f.gates + at * kept(C) * H, h_prev, c_prev,
                             f.normalised ? f.normalised + at * GH : nullptr, f.rstd ? f.rstd[at] : 0.0f, buffer.dh_row,
                             dc, dx, dp, carry, buffer.scratch_row, f.d_gain_c, f.d_bias_c, f.d_gain_hh, f.d_bias_hh,
                             f.extras});
            copy(f.d_h_part ? f.d_h_part + at * GH : f.d_x_part + at * GH, dp, GH);
            if (has_cell_state(C) && zoned_c)
                for_lanes(H, [&](int64_t u, auto lanes) {
                    lanes.store(dc + u, lanes.load(dc + u) + lanes.load(buffer.dc_kept + u));
                });
            if (border) { // no gradient crosses a reset
                zero(dp, GH), zero(carry, H);
                if (has_cell_state(C))
                    zero(dc, S * H);
            }
        }
    }
    reach_h(T == 0);
    copy(f.d_h_0 + begin * H, buffer.dh, rows * H);
    if (has_cell_state(C))
        copy(f.d_c_0 + begin * S * H, buffer.dc, rows * S * H);
}

// Calls body with the cell as a constant.
template <class Body> inline void with_cell(Cell cell, Body body) {
    switch (cell) {
    case Cell::rnn:
        return body(Number<int(Cell::rnn)>{});
    case Cell::rnn_relu:
        return body(Number<int(Cell::rnn_relu)>{});
    case Cell::lstm:
        return body(Number<int(Cell::lstm)>{});
    case Cell::peephole:
        return body(Number<int(Cell::peephole)>{});
    case Cell::coupled:
        return body(Number<int(Cell::coupled)>{});
    case Cell::layernorm:
        return body(Number<int(Cell::layernorm)>{});
    case Cell::gru:
        return body(Number<int(Cell::gru)>{});
    case Cell::slstm:
        return body(Number<int(Cell::slstm)>{});
    case Cell::minlstm:
        return body(Number<int(Cell::minlstm)>{});
    case Cell::mingru:
        return body(Number<int(Cell::mingru)>{});
    }
}

} // namespace memorycell::MEMORYCELL_ISA
