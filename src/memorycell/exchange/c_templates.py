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
    "product_int8": Template("""\
/* The same with int8 weights and a scale per row; a is quantised to 127 steps of its largest value.
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
    "exponential": Template("""\
/* exp(x) for x from -87 to 88, and at these beyond, to 2e-7 of it; NaN stays NaN. Without branches,
 * so that a compiler can compute several at once. x = n ln 2 + r; a polynomial gives exp(r).
 */
static float exponential(float x) {
    const float above = x > -87.0f ? x : -87.0f, bounded = above < 88.0f ? above : 88.0f;
    const float shifted = bounded * 1.44269504f;
    const int n = (int)(shifted + (shifted < 0.0f ? -0.5f : 0.5f));
    const float r = bounded - (float)n * 0.693359375f + (float)n * 2.12194440e-4f;
    union {
        uint32_t bits;
        float value;
    } power; /* 2^n */
    float p = 0.00138141909649f, y;

    p = p * r + 0.00836891368384f;
    p = p * r + 0.0416684071819f;
    p = p * r + 0.166665190058f;
    p = p * r + 0.49999993338f;
    power.bits = (uint32_t)(n + 127) << 23;
    y = (p * r * r + r + 1.0f) * power.value;
    return x == x ? y : x;
}
"""),
    "sigmoid": Template("""\
static float sigmoid(float x) {
    return 1.0f / (1.0f + exponential(-x));
}
"""),
    "hyperbolic_tangent": Template("""\
/* Near zero x + x^3 q(x^2), to keep the precision of small arguments; beyond, from the exponential.
 */
static float hyperbolic_tangent(float x) {
    const float magnitude = fabsf(x), z = x * x;
    const float large = 1.0f - 2.0f / (exponential(2.0f * magnitude) + 1.0f);
    const float signed_large = copysignf(large, x);
    float q = -0.00570498695913f, small;

    q = q * z + 0.0206390871791f;
    q = q * z - 0.0537397150508f;
    q = q * z + 0.133314421975f;
    q = q * z - 0.33333281942f;
    small = x + x * z * q;
    return magnitude < 0.625f ? small : signed_large;
}
"""),
    "positive": Template("""\
static float positive(float x) {
    return x < 0.0f ? sigmoid(x) : x + 0.5f;
}
"""),
    "softplus": Template("""\
/* log(1 + exp(x)) */
static float softplus(float x) {
    return fmaxf(x, 0.0f) + log1pf(exponential(-fabsf(x)));
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
