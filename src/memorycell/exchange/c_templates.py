"""Templates of a C export: header, source and test, and the functions that the source uses."""

from __future__ import annotations

from string import Template

HEADER = Template("""\
/* Written by memorycell. One step of a live sequence: C99 and libm, no allocation, no globals
 * written.
 *
 *   float state[${NAME}_STATE], x[${NAME}_INPUTS], y[${NAME}_OUTPUTS];
 *   ${name}_init(state);
 *   for (;;) { read x; ${name}_step(state, x, y); use y; }
 *
 * Constants: $flash_bytes bytes (flash). A state: $state_bytes bytes. Local arrays of a step:
 * $stack_bytes bytes of stack. Several sequences: one state each.
$description */
#ifndef ${NAME}_H
#define ${NAME}_H

#include <stddef.h>

#define ${NAME}_STATE $state_size
#define ${NAME}_INPUTS $input_size
#define ${NAME}_OUTPUTS $output_size
#define ${NAME}_FLASH_BYTES $flash_bytes
#define ${NAME}_STACK_BYTES $stack_bytes

size_t ${name}_state_size(void); /* bytes */
void ${name}_init(float *state);
void ${name}_step(float *state, const float *x, float *y);

#endif
""")

SOURCE = Template("""\
/* Written by memorycell; see $name.h. */
#include "$name.h"

#include <math.h>
#include <stdint.h>

$constants
$functions
size_t ${name}_state_size(void) {
    return $state_size * sizeof(float);
}

void ${name}_init(float *state) {
    for (int k = 0; k < $state_size; k++)
        state[k] = 0.0f;
}

void ${name}_step(float *state, const float *x, float *y) {
$layers
    head(x, state + $hidden_at, state + $more_at, y);
}
""")

LAYER_HEAD = Template("""\
static void head(const float *x, const float *h, float *more, float *y) {
    (void)x;
    (void)more;
    for (int k = 0; k < $size; k++)
        y[k] = h[k];
}
""")

TEST = Template("""\
/* Runs the test vector of $name.c. Exit status 0: all outputs are within $bound of memorycell's. */
#include "$name.h"

#include <math.h>
#include <stdio.h>

static const float x[$steps][${NAME}_INPUTS] = {
$x};
static const float expected[$steps][${NAME}_OUTPUTS] = {
$expected};

int main(void) {
    float state[${NAME}_STATE], y[${NAME}_OUTPUTS], largest = 0.0f;
    int failed = 0;

    ${name}_init(state);
    for (int t = 0; t < $steps; t++) {
        ${name}_step(state, x[t], y);
        for (int k = 0; k < ${NAME}_OUTPUTS; k++) {
            const float scale = fmaxf(1.0f, fabsf(expected[t][k]));
            const float difference = fabsf(y[k] - expected[t][k]) / scale;
            failed |= !(difference <= ${bound}f);
            largest = fmaxf(largest, difference);
        }
    }
    printf("$name: $steps steps, largest difference %.3g (bound $bound): %s\\n",
           (double)largest, failed ? "FAILED" : "ok");
    printf("$name: %ld bytes of constants (flash), %ld bytes of state, "
           "%ld bytes of stack for arrays\\n",
           (long)${NAME}_FLASH_BYTES, (long)${name}_state_size(), (long)${NAME}_STACK_BYTES);
    return failed;
}
""")

