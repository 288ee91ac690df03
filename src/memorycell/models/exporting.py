"""What a model provides to be exported: its head as ONNX operators or as C99.

`Model.onnx_head()` and `Model.c_head()` return these; `memorycell.exchange` writes the recurrent
layers and calls them for the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from memorycell.nn.layers import Recurrent


class OnnxGraph(Protocol):
    """The graph that a head adds its nodes to. Values are identified by name."""

    def constant(self, value: Any, hint: str = "constant") -> str:
        """Add a tensor, array or number as float32, or int64 for integers; return its name."""

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output; return the output's name."""

    def split(self, value: str, axis: int, sizes: tuple[int, ...]) -> list[str]:
        """Split a value along an axis; return the parts' names."""

    def running_max(self, values: str, first: str) -> str:
        """Values [B, T, G], and those before [B, G] -> their maxima up to every step [B, T, G]."""


class OnnxHead(Protocol):
    """The parts of a model before and after its recurrent layers, as ONNX operators.

    recurrent     the layers between input and output
    tokens        whether the input is token ids [B, T] int64; else [B, T, input_size] float32
    output_name   of the model's output, and its shape after [B, T]
    output_shape
    """

    recurrent: Recurrent
    tokens: bool
    output_name: str
    output_shape: tuple[int, ...]

    def write_input(self, graph: OnnxGraph, x: str) -> str:
        """The input of the recurrent layers [B, T, input_size]."""

    def write_output(
        self, graph: OnnxGraph, x: str, hidden: str, state: Mapping[str, str]
    ) -> tuple[str, dict[str, str]]:
        """The model's output, and the new values of the state tensors other than h and c.

        hidden   [B, T, H], the last layer's states
        state    the state tensors other than h and c, each [R, B, S]; see `State`
        """


class CWriter(Protocol):
    """The C file that a head is written to."""

    def constant(self, name: str, values: Any) -> str:
        """Add a constant float array; return its name."""


class CHead(Protocol):
    """The part of a model after its recurrent layers, as C99.

    recurrent     the layers; they read the model's input x unchanged unless `normalises`
    output_size   floats of y
    stack_bytes   of the local arrays of `head`
    normalises    whether `write` also defines
                  static void normalise_input(const float *x, const float *more, float *inputs)
                  and the layers read `inputs`
    """

    recurrent: Recurrent
    output_size: int
    stack_bytes: int
    normalises: bool

    def write(self, writer: CWriter) -> str:
        """The definition of

            static void head(const float *x, const float *h, float *more, float *y)

        x      the step's input
        h      the last layer's state after the step
        more   the state other than h and c, in the order of `State`; to be updated
        y      the output
        """

    def outputs(self, y: np.ndarray) -> np.ndarray:
        """Expected outputs [T, output_size] of the C code, given those of the model's stepper."""
