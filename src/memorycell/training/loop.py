"""The only training loop: truncated back-propagation with carried state, and the baselines scored
beside the model.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from memorycell.application import modelfile
from memorycell.application.contract import Metrics, Problem, Task, TrainSettings
from memorycell.application.modelfile import ModelFile
from memorycell.errors import UserError
from memorycell.files import write_atomically
from memorycell.inspection.flow import GradientFlow
from memorycell.models.model import Model
from memorycell.ops import binding
from memorycell.state import State


@dataclass(frozen=True)
class Step:
    """One optimiser step, for whoever watches."""

    epoch: int
    epochs: int | None
    step: int
    steps: int | None
    loss: float
    seconds: float
    speed: float
    """What was learnt from in this epoch, in the data's own steps a second: characters, words,
    rows.
    """


@dataclass(frozen=True)
class Epoch:
    """One pass over the training data, for whoever watches. `learning` is the state of the
    gradients, in words, or None.
    """

    epoch: int
    epochs: int
    loss: float
    valid: Metrics
    best: float
    to_beat: float | None
    seconds: float
    speed: float
    warning: str | None


Watch = Callable[[Step | Epoch], None]


def train(
    task: Task,
    data: str | None,
    settings: Any,
    how: TrainSettings,
    out: Path,
    *,
    minutes: float | None = None,
    resume: bool = False,
    tensorboard: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
    watch: Watch = lambda event: None,
) -> dict[str, Any]:
    """Read, train, compare, save. Returns the JSON object of `memorycell train`.

    The model file is written at every better validation score, so that whatever ends the run leaves
    the best model; KeyboardInterrupt passes through after that. `resume` goes on from `OUT.resume`
    and gives the losses of a run that was never interrupted.
    """
    began = time.monotonic()
    if not out.parent.is_dir():
        raise UserError(f"{out}: there is no folder {out.parent}; make it, or name another file")
    if resume and not checkpoint_path(out).exists():
        raise UserError(f"{checkpoint_path(out)}: nothing to resume; start without --resume")
    problem = task.prepare(data, settings)
    for note in problem.notes:
        say(note)
    task = problem.task(task)
    watched = task.watch or task.primary
    simple = problem.baselines("valid")
    beside = (
        task
        if all(task.primary in scores for scores in simple.values())
        else replace(task, primary=watched, higher=False)
    )
    best_simple = beside.best(simple)
    say(
        f"to beat on validation: {best_simple}, {beside.primary}"
        f" {simple[best_simple][beside.primary]:.4g}"
    )
    if binding.engine is None:
        say(f"slower than it could be: {binding.missing}")
    budget = None if minutes is None else 60 * minutes - (time.monotonic() - began)
    run = Run(problem, how, watched, out, simple[best_simple].get(watched), budget)
    info = {
        "task": task.name,
        "primary": task.primary,
        **problem.info(),
        "notes": problem.notes,
        "training": dataclasses.asdict(how),
        "to_beat": run.to_beat,
    }
    if resume:
        say(f"resumed after epoch {run.load_checkpoint()}")
    run.fit(lambda: save_model(run, problem, info, out), watch, tensorboard)
    run.use_best()
    problem.finish(run.model)
    result = report(task, problem, run.model, out, time.monotonic() - began)
    info |= {
        "metrics": result["metrics"],
        "baselines": result["baselines"],
        "skill": result["skill"],
        "history": run.history,
    }
    save_model(run, problem, info, out, run.model)
    run.checkpoint_path.unlink(missing_ok=True)
    return result


def evaluate(
    task: Task, file: ModelFile, path: Path, data: str | None, say: Callable[[str], None]
) -> dict[str, Any]:
    """Score a model file on its test part or on other data. Returns the JSON object of `memorycell
    evaluate`.
    """
    began = time.monotonic()
    problem = task.reopen(data, file)
    for note in problem.notes:
        say(note)
    return report(problem.task(task), problem, file.model, path, time.monotonic() - began)


def report(
    task: Task, problem: Problem, model: Model, path: Path, seconds: float
) -> dict[str, Any]:
    """The model's and the simple methods' metrics on the test part; skill is the relative
    improvement of the primary one over the best simple method's, None where there is none to
    compare with.
    """
    scores, simple = problem.score(model, "test"), problem.baselines("test")
    skill = (
        task.skill(scores[task.primary], simple[task.best(simple)][task.primary])
        if simple
        else None
    )
    return {
        "task": task.name,
        "file": str(path),
        "primary": task.primary,
        "higher": task.higher,
        "metrics": scores,
        "baselines": simple,
        "skill": skill,
        "seconds": round(seconds, 2),
        **problem.details(model, "test"),
    }


def backtest(
    task: Task,
    data: str | None,
    settings: Any,
    how: TrainSettings,
    folder: Path,
    *,
    folds: int,
    start: float,
    refit: bool,
    minutes: float | None = None,
    say: Callable[[str], None] = lambda line: None,
    watch: Watch = lambda event: None,
) -> dict[str, Any]:
    """Walk forward: the time from the share `start` on is cut into folds, each forecast by a model
    that has seen only what came before it; trained anew for each, or once before the first. Returns
    the JSON object of `memorycell backtest`.

    folder   for the model files, fold-1.safetensors, …
    """
    began = time.monotonic()
    if not hasattr(task.settings, "test"):
        raise UserError(f"backtest: not for the task {task.name}; it has no time to walk along")
    if getattr(settings, "split", None) is not None:
        raise UserError("backtest: takes its cuts by time; leave split out")
    edges = [start + (1 - start) * k / folds for k in range(folds + 1)]
    told: list[dict[str, Any]] = []
    file: ModelFile | None = None
    for k, (begin, end) in enumerate(pairwise(edges), 1):
        test = f"{begin:.6g}:{end:.6g}"
        own = replace(settings, test=test)
        path = folder / f"fold-{k if refit else 1}.safetensors"
        if refit or file is None:
            say(f"fold {k} of {folds}: learns from what came before {begin:.0%} of the time")
            scores = train(task, data, own, how, path, minutes=minutes, say=say, watch=watch)
            file = modelfile.load(path)
        else:
            problem = task.reopen(None, file)
            scores = report(task, problem.later(test), file.model, path, 0.0)  # type: ignore[attr-defined]
        told.append({"test": test, "metrics": scores["metrics"], "baselines": scores["baselines"]})
    mean = {name: _mean_of([f["metrics"][name] for f in told]) for name in told[0]["metrics"]}
    simple = {
        name: {m: _mean_of([f["baselines"][name][m] for f in told]) for m in values}
        for name, values in told[0]["baselines"].items()
    }
    return {
        "task": task.name,
        "primary": task.primary,
        "higher": task.higher,
        "refit": refit,
        "folds": told,
        "metrics": mean,
        "baselines": simple,
        "skill": task.skill(mean[task.primary], simple[task.best(simple)][task.primary]),
        "seconds": round(time.monotonic() - began, 2),
    }


def _mean_of(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def save_model(
    run: Run, problem: Problem, info: dict[str, Any], out: Path, finished: nn.Module | None = None
) -> None:
    """Write the best model so far, or the finished one."""
    model = problem.build()
    model.load_state_dict(run.best_weights if finished is None else finished.state_dict())
    ModelFile(model, problem.codec, {**info, "history": run.history}, problem.arrays()).save(out)


def checkpoint_path(out: Path) -> Path:
    """Where a run keeps what it needs to go on."""
    return out.with_name(out.name + ".resume")


class Run:
    """A training run: everything that changes while it goes on, and how it is kept in `OUT.resume`."""

    def __init__(
        self,
        problem: Problem,
        how: TrainSettings,
        watched: str,
        out: Path,
        to_beat: float | None,
        budget_s: float | None,
    ) -> None:
        self.problem, self.how, self.watched, self.to_beat, self.budget_s = (
            problem,
            how,
            watched,
            to_beat,
            budget_s,
        )
        self.checkpoint_path = checkpoint_path(out)
        torch.manual_seed(how.seed)
        self.model = problem.build()
        self.average = problem.build()
        self.average.load_state_dict(self.model.state_dict())
        decay = [p for p in self.model.parameters() if p.ndim > 1]
        plain = [p for p in self.model.parameters() if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": decay, "weight_decay": how.weight_decay},
                {"params": plain, "weight_decay": 0.0},
            ],
            lr=how.lr,
        )
        own = binding.engine is not None and "bf16" in binding.engine.instruction_set()
        self.bfloat16 = how.precision == "bfloat16" or (how.precision == "auto" and own)
        self.gradients = GradientWatch()
        self.flow = GradientFlow(self.model, every=1)
        self.best_weights = _copy(self.average)
        self.best = math.inf
        self.best_epoch = -1
        self.epoch = 0
        self.step = 0
        self.epochs = (
            how.epochs if budget_s is None else None
        )  # None: planned after the first epoch
        self.steps_an_epoch = 0
        self.seconds = 0.0
        self.speed = 0.0
        self.history: list[dict[str, float]] = []

    def fit(self, save: Callable[[], None], watch: Watch, tensorboard: Path | None) -> None:
        """Train until the epochs, the time or the patience end."""
        log = _tensorboard(tensorboard)
        while self.epochs is None or self.epoch < self.epochs:
            began, first = time.monotonic(), self.flow.steps
            loss = self._one_epoch(watch)
            valid = self.problem.validate(self.average)
            if not math.isfinite(valid[self.watched]):
                kept = (
                    f"; the best model so far, of epoch {self.best_epoch + 1}, is kept"
                    if self.best_epoch >= 0
                    else ""
                )
                raise UserError(
                    f"training diverged in epoch {self.epoch + 1}: try a third of the lr (--set"
                    f" lr=…){kept}"
                )
            better = valid[self.watched] < self.best
            if better:
                self.best, self.best_epoch, self.best_weights = (
                    valid[self.watched],
                    self.epoch,
                    _copy(self.average),
                )
            self.seconds += time.monotonic() - began
            self.epoch += 1
            if self.epochs is None or self.budget_s is not None:
                self.epochs = self._plan()
            flow = {
                f"gradient of {layer}": told["median"]
                for layer, told in self.flow.summary(first).items()
            }
            flow = {name: value for name, value in flow.items() if math.isfinite(value)}
            self.history.append(
                {"loss": loss, **{f"valid_{k}": v for k, v in valid.items()}, **flow}
            )
            warning = self.gradients.warning()
            if log is not None:
                for name, value in self.history[-1].items():
                    log.add_scalar(name, value, self.epoch)
            watch(
                Epoch(
                    self.epoch,
                    self.epochs,
                    loss,
                    valid,
                    self.best,
                    self.to_beat,
                    self.seconds,
                    self.speed,
                    warning,
                )
            )
            self.save_checkpoint()
            if better:
                save()
            patience = self.how.patience or max(self.epochs // 3, 3)
            if self.epoch - 1 - self.best_epoch >= patience:
                break
        if log is not None:
            log.close()

    def _one_epoch(self, watch: Watch) -> float:
        began = time.monotonic()
        self.model.train()
        total = torch.zeros(())
        count, learnt = 0, 0
        state: State | None = None
        seed = self.how.seed * 1_000_003 + self.epoch
        held = self.problem.held(self.epoch)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(not held or not name.startswith(held))
        torch.manual_seed(
            seed
        )  # every epoch's random numbers are its own: a resumed run draws the same
        for batch in self.problem.epoch(seed):
            rate = self._learning_rate()
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
                loss, state = self.model.loss(
                    batch, state.detach() if batch.carry and state is not None else None
                )
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.flow.see()
            norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), self.how.clip))
            self.gradients.see(norm)
            if math.isfinite(norm):  # a step that is not finite would spoil every weight
                self.optimizer.step()
            else:
                state = None
            self._follow()
            self.step += 1
            total += loss.detach()
            count += 1
            learnt += batch.steps
            seconds = time.monotonic() - began
            self.speed = learnt / max(seconds, 1e-9)
            steps = None if self.epochs is None else self.epochs * max(self.steps_an_epoch, count)
            watch(
                Step(
                    self.epoch,
                    self.epochs,
                    self.step,
                    steps,
                    float(loss.detach()),
                    self.seconds + seconds,
                    self.speed,
                )
            )
        self.steps_an_epoch = self.steps_an_epoch or count
        return float(total) / max(count, 1)

    def _plan(self) -> int:
        """How many epochs, once the first has shown how long one is. With a budget of time the plan
        follows the machine, so that the learning rate comes down to zero when the time is over.
        """
        if self.budget_s is not None:
            return max(2, self.epoch, int(self.budget_s * self.epoch / self.seconds))
        return min(max(24, -(-400 // self.steps_an_epoch)), 200)

    def _learning_rate(self) -> float:
        """Linear warm-up over the first epoch (100 steps at most), cosine decay to zero from the
        second on.
        """
        warm = min(1.0, (self.step + 1) / min(self.steps_an_epoch or 100, 100))
        if self.epoch == 0 or self.epochs is None:
            return self.how.lr * warm
        whole = self.epochs * self.steps_an_epoch
        share = (self.step - self.steps_an_epoch) / max(whole - self.steps_an_epoch, 1)
        return self.how.lr * warm * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))

    @torch.no_grad()
    def _follow(self) -> None:
        """The running average of the weights (Polyak & Juditsky 1992), quicker at first."""
        decay = min(self.how.average, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(
            list(self.average.parameters()), list(self.model.parameters()), 1 - decay
        )

    def use_best(self) -> None:
        """Put the best weights into `model`."""
        self.model.load_state_dict(self.best_weights)
        self.model.eval()

    # ---- OUT.resume ------------------------------------------------------------------------------

    def identity(self) -> dict[str, Any]:
        """What must be the same for a run to go on."""
        info = self.problem.info()
        same = {key: info[key] for key in ("data", "fingerprint", "settings")}
        training = dataclasses.asdict(self.how)
        training.pop("epochs")  # the plan in the checkpoint counts
        return json.loads(json.dumps({**same, "training": training}))

    def save_checkpoint(self) -> None:
        """Weights, average, best and optimiser; safetensors, never pickle."""
        tensors: dict[str, Tensor] = {}
        for kind, weights in (
            ("model", _copy(self.model)),
            ("average", _copy(self.average)),
            ("best", self.best_weights),
        ):
            tensors |= {f"{kind}.{name}": value for name, value in weights.items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{name}": value.clone() for name, value in values.items()}
        note = {
            "format": "memorycell-resume-1",
            "identity": self.identity(),
            "numbers": {name: getattr(self, name) for name in self._numbers},
            "gradients": list(self.gradients.norms),
        }
        write_atomically(
            self.checkpoint_path, safetensors.torch.save(tensors, {"memorycell": json.dumps(note)})
        )

    _numbers = (
        "best",
        "best_epoch",
        "epoch",
        "step",
        "epochs",
        "steps_an_epoch",
        "seconds",
        "history",
        "budget_s",
    )

    def load_checkpoint(self) -> int:
        """Go on where the run stopped; returns the epochs done. Raises `UserError`."""
        path = self.checkpoint_path
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                note = json.loads(file.metadata()["memorycell"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if note["format"] != "memorycell-resume-1":
                raise ValueError("of another version")
        except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: damaged ({error}); start without --resume") from None
        if note["identity"] != self.identity():
            differing = [k for k, v in self.identity().items() if note["identity"].get(k) != v]
            other = " and ".join(differing)
            raise UserError(
                f"{path}: belongs to a run with other {other}; use the same, or start without"
                " --resume"
            )
        for kind, module in (("model", self.model), ("average", self.average)):
            module.load_state_dict(_part(tensors, kind))
        self.best_weights = _part(tensors, "best")
        saved = self.optimizer.state_dict()
        for name, value in _part(tensors, "adam").items():
            index, key = name.split(".")
            saved["state"].setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict(saved)
        for name in self._numbers:
            setattr(self, name, note["numbers"][name])
        self.gradients.norms.extend(note["gradients"])
        return self.epoch


class GradientWatch:
    """Says when gradients vanish or explode, and what to try. Looks at the last 200 norms before
    clipping.
    """

    def __init__(self) -> None:
        self.norms: deque[float] = deque(maxlen=200)

    def see(self, norm: float) -> None:
        """Note the norm of one step's gradient."""
        self.norms.append(norm)

    def warning(self) -> str | None:
        """A sentence, or None where all is well."""
        norms = list(self.norms)
        if not norms:
            return None
        finite = sorted(norm for norm in norms if math.isfinite(norm))
        bad = len(norms) - len(finite)
        if bad:
            return (
                f"{bad} of the last {len(norms)} gradients were not finite and were skipped; try a"
                " third of the lr"
            )
        usual = finite[len(finite) // 2]
        wild = sum(norm > 100 * max(usual, 1e-12) for norm in finite)
        if wild > 0.05 * len(norms):
            return (
                f"gradients explode: {wild} of the last {len(norms)} are over 100 times the usual"
                f" {usual:.2g}; try a lower lr, clip=0.5 or a shorter bptt"
            )
        if usual < 1e-6:
            return (
                f"gradients vanish: their usual size is {usual:.2g}; try cell=lstm, a higher lr or"
                " a shorter bptt"
            )
        return None


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        n.removeprefix(f"{prefix}."): t for n, t in tensors.items() if n.startswith(f"{prefix}.")
    }


def _tensorboard(folder: Path | None) -> Any:
    if folder is None:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError:
        raise UserError("--tensorboard needs a package: pip install 'memorycell[log]'") from None
    return SummaryWriter(str(folder))