FUNCTIONS = {
    "product": Template("""\
/* out [rows] = w [rows, columns] a [columns] + bias. Eight sums: a single one would wait for each
 * addition.
 */
static void product(const float *w, const float *bias, int rows, int columns,
                    const float *a, float *out) {
    for (int r = 0; r < rows; r++, w += columns) {
        float sums[8] = {0.0f}, sum = bias[r];
        int k = 0;

        for (; k + 8 <= columns; k += 8)
            for (int j = 0; j < 8; j++)
                sums[j] += w[k + j] * a[k + j];
        for (; k < columns; k++)
            sum += w[k] * a[k];
        for (int j = 0; j < 4; j++)
            sums[j] += sums[j + 4];
        out[r] = sum + ((sums[0] + sums[2]) + (sums[1] + sums[3]));
    }
}
"""),
    "product_blocks": Template("""\
/* The same with the weights of 16 rows next to each other, column by column: w[r][k] is at
 * 16 k + r of its block, so that the sums of several rows are computed at once. Rows after the last
 * complete block are as for product.
 */
#if defined __GNUC__ && (defined __SSE__ || defined __ARM_NEON)
#ifdef __AVX512F__
#define LANES 16
#elif defined __AVX__
#define LANES 8
#else
#define LANES 4
#endif
typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
#define ADD(i) s##i += *(const lanes *)(w + LANES * i) * a[k + LANES * i / 16]
#define STORE(i) *(lanes *)(out + LANES * i % 16) += s##i
static void add_block(const float *w, int columns, const float *a, float *out) {
    lanes s0 = {0.0f}, s1 = {0.0f}, s2 = {0.0f}, s3 = {0.0f};
    lanes s4 = {0.0f}, s5 = {0.0f}, s6 = {0.0f}, s7 = {0.0f};
    int k = 0;

    for (; k + LANES / 2 <= columns; k += LANES / 2, w += 8 * LANES) {
        ADD(0), ADD(1), ADD(2), ADD(3);
        ADD(4), ADD(5), ADD(6), ADD(7);
    }
    for (; k < columns; k++, w += 16)
        for (int j = 0; j < 16; j++)
            out[j] += w[j] * a[k];
    STORE(0), STORE(1), STORE(2), STORE(3);
    STORE(4), STORE(5), STORE(6), STORE(7);
}
#undef ADD
#undef STORE
#undef LANES
#else
static void add_block(const float *w, int columns, const float *a, float *out) {
    for (int j = 0; j < 16; j += 4) { /* four rows: few enough for registers */
        float s0 = 0.0f, s1 = 0.0f, s2 = 0.0f, s3 = 0.0f;

        for (int k = 0; k < columns; k++) {
            const float *v = w + 16L * k + j;
            s0 += v[0] * a[k];
            s1 += v[1] * a[k];
            s2 += v[2] * a[k];
            s3 += v[3] * a[k];
        }
        out[j] += s0;
        out[j + 1] += s1;
        out[j + 2] += s2;
        out[j + 3] += s3;
    }
}
#endif

static void product_blocks(const float *w, const float *bias, int rows, int columns,
                           const float *a, float *out) {
    int r = 0;

    for (; r + 16 <= rows; r += 16, w += 16L * columns) {
        for (int j = r; j < r + 16; j++)
            out[j] = bias[j];
        add_block(w, columns, a, out + r);
    }
    product(w, bias + r, rows - r, columns, a, out + r);
}
"""),
    "product_int8": Template("""\
/* As product, with int8 weights and a scale per row; a is quantised to 127 steps of its largest
 * value.
 */
static void product_int8(const signed char *w, const float *scale, const float *bias,
                         int rows, int columns, const float *a, float *out) {
    signed char q[$max_columns];
    float largest = 0.0f, unit;

    for (int k = 0; k < columns; k++)
        largest = fmaxf(largest, fabsf(a[k]));
    unit = largest > 0.0f ? largest / 127.0f : 1.0f;
    for (int k = 0; k < columns; k++)
        q[k] = (signed char)rintf(a[k] * (1.0f / unit));
    for (int r = 0; r < rows; r++) {
        long sum = 0;
        for (int k = 0; k < columns; k++)
            sum += (long)w[(long)r * columns + k] * q[k];
        out[r] = (float)sum * scale[r] * unit + bias[r];
    }
}
"""),
    "choose": Template("""\
/* yes ? a : b without a branch, so that a compiler can compute several at once. */
static inline float choose(int yes, float a, float b) {
    const uint32_t mask = -(uint32_t)(yes != 0);
    union {
        uint32_t bits;
        float value;
    } chosen, other;

    chosen.value = a;
    other.value = b;
    chosen.bits = (chosen.bits & mask) | (other.bits & ~mask);
    return chosen.value;
}
"""),
    "exponential": Template("""\
/* exp(x) for x from -87 to 88, and at these beyond, to 2e-7 of it; NaN stays NaN. x = n ln 2 + r; a
 * polynomial gives exp(r). Adding 3 * 2^22 leaves the nearest integer in the last bits.
 */
static inline float exponential(float x) {
    const float bounded = choose(x > 88.0f, 88.0f, choose(x < -87.0f, -87.0f, x));
    union {
        uint32_t bits;
        float value;
    } whole, power; /* n, 2^n */
    float n, r, p = 0.00138141909649f;

    whole.value = bounded * 1.44269504f + 12582912.0f;
    whole.bits -= 0x4b400000u;
    n = (float)(int32_t)whole.bits;
    r = bounded - n * 0.693359375f + n * 2.12194440e-4f;
    p = p * r + 0.00836891368384f;
    p = p * r + 0.0416684071819f;
    p = p * r + 0.166665190058f;
    p = p * r + 0.49999993338f;
    power.bits = (whole.bits + 127u) << 23;
    return (p * r * r + r + 1.0f) * power.value;
}
"""),
    "sigmoid": Template("""\
static inline float sigmoid(float x) {
    return 1.0f / (1.0f + exponential(-x));
}
"""),
    "hyperbolic_tangent": Template("""\
/* Near zero x + x^3 q(x^2), to keep the precision of small arguments; beyond, from the exponential.
 */
static inline float hyperbolic_tangent(float x) {
    const float magnitude = fabsf(x), z = x * x;
    const float large = 1.0f - 2.0f / (exponential(2.0f * magnitude) + 1.0f);
    float q = -0.00570498695913f;

    q = q * z + 0.0206390871791f;
    q = q * z - 0.0537397150508f;
    q = q * z + 0.133314421975f;
    q = q * z - 0.33333281942f;
    return choose(magnitude < 0.625f, x + x * z * q, copysignf(large, x));
}
"""),
    "positive": Template("""\
static inline float positive(float x) {
    return choose(x < 0.0f, sigmoid(x), x + 0.5f);
}
"""),
    "softplus": Template("""\
/* log(1 + exp(x)), to 3e-7 of it, from log(1 + e) = 2 artanh(s) with s = e / (2 + e). */
static inline float softplus(float x) {
    const float e = exponential(-fabsf(x)), s = e / (2.0f + e), z = s * s;
    float sum = 2.0f / 15.0f;

    sum = sum * z + 2.0f / 13.0f;
    sum = sum * z + 2.0f / 11.0f;
    sum = sum * z + 2.0f / 9.0f;
    sum = sum * z + 2.0f / 7.0f;
    sum = sum * z + 2.0f / 5.0f;
    sum = sum * z + 2.0f / 3.0f;
    return choose(x > 0.0f, x, 0.0f) + (s * z * sum + 2.0f * s);
}
"""),
    "normalise": Template("""\
/* v = gain (v - mean v) / sqrt(var v + 1e-5) + bias */
static void normalise(float *v, int size, const float *gain, const float *bias) {
    float mean = 0.0f, squares = 0.0f, scale;

    for (int k = 0; k < size; k++)
        mean += v[k];
    mean /= (float)size;
    for (int k = 0; k < size; k++)
        squares += (v[k] - mean) * (v[k] - mean);
    scale = 1.0f / sqrtf(squares / (float)size + 1e-5f);
    for (int k = 0; k < size; k++)
        v[k] = (v[k] - mean) * scale * gain[k] + bias[k];
}
"""),
}
"""What the layers and the head call. $max_columns: the largest input of a product."""
