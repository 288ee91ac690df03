"""The pooling and the head of a sequence model in C99."""

from __future__ import annotations

from collections.abc import Sequence
from string import Template
from typing import TYPE_CHECKING

import numpy as np

from memorycell.applications.sequences.c_convolutions import (
    CONVOLVE,
    branch_in_c,
    stack_bytes,
)
from memorycell.applications.sequences.c_mixture import mixture_in_c
from memorycell.applications.sequences.c_mixture import stack_bytes as mixture_stack_bytes
from memorycell.applications.sequences.heads import standard_student
from memorycell.models.exporting import CWriter

if TYPE_CHECKING:
    from memorycell.applications.sequences.model import SequenceModel

POOLS = {
    "last": """\
    (void)more;
    for (int u = 0; u < H; u++)
        z[u] = h[u];
""",
    "mean": """\
    more[H] += 1.0f;
    for (int u = 0; u < H; u++) {
        more[u] += h[u];
        z[u] = more[u] / more[H];
    }
""",
    "max": """\
    for (int u = 0; u < H; u++) { /* of h + 1, so that the zero state is neutral */
        more[u] = fmaxf(more[u], h[u] + 1.0f);
        z[u] = more[u] - 1.0f;
    }
""",
    "attention": """\
    float inner[H], weight;

    product(pool, pool_bias, H, H, h, inner);
    for (int u = 0; u < H; u++)
        inner[u] = tanhf(inner[u]);
    product(pool_score, zero, 1, H, inner, &weight);
    weight = expf(weight);
    more[H] += weight;
    for (int u = 0; u < H; u++) {
        more[u] += weight * h[u];
        z[u] = more[u] / more[H];
    }
""",
}

MEMBER = Template("""\
/* One network: the values pooled so far are in `more`; `out` receives $outputs numbers. */
static void member($arguments, const float *h, float *more, float *out) {
    enum { H = $hidden_size, F = $features };
    float z[H + F];
$pool$join    product(weights, bias, $outputs, H + F, z, out);
}
""")

JOIN = """\
    for (int u = 0; u < F; u++)
        z[H + u] = features[u];
"""

SCORES = """\
    for (int k = 0; k < C; k++)
        y[k] = params[k] / head_temperature[0];
"""
MEAN_OF_CLASSES = Template("""\
    for (int m = 0; m < M; m++) {
        float *p = params + m * C, largest = p[0], sum = 0.0f;
        for (int k = 1; k < C; k++)
            largest = fmaxf(largest, p[k]);
        for (int k = 0; k < C; k++)
            sum += p[k] = expf(p[k] - largest);
        for (int k = 0; k < C; k++)
            y[k] += p[k] / sum / M;
    }
    for (int k = 0; k < C; k++)
        y[k] = logf(fmaxf(y[k], 1.17549435e-38f)) / head_temperature[0];
""")
MEAN_OF_LABELS = """\
    for (int m = 0; m < M; m++)
        for (int k = 0; k < C; k++)
            y[k] += 1.0f / (1.0f + expf(-params[m * C + k])) / M;
    for (int k = 0; k < C; k++) {
        const float p = fminf(fmaxf(y[k], 1e-7f), 1.0f - 1e-7f);
        y[k] = logf(p / (1.0f - p)) / head_temperature[0];
    }
"""
TO_PROBABILITIES = """\
    {
        float largest = y[0], sum = 0.0f;
        for (int k = 1; k < C; k++)
            largest = fmaxf(largest, y[k]);
        for (int k = 0; k < C; k++)
            sum += y[k] = expf(y[k] - largest);
        for (int k = 0; k < C; k++)
            y[k] /= sum;
    }
"""
TO_EACH_PROBABILITY = """\
    for (int k = 0; k < C; k++)
        y[k] = 1.0f / (1.0f + expf(-y[k]));
"""
QUANTILES = """\
        for (int m = 0; m < M; m++) {
            const float *p = params + (m * C + k) * Q;
            float value = p[MIDDLE];
            q[MIDDLE] += value / M;
            for (int j = MIDDLE + 1; j < Q; j++)
                q[j] += (value += softplus(p[j])) / M;
            value = p[MIDDLE];
            for (int j = MIDDLE - 1; j >= 0; j--)
                q[j] += (value -= softplus(p[j])) / M;
        }
"""
STUDENT = """\
        for (int m = 0; m < M; m++) {
            const float *p = params + (m * C + k) * 2;
            const float scale = expf(fminf(fmaxf(p[1], -8.0f), 8.0f));
            for (int j = 0; j < Q; j++)
                q[j] += (p[0] + scale * head_standard[k * Q + j]) / M;
        }
"""
NUMBERS = Template("""\
    for (int k = 0; k < C; k++) {
        enum { Q = $quantiles, MIDDLE = Q / 2 };
        float *q = y + k * Q;
$members        for (int j = 0; j < Q; j++)
            if (j != MIDDLE)
                q[j] = q[MIDDLE] + (q[j] - q[MIDDLE]) * head_temperature[0];
        for (int j = 0; j < Q; j++)
            q[j] = q[j] * head_scale[k] + head_offset[k];
    }
""")
HEAD = Template("""\
$branches$mixture$member
/* $about */
static void head(const float *x, const float *h, float *more, float *y) {
    enum { M = $members, C = $classes };
    float params[M * $outputs];
$features
    (void)x;
$calls    for (int k = 0; k < $output_size; k++)
        y[k] = 0.0f;
$combine}
""")


