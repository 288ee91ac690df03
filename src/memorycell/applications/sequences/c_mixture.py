"""The random convolutions of a sequence model in C99."""

from __future__ import annotations

from string import Template

from memorycell.applications.sequences.mixture import (
    KERNELS,
    MAX_INPUT,
    SCALE,
    TAPS,
    RandomConvolutions,
)
from memorycell.models.exporting import CWriter

MIXTURE = Template("""\
/* Random convolutions of the rows of x, whole numbers, and a classifier of the shares of rows at
   which they are above their biases; y receives the scores of the mixture with the networks'. */
static void mix(const float *x, float *more, float *y) {
    enum { D = $dilations, R = $row_size, PAST = $past, N = $biases, C = $classes, K = 9 };
    float *counts = more + (long)PAST * R, *rows_read = counts + (long)D * $kernels * N;
    float taps[K][R], total[R], scores[C], largest, sum;

    for (int row = 0; row < $patch; row++) {
        for (int r = 0; r < R; r++) {
            const float bounded = fminf(fmaxf(x[row * R + r], -$max_input), $max_input);
            taps[K - 1][r] = rintf(bounded * $scale);
        }
        for (int d = 0; d < D; d++) {
            const int dilation = (int)mix_dilations[d];
            int kernel = 0;
            for (int r = 0; r < R; r++) {
                total[r] = taps[K - 1][r];
                for (int k = 0; k < K - 1; k++)
                    total[r] += taps[k][r] = more[(long)(PAST - (K - 1 - k) * dilation) * R + r];
            }
            for (int a = 0; a < K; a++)
                for (int b = a + 1; b < K; b++)
                    for (int c = b + 1; c < K; c++, kernel++) {
                        const long at = (long)d * $kernels + kernel;
                        const int skips = (d + kernel) % 2;
                        float value = 0.0f;
                        for (int r = 0; r < R; r++)
                            value += mix_channels[at * R + r]
                                     * (3.0f * (taps[a][r] + taps[b][r] + taps[c][r]) - total[r]);
                        for (int n = 0; n < N; n++) {
                            float *own = counts + at * N + n;
                            if (skips && rows_read[0] == (K - 1) * dilation)
                                *own = 0.0f;
                            *own += value > mix_biases[at * N + n];
                        }
                    }
        }
        for (long k = 0; k < (long)(PAST - 1) * R; k++)
            more[k] = more[k + R];
        for (int r = 0; r < R; r++)
            more[(long)(PAST - 1) * R + r] = taps[K - 1][r];
        rows_read[0] += 1.0f;
    }
    for (int u = 0; u < C; u++)
        scores[u] = mix_bias[u];
    for (int d = 0; d < D; d++)
        for (int kernel = 0; kernel < $kernels; kernel++) {
            const float reach = (K - 1) * mix_dilations[d];
            const int fewer = (d + kernel) % 2 && rows_read[0] > reach;
            const float size = fewer ? rows_read[0] - reach : rows_read[0];
            for (int n = 0; n < N; n++) {
                const long at = ((long)d * $kernels + kernel) * N + n;
                const float feature = (counts[at] + mix_expected[at]) / (size + $prior);
                for (int u = 0; u < C; u++)
                    scores[u] += mix_weight[at * C + u] * feature;
            }
        }
    for (int part = 0; part < 2; part++) {
        float *s = part ? scores : y;
        largest = s[0], sum = 0.0f;
        for (int u = 1; u < C; u++)
            largest = fmaxf(largest, s[u]);
        for (int u = 0; u < C; u++)
            sum += s[u] = expf(s[u] - largest);
        for (int u = 0; u < C; u++)
            s[u] *= (part ? $share : $rest) / sum;
    }
    for (int u = 0; u < C; u++)
        y[u] = logf(fmaxf(y[u] + scores[u], 1.17549435e-38f));
}

""")


def mixture_in_c(writer: CWriter, random: RandomConvolutions) -> str:
    """The function `mix`, which reads a step's input x and updates `more`, the state of `random`,
    and y.
    """
    writer.constant("mix_dilations", random.dilations)
    writer.constant("mix_channels", random.channels)
    writer.constant("mix_biases", random.biases)
    writer.constant("mix_expected", random.expected)
    writer.constant("mix_weight", random.weight.T.contiguous())
    writer.constant("mix_bias", random.bias)
    share = float(random.share)
    return MIXTURE.substitute(
        dilations=len(random.dilations),
        row_size=random.row_size,
        past=random.past,
        biases=random.biases.shape[2],
        classes=len(random.bias),
        kernels=KERNELS,
        patch=random.patch,
        max_input=f"{MAX_INPUT:.1f}f",
        scale=f"{SCALE:.1f}f",
        prior=_number(float(random.prior)),
        share=_number(share),
        rest=_number(1 - share),
    )


def _number(value: float) -> str:
    return f"{value:.9e}f"


def stack_bytes(random: RandomConvolutions) -> int:
    """Of the local arrays."""
    return 4 * ((TAPS + 1) * random.row_size + len(random.bias))
