"""A language model's input and output in ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from memorycell.models.exporting import OnnxGraph

if TYPE_CHECKING:
    from memorycell.language.model import LanguageModel


class LanguageOnnxHead:
    """Token ids [B, T] -> embedding; hidden states -> log-probabilities [B, T, V] of the next
    token, see `heads.NextStep`.
    """

    tokens = True
    output_name = "log_p"

    def __init__(self, model: LanguageModel) -> None:
        self.recurrent = model.recurrent
        self.output_shape: tuple[int, ...] = (model.config.vocabulary,)
        self._embedding, self._head = model.embedding.weight, model.head

    def write_input(self, graph: OnnxGraph, x: str) -> str:
        """See `OnnxHead`."""
        return graph.op("Gather", graph.constant(self._embedding, "embedding"), x)

    def write_output(
        self, graph: OnnxGraph, x: str, hidden: str, state: Mapping[str, str]
    ) -> tuple[str, dict[str, str]]:
        """See `OnnxHead`."""
        head = self._head
        if head.project is not None:
            hidden = graph.op("MatMul", hidden, graph.constant(head.project.weight.T, "project"))
        weight = self._embedding if head.weight is None else head.weight
        scores = graph.op("MatMul", hidden, graph.constant(weight.T, "head"))
        scores = graph.op("Add", scores, graph.constant(head.bias))
        return graph.op("LogSoftmax", scores, axis=-1), {}
