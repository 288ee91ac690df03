"""Import a Keras ConvLSTM2D."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from memorycell.errors import UserError
from memorycell.nn.conv import ConvLSTM

CONV_KIND = "ConvLSTM2D"
SUPPORTED: Mapping[str, tuple[Any, ...]] = {
    "activation": ("tanh",),
    "recurrent_activation": ("sigmoid",),
    "padding": ("same",),
    "strides": ([1, 1],),
    "dilation_rate": ([1, 1],),
    "go_backwards": (False,),
}
"""What `ConvLSTM` has. Both programs order the gates i, f, c, o, and pad an even kernel with one
more zero at the right and at the bottom.
"""


def convert_conv(config: Mapping[str, Any], group: Any, where: str) -> ConvLSTM:
    """The layer of a description and its arrays. Keras's frames have their channels last, ours
    first.

    A Keras kernel is [height, width, I, 4·C]. Raises `UserError` for options that `ConvLSTM` does
    not have, and what indexing raises for arrays of another layout.
    """
    for key, values in SUPPORTED.items():
        value = config.get(key, values[0])
        if (list(value) if isinstance(value, tuple) else value) not in values:
            raise UserError(f"{where}: {key}={value!r}: memorycell's ConvLSTM has {values[0]!r}")
    variables = group["cell"]["vars"]
    kernel, recurrent = (np.asarray(variables[str(k)], np.float32) for k in (0, 1))
    height, width, inputs, rows = kernel.shape
    module = ConvLSTM(
        inputs, rows // 4, (height, width), bias=bool(config["use_bias"]), batch_first=True
    )
    state = {
        "weight_ih_l0": kernel.transpose(3, 2, 0, 1),
        "weight_hh_l0": recurrent.transpose(3, 2, 0, 1),
    }
    if config["use_bias"]:
        bias = np.asarray(variables["2"], np.float32)
        state |= {"bias_ih_l0": bias, "bias_hh_l0": np.zeros_like(bias)}
    module.load_state_dict({n: torch.from_numpy(array.copy()) for n, array in state.items()})
    return module
