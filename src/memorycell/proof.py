"""Proof that one model gives the same outputs in every way it can be run.

Results that must be identical are compared exactly; the others within a bound, relative to values
over one.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn

from memorycell.application import modelfile
from memorycell.application.contract import AnyModelFile, ModelFile
from memorycell.errors import UserError
from memorycell.exchange.files import write
from memorycell.models.model import Model, exported
from memorycell.nn.adopt import view
from memorycell.nn.layers import Recurrent
from memorycell.ops import binding
from memorycell.ops.step import TOLERANCE, unsupported_reason
from memorycell.state import State
from memorycell.streaming.pool import Pool
from memorycell.streaming.stepping import layer_params
from memorycell.streaming.stream import Stream

STEPS = 200
"""Random steps that a model runs on by default."""

Runnable: TypeAlias = Model[Any] | Recurrent


@dataclass(frozen=True)
class Check:
    """Two ways to run a model and the largest difference between their outputs, relative to values
    over one.
    """

    name: str
    precision: str
    max_diff: float
    bound: float

    @property
    def ok(self) -> bool:
        """Within the bound; NaN is not."""
        return self.max_diff <= self.bound

    def __str__(self) -> str:
        limit = "exact" if self.bound == 0 else f"bound {self.bound:g}"
        return (
            f"{'ok    ' if self.ok else 'BROKEN'}  {self.precision:9} {self.name:42}"
            f" {self.max_diff:8.2g}  ({limit})"
        )


@dataclass
class Proof:
    """The checks, and the names of those that could not be made with the reason."""

    checks: list[Check] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether every check holds."""
        return all(check.ok for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """The JSON object of `memorycell prove`."""
        checks = [
            {
                "name": c.name,
                "precision": c.precision,
                "max_diff": c.max_diff,
                "bound": c.bound,
                "ok": c.ok,
            }
            for c in self.checks
        ]
        skipped = [{"name": name, "why": reason} for name, reason in self.skipped.items()]
        return {"ok": self.ok, "checks": checks, "skipped": skipped}


def prove(
    x: nn.Module | AnyModelFile | str | Path,
    inputs: np.ndarray | None = None,
    *,
    precisions: Sequence[str] = ("float32", "bfloat16", "int8"),
    exports: Sequence[str] = ("onnx", "c"),
    log: Callable[[str], None] = lambda line: None,
) -> Proof:
    """Run a model in every way it can be run and compare the outputs.

    x           a recurrent layer (ours or torch's), a `Model`, a model file or its path; put into
                evaluation mode
    inputs      [T, I] float32 to run it on; 200 random steps by default
    exports     formats to compare as well: "onnx" (needs onnxruntime), "c" (needs a C compiler)
    log         called with one line per check

    Exact checks compare the model's own outputs, the others those of `Model.comparison_model`;
    where these are log-probabilities of classes, lower precisions are compared as probabilities.
    Raises ValueError for a bidirectional layer and for a model without steps; TypeError for an x of
    another type.
    """
    module = _module(x)
    stream = Stream(module)
    if inputs is None:
        shape = (STEPS, stream.stepper.input_size)
        inputs = _random_inputs(module, np.random.default_rng(0), shape)
    inputs = np.ascontiguousarray(inputs, np.float32)
    compared = module.comparison_model() if isinstance(module, Model) else module
    reference = _forward(compared, inputs, "reference")
    proof = Proof()

    def check(
        name: str, precision: str, ours: np.ndarray, theirs: np.ndarray, bound: float
    ) -> None:
        proof.checks.append(Check(name, precision, difference(ours, theirs), bound))
        log(str(proof.checks[-1]))

    no_engine = _no_engine_reason(module)
    if no_engine is None:
        native = _forward(compared, inputs, "native")
        check("native = reference", "float32", native, reference, TOLERANCE["float32"])
    else:
        proof.skipped["native = reference"] = no_engine
    for precision in precisions:
        if no_engine is not None and precision != "float32":
            proof.skipped[f"{precision} = float32"] = no_engine
            continue
        steps = _steps(compared, inputs, precision)
        against = "whole sequence" if precision == "float32" else "whole sequence in float32"
        whole = reference
        if precision != "float32" and isinstance(compared, Model) and compared.gives_log_p:
            steps, whole = np.exp(steps), np.exp(reference)
        check(f"step by step = {against}", precision, steps, whole, TOLERANCE[precision])
        subject, bound = (module, 0.0) if no_engine is None else (compared, TOLERANCE["float32"])
        steps = _steps(subject, inputs, precision)
        if np.isnan(steps).any():
            proof.skipped[f"other ways in {precision}"] = "a stream refuses steps: they give NaN"
            continue
        for name, outputs in _other_ways(subject, inputs, precision):
            check(f"{name} = step by step", precision, outputs, steps, bound)
    one = exported(module)
    for name in exports:
        for precision in precisions if name == "c" else ("float32",):
            if no_engine is not None and precision != "float32":
                continue
            result = {"onnx": _run_onnx, "c": _run_c}[name](one, inputs, precision)
            if isinstance(result, str):
                proof.skipped[f"{name} in {precision}"] = result
            elif result is not None:
                outputs, bound = result
                steps = _steps(one, inputs, precision)
                outputs = outputs.reshape(steps.shape)
                check(f"{name} = step by step", precision, outputs, steps, bound)
                if one is not module:  # in int8 the states of all members have one scale
                    way = "members in one stack = whole sequence"
                    check(way, precision, steps, reference, TOLERANCE[precision])
    return proof


def precision_cost(
    score: Callable[[str], Mapping[str, float]], metric: str, precision: str
) -> dict[str, Any]:
    """The effect of a precision on a metric of the test data: `{"metric", "float32", precision,
    "change"}`, with the relative change.

    score   precision -> metrics
    """
    before, after = score("float32")[metric], score(precision)[metric]
    return {
        "metric": metric,
        "float32": before,
        precision: after,
        "change": after / before - 1 if before else float(after > 0),
    }


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference, relative to values over one; NaN where only one of the two is NaN."""
    both = np.isnan(ours) & np.isnan(theirs)
    relative = np.abs(ours - theirs) / np.maximum(1.0, np.abs(theirs))
    return float(np.where(both, 0.0, relative).max(initial=0.0))


def _module(x: nn.Module | AnyModelFile | str | Path) -> Runnable:
    if isinstance(x, (str, Path)):
        x = modelfile.load(x)
    module: nn.Module = x.model if isinstance(x, ModelFile) else x
    if isinstance(module, nn.RNNBase):
        module = view(module)
    if not isinstance(module, (Model, Recurrent)):
        raise TypeError(
            "prove: expected a recurrent layer, a model or a model file, got"
            f" {type(module).__name__}"
        )
    return module


def _no_engine_reason(module: Runnable) -> str | None:
    if isinstance(module, Model):
        return binding.missing or module.unsupported_reason()
    return binding.missing or unsupported_reason(module.cell, layer_params(module))


def _random_inputs(
    module: Runnable, rng: np.random.Generator, shape: tuple[int, ...]
) -> np.ndarray:
    if isinstance(module, Model):
        return module.random_inputs(rng, shape)
    return rng.normal(size=shape).astype(np.float32)


@torch.inference_mode()
def _forward(module: Runnable, inputs: np.ndarray, backend: str) -> np.ndarray:
    x = torch.from_numpy(inputs)
    batch_axis = 1 if isinstance(module, Recurrent) and not module.batch_first else 0
    y = module(x.unsqueeze(batch_axis), backend=backend)[0]
    return np.asarray(y.select(batch_axis, 0).numpy())


def _steps(module: Runnable, inputs: np.ndarray, precision: str) -> np.ndarray:
    stream = Stream(module, precision, on_nonfinite="skip")  # NaN, which no comparison passes
    return np.stack([stream.step(x) for x in inputs])


def _other_ways(
    module: Runnable, inputs: np.ndarray, precision: str
) -> Iterator[tuple[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    stream = Stream(module, precision, history=4)
    ends = np.unique(rng.integers(1, max(2, len(inputs)), size=len(inputs) // 8))
    chunks = [chunk for chunk in np.split(inputs, ends) if len(chunk)]
    yield "chunks of random sizes", np.concatenate([stream.step(chunk) for chunk in chunks])

    pool = Pool(module, 1, precision)
    slots = np.array([pool.open() for _ in range(9)])
    outputs = []
    for step in inputs:
        others = rng.permutation(slots[1:])[: rng.integers(0, 9)]
        stepped = rng.permutation(np.append(others, slots[0]))
        x = _random_inputs(module, rng, (len(stepped), len(step)))
        x[stepped == slots[0]] = step
        outputs.append(pool.step(stepped, x)[stepped == slots[0]][0])
    yield "among others in a pool", np.stack(outputs)

    middle = len(inputs) // 2
    stream.reset()
    outputs = [stream.step(x) for x in inputs[:middle]]
    with tempfile.TemporaryDirectory() as folder:
        stream.save(Path(folder) / "state")
        loaded = Stream(module, precision)
        loaded.load(Path(folder) / "state")
    yield "saved and loaded", np.stack([*outputs, *(loaded.step(x) for x in inputs[middle:])])

    stream.reset()
    outputs = []
    for step in inputs:  # each step is taken twice, first with another input
        stream.step(_random_inputs(module, rng, step.shape))
        stream.rewind()
        outputs.append(stream.fork().step(step))
        stream.step(step)
    yield "rewound and forked", np.stack(outputs)


# ---- exports -------------------------------------------------------------------------------------

Result: TypeAlias = tuple[np.ndarray, float]
"""The outputs [T, …] of the exported model and the bound of their differences."""


def _run_onnx(module: Runnable, inputs: np.ndarray, precision: str) -> Result | str:
    """In onnxruntime, in parts, with the state passed on."""
    try:
        import onnxruntime

        from memorycell.exchange import onnx_export
    except ModuleNotFoundError as error:
        return f"needs {error.name}: pip install 'memorycell[onnx]'"
    head = onnx_export.onnx_head(module)
    if isinstance(head, str):
        return head
    session = onnxruntime.InferenceSession(
        onnx_export.export(module).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    initial: State = module.initial_state()  # type: ignore[operator]
    state = {name: value.numpy() for name, value in initial.asdict().items() if value.shape[0]}
    outputs = []
    for part in np.array_split(inputs, 7):
        x = part[None, :, 0].astype(np.int64) if head.tokens else part[None]
        y, *after = session.run(None, {"x": x, **state})
        state = dict(zip(state, after, strict=True))
        outputs.append(y[0])
    return np.concatenate(outputs), TOLERANCE["float32"]


C_MAIN = """\
#include "model.h"
#include <stdio.h>

int main(void) {
    float state[MODEL_STATE], x[MODEL_INPUTS], y[MODEL_OUTPUTS];
    model_init(state);
    while (fread(x, sizeof x, 1, stdin) == 1) {
        model_step(state, x, y);
        fwrite(y, sizeof y, 1, stdout);
    }
    return 0;
}
"""


def _run_c(module: Runnable, inputs: np.ndarray, precision: str) -> Result | str | None:
    """As a program that reads inputs and writes outputs as bytes; None: not in this precision."""
    from memorycell.exchange import c_export

    if precision not in c_export.PRECISIONS:
        return None
    head = c_export.c_head(module)
    if isinstance(head, str):
        return head
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return "needs a C compiler: cc, gcc or clang"
    exported = c_export.export(module, "model", precision=precision)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write({**exported.files, "main.c": C_MAIN}, folder)
        command = [compiler, "-std=c99", "-O2", "main.c", "model.c", "-lm", "-o", "run"]
        built = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if built.returncode:
            raise UserError(
                f"prove: the exported C does not compile: {built.stderr.strip().splitlines()[0]}"
            )
        program = subprocess.run(
            [folder / "run"], input=inputs.tobytes(), capture_output=True, check=True
        )
    outputs = np.frombuffer(program.stdout, np.float32)
    return outputs.reshape(len(inputs), -1), c_export.TOLERANCE[precision]
