// Whole sequences in float32 without a pass over memory between product and gates: a tile of rows takes the products of
// all gates of one vector of units in registers, and the cell is computed from there. Every cell but layernorm, whose
// normalisation needs whole rows.
//
// Forward, with enough rows one tile sums over the input and h; with few, whose steps would each read all of W_ih, the
// input's products are made for a block of steps that stays in the L2 cache, and so are the GRU's, which needs them
// apart; h_{t-1} is read where the output was written, c_{t-1} where the cells were. Backward, the product reads the
// gradients of the step before where they were written. So rows are named by pointers, which also step over borders and
// padding.
#pragma once

#include "recurrence.hpp"

namespace memorycell::MEMORYCELL_ISA {

constexpr int MAX_TILE_ROWS = 8;
constexpr int64_t INPUT_BLOCK_BYTES = 192 << 10;
constexpr int64_t ENOUGH_ROWS = 6;
constexpr int64_t GRADIENT_BLOCK_BYTES = 256 << 10;
constexpr int64_t MAX_BLOCK_STEPS = 64;

// How many steps of `rows` sequences make a block of so many bytes, with `width` values a row.
inline int64_t block_steps(int64_t bytes, int64_t rows, int64_t width, int64_t T) {
    int64_t steps = bytes / (rows * width * int64_t(sizeof(float)));
    steps = steps < 1 ? 1 : steps > MAX_BLOCK_STEPS ? MAX_BLOCK_STEPS : steps;
    return steps > T ? T : steps;
}
// Rows of such a block at most, for `rows` sequences or fewer: threads have one row more or less than others, and
// memory is made for the most.
inline int64_t block_capacity(int64_t bytes, int64_t rows, int64_t width) {
    const int64_t by_size = bytes / (width * int64_t(sizeof(float))), by_steps = MAX_BLOCK_STEPS * rows;
    const int64_t fit = by_size < by_steps ? by_size : by_steps;
    return fit > rows ? fit : rows;
}

// Rows in a tile with G vectors each: the accumulators, the weights and one input fill the registers.
template <int G> constexpr int tile_rows() { return V == 16 ? (G == 4 ? 6 : 8) : (G == 4 ? 2 : G == 3 ? 3 : 6); }

inline int64_t unit_panels(int64_t H) { return (H + V - 1) / V; }
inline size_t gate_panel_bytes(Cell cell, int64_t H, int64_t K) {
    return align64(size_t(unit_panels(H)) * blocks(cell) * V * K * sizeof(float));
}

// W [G * H, K] -> panel[k][gate][V units], the units past H zero.
inline void pack_gates(Cell cell, const float *w, int64_t H, int64_t K, float *out) {
    const int64_t G = blocks(cell);
    for (int64_t p = 0; p < unit_panels(H); p++)
        for (int64_t g = 0; g < G; g++) {
            const float *first = w + (g * H + p * V) * K;
            float *to = out + (p * K * G + g) * V;
            const int64_t here = H - p * V < V ? H - p * V : V;
            int64_t k = 0;
#if defined(MEMORYCELL_TRANSPOSES)
            for (; here == V && k + V <= K; k += V) {
                F block[V];
                for (int i = 0; i < V; i++)
                    block[i] = load(first + i * K + k);
                transpose(block);
                for (int i = 0; i < V; i++)
                    store(to + (k + i) * G * V, block[i]);
            }
#endif
            for (; k < K; k++)
                for (int64_t i = 0; i < V; i++)
                    to[k * G * V + i] = i < here ? first[i * K + k] : 0.0f;
        }
}

// What a tile multiplies: rows [R][K], by pointers, and panels of K vectors a gate.
struct Factor {
    const float *const *rows;
    const float *panels;
    int64_t K;
    Factor from(int64_t row) const { return {rows + row, panels, K}; }
    Factor panel(int64_t p, int G) const { return {rows, panels + p * K * G * V, K}; }
};

// acc [R][P * G] += the product of R rows and P panels of G vectors, for each of F factors.
template <int R, int G, int P, int Factors> [[gnu::noinline]] void tile_product(const Factor *factors, F *acc) {
    F sums[R][P * G];
    for (int r = 0; r < R; r++)
        for (int j = 0; j < P * G; j++)
            sums[r][j] = acc[r * P * G + j];
    for (int f = 0; f < Factors; f++) {
        const float *row[R], *panel = factors[f].panels;
        for (int r = 0; r < R; r++)
            row[r] = factors[f].rows[r];
        const int64_t K = factors[f].K;
        for (int64_t k = 0; k < K; k++) {
            F b[P * G];
            for (int j = 0; j < P * G; j++)
                b[j] = load(panel + ((j / G * K + k) * G + j % G) * V);
            for (int r = 0; r < R; r++)
                for (int j = 0; j < P * G; j++)
                    sums[r][j] += row[r][k] * b[j];
        }
    }
    for (int r = 0; r < R; r++)
        for (int j = 0; j < P * G; j++)
            acc[r * P * G + j] = sums[r][j];
}

template <int R, int G, int Factors> inline void tile_of(int64_t count, const Factor *factors, F *acc) {
    if constexpr (R > 1) {
        if (count < R)
            return tile_of<R - 1, G, Factors>(count, factors, acc);
    }
    tile_product<R, G, 1, Factors>(factors, acc);
}

// The products of `count` rows with all panels of G vectors, tile by tile, summed over the factors: fill(acc, m, panel)
// sets row m's sums, done(acc, m, rows, panel) takes those of a tile. A single row goes through two panels at once, to
// hide the latency of its few sums.
template <int G, int Factors, class Fill, class Done>
inline void products(int64_t count, int64_t panel_count, const Factor (&factors)[Factors], Fill fill, Done done) {
    constexpr int R = tile_rows<G>();
    F acc[MAX_TILE_ROWS * 2 * G];
    Factor here[Factors];
    for (int64_t p = 0; p < panel_count; p++) {
        if (count == 1 && p + 1 < panel_count) {
            for (int f = 0; f < Factors; f++)
                here[f] = factors[f].panel(p, G);
            fill(acc, 0, p), fill(acc + G, 0, p + 1);
            tile_product<1, G, 2, Factors>(here, acc);
            done(acc, 0, 1, p), done(acc + G, 0, 1, p + 1);
            p++;
            continue;
        }
        for (int64_t m = 0; m < count; m += R) {
            const int64_t rows = count - m < R ? count - m : R;
            for (int f = 0; f < Factors; f++)
                here[f] = factors[f].panel(p, G).from(m);
            for (int64_t r = 0; r < rows; r++)
                fill(acc + r * G, m + r, p);
            tile_of<R, G, Factors>(rows, here, acc);
            done(acc, m, rows, p);
        }
    }
}

// Calls body(lanes) with the units of panel p.
template <class Body> inline void with_lanes(int64_t H, int64_t u, Body body) {
    if (u + V <= H)
        body(Lanes<V>{});
    else if (u < H)
        body(Lanes<0>{int(H - u)});
}

struct FusedForwardBuffers {
    float *x_parts, *c, *zeros;
    const float **x_rows, **h_rows, **c_rows, **active_h;
    int64_t *active;
    int64_t steps; // of a block of input products, or 0: they are summed with those of h
};

inline FusedForwardBuffers fused_forward_buffers(Arena &a, const Fused &w, int64_t rows) {
    const int64_t H = w.f.hidden, width = unit_panels(H) * blocks(w.f.cell) * V;
    FusedForwardBuffers b;
    b.steps = block_steps(INPUT_BLOCK_BYTES, rows, width, w.f.steps);
    const int64_t count = block_capacity(INPUT_BLOCK_BYTES, rows, width);
    if (rows >= ENOUGH_ROWS && w.f.cell != Cell::gru)
        b.steps = 0;
    b.x_parts = a.floats(count * width), b.c = a.floats(rows * H), b.zeros = a.floats(H);
    auto pointers = [&](int64_t count) { return static_cast<const float **>(a.bytes(count * sizeof(float *))); };
    b.x_rows = pointers(count), b.h_rows = pointers(rows), b.c_rows = pointers(rows);
    b.active_h = pointers(rows);
    b.active = static_cast<int64_t *>(a.bytes(rows * sizeof(int64_t)));
    return b;
}

template <Cell C> inline void fused_forward_cell(const Fused &w, int64_t begin, int64_t end, void *memory) {
    constexpr int G = blocks(C);
    const Forward &f = w.f;
    const int64_t H = f.hidden, T = f.steps, rows = end - begin, panel_count = unit_panels(H);
    const int64_t width = panel_count * G * V;
    const bool zoned_h = f.mask_h || f.zone_h > 0, zoned_c = f.mask_c || f.zone_c > 0;
    Arena arena{static_cast<uint8_t *>(memory)};
    const FusedForwardBuffers buffer = fused_forward_buffers(arena, w, rows);
    zero(buffer.zeros, H);
    for (int64_t b = 0; b < rows; b++) {
        buffer.h_rows[b] = f.h_0 + (begin + b) * H;
        buffer.c_rows[b] = has_cell_state(C) ? f.c_0 + (begin + b) * H : nullptr;
    }
    auto time_of = [&](int64_t k) { return f.reverse ? T - 1 - k : k; };
    auto at_of = [&](int64_t b, int64_t t) { return (begin + b) * f.row_stride + t * f.step_stride; };
    auto bias_of = [&](F *acc, int64_t p) {
        for (int g = 0; g < G; g++)
            acc[g] = F{};
        if (w.bias)
            with_lanes(H, p * V, [&](auto lanes) {
                for (int g = 0; g < G; g++)
                    acc[g] = lanes.load(w.bias + g * H + p * V);
            });
    };
    const int64_t block = buffer.steps ? buffer.steps : T;
    for (int64_t k0 = 0; k0 < T; k0 += block) {
        const int64_t steps = T - k0 < block ? T - k0 : block;
        if (buffer.steps) {
            for (int64_t q = 0; q < steps * rows; q++)
                buffer.x_rows[q] = w.x + at_of(q % rows, time_of(k0 + q / rows)) * w.input;
            products<G>(
                steps * rows, panel_count, {Factor{buffer.x_rows, w.panels_ih, w.input}},
                [&](F *acc, int64_t, int64_t p) { bias_of(acc, p); },
                [&](const F *acc, int64_t q, int64_t tile, int64_t p) {
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
                if (f.lengths && t >= f.lengths[begin + b]) { // padding: the state waits
                    const int64_t at = at_of(b, t);
                    zero(f.output + at * H, H);
                    if (f.gates)
                        zero(f.gates + at * kept(C) * H, kept(C) * H);
                    if (f.cells)
                        zero(f.cells + at * H, H);
                    continue;
                }
                if (!buffer.steps)
                    buffer.x_rows[count] = w.x + at_of(b, t) * w.input;
                buffer.active[count] = b;
                buffer.active_h[count++] = buffer.h_rows[b];
            }
            auto x_part = [&](int64_t b, int64_t p) {
                return buffer.x_parts + ((k - k0) * rows + b) * width + p * G * V;
            };
            // Gates and cells of the whole tile first, then its h: rows one by one would wait for each other's tanh of
            // c.
            auto done = [&](const F *acc, int64_t first, int64_t tile, int64_t p) {
                const int64_t u = p * V;
                F o[MAX_TILE_ROWS], c[MAX_TILE_ROWS];
                auto put_h = [&](int64_t m, F h, auto lanes) {
                    const int64_t b = buffer.active[m];
                    if (zoned_h) {

                        const F keep =
                            f.mask_h ? lanes.load(f.mask_h + ((begin + b) * T + t) * H + u) : splat(f.zone_h);
                        h = keep * lanes.load(buffer.h_rows[b] + u) + (1.0f - keep) * h;
                    }
                    lanes.store(f.output + at_of(b, t) * H + u, h);
                };
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
                        const Units now = units_after<C>(acc + r * G, x_n, product, h_prev, c_prev, [&](int block) {
                            return lanes.load(f.extras.peephole + block * H + u);
                        });
                        if (f.gates)
                            for (int block = 0; block < kept(C); block++)
                                lanes.store(f.gates + (at * kept(C) + block) * H + u, now.kept[block]);
                        if constexpr (has_cell_state(C)) {
                            o[r] = now.kept[3], c[r] = now.c;
                            F c_now = now.c;
                            if (zoned_c) {

                                const F keep =
                                    f.mask_c ? lanes.load(f.mask_c + ((begin + b) * T + t) * H + u) : splat(f.zone_c);
                                c_now = keep * c_prev + (1.0f - keep) * c_now;
                            }
                            lanes.store((f.cells ? f.cells + at * H : buffer.c + b * H) + u, c_now);
                        } else {
                            put_h(first + r, now.h, lanes);
                        }
                    }
                    if constexpr (has_cell_state(C))
                        for (int64_t r = 0; r < tile; r++)
                            put_h(first + r, o[r] * tanh(c[r]), lanes);
                });
            };
            const Factor of_x{buffer.x_rows, w.panels_ih, w.input}, of_h{buffer.active_h, w.panels_hh, H};
            if (!buffer.steps)
                products<G>(
                    count, panel_count, {of_x, of_h}, [&](F *acc, int64_t, int64_t p) { bias_of(acc, p); }, done);
            else
                products<G>(
                    count, panel_count, {of_h},
                    [&](F *acc, int64_t m, int64_t p) {
                        const float *x = x_part(buffer.active[m], p);
                        for (int g = 0; g < G; g++)
                            acc[g] = load(x + g * V);
                        if constexpr (C == Cell::gru)
                            with_lanes(H, p * V, [&](auto lanes) {
                                const float *bias = f.extras.bias_hh + p * V;
                                acc[0] += lanes.load(bias), acc[1] += lanes.load(bias + H);
                                acc[2] = lanes.load(bias + 2 * H); // x's part of this block meets the reset gate apart
                            });
                    },
                    done);
            for (int64_t m = 0; m < count; m++) {
                const int64_t b = buffer.active[m], at = at_of(b, t);
                buffer.h_rows[b] = f.output + at * H;
                if (has_cell_state(C))
                    buffer.c_rows[b] = f.cells ? f.cells + at * H : buffer.c + b * H;
            }
        }
    }
    for (int64_t b = 0; b < rows; b++) {
        copy(f.h_n + (begin + b) * H, buffer.h_rows[b], H);
        if (has_cell_state(C))
            copy(f.c_n + (begin + b) * H, buffer.c_rows[b], H);
    }
}

