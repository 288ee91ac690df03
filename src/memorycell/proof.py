"""Proof: one model run in every way it can be run, and the largest difference between any two of
them.

What must agree to the bit is compared to the bit; the rest within a bound, relative to values over
one.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from memorycell.application import modelfile
from memorycell.application.modelfile import ModelFile
from memorycell.applications.forecast.model import Forecaster
from memorycell.errors import UserError
from memorycell.language.model import LanguageModel
from memorycell.models.model import Model
from memorycell.nn.adopt import view
from memorycell.nn.layers import Recurrent
from memorycell.ops import binding
from memorycell.ops.step import TOLERANCE, unsupported_reason
from memorycell.state import State
from memorycell.streaming.pool import Pool
from memorycell.streaming.stepping import layers
from memorycell.streaming.stream import Stream

STEPS = 200
NOT_PLAIN = (
    "only for forecasters with head=quantiles, normal=no and no words that tell series apart yet"
)


@dataclass(frozen=True)
class Check:
    """Two ways to run a model and how far apart they are: largest difference, relative to values
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
        limit = "to the bit" if self.bound == 0 else f"bound {self.bound:g}"
        return (
            f"{'ok    ' if self.ok else 'BROKEN'}  {self.precision:9} {self.name:42}"
            f" {self.max_diff:8.2g}  ({limit})"
        )


