// The vector type of the instruction set this file is compiled for, and its exp, sigmoid and tanh.
//
// GCC's and Clang's vector types: one source for AVX-512, AVX2, SSE and NEON. Everything is in a namespace per
// instruction set, and no standard library function with generated code is used here: the linker could keep the copy
// compiled for the widest instruction set and run it on a processor without it.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
#include <immintrin.h>
#define MEMORYCELL_WIDTH 16
#elif defined(__AVX2__)
#define MEMORYCELL_WIDTH 8
#else
#define MEMORYCELL_WIDTH 4
#endif

namespace memorycell::MEMORYCELL_ISA {

constexpr int V = MEMORYCELL_WIDTH;
typedef float F __attribute__((vector_size(V * 4), may_alias));
typedef int32_t I __attribute__((vector_size(V * 4), may_alias));
typedef uint32_t U __attribute__((vector_size(V * 4), may_alias));
typedef uint8_t Bytes __attribute__((vector_size(V), may_alias));

inline F splat(float x) { return x - F{}; }
inline I splat_int(int32_t x) { return x - I{}; }

inline F load(const float *p) {
    F v;
    memcpy(&v, p, sizeof v);
    return v;
}
inline void store(float *p, F v) { memcpy(p, &v, sizeof v); }
inline F load(const float *p, int n) {
    F v{};
    memcpy(&v, p, n * sizeof(float));
    return v;
}
inline void store(float *p, F v, int n) { memcpy(p, &v, n * sizeof(float)); }

// Prefetches `count` values from p, to be read or written.
inline void fetch(const float *p, int64_t count) {
    for (int64_t u = 0; u < count; u += 16)
        __builtin_prefetch(p + u);
}
inline void fetch_to_write(float *p, int64_t count) {
    for (int64_t u = 0; u < count; u += 16)
        __builtin_prefetch(p + u, 1);
}

template <class To, class From> inline To bits(From from) {
    To to;
    static_assert(sizeof to == sizeof from);
    memcpy(&to, &from, sizeof to);
    return to;
}

// NaN is propagated: for NaN the instructions return their second argument.
[[gnu::always_inline]] inline F at_most(F x, float bound) {
#if defined(__AVX512F__)
    return bits<F>(_mm512_min_ps(_mm512_set1_ps(bound), bits<__m512>(x)));
#else
    return x > bound ? splat(bound) : x;
#endif
}
[[gnu::always_inline]] inline F at_least(F x, float bound) {
#if defined(__AVX512F__)
    return bits<F>(_mm512_max_ps(_mm512_set1_ps(bound), bits<__m512>(x)));
#else
    return x < bound ? splat(bound) : x;
#endif
}

// These are inlined always: a call would cost as much as the function, and the results of several could not be computed
// at the same time. The compiler's own estimate of the growth of the code is wrong here.

// x = n ln 2 + r with |r| <= ln(2)/2; p: e^r - 1 - r over r^2, a minimax polynomial.
struct Reduced {
    F r, p, scale; // scale: 2^n
};
[[gnu::always_inline]] inline Reduced reduce(F x) {
    const F magic = splat(12582912.0f); // 1.5 * 2^23: adding it rounds to an integer
    F n = x * 1.44269504f + magic;
    const U whole = bits<U>(n); // unsigned: the value for NaN may wrap
    n -= magic;
    F r = x - n * 0.693359375f;
    r += n * 2.12194440e-4f;
    F p = splat(0.00138141909649f);
    p = p * r + 0.00836891368384f;
    p = p * r + 0.0416684071819f;
    p = p * r + 0.166665190058f;
    p = p * r + 0.49999993338f;
    return {r, p, bits<F>(U((whole + 127u) << 23))};
}

// e^x to 1 ulp; e^-87 below -87, infinity from 88.4: a gate is exactly 0 or 1 for infinite inputs. NaN stays NaN.
[[gnu::always_inline]] inline F exp(F x) {
    const Reduced e = reduce(at_least(at_most(x, 89.0f), -87.0f));
    return (e.p * e.r * e.r + e.r + 1.0f) * e.scale;
}

[[gnu::always_inline]] inline F sigmoid(F x) { return 1.0f / (1.0f + exp(-x)); }

// ln(1 + u) for 0 <= u <= 1: 2 artanh(s) with s = u / (2 + u) <= 1/3, to the term of s^13.
[[gnu::always_inline]] inline F log1p(F u) {
    const F s = u / (2.0f + u), z = s * s;
    F q = splat(0.0769230769f);
    q = q * z + 0.0909090909f;
    q = q * z + 0.111111111f;
    q = q * z + 0.142857143f;
    q = q * z + 0.2f;
    q = q * z + 0.333333333f;
    return 2.0f * (s + s * z * q);
}

// ln sigmoid(x) = min(x, 0) - ln(1 + e^-|x|)
[[gnu::always_inline]] inline F log_sigmoid(F x) {
    const F magnitude = bits<F>(U(bits<U>(x) & 0x7fffffffu));
    return at_most(x, 0.0f) - log1p(exp(-magnitude));
}

// Near zero x + x^3 q(x^2), to keep the precision of small arguments; beyond, 1 - 2 / (e^2|x| + 1) with the sign of x,
// which is 1 from |x| = 10.
[[gnu::always_inline]] inline F tanh(F x) {
    const U sign = bits<U>(x) & 0x80000000u;
    const F magnitude = bits<F>(U(bits<U>(x) & 0x7fffffffu));
    const Reduced e = reduce(at_most(magnitude + magnitude, 40.0f));
    const F large = 1.0f - 2.0f / ((e.p * e.r * e.r + e.r + 1.0f) * e.scale + 1.0f);
    const F z = x * x;
    F q = splat(-0.00570498695913f);
    q = q * z + 0.0206390871791f;
    q = q * z - 0.0537397150508f;
    q = q * z + 0.133314421975f;
    q = q * z - 0.33333281942f;
    return magnitude < 0.625f ? x + x * z * q : bits<F>(U(bits<U>(large) | sign));
}

inline float sum(F v) { // in a fixed order: halves onto each other
    for (int width = V / 2; width > 0; width /= 2)
        for (int k = 0; k < width; k++)
            v[k] += v[k + width];
    return v[0];
}

// Calls body(u, n) for every vector of a row of `count` values; n is V except for the last. The two calls are separate
// so that the full one compiles to plain loads and stores.
template <int N> struct Lanes {
    static constexpr bool full = N == V;
    int n = N;
    F load(const float *p) const { return full ? MEMORYCELL_ISA::load(p) : MEMORYCELL_ISA::load(p, n); }
    void store(float *p, F v) const { full ? MEMORYCELL_ISA::store(p, v) : MEMORYCELL_ISA::store(p, v, n); }
};
template <class Body> inline void for_lanes(int64_t count, Body body) {
    int64_t u = 0;
    for (; u + V <= count; u += V)
        body(u, Lanes<V>{});
    if (u < count)
        body(u, Lanes<0>{int(count - u)});
}

// The same with a number 0 .. SUMS - 1, body(u, n, j), for independent sums: a single one would wait for every
// addition.
constexpr int SUMS = 4;
template <class Body> inline void for_lanes_apart(int64_t count, Body body) {
    int64_t u = 0;
    for (; u + SUMS * V <= count; u += SUMS * V) {
        body(u, Lanes<V>{}, 0), body(u + V, Lanes<V>{}, 1);
        body(u + 2 * V, Lanes<V>{}, 2), body(u + 3 * V, Lanes<V>{}, 3);
    }
    for (; u + V <= count; u += V)
        body(u, Lanes<V>{}, 0);
    if (u < count)
        body(u, Lanes<0>{int(count - u)}, 0);
}
inline float sum(const F (&sums)[SUMS]) { return sum((sums[0] + sums[1]) + (sums[2] + sums[3])); }

// Whether no value is NaN or infinite.
inline bool all_finite(const float *p, int64_t count) {
    constexpr uint32_t exponent = 0x7f800000u; // all ones for NaN and infinity alone
    I odd{};
    for_lanes(count, [&](int64_t u, auto lanes) { odd |= (bits<U>(lanes.load(p + u)) & exponent) == exponent; });
    int32_t any = 0;
    for (int k = 0; k < V; k++)
        any |= odd[k];
    return !any;
}

template <int N> struct Number { // a compile-time count, as an argument
    static constexpr int value = N;
};

inline uint16_t to_bfloat16(float x) { // round to nearest even; NaN stays NaN
    uint32_t u;
    memcpy(&u, &x, 4);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return uint16_t((u >> 16) | 64);
    return uint16_t((u + 0x7fffu + ((u >> 16) & 1)) >> 16);
}

inline U round_bfloat16(F x) { // the same for a vector; results in the upper halves
    const U u = bits<U>(x), odd = (u >> 16) & 1u;
    return (u & 0x7fffffffu) > 0x7f800000u ? u | 0x400000u : u + 0x7fffu + odd;
}

} // namespace memorycell::MEMORYCELL_ISA
