"""The proof of a trained model on its own data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from memorycell import proof
from memorycell.application import catalogue
from memorycell.application.contract import AnyDataset, AnyModelFile
from memorycell.errors import UserError
from memorycell.training.events import Log, ignore


@dataclass
class ModelProof(proof.Proof):
    """A proof; `costs` is what each lower precision costs on the model's own test split."""

    costs: list[dict[str, Any]] = field(default_factory=list)

    def __repr__(self) -> str:
        skipped = [f"not checked: {name}: {why}" for name, why in self.skipped.items()]
        return "\n".join([*map(str, self.checks), *skipped, *map(cost_line, self.costs)])


def prove_model(
    file: AnyModelFile,
    dataset: AnyDataset | None,
    precisions: Sequence[str] = ("float32", "bfloat16", "int8"),
    exports: Sequence[str] = ("onnx", "c"),
    log: Log = ignore,
) -> ModelProof:
    """Prove a model on the test split of its own data, if available, and measure what each lower
    precision costs there.

    log   called with one line per check

    Raises `UserError` for a model that cannot run step by step.
    """
    inputs = None if dataset is None else dataset.sample(proof.STEPS)
    try:
        found = proof.prove(file, inputs, precisions=precisions, exports=exports, log=log)
    except UserError:
        raise
    except ValueError as error:  # a model that cannot run step by step
        raise UserError(f"prove: {str(error).removeprefix('stream: ')}") from None
    for name, why in found.skipped.items():
        log(f"not checked: {name}: {why}")
    costs, metric = [], catalogue.load(file.task).metric
    if dataset is not None:
        metric = dataset.metric(metric)
    checked = {check.precision for check in found.checks}
    for precision in precisions:
        if dataset is None or precision == "float32" or precision not in checked:
            continue
        evaluate = partial(dataset.evaluate, file.model, "test")
        cost = proof.precision_cost(evaluate, metric.name, precision)
        costs.append({"precision": precision, **cost})
        log(cost_line(costs[-1]))
    return ModelProof(found.checks, found.skipped, costs)


def cost_line(cost: dict[str, Any]) -> str:
    """The effect of a precision on a metric, in words."""
    precision, metric = cost["precision"], cost["metric"]
    return (
        f"{precision}: {metric} on the test split {cost['float32']:.4g} -> {cost[precision]:.4g}"
        f" ({cost['change']:+.2%})"
    )
