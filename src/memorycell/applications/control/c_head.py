"""The scaling and the actor of a recurrent policy in C99."""

from __future__ import annotations

from string import Template
from typing import TYPE_CHECKING

import numpy as np

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

    def write(self, writer: CWriter) -> str:
        """See `CHead`."""
        policy = self._policy
        config, scaling = policy.config, policy.scaling
        writer.constant("input_mean", scaling.mean)
        writer.constant("input_std", scaling.std)
        writer.constant("actor", policy.actor.weight)
        writer.constant("actor_bias", policy.actor.bias)
        bounds, about = "", "The score of each choice: the largest is the action."
        if not config.choices:
            middle, half = policy.bounds()
            writer.constant("action_middle", middle)
            writer.constant("action_half", half)
            bounds = BOUNDS.substitute(outputs=config.outputs)
            about = "The action, within its bounds."
        return SCALE.substitute(inputs=config.input_size) + HEAD.substitute(
            about=about, outputs=config.outputs, hidden_size=config.hidden_size, bounds=bounds
        )

    def outputs(self, y: np.ndarray) -> np.ndarray:
        """See `CHead`."""
        return y