class SequenceCHead:
    """Writes the answer after every step: what `SequenceModel.forward` gives, or with `people`
    probabilities, and numbers in the units of the table.

    scale, offset   of each number; 1 and 0 by default
    """

    normalises = False

    def __init__(
        self,
        model: SequenceModel,
        *,
        people: bool = False,
        scale: Sequence[float] = (),
        offset: Sequence[float] = (),
    ) -> None:
        config = self._config = model.config
        self.recurrent, self._model, self._people = model.merged_stack(), model, people
        self._scale = np.array(scale or [1.0] * config.outputs, np.float32)
        self._offset = np.array(offset or [0.0] * config.outputs, np.float32)
        self.output_size = config.outputs * (config.quantiles if config.numeric else 1)
        attention = config.hidden_size if self._pooling == "attention" else 0
        params = config.members * config.outputs * config.params
        self.stack_bytes = 4 * (config.hidden_size + attention + params)
        branch = model.networks[0].branch
        self._features = 0 if branch is None else branch.output_size
        if branch is not None:
            self.stack_bytes += stack_bytes(branch)
        if model.random is not None:
            self.stack_bytes += mixture_stack_bytes(model.random)

    @property
    def _pooling(self) -> str:
        return "last" if self._config.every_step else self._config.pooling

    def write(self, writer: CWriter) -> str:
        """See `CHead`."""
        config, model = self._config, self._model
        writer.constant("head_temperature", np.array([model.temperature.item()]))
        attends = self._pooling == "attention"
        if attends:
            writer.constant("zero", np.zeros(1))
        calls, branches = [], []
        convolutions_at = config.members * config.member_state
        for k, member in enumerate(model.networks):
            names = [
                writer.constant(f"head_{k}", member.head.weight),
                writer.constant(f"head_{k}_bias", member.head.bias),
            ]
            if (pool := member.pool) is not None:
                names += [
                    writer.constant(f"pool_{k}", pool.inner.weight),
                    writer.constant(f"pool_{k}_bias", pool.inner.bias),
                    writer.constant(f"pool_{k}_score", pool.score.weight),
                ]
            where = f"h + {k * config.hidden_size}, more + {k * config.member_state}"
            out = f"params + {k * config.outputs * config.params}"
            if (branch := member.branch) is not None:
                branches.append(branch_in_c(writer, branch, k))
                own = convolutions_at + k * branch.state_size
                calls.append(f"    branch_{k}(x, more + {own}, features);\n")
                names.append("features")
            calls.append(f"    member({', '.join(names)}, {where}, {out});\n")
        arguments = ["weights", "bias"]
        arguments += ["pool", "pool_bias", "pool_score"] if attends else []
        arguments += ["features"] if branches else []
        outputs = config.outputs * config.params
        return HEAD.substitute(
            branches="\n".join([CONVOLVE, *branches, ""]) if branches else "",
            mixture="" if model.random is None else mixture_in_c(writer, model.random),
            features=f"    float features[{self._features}];\n" if branches else "",
            member=MEMBER.substitute(
                arguments=", ".join(f"const float *{name}" for name in arguments),
                hidden_size=config.hidden_size,
                pool=POOLS[self._pooling],
                features=self._features,
                join=JOIN if branches else "",
                outputs=outputs,
            ),
            about=self._about(),
            members=config.members,
            classes=config.outputs,
            outputs=outputs,
            output_size=self.output_size,
            calls="".join(calls),
            combine=self._numbers(writer) if config.numeric else self._classes(),
        )

    def _about(self) -> str:
        if self._config.numeric:
            return "Quantiles of each number."
        if self._people:
            return "The probability of each class or label."
        return "The score of each class, or the log-odds of each label."

    def _classes(self) -> str:
        config = self._config
        labels = config.target == "labels"
        if config.members == 1:
            code = SCORES
        else:
            code = MEAN_OF_LABELS if labels else MEAN_OF_CLASSES.substitute()
        if self._model.random is not None:
            at = config.members * config.member_state
            if (branch := self._model.networks[0].branch) is not None:
                at += config.members * branch.state_size
            code += f"    mix(x, more + {at}, y);\n"
        if self._people:
            code += TO_EACH_PROBABILITY if labels else TO_PROBABILITIES
        return code

    def _numbers(self, writer: CWriter) -> str:
        config, model = self._config, self._model
        writer.constant("head_scale", self._scale)
        writer.constant("head_offset", self._offset)
        if model.tails is None:
            return NUMBERS.substitute(quantiles=config.quantiles, members=QUANTILES)
        freedom = model.degrees_of_freedom.detach().cpu().numpy()
        writer.constant("head_standard", standard_student(freedom, config.quantiles))
        return NUMBERS.substitute(quantiles=config.quantiles, members=STUDENT)

    def outputs(self, y: np.ndarray) -> np.ndarray:
        """See `CHead`."""
        if self._config.numeric:
            return (y * self._scale[:, None] + self._offset[:, None]).reshape(len(y), -1)
        return probabilities(y, self._config.target) if self._people else y


def probabilities(outputs: np.ndarray, target: str) -> np.ndarray:
    """The probabilities of scores, or of the log-odds of labels, [..., C]."""
    if target == "labels":
        return np.asarray(1 / (1 + np.exp(-outputs)))
    powers = np.exp(outputs - outputs.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))