struct FusedBackwardBuffers {
    float *carry, *dc, *dh_row, *zeros;
    const float **dp_rows, **active_dp;
    int64_t *active;
    // With weight gradients: two blocks of d_x_part and d_h_part, since a block's first step reads the last of the
    // block before; the rows of x and h that they meet; and where those of d_x go.
    int64_t steps;
    float *dx[2], *dh[2], *x_right, *h_right;
    const float **dx_rows;
    int64_t *x_at;
    void *scratch;
};

inline FusedBackwardBuffers fused_backward_buffers(Arena &a, const Backward &f, const WeightGradients *w,
                                                   int64_t rows) {
    const int64_t H = f.hidden, GH = blocks(f.cell) * H;
    FusedBackwardBuffers b{};
    b.carry = a.floats(rows * H), b.dc = a.floats(rows * H), b.dh_row = a.floats(H), b.zeros = a.floats(GH);
    b.dp_rows = static_cast<const float **>(a.bytes(rows * sizeof(float *)));
    b.active_dp = static_cast<const float **>(a.bytes(rows * sizeof(float *)));
    b.active = static_cast<int64_t *>(a.bytes(rows * sizeof(int64_t)));
    b.steps = f.steps;
    if (!w)
        return b;
    b.steps = block_steps(GRADIENT_BLOCK_BYTES, rows, GH, f.steps);
    const int64_t count = block_capacity(GRADIENT_BLOCK_BYTES, rows, GH);
    for (int half = 0; half < 2; half++) {
        b.dx[half] = a.floats(count * GH);
        b.dh[half] = f.cell == Cell::gru ? a.floats(count * GH) : b.dx[half];
    }
    b.x_right = a.floats(count * w->input), b.h_right = a.floats(count * H);
    b.dx_rows = static_cast<const float **>(a.bytes(count * sizeof(float *)));
    b.x_at = static_cast<int64_t *>(a.bytes(count * sizeof(int64_t)));
    b.scratch = a.bytes(outer_scratch(w->input > H ? w->input : H));
    return b;
}