@dataclass
class Proof:
    """The checks made, and those that could not be made with the reason."""

    checks: list[Check] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Nothing is broken."""
        return all(check.ok for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """The JSON object of `memorycell prove`."""
        rows = [
            {
                "name": c.name,
                "precision": c.precision,
                "max_diff": c.max_diff,
                "bound": c.bound,
                "ok": c.ok,
            }
            for c in self.checks
        ]
        return {
            "ok": self.ok,
            "checks": rows,
            "skipped": [{"name": n, "why": w} for n, w in self.skipped.items()],
        }


def prove(
    x: Any,
    inputs: np.ndarray | None = None,
    *,
    precisions: Sequence[str] = ("float32", "bfloat16", "int8"),
    exports: Sequence[str] = ("onnx", "c"),
    say: Callable[[str], None] = lambda line: None,
) -> Proof:
    """Run a model in every way it can be run and compare.

    x           a recurrent layer (ours or torch's), a `Model`, a model file or its path; put into
                evaluation mode
    inputs      [T, I] float32, what to run it on; 200 random steps where not given
    exports     which files to compare as well: "onnx" (needs onnxruntime), "c" (needs a C compiler)

    Raises ValueError for a bidirectional layer, which has no steps to compare with.
    """
    if isinstance(x, (str, Path)):
        x = modelfile.load(x)
    module: nn.Module = (
        x.model if isinstance(x, ModelFile) else view(x) if isinstance(x, nn.RNNBase) else x
    )
    if not isinstance(module, (Model, Recurrent)):
        raise TypeError(
            "prove: expected a recurrent layer, a model or a model file, got"
            f" {type(module).__name__}"
        )
    proof = Proof()
    stream = Stream(module)
    if inputs is None:
        inputs = _noise(module, np.random.default_rng(0), (STEPS, stream.stepper.input_size))
    inputs = np.ascontiguousarray(inputs, np.float32)
    whole = _whole(module, inputs, "reference")

    def check(
        name: str, precision: str, ours: np.ndarray, theirs: np.ndarray, bound: float
    ) -> None:
        proof.checks.append(Check(name, precision, difference(ours, theirs), bound))
        say(str(proof.checks[-1]))

    reason = _no_engine(module)
    if reason is None:
        check(
            "native = reference",
            "float32",
            _whole(module, inputs, "native"),
            whole,
            TOLERANCE["float32"],
        )
    else:
        proof.skipped["native = reference"] = reason
    for precision in precisions:
        if reason is not None and precision != "float32":
            proof.skipped[f"{precision} = float32"] = reason
            continue
        exact = 0.0 if reason is None else TOLERANCE["float32"]
        steps = _steps(module, inputs, precision)
        against = "whole sequence" if precision == "float32" else "whole sequence in float32"
        check(f"step by step = {against}", precision, steps, whole, TOLERANCE[precision])
        for name, again in _other_ways(module, inputs, precision):
            check(f"{name} = step by step", precision, again, steps, exact)
    for name in exports:
        for precision in precisions if name == "c" else ("float32",):
            if reason is not None and precision != "float32":
                continue
            found = {"onnx": _onnx, "c": _c}[name](module, inputs, precision)
            if isinstance(found, str):
                proof.skipped[f"{name} in {precision}"] = found
            elif found is not None:
                check(f"{name} = step by step", precision, *found)
    return proof


def precision_cost(
    score: Callable[[str], Mapping[str, float]], metric: str, precision: str
) -> dict[str, Any]:
    """What a precision costs on a model's own test data: `{"metric", "float32", precision,
    "change"}`, change relative.

    score   precision -> the metrics
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
    apart = np.abs(ours - theirs) / np.maximum(1.0, np.abs(theirs))
    return float(np.where(both, 0.0, apart).max(initial=0.0))


@torch.inference_mode()
def _whole(module: nn.Module, inputs: np.ndarray, backend: str) -> np.ndarray:
    x = torch.from_numpy(inputs)
    batch_first = getattr(module, "batch_first", True)
    y = module(x[None] if batch_first else x[:, None], backend=backend)[0]
    return np.asarray((y[0] if batch_first else y[:, 0]).numpy())


def _no_engine(module: nn.Module) -> str | None:
    if isinstance(module, Model):
        return binding.missing or module.unsupported_reason()
    assert isinstance(module, Recurrent)
    return binding.missing or unsupported_reason(module.cell, layers(module))


def _noise(module: nn.Module, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Inputs like those it reads: [..., I] float32, or [..., 1] token numbers."""
    vocabulary = getattr(getattr(module, "config", None), "vocabulary", 0)
    drawn = rng.integers(0, vocabulary, size=shape) if vocabulary else rng.normal(size=shape)
    return drawn.astype(np.float32)


def _steps(module: nn.Module, inputs: np.ndarray, precision: str) -> np.ndarray:
    stream = Stream(module, precision)
    return np.stack([stream.step(row) for row in inputs])


def _other_ways(
    module: nn.Module, inputs: np.ndarray, precision: str
) -> Iterator[tuple[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    stream = Stream(module, precision, history=4)
    cuts = np.unique(rng.integers(1, max(2, len(inputs)), size=len(inputs) // 8))
    yield (
        "chunks of random sizes",
        np.concatenate([stream.step(part) for part in np.split(inputs, cuts) if len(part)]),
    )

    pool = Pool(module, 1, precision)
    slots = np.array([pool.open() for _ in range(9)])
    rows = []
    for row in inputs:
        company = rng.permutation(slots[1:])[: rng.integers(0, 9)]
        among = rng.permutation(np.append(company, slots[0]))
        x = _noise(module, rng, (len(among), len(row)))
        x[among == slots[0]] = row
        rows.append(pool.step(among, x)[among == slots[0]][0])
    yield "among others in a pool", np.stack(rows)

    middle = len(inputs) // 2
    stream.reset()
    first = [stream.step(row) for row in inputs[:middle]]
    with tempfile.TemporaryDirectory() as folder:
        stream.save(Path(folder) / "state")
        later = Stream(module, precision)
        later.load(Path(folder) / "state")
    yield "saved and loaded", np.stack([*first, *(later.step(row) for row in inputs[middle:])])

    stream.reset()
    rows = []
    for row in inputs:  # every step taken twice, the first time with another input
        stream.step(_noise(module, rng, row.shape))
        stream.rewind()
        rows.append(stream.fork().step(row))
        stream.step(row)
    yield "rewound and forked", np.stack(rows)


# ---- exported ------------------------------------------------------------------------------------

Compared = tuple[np.ndarray, np.ndarray, float]


def _onnx(module: nn.Module, inputs: np.ndarray, precision: str) -> Compared | str:
    try:
        import onnxruntime

        from memorycell.exchange import onnx_export
    except ModuleNotFoundError as error:
        return f"needs {error.name}: pip install 'memorycell[onnx]'"
    if not isinstance(module, (Recurrent, *onnx_export.MODELS)):
        return f"not for a {type(module).__name__} yet"
    if isinstance(module, Forecaster) and not module.config.plain:
        return NOT_PLAIN
    model = onnx_export.export(module).SerializeToString()
    tokens = isinstance(module, LanguageModel)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    state: State = module.initial_state()
    kept = {name: value.numpy() for name, value in state.asdict().items() if value.shape[0]}
    parts = []
    for part in np.array_split(inputs, 7):  # with the state handed on
        y, *after = session.run(
            None, {"x": part[None, :, 0].astype(np.int64) if tokens else part[None], **kept}
        )
        kept = dict(zip(kept, after, strict=True))
        parts.append(y[0])
    return np.concatenate(parts), _steps(module, inputs, precision), TOLERANCE["float32"]


def _c(module: nn.Module, inputs: np.ndarray, precision: str) -> Compared | str | None:
    """Compiled into a program that reads inputs and writes outputs as bytes."""
    from memorycell.exchange import c_export

    if precision not in c_export.PRECISIONS:
        return None
    if not isinstance(module, (Recurrent, Forecaster)):
        return f"not for a {type(module).__name__}: it runs on layers and forecasters"
    if isinstance(module, Forecaster) and not module.config.plain:
        return NOT_PLAIN
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return "needs a C compiler: cc, gcc or clang"
    exported = c_export.export(module, "model", precision=precision)
    main = (
        '#include "model.h"\n#include <stdio.h>\nint main(void) {\n'
        "    float state[MODEL_STATE], x[MODEL_INPUTS], y[MODEL_OUTPUTS];\n    model_init(state);\n"
        "    while (fread(x, sizeof x, 1, stdin) == 1) {\n        model_step(state, x, y);\n"
        "        fwrite(y, sizeof y, 1, stdout);\n    }\n    return 0;\n}\n"
    )
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name, text in {**exported.files, "main.c": main}.items():
            (folder / name).write_text(text)
        words = [compiler, "-std=c99", "-O2", "main.c", "model.c", "-lm", "-o", "run"]
        built = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
        if built.returncode:
            raise UserError(
                f"prove: the exported C does not compile: {built.stderr.strip().splitlines()[0]}"
            )
        ran = subprocess.run(
            [folder / "run"], input=inputs.tobytes(), capture_output=True, check=True
        )
    steps = _steps(module, inputs, precision)
    return (
        np.frombuffer(ran.stdout, np.float32).reshape(steps.shape),
        steps,
        c_export.TOLERANCE[precision],
    )
