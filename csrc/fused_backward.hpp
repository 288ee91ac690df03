// The backward pass of fused_forward.hpp: the product reads the gradients of the preceding step in place, and those of
// a block of steps stay in the cache until the weight gradients have read them.
#pragma once

#include "outer.hpp"
#include "tiles.hpp"

namespace memorycell::MEMORYCELL_ISA {

constexpr int64_t GRADIENT_BLOCK_BYTES = 256 << 10;
// Rows of a block, at least: each block reads and writes the sums of the weight gradients once.
constexpr int64_t GRADIENT_BLOCK_ROWS = 192;

inline int64_t gradient_block_bytes(int64_t width) {
    const int64_t rows = GRADIENT_BLOCK_ROWS * width * int64_t(sizeof(float));
    return rows > GRADIENT_BLOCK_BYTES ? rows : GRADIENT_BLOCK_BYTES;
}

struct FusedBackwardBuffers {
    float *carry, *dc, *zeros;
    const float **dp_rows, **active_dp;
    int64_t *active;
    // With weight gradients: two blocks of d_x_part and d_h_part, since a block's first step reads the last of the
    // preceding block; the corresponding rows of x and h; and the destinations of d_x.
    int64_t steps;
    float *dx[2], *dh[2];
    const float **x_right, **h_right, **dx_rows;
    int64_t *x_at;
    // With a projection: the gradients of W_hr m and the values m of the block, and the valid rows of a step.
    float *d_left, *m_right;
    const float **left_rows;
    int64_t *left_at;
    void *scratch;
};

inline FusedBackwardBuffers fused_backward_buffers(Arena &a, const Backward &f, const WeightGradients *w,
                                                   int64_t rows) {
    const int64_t H = f.hidden, P = f.h_size, GH = blocks(f.cell) * H, S = cell_parts(f.cell);
    FusedBackwardBuffers b{};
    b.carry = a.floats(rows * P), b.dc = a.floats(rows * S * H), b.zeros = a.floats(GH);
    b.dp_rows = static_cast<const float **>(a.bytes(rows * sizeof(float *)));
    b.active_dp = static_cast<const float **>(a.bytes(rows * sizeof(float *)));
    b.active = static_cast<int64_t *>(a.bytes(rows * sizeof(int64_t)));
    b.steps = f.steps;
    if (!w)
        return b;
    b.steps = block_steps(gradient_block_bytes(GH), rows, GH, f.steps);
    const int64_t count = b.steps * rows;
    for (int half = 0; half < 2; half++) {
        b.dx[half] = a.floats(count * GH);
        b.dh[half] = f.cell == Cell::gru ? a.floats(count * GH) : b.dx[half];
    }
    b.x_right = static_cast<const float **>(a.bytes(count * sizeof(float *)));
    b.h_right = static_cast<const float **>(a.bytes(count * sizeof(float *)));
    if (f.weight_hr_t) {
        b.d_left = a.floats(count * P), b.m_right = a.floats(count * H);
        b.left_rows = static_cast<const float **>(a.bytes(rows * sizeof(float *)));
        b.left_at = static_cast<int64_t *>(a.bytes(rows * sizeof(int64_t)));
    }
    b.dx_rows = static_cast<const float **>(a.bytes(count * sizeof(float *)));
    b.x_at = static_cast<int64_t *>(a.bytes(count * sizeof(int64_t)));
    const int64_t both = vectors(w->input) + vectors(P), of_m = vectors(H);
    b.scratch = a.bytes(outer_scratch(both > of_m ? both : of_m));
    return b;
}

// The vectors of a panel of a row of a plain LSTM backward: without zoneout, padding, resets and projection. Almost all
// training is this. `backward_units` does the same, but here no pointer is read again after a store, which takes a
// fifth of the time of the pass.
struct LstmRow {
    const float *gates, *c_prev, *d_output;
    float *d_c, *d_x;
};
[[gnu::always_inline]] inline void backward_lstm(LstmRow row, int64_t H, const F *product, int count) {
    for (int j = 0; j < count; j++) {
        const int64_t u = j * V;
        const F dh = product[j] + load(row.d_output + u), c_prev = load(row.c_prev + u);
        const F i = load(row.gates + u), f = load(row.gates + H + u);
        const F g = load(row.gates + 2 * H + u), o = load(row.gates + 3 * H + u);
        const F t = tanh(f * c_prev + i * g), d_o = dh * t * o * (1.0f - o);
        const F dc = load(row.d_c + u) + dh * o * (1.0f - t * t);
        store(row.d_x + u, dc * g * i * (1.0f - i));
        store(row.d_x + H + u, dc * c_prev * f * (1.0f - f));
        store(row.d_x + 2 * H + u, dc * i * (1.0f - g * g));
        store(row.d_x + 3 * H + u, d_o);
        store(row.d_c + u, dc * f);
    }
}

template <Cell C>
inline void fused_backward_cell(const Backward &f, const WeightGradients *w, int64_t begin, int64_t end, void *memory) {
    constexpr int S = cell_parts(C);
    const int64_t H = f.hidden, T = f.steps, GH = blocks(C) * H, rows = end - begin, P = f.h_size;
    const bool zoned_h = f.mask_h || f.zone_h > 0, zoned_c = f.mask_c || f.zone_c > 0;
    const auto *weights = static_cast<const float *>(f.weight_t->data);
    Arena arena{static_cast<uint8_t *>(memory)};
    const FusedBackwardBuffers buffer = fused_backward_buffers(arena, f, w, rows);
    zero(buffer.zeros, GH);
    copy(buffer.carry, f.d_h_n + begin * P, rows * P);
    if (C == Cell::peephole && w)
        zero(w->d_weight_ch, 3 * H);
    if (has_cell_state(C))
        copy(buffer.dc, f.d_c_n + begin * S * H, rows * S * H);
    for (int64_t b = 0; b < rows; b++)
        buffer.dp_rows[b] = nullptr; // no gradient through W_hh yet
    // The valid columns of a panel, of `width` columns: body(u, j, lanes).
    auto columns = [&](int64_t width, int64_t p, auto body) __attribute__((always_inline)) {
        for (int j = 0; j < NV; j++)
            with_lanes(width, p * TILE + j * V, [&](auto lanes) { body(p * TILE + j * V, j, lanes); });
    };
    // The gradients of the weights and the input from a block of steps.
    auto products_of_block = [&](int half, int64_t count, bool more) {
        for (int64_t q = 0; q < count; q++)
            buffer.dx_rows[q] = buffer.dx[half] + q * GH;
        const Right of_x{buffer.x_right, nullptr, w->input, w->d_weight_ih};
        const Right of_h{buffer.h_right, nullptr, P, w->d_weight_hh};
        if constexpr (C == Cell::gru) {
            outer<Precision::float32>(buffer.dx[half], count, GH, {of_x}, 0, GH, w->d_bias_ih, buffer.scratch, more);
            outer<Precision::float32>(buffer.dh[half], count, GH, {of_h}, 0, GH, w->d_bias_hh, buffer.scratch, more);
        } else {
            outer<Precision::float32>(buffer.dx[half], count, GH, {of_x, of_h}, 0, GH, w->d_bias_ih, buffer.scratch,
                                      more);
        }
        if (f.weight_hr_t)
            outer<Precision::float32>(buffer.d_left, count, P, {Right{nullptr, buffer.m_right, H, w->d_weight_hr}}, 0,
                                      P, nullptr, buffer.scratch, more);
        if (!w->d_x)
            return;
        column_products(count, w->input, {buffer.dx_rows, static_cast<const float *>(w->weight_ih_t->data), GH},
                        [&](auto wide, const F *acc, int64_t q, int64_t tile, int64_t p) {
                            for (int64_t end_q = q + tile; q < end_q; q++, acc += wide.value)
                                for (int j = 0; j < wide.value; j++)
                                    with_lanes(w->input, p * TILE + j * V, [&](auto lanes) {
                                        lanes.store(w->d_x + buffer.x_at[q] * w->input + p * TILE + j * V, acc[j]);
                                    });
                        });
    };
    for (int64_t k = 0; k < T; k++) {
        const int64_t t = f.reverse ? k : T - 1 - k, before = f.reverse ? t + 1 : t - 1;
        const int64_t slot = k % buffer.steps;
        const int half = k / buffer.steps % 2;
        auto dx_of = [&](int64_t b, int64_t at) {
            return w ? buffer.dx[half] + (slot * rows + b) * GH : f.d_x_part + at * GH;
        };
        auto dp_of = [&](int64_t b, int64_t at) { // of W_hh h
            return w ? buffer.dh[half] + (slot * rows + b) * GH : (f.d_h_part ? f.d_h_part : f.d_x_part) + at * GH;
        };
        auto left_of = [&](int64_t b) { return buffer.d_left + (slot * rows + b) * P; };
        auto m_of = [&](int64_t b) { return buffer.m_right + (slot * rows + b) * H; };
        int64_t count = 0;
        for (int64_t b = 0; b < rows; b++) {
            const int64_t row = begin + b, at = row * f.row_stride + t * f.step_stride;
            const int64_t length = f.lengths ? f.lengths[row] : T;
            if (w) {
                const bool border = f.border && f.border[row * T + t], at_start = before < 0 || before >= length;
                const float *h_prev = border     ? buffer.zeros
                                      : at_start ? f.h_0 + row * P
                                                 : f.output + (row * f.row_stride + before * f.step_stride) * P;
                buffer.h_right[slot * rows + b] = h_prev;
                buffer.x_right[slot * rows + b] = w->x + at * w->input;
                buffer.x_at[slot * rows + b] = at;
            }
            if (t >= length) {
                zero(dx_of(b, at), GH);
                zero(dp_of(b, at), GH);
                if (f.weight_hr_t)
                    zero(left_of(b), P), zero(m_of(b), H);
                if (!buffer.dp_rows[b])
                    continue;
            }
            buffer.active[count] = b;
            buffer.active_dp[count++] = buffer.dp_rows[b] ? buffer.dp_rows[b] : buffer.zeros;
        }
        // Whether the gradient of h_{t-1} has parts that do not pass W_hh: in the first step d_h_n, then those of
        // padding, of zoneout and of the GRU's update gate.
        const bool carries = k == 0 || f.lengths || zoned_h || C == Cell::gru;
        // The gradient of h_t in units [u, u + lanes) from that of the product; what passes zoneout is kept.
        auto d_h_of = [&](int64_t b, int64_t u, F product, auto lanes) __attribute__((always_inline)) {
            const int64_t row = begin + b, at = row * f.row_stride + t * f.step_stride;
            F d = product + lanes.load(f.d_output + at * P + u);
            if (!carries)
                return d;
            float *carry = buffer.carry + b * P + u;
            d += lanes.load(carry);
            F past{};
            if (zoned_h) {
                const F keep = f.mask_h ? lanes.load(f.mask_h + (row * T + t) * P + u) : splat(f.zone_h);
                past = d * keep;
                d = d * (1.0f - keep);
            }
            lanes.store(carry, past);
            return d;
        };
        // Through the cells of the columns of a panel; d_of(u, j, lanes): the gradient of Row::m, or of h.
        auto through_cells = [&](int64_t b, int64_t p, auto d_of) __attribute__((always_inline)) {
            const int64_t row = begin + b, length = f.lengths ? f.lengths[row] : T;
            const int64_t at = row * f.row_stride + t * f.step_stride;
            const int64_t at_before = row * f.row_stride + before * f.step_stride;
            const bool border = f.border && f.border[row * T + t], at_start = before < 0 || before >= length;
            BackRow back{};
            back.H = H, back.gates = f.gates + at * kept(C) * H;
            back.h_prev = border ? buffer.zeros : at_start ? f.h_0 + row * P : f.output + at_before * P;
            if (has_cell_state(C))
                back.c_prev = border ? buffer.zeros : at_start ? f.c_0 + row * S * H : f.cells + at_before * S * H;
            back.dc = buffer.dc + b * S * H, back.dx = dx_of(b, at), back.dp = dp_of(b, at);
            back.dh_prev = buffer.carry + b * P, back.extras = f.extras;
            back.m = f.weight_hr_t ? m_of(b) : nullptr, back.d_weight_ch = w ? w->d_weight_ch : nullptr;
            const float *mask_c = f.mask_c ? f.mask_c + (row * T + t) * H : nullptr;
            columns(H, p, [&](int64_t u, int j, auto lanes) __attribute__((always_inline)) {
                const F dh = d_of(u, j, lanes);
                F kept_dc{};
                if (has_cell_state(C) && zoned_c) {
                    const F keep = mask_c ? lanes.load(mask_c + u) : splat(f.zone_c), d_c = lanes.load(back.dc + u);
                    kept_dc = d_c * keep;
                    lanes.store(back.dc + u, d_c * (1.0f - keep));
                }
                backward_units<C>(back, u, lanes, dh, [](int64_t, auto) { return F{}; });
                if (has_cell_state(C) && zoned_c)
                    lanes.store(back.dc + u, lanes.load(back.dc + u) + kept_dc);
                if (border && has_cell_state(C)) // no gradient crosses a reset
                    for (int part = 0; part < S; part++)
                        lanes.store(back.dc + part * H + u, F{});
                if (border && !f.weight_hr_t)
                    lanes.store(back.dh_prev + u, F{});
            });
        };
        auto row_done = [&](const F *acc, int64_t m, int64_t p) __attribute__((always_inline)) {
            const int64_t b = buffer.active[m], row = begin + b;
            float *carry = buffer.carry + b * P;
            if (f.lengths && t >= f.lengths[row])
                columns(P, p,
                        [&](int64_t u, int j, auto lanes) { lanes.store(carry + u, lanes.load(carry + u) + acc[j]); });
            else if (!f.weight_hr_t)
                through_cells(b, p, [&](int64_t u, int j, auto lanes) { return d_h_of(b, u, acc[j], lanes); });
            else
                columns(P, p, [&](int64_t u, int j, auto lanes) {
                    lanes.store(left_of(b) + u, d_h_of(b, u, acc[j], lanes));
                    if (f.border && f.border[row * T + t])
                        lanes.store(carry + u, F{});
                });
        };
        const bool plain = C == Cell::lstm && !carries && !zoned_c && !f.border && !f.weight_hr_t && H % V == 0;
        auto lstm_row = [&](const F *acc, int64_t m, int64_t p, int count) {
            const int64_t b = buffer.active[m], row = begin + b, u = p * TILE;
            const int64_t at = row * f.row_stride + t * f.step_stride;
            const int64_t at_before = row * f.row_stride + before * f.step_stride;
            const float *c_prev = before < 0 || before >= T ? f.c_0 + row * H : f.cells + at_before * H;
            backward_lstm({f.gates + at * kept(C) * H + u, c_prev + u, f.d_output + at * H + u, buffer.dc + b * H + u,
                           dx_of(b, at) + u},
                          H, acc, count);
        };
        // Rows are far apart in memory: fetched during the products that come first.
        auto fetch_row = [&](int64_t m, int64_t p) {
            const int64_t row = begin + buffer.active[m], at = row * f.row_stride + t * f.step_stride;
            const int64_t at_before = row * f.row_stride + before * f.step_stride;
            const int64_t u = p * TILE, here = H - u < TILE ? H - u : TILE;
            if (f.weight_hr_t)
                return;
            fetch(f.d_output + at * P + u, here);
            for (int block = 0; block < kept(C); block++)
                fetch(f.gates + (at * kept(C) + block) * H + u, here);
            if (has_cell_state(C) && before >= 0 && before < T)
                for (int part = 0; part < S; part++)
                    fetch(f.cells + (at_before * S + part) * H + u, here);
        };
        column_products(
            count, P, {buffer.active_dp, weights, GH},
            [&](auto wide, const F *acc, int64_t m, int64_t tile, int64_t p) {
                for (int64_t r = 0; r < tile; r++)
                    if (plain)
                        lstm_row(acc + r * wide.value, m + r, p, wide.value);
                    else
                        row_done(acc + r * wide.value, m + r, p);
            },
            fetch_row);
        if (f.weight_hr_t) {
            int64_t valid = 0; // rows that are not padding
            for (int64_t m = 0; m < count; m++) {
                const int64_t b = buffer.active[m];
                if (!f.lengths || t < f.lengths[begin + b])
                    buffer.left_rows[valid] = left_of(b), buffer.left_at[valid++] = b;
            }
            column_products(valid, H, {buffer.left_rows, static_cast<const float *>(f.weight_hr_t->data), P},
                            [&](auto wide, const F *acc, int64_t m, int64_t tile, int64_t p) {
                                for (int64_t end_m = m + tile; m < end_m; m++, acc += wide.value)
                                    through_cells(buffer.left_at[m], p, [&](int64_t, int j, auto) { return acc[j]; });
                            });
        }
        for (int64_t m = 0; m < count; m++) {
            const int64_t b = buffer.active[m], row = begin + b, at = row * f.row_stride + t * f.step_stride;
            const bool waits = f.lengths && t >= f.lengths[row], border = f.border && f.border[row * T + t];
            buffer.dp_rows[b] = waits || border ? nullptr : dp_of(b, at);
        }
        if (w && (slot + 1 == buffer.steps || k + 1 == T))
            products_of_block(half, (slot + 1) * rows, k >= buffer.steps);
    }
    for (int64_t b = 0; b < rows; b++)
        buffer.active_dp[b] = buffer.dp_rows[b] ? buffer.dp_rows[b] : buffer.zeros;
    column_products(rows, P, {buffer.active_dp, weights, GH},
                    [&](auto wide, const F *acc, int64_t b, int64_t tile, int64_t p) {
                        for (int64_t end_b = b + tile; b < end_b; b++, acc += wide.value)
                            columns(P, p, [&](int64_t u, int j, auto lanes) {
                                const F carry = lanes.load(buffer.carry + b * P + u);
                                lanes.store(f.d_h_0 + (begin + b) * P + u, carry + acc[j]);
                            });
                    });
    if (has_cell_state(C))
        copy(f.d_c_0 + begin * S * H, buffer.dc, rows * S * H);
}

} // namespace memorycell::MEMORYCELL_ISA
