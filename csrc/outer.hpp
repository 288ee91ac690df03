// Weight gradients: sums of outer products over the steps, left^T right, for several right factors at once.
//
// The vectors of columns of all right factors are packed into panels, the columns of `left` into strips. In bfloat16 a
// 32-bit word holds the values of two steps.
#pragma once

#include "gemm.hpp"

namespace memorycell::MEMORYCELL_ISA {

constexpr int64_t CHUNK = 256; // steps summed before the next are packed
constexpr int64_t AHEAD = 8;   // words
// Columns in a strip and vectors in a panel, at most: their products fill the registers. With 32 registers strips are
// halves of vectors, which makes packing fast.
constexpr int STRIP = V == 16 ? 8 : 6;
constexpr int PANEL_VECTORS = V == 16 ? 3 : 2;
constexpr int64_t GROUP = 8 * STRIP; // columns of `left` that are packed together
constexpr int GROUP_VECTORS = GROUP / V;

// Rows [M, K], given by pointers or, without, as a contiguous matrix; c [N, K] receives left^T right.
struct Right {
    const float *const *rows;
    const float *matrix;
    int64_t K;
    float *c;
    const float *row(int64_t m) const { return rows ? rows[m] : matrix + m * K; }
};

// A vector of columns of a right factor.
struct RightColumns {
    const Right *right;
    int64_t first;
    int count; // V except for the last of a factor
};

inline int64_t vectors(int64_t K) { return (K + V - 1) / V; }

// For right factors with this number of vectors in all.
inline size_t outer_scratch(int64_t vector_count) {
    const int64_t panel_count = (vector_count + PANEL_VECTORS - 1) / PANEL_VECTORS;
    return CHUNK * (panel_count * PANEL_VECTORS * V + GROUP) * sizeof(uint32_t) +
           align64(vector_count * sizeof(RightColumns));
}

// Adds the product of a strip and W vectors of a panel to `rows` rows of the results from `row` on, or stores it.
template <bool half, int W>
[[gnu::noinline]] void outer_tile(const uint32_t *strip, const uint32_t *panel, int64_t words,
                                  const RightColumns *columns, int64_t row, int64_t rows, bool add) {
    bool whole = rows == STRIP;
    float *to[W];
    int64_t stride[W];
    for (int j = 0; j < W; j++) {
        stride[j] = columns[j].right->K;
        to[j] = columns[j].right->c + row * stride[j] + columns[j].first;
        whole &= columns[j].count == V;
        for (int64_t r = 0; r < rows; r++) // needed after the sums
            __builtin_prefetch(to[j] + r * stride[j]);
    }
    F sums[STRIP][W];
    for (int r = 0; r < STRIP; r++)
        for (int j = 0; j < W; j++)
            sums[r][j] = F{};
    for (int64_t k = 0; k < words; k++) {
        U b[W];
        for (int j = 0; j < W; j++)
            memcpy(&b[j], panel + (k * PANEL_VECTORS + j) * V, sizeof(U));
        for (int r = 0; r < STRIP; r++) {
            const U a = strip[k * STRIP + r] - U{};
            for (int j = 0; j < W; j++)
                if constexpr (half)
                    sums[r][j] = dot_bfloat16(sums[r][j], a, b[j]);
                else
                    sums[r][j] += bits<F>(a) * bits<F>(b[j]);
        }
    }
    for (int r = 0; r < STRIP; r++)
        for (int j = 0; j < W; j++) {
            float *at = to[j] + r * stride[j];
            const int count = columns[j].count;
            if (whole)
                store(at, add ? load(at) + sums[r][j] : sums[r][j]);
            else if (r < rows)
                store(at, add ? load(at, count) + sums[r][j] : sums[r][j], count);
        }
}
template <bool half, int W = PANEL_VECTORS>
inline void outer_tile_of(int64_t wide, const uint32_t *strip, const uint32_t *panel, int64_t words,
                          const RightColumns *columns, int64_t row, int64_t rows, bool add) {
    if constexpr (W > 1)
        if (wide < W)
            return outer_tile_of<half, W - 1>(wide, strip, panel, words, columns, row, rows, add);
    outer_tile<half, W>(strip, panel, words, columns, row, rows, add);
}

// Rows [begin, end) of c [N, K] = left^T right for each right factor, with left [M, N] and right [M, K]; and the sums
// [N] of left's columns, or null. `more` adds to the previous values.
template <Precision precision, int Rights>
inline void outer(const float *left, int64_t M, int64_t N, const Right (&rights)[Rights], int64_t begin, int64_t end,
                  float *sums, void *scratch, bool more = false) {
    constexpr bool half = precision == Precision::bfloat16;
    constexpr int64_t pair = half ? 2 : 1; // steps in one word
    int64_t vector_count = 0;
    for (const Right &right : rights)
        vector_count += vectors(right.K);
    const int64_t panel_count = (vector_count + PANEL_VECTORS - 1) / PANEL_VECTORS;
    auto *panel_words = static_cast<uint32_t *>(scratch);
    auto *strips = panel_words + CHUNK * panel_count * PANEL_VECTORS * V;
    auto *columns = reinterpret_cast<RightColumns *>(strips + CHUNK * GROUP);
    auto first_of = [&](int64_t panel) { return vector_count * panel / panel_count; }; // of nearly the same width
    int64_t next = 0;
    for (const Right &right : rights)
        for (int64_t k = 0; k < right.K; k += V)
            columns[next++] = {&right, k, int(right.K - k < V ? right.K - k : V)};
    const int64_t chunks = (M + CHUNK - 1) / CHUNK, even = (M + chunks - 1) / chunks;
    const int64_t chunk = (even + pair - 1) / pair * pair; // pairs are not split
    for (int64_t m0 = 0; m0 < M; m0 += chunk) {
        const int64_t steps = M - m0 < chunk ? M - m0 : chunk, words = (steps + pair - 1) / pair;
        const bool add = m0 || more;
        for (int64_t v = 0, p = 0; v < vector_count; v++) {
            p += v >= first_of(p + 1);
            const RightColumns &from = columns[v];
            uint32_t *to = panel_words + (p * words * PANEL_VECTORS + v - first_of(p)) * V;
            auto value = [&](int64_t m) {
                const float *at = from.right->row(m) + from.first;
                return m >= M ? F{} : from.count == V ? load(at) : load(at, from.count);
            };
            for (int64_t k = 0; k < words; k++) {
                const int64_t m = m0 + k * pair;
                U word;
                if constexpr (half)
                    word = pair_bfloat16(value(m), m + 1 < M ? value(m + 1) : F{});
                else
                    word = bits<U>(value(m));
                memcpy(to + k * PANEL_VECTORS * V, &word, sizeof word);
            }
        }
        for (int64_t n0 = begin; n0 < end; n0 += GROUP) {
            const int64_t group = end - n0 < GROUP ? end - n0 : GROUP;
            F totals[GROUP_VECTORS] = {};
            // Values past the end of a row of `left` are those of the next one, and are not used.
            auto value = [&](int64_t m, int64_t column) {
                const int64_t at = m * N + column, here = M * N - at;
                return here >= V ? load(left + at) : here > 0 ? load(left + at, int(here)) : F{};
            };
            for (int64_t k = 0; k < words; k++) {
                const int64_t m = m0 + k * pair;
                if (m + AHEAD * pair < M) // rows may be far apart
                    for (int64_t r = 0; r < GROUP; r += 16)
                        __builtin_prefetch(left + (m + AHEAD * pair) * N + n0 + r);
                uint32_t row[GROUP];
                for (int j = 0; j < GROUP_VECTORS; j++) {
                    const F first = value(m, n0 + j * V);
                    U word = bits<U>(first);
                    totals[j] += first;
                    if constexpr (half) {
                        const F second = m + 1 < M ? value(m + 1, n0 + j * V) : F{};
                        totals[j] += second;
                        word = pair_bfloat16(first, second);
                    }
                    memcpy(row + j * V, &word, sizeof word);
                }
                for (int64_t s = 0; s < GROUP / STRIP; s++)
                    memcpy(strips + (s * words + k) * STRIP, row + s * STRIP, STRIP * sizeof(uint32_t));
            }
            if (sums)
                for_lanes(group, [&](int64_t r, auto lanes) {
                    const F total = totals[r / V];
                    lanes.store(sums + n0 + r, add ? lanes.load(sums + n0 + r) + total : total);
                });
            for (int64_t p = 0; p < panel_count; p++)
                for (int64_t r = 0; r < group; r += STRIP)
                    outer_tile_of<half>(first_of(p + 1) - first_of(p), strips + r * words,
                                        panel_words + p * words * PANEL_VECTORS * V, words, columns + first_of(p),
                                        n0 + r, group - r < STRIP ? group - r : STRIP, add);
        }
    }
}

} // namespace memorycell::MEMORYCELL_ISA
