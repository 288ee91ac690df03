"""The scaling and the actor of a recurrent policy in C99."""

from __future__ import annotations

from string import Template
from typing import TYPE_CHECKING

import numpy as np
import torch

from memorycell.models.exporting import CWriter

if TYPE_CHECKING:
    from memorycell.applications.control.model import RecurrentPolicy

SCALE = Template("""\
static void normalise_input(const float *x, const float *more, float *inputs) {
    (void)more;
    for (int k = 0; k < $inputs; k++)
        inputs[k] = (x[k] - input_mean[k]) / input_std[k];
}

""")
HEAD = Template("""\
/* $about */
static void head(const float *x, const float *h, float *more, float *y) {
    (void)x;
    (void)more;
    product(actor, actor_bias, $outputs, $hidden_size, h, y);
$bounds}
""")
MEMBERS = Template("""\
/* $about */
static void head(const float *x, const float *h, float *more, float *y) {
    enum { O = $outputs, H = $hidden_size };
    float own[O];

    (void)x;
    (void)more;
    for (int k = 0; k < O; k++)
        y[k] = 0.0f;
    for (int m = 0; m < $merged; m++) {
        product(actor + m * O * H, actor_bias + m * O, O, H, h + m * H, own);
$own        for (int k = 0; k < O; k++)
            y[k] += own[k] / $merged;
    }
$bounds}
""")
PROBABILITIES = """\
        for (int a = 0, start = 0; a < $actions; start += choices[a++]) {
            float *p = own + start, highest = p[0], sum = 0.0f;
            for (int k = 1; k < choices[a]; k++)
                highest = fmaxf(highest, p[k]);
            for (int k = 0; k < choices[a]; k++)
                sum += p[k] = expf(p[k] - highest);
            for (int k = 0; k < choices[a]; k++)
                p[k] /= sum;
        }
"""
CLIPPED = """\
        for (int k = 0; k < O; k++)
            own[k] = fminf(fmaxf(own[k], -1.0f), 1.0f);
"""
LOGARITHM = """\
    for (int k = 0; k < O; k++)
        y[k] = logf(fmaxf(y[k], 1e-38f));
"""
BOUNDS = Template("""\
    for (int k = 0; k < $outputs; k++)
        y[k] = action_middle[k] + action_half[k] * fminf(fmaxf(y[k], -1.0f), 1.0f);
""")


class PolicyCHead:
    """Writes the output of `Policy.forward`: the scores of the choices, or the action."""

    normalises = True

    def __init__(self, policy: RecurrentPolicy) -> None:
        self.recurrent, self._policy = policy.recurrent, policy
        self.output_size = policy.config.outputs
        self.stack_bytes = 4 * policy.config.input_size
        if policy.merged > 1:
            self.stack_bytes += 4 * policy.config.outputs

    def write(self, writer: CWriter) -> str:
        """See `CHead`."""
        policy = self._policy
        config, scaling = policy.config, policy.scaling
        writer.constant("input_mean", scaling.mean)
        writer.constant("input_std", scaling.std)
        count = policy.merged
        size = config.hidden_size // count
        blocks = policy.actor.weight.view(count, config.outputs, count, size)
        own = torch.stack([blocks[m, :, m] for m in range(count)])
        writer.constant("actor", own)
        writer.constant("actor_bias", policy.actor.bias)
        bounds, about = "", "The score of each choice: the largest is the action."
        if not config.choices:
            middle, half = policy.bounds()
            writer.constant("action_middle", middle)
            writer.constant("action_half", half)
            bounds = BOUNDS.substitute(outputs=config.outputs)
            about = "The action, within its bounds."
        fields = {"about": about, "outputs": config.outputs, "hidden_size": size, "bounds": bounds}
        scale = SCALE.substitute(inputs=config.input_size)
        if count == 1:
            return scale + HEAD.substitute(fields)
        fields |= {"merged": count, "own": CLIPPED}
        if config.choices:
            numbers = ", ".join(map(str, config.choices))
            scale += f"static const int choices[{len(config.choices)}] = {{{numbers}}};\n\n"
            probabilities = Template(PROBABILITIES).substitute(actions=len(config.choices))
            fields |= {"own": probabilities, "bounds": LOGARITHM}
        return scale + MEMBERS.substitute(fields)

    def outputs(self, y: np.ndarray) -> np.ndarray:
        """See `CHead`."""
        return y
