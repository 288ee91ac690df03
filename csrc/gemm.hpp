// C [M, N] = A [M, K] W^T with W [N, K] packed once: panels of TILE columns, contiguous over K.
//
//   float32    panel[k][TILE]
//   bfloat16   panel[k / 2][TILE][2]: pairs for the dot product of two; sums in float32
//   int8       panel[k / 4][TILE][4]: int8 weights with one scale per row, uint8 activations with one scale per row of
//   A, int32 sums
//
// Every sum runs over k in order for any number of rows, so a row of C is bitwise independent of the other rows.
#pragma once

#include <utility>

#include "engine.hpp"
#include "simd.hpp"

namespace memorycell::MEMORYCELL_ISA {

constexpr int NV = V == 16 ? 4 : 2; // vectors in a panel: with ROWS rows the accumulators fill the registers
constexpr int TILE = NV * V;
constexpr int ROWS = 6;
constexpr int SIDE = V == 16 ? 2 : 4; // panels per pass of a single row, to hide the latency of its few sums

inline int64_t panels(int64_t n) { return (n + TILE - 1) / TILE; }
inline int64_t depth(int64_t k, Precision p) { // values of k in a panel, padded with zeros
    const int group = p == Precision::float32 ? 1 : p == Precision::bfloat16 ? 2 : 4;
    return (k + group - 1) / group * group;
}
inline size_t value_bytes(Precision p) { return p == Precision::float32 ? 4 : p == Precision::bfloat16 ? 2 : 1; }

inline size_t packed_bytes(int64_t n, int64_t k, Precision p) {
    return size_t(panels(n)) * TILE * depth(k, p) * value_bytes(p);
}

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define MEMORYCELL_TRANSPOSES
// Interleaves the lower or the upper halves of a and b.
template <int from, int... lane> inline F interleave(F a, F b, std::integer_sequence<int, lane...>) {
    return __builtin_shufflevector(a, b, (from + lane / 2 + lane % 2 * V)...);
}
// Transposes V rows of V values in log2(V) rounds of interleaving.
inline void transpose(F (&rows)[V]) {
    constexpr std::make_integer_sequence<int, V> lanes;
    for (int round = 1; round < V; round *= 2) {
        F next[V];
        for (int i = 0; i < V / 2; i++) {
            next[2 * i] = interleave<0>(rows[i], rows[i + V / 2], lanes);
            next[2 * i + 1] = interleave<V / 2>(rows[i], rows[i + V / 2], lanes);
        }
        memcpy(rows, next, sizeof next);
    }
}
#endif
#endif

inline void convert_bfloat16(const float *a, int64_t K, uint16_t *out) {
    int64_t k = 0;
#if defined(__AVX512BF16__)
    for (; k + 16 <= K; k += 16) {
        const __m256bh v = _mm512_cvtneps_pbh(_mm512_loadu_ps(a + k));
        memcpy(out + k, &v, 32);
    }
#endif
    for (; k < K; k++)
        out[k] = to_bfloat16(a[k]);
    for (; k < depth(K, Precision::bfloat16); k++)
        out[k] = 0;
}

// Words of two bfloat16 values, one of each vector.
[[gnu::always_inline]] inline U pair_bfloat16(F first, F second) {
#if defined(__AVX512BF16__)
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                           21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    const __m512bh both = _mm512_cvtne2ps_pbh(bits<__m512>(second), bits<__m512>(first));
    return bits<U>(_mm512_permutexvar_epi16(order, bits<__m512i>(both)));
#else
    return (round_bfloat16(first) >> 16) | (round_bfloat16(second) & 0xffff0000u);
#endif
}

// Packs full panels of a row-major matrix, V x V words of float32 or of pairs of bfloat16 at a time. Returns the number
// of packed columns; the caller packs the rest.
inline int64_t pack_blocks(const float *w, int64_t row_stride, const Packed &packed, int64_t panel, void *data) {
    int64_t k = 0;
#if defined(MEMORYCELL_TRANSPOSES)
    const bool half = packed.precision == Precision::bfloat16;
    const int64_t step = half ? 2 * V : V; // columns
    auto *to = static_cast<float *>(data); // of words
    if (packed.rows - panel * TILE >= TILE && packed.precision != Precision::int8)
        for (; k + step <= packed.columns; k += step)
            for (int j = 0; j < NV; j++) {
                F block[V];
                for (int i = 0; i < V; i++) {
                    const float *row = w + (panel * TILE + j * V + i) * row_stride + k;
                    if (half)
                        convert_bfloat16(row, 2 * V, reinterpret_cast<uint16_t *>(&block[i]));
                    else
                        block[i] = load(row);
                }
                transpose(block);
                for (int i = 0; i < V; i++)
                    store(to + (k * V / step + i) * TILE + j * V, block[i]);
            }
#endif
    return k;
}

// Packs panels of the transpose of a row-major matrix: full lines of it, or of pairs of them for bfloat16.
inline void pack_lines(const float *w, int64_t column_stride, const Packed &packed) {
    const bool half = packed.precision == Precision::bfloat16;
    const int64_t N = packed.rows, K = packed.columns, group = half ? 2 : 1, words = depth(K, packed.precision) / group;
    for (int64_t p = 0; p < panels(N); p++)
        for (int64_t k = 0; k < words; k++)
            for (int j = 0; j < NV; j++) {
                const int64_t n = p * TILE + j * V, here = N - n < V ? N - n : V;
                auto line = [&](int64_t k) {
                    const float *from = w + k * column_stride + n;
                    return k >= K || here <= 0 ? F{} : here == V ? load(from) : load(from, int(here));
                };
                const U word = half ? pair_bfloat16(line(2 * k), line(2 * k + 1)) : bits<U>(line(k));
                memcpy(static_cast<uint32_t *>(packed.data) + (p * words + k) * TILE + j * V, &word, sizeof word);
            }
}

inline void pack(const float *w, int64_t row_stride, int64_t column_stride, Packed &packed) {
    const int64_t N = packed.rows, K = packed.columns, D = depth(K, packed.precision);
    auto at = [&](int64_t n, int64_t k) { return n < N && k < K ? w[n * row_stride + k * column_stride] : 0.0f; };
    if (packed.precision == Precision::int8)
        for (int64_t n = 0; n < panels(N) * TILE; n++) {
            float largest = 0;
            for (int64_t k = 0; k < K; k++)
                largest = largest > __builtin_fabsf(at(n, k)) ? largest : __builtin_fabsf(at(n, k));
            packed.scale[n] = largest > 0 ? largest / 127.0f : 1.0f;
            packed.sum[n] = 0;
        }
    if (packed.precision != Precision::int8 && row_stride == 1)
        return pack_lines(w, column_stride, packed);
    constexpr int64_t LINE = 16; // columns at a time: one cache line of W; the panel's lines stay in cache
    for (int64_t p = 0; p < panels(N); p++) {
        const int64_t base = p * TILE * D;
        int64_t first = 0;
        if (column_stride == 1)
            first = pack_blocks(w, row_stride, packed, p,
                                static_cast<uint8_t *>(packed.data) + base * value_bytes(packed.precision));
        for (; first < D; first += LINE)
            for (int j = 0; j < TILE; j++) {
                const int64_t n = p * TILE + j, real = n < N ? K : 0;
                const float *row = w + n * row_stride;
                for (int64_t k = first; k < D && k < first + LINE; k++) {
                    const float value = k < real ? row[k * column_stride] : 0.0f;
                    if (packed.precision == Precision::float32) {
                        static_cast<float *>(packed.data)[base + k * TILE + j] = value;
                    } else if (packed.precision == Precision::bfloat16) {
                        static_cast<uint16_t *>(packed.data)[base + (k / 2 * TILE + j) * 2 + k % 2] =
                            to_bfloat16(value);
                    } else {
                        const int q = n < N ? int(__builtin_rintf(value / packed.scale[n])) : 0;
                        static_cast<int8_t *>(packed.data)[base + (k / 4 * TILE + j) * 4 + k % 4] = int8_t(q);
                        if (n < N)
                            packed.sum[n] += q;
                    }
                }
            }
    }
}

// ---- rows of A in the kernels' format -------------------------------------------------------------------------------

inline size_t align64(size_t bytes) { return (bytes + 63) / 64 * 64; }

// Bytes for M converted rows and their scales; none for float32, which is read in place.
inline size_t product_scratch(const Packed &w, int64_t M) {
    if (w.precision == Precision::float32)
        return 0;
    return align64(M * depth(w.columns, w.precision) * value_bytes(w.precision)) + align64(M * sizeof(float));
}

// uint8 = round(a / scale) + 128; returns the scale. A row with NaN gets scale NaN, so NaN is propagated.
inline float convert_int8(const float *a, int64_t K, uint8_t *out) {
    F most = splat(0), odd = splat(0);
    for_lanes(K, [&](int64_t u, auto lanes) {
        const F v = lanes.load(a + u);
        const F magnitude = bits<F>(U(bits<U>(v) & 0x7fffffffu));
        most = magnitude > most ? magnitude : most;
        odd += v * 0.0f; // NaN if v is NaN or infinite
    });
    float largest = 0;
    for (int k = 0; k < V; k++)
        largest = most[k] > largest ? most[k] : largest;
    const float scale = largest > 0 ? largest / 127.0f : 1.0f, inverse = 1.0f / scale;
    const F magic = splat(12582912.0f);
    const int64_t D = depth(K, Precision::int8);
    for_lanes(K, [&](int64_t u, auto lanes) {
        const F v = lanes.load(a + u) * inverse + magic; // the integer is in the low bits
        const I q = bits<I>(v) - 0x4B400000 + 128;
        const Bytes narrow = __builtin_convertvector(q, Bytes);
        memcpy(out + u, &narrow, lanes.n);
    });
    for (int64_t k = K; k < D; k++)
        out[k] = 128; // multiplied by zero weights
    return scale + sum(odd);
}

// ---- kernels: R rows, P adjacent panels -----------------------------------------------------------------------------
//
// Row r of A at k is at a[r * lda + k].

// Stored by value, so that the compiler can keep it in registers.
template <class Sum, int R, int P> struct Sums {
    Sum at[R][P * NV];
};

template <int R, int P>
[[gnu::noinline]] Sums<F, R, P> kernel_float32(const float *a, int64_t lda, const float *w, int64_t K) {
    Sums<F, R, P> sums{};
    for (int64_t k = 0; k < K; k++)
        for (int p = 0; p < P; p++) {
            F b[NV];
            for (int j = 0; j < NV; j++)
                b[j] = load(w + (p * K + k) * TILE + j * V);
            for (int r = 0; r < R; r++)
                for (int j = 0; j < NV; j++)
                    sums.at[r][p * NV + j] += a[r * lda + k] * b[j];
        }
    return sums;
}

constexpr auto dot_bfloat16 = [](F acc, U a, U b) -> F {
#if defined(__AVX512BF16__)
    return bits<F>(_mm512_dpbf16_ps(bits<__m512>(acc), bits<__m512bh>(a), bits<__m512bh>(b)));
#else
    acc += bits<F>(U(a << 16)) * bits<F>(U(b << 16));
    return acc + bits<F>(U(a & 0xffff0000u)) * bits<F>(U(b & 0xffff0000u));
#endif
};

constexpr auto dot_int8 = [](I acc, U a, U weights) -> I { // a: four uint8, weights: four int8
    const I b = bits<I>(weights);
#if defined(__AVX512VNNI__)
    return bits<I>(_mm512_dpbusd_epi32(bits<__m512i>(acc), bits<__m512i>(a), bits<__m512i>(b)));
#else
    for (int k = 0; k < 4; k++)
        acc += I((a >> (8 * k)) & 0xffu) * ((b << (24 - 8 * k)) >> 24);
    return acc;
#endif
};

template <class Sum, int R, int P, class Dot>
[[gnu::noinline]] Sums<Sum, R, P> kernel_grouped(const uint32_t *a, int64_t lda, const uint32_t *w, int64_t groups,
                                                 Dot dot) {
    Sums<Sum, R, P> sums{};
    for (int64_t k = 0; k < groups; k++)
        for (int p = 0; p < P; p++) {
            U b[NV];
            for (int j = 0; j < NV; j++)
                memcpy(&b[j], w + (p * groups + k) * TILE + j * V, sizeof(U));
            for (int r = 0; r < R; r++) {
                const U s = a[r * lda + k] - U{};
                for (int j = 0; j < NV; j++)
                    sums.at[r][p * NV + j] = dot(sums.at[r][p * NV + j], s, b[j]);
            }
        }
    return sums;
}

// The product of R rows with the panels [panel, panel + P).
template <int R, int P>
inline void tile(const Packed &w, int64_t panel, const void *a, const float *a_scale, int64_t lda, const float *bias,
                 float *c, int64_t ldc) {
    const int64_t K = w.columns, D = depth(K, w.precision), N = w.rows;
    Sums<F, R, P> out;
    if (w.precision == Precision::float32) {
        out = kernel_float32<R, P>(static_cast<const float *>(a), lda,
                                   static_cast<const float *>(w.data) + panel * TILE * D, K);
    } else if (w.precision == Precision::bfloat16) {
        const auto *data = static_cast<const uint32_t *>(w.data) + panel * TILE * D / 2;
        out = kernel_grouped<F, R, P>(static_cast<const uint32_t *>(a), D / 2, data, D / 2, dot_bfloat16);
    } else {
        const auto *data = static_cast<const uint32_t *>(w.data) + panel * TILE * D / 4;
        const auto sums = kernel_grouped<I, R, P>(static_cast<const uint32_t *>(a), D / 4, data, D / 4, dot_int8);
        for (int j = 0; j < P * NV; j++) {
            const int64_t n = panel * TILE + j * V;
            if (n >= N)
                break;
            I offset; // both are padded to full panels
            memcpy(&offset, w.sum + n, sizeof offset);
            const F scale = load(w.scale + n);
            for (int r = 0; r < R; r++)
                out.at[r][j] = __builtin_convertvector(sums.at[r][j] - offset * 128, F) * scale * a_scale[r];
        }
    }
    for (int j = 0; j < P * NV; j++) {
        const int64_t n = panel * TILE + j * V;
        if (n >= N)
            break;
        const int here = int(N - n < V ? N - n : V);
        const F add = !bias ? splat(0) : here == V ? load(bias + n) : load(bias + n, here);
        for (int r = 0; r < R; r++)
            here == V ? store(c + r * ldc + n, out.at[r][j] + add) : store(c + r * ldc + n, out.at[r][j] + add, here);
    }
}

// The same for an unpacked W: every output is a dot product of two rows, four rows of W at a time.
inline void plain_product(const Packed &w, const float *a, int64_t lda, int64_t M, float *c, int64_t ldc,
                          const float *bias) {
    constexpr int SIDE_BY_SIDE = 4;
    const int64_t N = w.rows, K = w.columns;
    for (int64_t n = 0; n < N; n += SIDE_BY_SIDE)
        for (int64_t m = 0; m < M; m++) {
            const float *row = a + m * lda, *of[SIDE_BY_SIDE];
            F acc[SIDE_BY_SIDE] = {};
            for (int j = 0; j < SIDE_BY_SIDE; j++)
                of[j] = w.plain + (n + j < N ? n + j : N - 1) * K;
            for_lanes(K, [&](int64_t k, auto lanes) {
                const F x = lanes.load(row + k);
                for (int j = 0; j < SIDE_BY_SIDE; j++)
                    acc[j] += x * lanes.load(of[j] + k);
            });
            for (int j = 0; j < SIDE_BY_SIDE && n + j < N; j++)
                c[m * ldc + n + j] = sum(acc[j]) + (bias ? bias[n + j] : 0.0f);
        }
}

// C [M, N] with row stride ldc = A [M, K] with row stride lda, times W^T, plus the bias [N] if there is one.
inline void product(const Packed &w, const float *a, int64_t lda, int64_t M, float *c, int64_t ldc, void *scratch,
                    const float *bias = nullptr) {
    if (w.plain)
        return plain_product(w, a, lda, M, c, ldc, bias);
    const void *rows = a;
    const float *scales = nullptr;
    size_t row_bytes = lda * sizeof(float);
    if (w.precision != Precision::float32) {
        const int64_t D = depth(w.columns, w.precision);
        row_bytes = D * value_bytes(w.precision);
        auto *values = static_cast<uint8_t *>(scratch);
        auto *row_scales = reinterpret_cast<float *>(values + align64(M * row_bytes));
        for (int64_t m = 0; m < M; m++)
            if (w.precision == Precision::bfloat16)
                convert_bfloat16(a + m * lda, w.columns, reinterpret_cast<uint16_t *>(values + m * row_bytes));
            else
                row_scales[m] = convert_int8(a + m * lda, w.columns, values + m * row_bytes);
        rows = values;
        scales = row_scales;
    }
    const int64_t count = panels(w.rows);
    auto block = [&](auto r, auto side, int64_t panel, int64_t m) {
        tile<r.value, side.value>(w, panel, static_cast<const uint8_t *>(rows) + m * row_bytes,
                                  scales ? scales + m : nullptr, lda, bias, c + m * ldc, ldc);
    };
    if (M == 1) {
        int64_t p = 0;
        for (; p + SIDE <= count; p += SIDE)
            block(Number<1>{}, Number<SIDE>{}, p, 0);
        for (; p < count; p++)
            block(Number<1>{}, Number<1>{}, p, 0);
        return;
    }
    for (int64_t p = 0; p < count; p++) {
        int64_t m = 0;
        for (; m + ROWS <= M; m += ROWS)
            block(Number<ROWS>{}, Number<1>{}, p, m);
        switch (M - m) {
        case 1:
            block(Number<1>{}, Number<1>{}, p, m);
            break;
        case 2:
            block(Number<2>{}, Number<1>{}, p, m);
            break;
        case 3:
            block(Number<3>{}, Number<1>{}, p, m);
            break;
        case 4:
            block(Number<4>{}, Number<1>{}, p, m);
            break;
        case 5:
            block(Number<5>{}, Number<1>{}, p, m);
            break;
        default:
            break;
        }
    }
}

} // namespace memorycell::MEMORYCELL_ISA