template <Cell C>
inline void fused_backward_cell(const Backward &f, const WeightGradients *w, int64_t begin, int64_t end, void *memory) {
    const int64_t H = f.hidden, T = f.steps, GH = blocks(C) * H, rows = end - begin, panel_count = panels(H);
    const bool zoned_h = f.mask_h || f.zone_h > 0, zoned_c = f.mask_c || f.zone_c > 0;
    const auto *weights = static_cast<const float *>(f.weight_t->data);
    Arena arena{static_cast<uint8_t *>(memory)};
    const FusedBackwardBuffers buffer = fused_backward_buffers(arena, f, w, rows);
    zero(buffer.zeros, GH);
    copy(buffer.carry, f.d_h_n + begin * H, rows * H);
    if (has_cell_state(C))
        copy(buffer.dc, f.d_c_n + begin * H, rows * H);
    for (int64_t b = 0; b < rows; b++)
        buffer.dp_rows[b] = nullptr; // nothing reaches this row's h through W_hh yet
    auto none = [](F *acc, int64_t, int64_t) {
        for (int j = 0; j < NV; j++)
            acc[j] = F{};
    };
    // The units of a panel that are there: body(u, j, lanes).
    auto units = [&](int64_t p, auto body) {
        for (int j = 0; j < NV; j++)
            with_lanes(H, p * TILE + j * V, [&](auto lanes) { body(p * TILE + j * V, j, lanes); });
    };
    // What a block of steps gives the weights and the input.
    auto products_of_block = [&](int half, int64_t count, bool more) {
        for (int64_t q = 0; q < count; q++) {
            copy(buffer.x_right + q * w->input, w->x + buffer.x_at[q] * w->input, w->input);
            buffer.dx_rows[q] = buffer.dx[half] + q * GH;
        }
        outer<Precision::float32>(buffer.dx[half], buffer.x_right, count, GH, w->input, 0, GH, w->d_weight_ih,
                                  w->d_bias_ih, buffer.scratch, more);
        outer<Precision::float32>(buffer.dh[half], buffer.h_right, count, GH, H, 0, GH, w->d_weight_hh,
                                  C == Cell::gru ? w->d_bias_hh : nullptr, buffer.scratch, more);
        if (!w->d_x)
            return;
        products<NV>(count, panels(w->input),
                     {Factor{buffer.dx_rows, static_cast<const float *>(w->weight_ih_t->data), GH}}, none,
                     [&](const F *acc, int64_t q, int64_t tile, int64_t p) {
                         for (int64_t end_q = q + tile; q < end_q; q++, acc += NV)
                             for (int j = 0; j < NV; j++)
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
        int64_t count = 0;
        for (int64_t b = 0; b < rows; b++) {
            const int64_t row = begin + b, at = row * f.row_stride + t * f.step_stride;
            const int64_t length = f.lengths ? f.lengths[row] : T;
            if (w) {
                const bool border = f.border && f.border[row * T + t], at_start = before < 0 || before >= length;
                const float *h_prev = border     ? buffer.zeros
                                      : at_start ? f.h_0 + row * H
                                                 : f.output + (row * f.row_stride + before * f.step_stride) * H;
                copy(buffer.h_right + (slot * rows + b) * H, h_prev, H);
                buffer.x_at[slot * rows + b] = at;
            }
            if (t >= length) {
                zero(dx_of(b, at), GH);
                zero(dp_of(b, at), GH);
                if (!buffer.dp_rows[b])
                    continue;
            }
            buffer.active[count] = b;
            buffer.active_dp[count++] = buffer.dp_rows[b] ? buffer.dp_rows[b] : buffer.zeros;
        }
        auto row_done = [&](const F *acc, int64_t m, int64_t p) {
            const int64_t b = buffer.active[m], row = begin + b, length = f.lengths ? f.lengths[row] : T;
            const int64_t at = row * f.row_stride + t * f.step_stride, mask_at = (row * T + t) * H;
            const int64_t at_before = row * f.row_stride + before * f.step_stride;
            float *carry = buffer.carry + b * H, *dc = buffer.dc + b * H;
            if (t >= length) {
                units(p, [&](int64_t u, int j, auto lanes) { lanes.store(carry + u, lanes.load(carry + u) + acc[j]); });
                return;
            }
            const bool border = f.border && f.border[row * T + t], at_start = before < 0 || before >= length;
            const float *h_prev = border ? buffer.zeros : at_start ? f.h_0 + row * H : f.output + at_before * H;
            const float *c_prev = nullptr;
            if (has_cell_state(C))
                c_prev = border ? buffer.zeros : at_start ? f.c_0 + row * H : f.cells + at_before * H;
            float *dx = dx_of(b, at), *dp = dp_of(b, at);
            const BackRow back{H,
                               f.gates + at * kept(C) * H,
                               h_prev,
                               c_prev,
                               nullptr,
                               0.0f,
                               buffer.dh_row,
                               dc,
                               dx,
                               dp,
                               carry,
                               nullptr,
                               nullptr,
                               nullptr,
                               nullptr,
                               nullptr,
                               f.extras};
            units(p, [&](int64_t u, int j, auto lanes) {
                F d = acc[j] + lanes.load(carry + u) + lanes.load(f.d_output + at * H + u), past = splat(0);
                if (zoned_h) {
                    const F keep = f.mask_h ? lanes.load(f.mask_h + mask_at + u) : splat(f.zone_h);
                    past = d * keep;
                    d = d * (1.0f - keep);
                }
                lanes.store(buffer.dh_row + u, d);
                lanes.store(carry + u, past);
                F kept_dc{};
                if (has_cell_state(C) && zoned_c) {
                    const F keep = f.mask_c ? lanes.load(f.mask_c + mask_at + u) : splat(f.zone_c);
                    const F d_c = lanes.load(dc + u);
                    kept_dc = d_c * keep;
                    lanes.store(dc + u, d_c * (1.0f - keep));
                }
                backward_units<C>(back, u, lanes, [](int64_t, auto) { return F{}; });
                if (has_cell_state(C) && zoned_c)
                    lanes.store(dc + u, lanes.load(dc + u) + kept_dc);
                if (border) { // nothing reaches the state before a reset
                    lanes.store(carry + u, F{});
                    if (has_cell_state(C))
                        lanes.store(dc + u, F{});
                }
            });
        };
        products<NV>(count, panel_count, {Factor{buffer.active_dp, weights, GH}}, none,
                     [&](const F *acc, int64_t m, int64_t tile, int64_t p) {
                         for (int64_t r = 0; r < tile; r++)
                             row_done(acc + r * NV, m + r, p);
                     });
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
    products<NV>(rows, panel_count, {Factor{buffer.active_dp, weights, GH}}, none,
                 [&](const F *acc, int64_t b, int64_t tile, int64_t p) {
                     for (int64_t end_b = b + tile; b < end_b; b++, acc += NV)
                         units(p, [&](int64_t u, int j, auto lanes) {
                             const F carry = lanes.load(buffer.carry + b * H + u);
                             lanes.store(f.d_h_0 + (begin + b) * H + u, carry + acc[j]);
                         });
                 });
    if (has_cell_state(C))
        copy(f.d_c_0 + begin * H, buffer.dc, rows * H);
}

} // namespace memorycell::MEMORYCELL_ISA
