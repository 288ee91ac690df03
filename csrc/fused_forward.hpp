// A full sequence forward in float32, without a pass over memory between product and gates: the cell is computed from
// the registers of the product. For every cell except layernorm, whose normalisation needs complete rows.
//
// With enough rows one tile sums over the input and h. With few rows, each step would read all of W_ih: the input's
// products are computed for a block of steps that stays in the L2 cache. The GRU needs the two products separately and
// does the same. h_{t-1} is read from the output, c_{t-1} from the cells.
#pragma once

#include "tiles.hpp"

namespace memorycell::MEMORYCELL_ISA {

constexpr int64_t INPUT_BLOCK_BYTES = 192 << 10;

struct FusedForwardBuffers {
    float *x_parts, *c, *zeros;
    const float **x_rows, **h_rows, **c_rows, **active_h;
    float *m; // with a projection: o tanh(c) of the active rows
    const float **m_rows;
    int64_t *active;
    int64_t steps; // in a block of input products; 0 if they are summed with those of h
};

inline FusedForwardBuffers fused_forward_buffers(Arena &a, const Fused &w, int64_t rows) {
    const int64_t H = w.f.hidden, S = cell_parts(w.f.cell), width = unit_panels(H) * blocks(w.f.cell) * V;
    FusedForwardBuffers b;
    const bool summed = rows >= ENOUGH_ROWS && w.f.cell != Cell::gru;
    b.steps = summed ? 0 : block_steps(INPUT_BLOCK_BYTES, rows, width, w.f.steps);
    b.x_parts = a.floats(b.steps * rows * width), b.c = a.floats(rows * S * H), b.zeros = a.floats(S * H);
    b.m = a.floats(w.weight_hr ? rows * H : 0);
    auto pointers = [&](int64_t count) { return static_cast<const float **>(a.bytes(count * sizeof(float *))); };
    b.x_rows = pointers(summed ? rows : b.steps * rows), b.h_rows = pointers(rows), b.c_rows = pointers(rows);
    b.active_h = pointers(rows), b.m_rows = pointers(rows);
    b.active = static_cast<int64_t *>(a.bytes(rows * sizeof(int64_t)));
    return b;
}

// A vector of units of a plain LSTM, for the rows of a tile: without zoneout and projection. Almost all calls are this;
// here no pointer is read again after a store. gates and cells may be null.
struct LstmOutputs {
    float *gates, *c, *h;
};
[[gnu::always_inline]] inline void forward_lstm(const F *acc, int64_t rows, const float *const *c_prev,
                                                const LstmOutputs *to, int64_t H, bool keep) {
    F o[MAX_TILE_ROWS], c[MAX_TILE_ROWS];
    for (int64_t r = 0; r < rows; r++, acc += 4) {
        const F c_before = load(c_prev[r]);
        const F i = sigmoid(acc[0]), f = sigmoid(acc[1]), g = tanh(acc[2]);
        o[r] = sigmoid(acc[3]), c[r] = f * c_before + i * g;
        float *gates = to[r].gates;
        if (keep)
            store(gates, i), store(gates + H, f), store(gates + 2 * H, g), store(gates + 3 * H, o[r]);
        store(to[r].c, c[r]);
    }
    for (int64_t r = 0; r < rows; r++)
        store(to[r].h, o[r] * tanh(c[r]));
}

template <Cell C> inline void fused_forward_cell(const Fused &w, int64_t begin, int64_t end, void *memory) {
    constexpr int G = blocks(C), S = cell_parts(C);
    const Forward &f = w.f;
    const int64_t H = f.hidden, P = f.h_size, T = f.steps, rows = end - begin, panel_count = unit_panels(H);
    const int64_t width = panel_count * G * V;
    const bool zoned_h = f.mask_h || f.zone_h > 0, zoned_c = f.mask_c || f.zone_c > 0;
    Arena arena{static_cast<uint8_t *>(memory)};
    const FusedForwardBuffers buffer = fused_forward_buffers(arena, w, rows);
    zero(buffer.zeros, S * H);
    for (int64_t b = 0; b < rows; b++) {
        buffer.h_rows[b] = f.h_0 + (begin + b) * P;
        buffer.m_rows[b] = buffer.m + b * H;
        buffer.c_rows[b] = has_cell_state(C) ? f.c_0 + (begin + b) * S * H : nullptr;
    }
    const bool plain = C == Cell::lstm && !zoned_h && !zoned_c && !w.weight_hr;
    auto time_of = [&](int64_t k) { return f.reverse ? T - 1 - k : k; };
    auto at_of = [&](int64_t b, int64_t t) { return (begin + b) * f.row_stride + t * f.step_stride; };
    auto bias_of = [&](F *acc, int64_t p) {
        for (int g = 0; g < G; g++)
            acc[g] = F{};
        if (f.bias)
            with_lanes(H, p * V, [&](auto lanes) {
                for (int g = 0; g < G; g++)
                    acc[g] = lanes.load(f.bias + g * H + p * V);
            });
    };
    const int64_t block = buffer.steps ? buffer.steps : T;
    for (int64_t k0 = 0; k0 < T; k0 += block) {
        const int64_t steps = T - k0 < block ? T - k0 : block;
        if (buffer.steps) {
            for (int64_t q = 0; q < steps * rows; q++)
                buffer.x_rows[q] = f.x + at_of(q % rows, time_of(k0 + q / rows)) * f.input;
            products<G, G>(
                steps * rows, 0, panel_count, {Factor{buffer.x_rows, w.panels_ih, f.input}},
                [&](F *acc, int64_t, int64_t p) { bias_of(acc, p); },
                [&](auto, const F *acc, int64_t q, int64_t tile, int64_t p) {
                    for (int64_t r = 0; r < tile; r++)
                        for (int g = 0; g < G; g++)
                            store(buffer.x_parts + (q + r) * width + (p * G + g) * V, acc[r * G + g]);
                });
        }
        for (int64_t k = k0; k < k0 + steps; k++) {
            const int64_t t = time_of(k);
            int64_t count = 0;
            for (int64_t b = 0; b < rows; b++) {
                if (f.border && f.border[(begin + b) * T + t]) {
                    buffer.h_rows[b] = buffer.zeros;
                    buffer.c_rows[b] = has_cell_state(C) ? buffer.zeros : nullptr;
                }
                if (f.lengths && t >= f.lengths[begin + b]) { // padding: the state does not change
                    const int64_t at = at_of(b, t);
                    zero(f.output + at * P, P);
                    if (f.gates)
                        zero(f.gates + at * kept(C) * H, kept(C) * H);
                    if (f.cells)
                        zero(f.cells + at * S * H, S * H);
                    continue;
                }
                if (!buffer.steps) {
                    buffer.x_rows[count] = f.x + at_of(b, t) * f.input;
                    if (k + 1 < T)
                        fetch(f.x + at_of(b, time_of(k + 1)) * f.input, f.input);
                }
                buffer.active[count] = b;
                buffer.active_h[count++] = buffer.h_rows[b];
            }
            auto x_part = [&](int64_t b, int64_t p) {
                return buffer.x_parts + ((k - k0) * rows + b) * width + p * G * V;
            };
            auto put_h = [&](int64_t m, int64_t u, F h, auto lanes) {
                const int64_t b = buffer.active[m];
                if (zoned_h) {
                    const F keep = f.mask_h ? lanes.load(f.mask_h + ((begin + b) * T + t) * P + u) : splat(f.zone_h);
                    h = keep * lanes.load(buffer.h_rows[b] + u) + (1.0f - keep) * h;
                }
                lanes.store(f.output + at_of(b, t) * P + u, h);
            };
            // Gates and cells of the tile first, then its h: otherwise each row would wait for the tanh of the
            // previous one.
            auto done = [&](auto, const F *acc, int64_t first, int64_t tile, int64_t p) {
                const int64_t u = p * V;
                if (plain && u + V <= H) {
                    const float *c_prev[MAX_TILE_ROWS];
                    LstmOutputs to[MAX_TILE_ROWS];
                    for (int64_t r = 0; r < tile; r++) {
                        const int64_t b = buffer.active[first + r], at = at_of(b, t);
                        c_prev[r] = buffer.c_rows[b] + u;
                        to[r] = {f.gates + at * 4 * H + u, (f.cells ? f.cells + at * H : buffer.c + b * H) + u,
                                 f.output + at * H + u};
                    }
                    return forward_lstm(acc, tile, c_prev, to, H, f.gates != nullptr);
                }
                F o[MAX_TILE_ROWS], c[MAX_TILE_ROWS];
                with_lanes(H, u, [&](auto lanes) {
                    for (int64_t r = 0; r < tile; r++) {
                        const int64_t b = buffer.active[first + r], at = at_of(b, t);
                        F h_prev{}, c_prev{}, x_n{}, product{};
                        if constexpr (has_cell_state(C))
                            c_prev = lanes.load(buffer.c_rows[b] + u);
                        if constexpr (C == Cell::gru) {
                            h_prev = lanes.load(buffer.h_rows[b] + u);
                            x_n = load(x_part(b, p) + 2 * V), product = acc[r * G + 2];
                        }
                        const Units now = units_after<C>(
                            acc + r * G, x_n, product, h_prev, c_prev,
                            [&](int block) { return lanes.load(f.extras.peephole + block * H + u); },
                            [&](int part) { return lanes.load(buffer.c_rows[b] + part * H + u); });
                        if (f.gates)
                            for (int block = 0; block < kept(C); block++)
                                lanes.store(f.gates + (at * kept(C) + block) * H + u, now.kept[block]);
                        if constexpr (has_cell_state(C)) {
                            o[r] = now.kept[3], c[r] = C == Cell::slstm ? shown<C>(now) : now.c;
                            F c_now = now.c;
                            if (zoned_c) {
                                const F keep =
                                    f.mask_c ? lanes.load(f.mask_c + ((begin + b) * T + t) * H + u) : splat(f.zone_c);
                                c_now = keep * c_prev + (1.0f - keep) * c_now;
                            }
                            float *parts = f.cells ? f.cells + at * S * H : buffer.c + b * S * H;
                            lanes.store(parts + u, c_now);
                            if constexpr (C == Cell::slstm)
                                lanes.store(parts + H + u, now.n), lanes.store(parts + 2 * H + u, now.m);
                        } else {
                            put_h(first + r, u, now.h, lanes);
                        }
                    }
                    if constexpr (has_cell_state(C))
                        for (int64_t r = 0; r < tile; r++) {
                            const F m = o[r] * (C == Cell::slstm ? c[r] : tanh(c[r]));
                            if (w.weight_hr)
                                lanes.store(buffer.m + (first + r) * H + u, m);
                            else
                                put_h(first + r, u, m, lanes);
                        }
                });
            };
            // Rows are far apart in memory: fetched during the products that come first.
            auto fetch_row = [&](int64_t m, int64_t p) {
                const int64_t at = at_of(buffer.active[m], t), u = p * V;
                fetch_to_write(f.output + at * P + u, 1);
                if (!f.gates)
                    return;
                for (int block = 0; block < kept(C); block++)
                    fetch_to_write(f.gates + (at * kept(C) + block) * H + u, 1);
                if (has_cell_state(C))
                    for (int part = 0; part < S; part++)
                        fetch_to_write(f.cells + (at * S + part) * H + u, 1);
            };
            const Factor of_x{buffer.x_rows, w.panels_ih, f.input}, of_h{buffer.active_h, w.panels_hh, P};
            if (!buffer.steps)
                products<G, G>(
                    count, 0, panel_count, {of_x, of_h},
                    [&](F *acc, int64_t m, int64_t p) {
                        bias_of(acc, p);
                        fetch_row(m, p);
                    },
                    done);
            else
                products<G, G>(
                    count, 0, panel_count, {of_h},
                    [&](F *acc, int64_t m, int64_t p) {
                        const float *x = x_part(buffer.active[m], p);
                        for (int g = 0; g < G; g++)
                            acc[g] = load(x + g * V);
                        if constexpr (C == Cell::gru)
                            with_lanes(H, p * V, [&](auto lanes) {
                                const float *bias = f.extras.bias_hh + p * V;
                                acc[0] += lanes.load(bias), acc[1] += lanes.load(bias + H);
                                acc[2] = lanes.load(bias + 2 * H); // x's part, without the reset gate
                            });
                    },
                    done);
            if (w.weight_hr)
                column_products(count, P, {buffer.m_rows, static_cast<const float *>(w.weight_hr->data), H},
                                [&](auto wide, const F *acc, int64_t m, int64_t tile, int64_t p) {
                                    for (int64_t end_m = m + tile; m < end_m; m++, acc += wide.value)
                                        for (int j = 0; j < wide.value; j++)
                                            with_lanes(P, p * TILE + j * V,
                                                       [&](auto lanes) { put_h(m, p * TILE + j * V, acc[j], lanes); });
                                });
            for (int64_t m = 0; m < count; m++) {
                const int64_t b = buffer.active[m], at = at_of(b, t);
                buffer.h_rows[b] = f.output + at * P;
                if (has_cell_state(C))
                    buffer.c_rows[b] = f.cells ? f.cells + at * S * H : buffer.c + b * S * H;
            }
        }
    }
    for (int64_t b = 0; b < rows; b++) {
        copy(f.h_n + (begin + b) * P, buffer.h_rows[b], P);
        if (has_cell_state(C))
            copy(f.c_n + (begin + b) * S * H, buffer.c_rows[b], S * H);
    }
}

} // namespace memorycell::MEMORYCELL_ISA
