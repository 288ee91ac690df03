// Products of a tile of rows with all gates of one vector of units in registers; rows are given by pointers, so that
// they are read in place, across resets and padding.
#pragma once

#include "recurrence.hpp"

namespace memorycell::MEMORYCELL_ISA {

constexpr int MAX_TILE_ROWS = 8;
constexpr int64_t MAX_BLOCK_STEPS = 64;

// The number of steps of `rows` sequences, with `width` values per row and step, that fit in a block of `bytes`.
inline int64_t block_steps(int64_t bytes, int64_t rows, int64_t width, int64_t T) {
    int64_t steps = bytes / (rows * width * int64_t(sizeof(float)));
    steps = steps < 1 ? 1 : steps > MAX_BLOCK_STEPS ? MAX_BLOCK_STEPS : steps;
    return steps > T ? T : steps;
}

// Rows in a tile with G vectors each. The accumulators fill the registers, except for the weights of a step and one
// input; with 16 registers the weights may take turns in one of them. Fewer than 12 sums would not hide the latency of
// the multiplications.
template <int G> constexpr int tile_rows() { return V == 16 ? (G == 4 ? 6 : 8) : (G == 4 ? 3 : G == 3 ? 4 : 6); }

inline int64_t unit_panels(int64_t H) { return (H + V - 1) / V; }
inline size_t gate_panel_bytes(Cell cell, int64_t H, int64_t K) {
    return align64(size_t(unit_panels(H)) * blocks(cell) * V * K * sizeof(float));
}

// W [G * H, K] -> panel[k][gate][V units], zero for units past H.
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

// The factors of a tile: rows [R][K], by pointers, and panels of K times a number of vectors.
struct Factor {
    const float *const *rows;
    const float *panels;
    int64_t K;
};

// acc [R][P * G] += the product of R rows and P panels, the first G of whose S vectors are used, for each factor.
template <int R, int G, int S, int P, int Factors> [[gnu::noinline]] void tile_product(const Factor *factors, F *acc) {
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
                b[j] = load(panel + ((j / G * K + k) * S + j % G) * V);
            for (int r = 0; r < R; r++)
                for (int j = 0; j < P * G; j++)
                    sums[r][j] += row[r][k] * b[j];
        }
    }
    for (int r = 0; r < R; r++)
        for (int j = 0; j < P * G; j++)
            acc[r * P * G + j] = sums[r][j];
}

template <int R, int G, int S, int Factors> inline void tile_of(int64_t count, const Factor *factors, F *acc) {
    if constexpr (R > 1) {
        if (count < R)
            return tile_of<R - 1, G, S, Factors>(count, factors, acc);
    }
    tile_product<R, G, S, 1, Factors>(factors, acc);
}

// The products of `count` rows with the first G of S vectors of the panels [p, end), tile by tile, summed over the
// factors: fill(acc, m, panel) sets row m's sums, done(Number<G>, acc, m, rows, panel) receives those of a tile. A
// single row processes two panels at once, to hide the latency of its few sums.
template <int G, int S, int Factors, class Fill, class Done>
inline void products(int64_t count, int64_t p, int64_t end, const Factor (&factors)[Factors], Fill fill, Done done) {
    constexpr int R = tile_rows<G>();
    F acc[MAX_TILE_ROWS * 2 * G];
    Factor here[Factors];
    for (; p < end; p++) {
        auto take = [&](int64_t row) {
            for (int f = 0; f < Factors; f++)
                here[f] = {factors[f].rows + row, factors[f].panels + p * factors[f].K * S * V, factors[f].K};
        };
        if (count == 1 && p + 1 < end) {
            take(0);
            fill(acc, 0, p), fill(acc + G, 0, p + 1);
            tile_product<1, G, S, 2, Factors>(here, acc);
            done(Number<G>{}, acc, 0, 1, p), done(Number<G>{}, acc + G, 0, 1, p + 1);
            p++;
            continue;
        }
        for (int64_t m = 0, rows; m < count; m += rows) {
            const int64_t tiles = (count - m + R - 1) / R; // of nearly the same number of rows
            rows = (count - m + tiles - 1) / tiles;
            take(m);
            for (int64_t r = 0; r < rows; r++)
                fill(acc + r * G, m + r, p);
            tile_of<R, G, S, Factors>(rows, here, acc);
            done(Number<G>{}, acc, m, rows, p);
        }
    }
}

constexpr auto nothing = [](int64_t, int64_t) {};

// The products of rows with a matrix of N columns packed in panels of TILE (gemm.hpp); the last may be narrower.
// before(m, panel) is called before the tile of row m.
template <int G = NV, class Done, class Before = decltype(nothing)>
inline void column_products(int64_t count, int64_t N, const Factor &factor, Done done, Before before = nothing) {
    const int64_t vectors = (N + V - 1) / V, whole = vectors / NV, left = vectors % NV;
    auto none = [&](F *acc, int64_t m, int64_t p) {
        for (int j = 0; j < G; j++)
            acc[j] = F{};
        before(m, p);
    };
    if constexpr (G == NV)
        products<G, NV>(count, 0, whole, {factor}, none, done);
    else if (left == G)
        products<G, NV>(count, whole, whole + 1, {factor}, none, done);
    if constexpr (G > 1)
        column_products<G - 1>(count, N, factor, done, before);
}

// Calls body(lanes) with the units of panel p.
template <class Body> [[gnu::always_inline]] inline void with_lanes(int64_t H, int64_t u, Body body) {
    if (u + V <= H)
        body(Lanes<V>{});
    else if (u < H)
        body(Lanes<0>{int(H - u)});
}

} // namespace memorycell::MEMORYCELL_ISA
