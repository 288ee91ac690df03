"""One trial of the lab: one cell learns one problem, within so many seconds."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from memorycell.cells import CELLS as TABLE
from memorycell.inspection.record import recording
from memorycell.lab.problems import PROBLEMS, Problem
from memorycell.nn.layers import Recurrent, of_cell

CELLS = ("rnn", "gru", "lstm", "peephole", "coupled", "layernorm")
HIDDEN, BATCH, TEST = 48, 32, 512
SOLVED = 0.995


@dataclass
class Outcome:
    """What came of a trial.

    accuracy    on 512 sequences never drawn before; history: (updates, accuracy) on others while it
                learnt
    gradient    |∂loss / ∂h_t| against the distance T - t, averaged over a batch, before any
                learning and after
    cell        [T, H] the first test sequence's cell state (h where there is none), after learning
    """

    problem: str
    gap: int
    cell: str
    accuracy: float
    chance: float
    updates: int
    seconds: float
    history: list[tuple[int, float]] = field(default_factory=list)
    gradient_before: list[float] = field(default_factory=list)
    gradient_after: list[float] = field(default_factory=list)
    cell_state: list[list[float]] = field(default_factory=list)


class Answerer(nn.Module):
    """A recurrent layer with a linear answer at the last steps."""

    def __init__(self, cell: str, problem: Problem, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.recurrent = build(cell, problem.inputs, hidden, problem.steps)
        self.out = nn.Linear(hidden, problem.outputs)
        self.answers = problem.answers

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, I] -> [B, answers, outputs]."""
        hidden: Tensor = self.recurrent(x)[0]
        return self.out(hidden[:, -self.answers :])


def build(cell: str, inputs: int, hidden: int, steps: int) -> Recurrent:
    """A layer that starts ready to remember as long as the sequence: its keeping gate's bias is ln
    U(1, T - 1), and the input gate's the opposite (Tallec & Ollivier 2018, arXiv:1804.11188). The
    plain RNN has no gate to set, and starts as torch starts it.
    """
    layer = of_cell(cell, inputs, hidden, batch_first=True)
    keep = torch.empty(hidden).uniform_(1, max(2, steps - 1)).log()
    blocks = TABLE[cell].blocks
    with torch.no_grad():
        for name, value in (("z" if cell == "gru" else "f", keep), ("i", -keep)):
            if name in blocks:
                at = slice(blocks.index(name) * hidden, (blocks.index(name) + 1) * hidden)
                layer.get_parameter("bias_ih_l0")[at] = value
                layer.get_parameter("bias_hh_l0")[at] = 0.0
    return layer


def run(name: str, gap: int, cell: str, seconds: float, seed: int = 0) -> Outcome:
    """Train until solved or until the time is up; then test."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    problem = PROBLEMS[name](gap)
    model = Answerer(cell, problem)
    outcome = Outcome(name, gap, cell, 0.0, problem.chance, 0, 0.0)
    rng = np.random.default_rng(seed)
    valid = problem.draw(np.random.default_rng(seed + 1_000_000), TEST)
    test = problem.draw(np.random.default_rng(seed + 2_000_000), TEST)
    outcome.gradient_before = gradient_by_distance(model, problem, valid)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    best, kept = -1.0, {k: v.clone() for k, v in model.state_dict().items()}
    began = time.monotonic()
    solved = 0
    while True:
        outcome.seconds = time.monotonic() - began
        if outcome.updates % 50 == 0 or outcome.seconds > seconds:
            accuracy = _score(model, problem, valid)
            outcome.history.append((outcome.updates, accuracy))
            if accuracy > best:
                best, kept = accuracy, {k: v.clone() for k, v in model.state_dict().items()}
            solved = solved + 1 if accuracy >= SOLVED else 0
            if solved == 2 or outcome.seconds > seconds:
                break
        x, target = problem.draw(rng, BATCH)
        optimiser.param_groups[0]["lr"] = 3e-3 * (
            0.1 + 0.9 * max(0.0, 1 - outcome.seconds / seconds)
        )
        loss = problem.loss(model(x), target)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        outcome.updates += 1
    model.load_state_dict(kept)
    outcome.accuracy = _score(model, problem, test)
    outcome.gradient_after = gradient_by_distance(model, problem, valid)
    with torch.no_grad(), recording(model) as recorded:
        model(test[0][:1])
    gates = recorded[0].gates
    outcome.cell_state = np.round(gates.get("c", gates["h"])[0].numpy(), 3).tolist()
    return outcome


def gradient_by_distance(
    model: Answerer, problem: Problem, batch: tuple[Tensor, Tensor]
) -> list[float]:
    """|∂loss / ∂h_t| at every distance T - 1 - t from the end, 0 first: the mean over 16 sequences
    of the norms.
    """
    few, target = batch[0][:16], batch[1][:16]
    layer, steps = model.recurrent, few.shape[1]
    nudge = torch.zeros(len(few), steps, layer.hidden_size, requires_grad=True)
    hidden = _with_nudges(layer, few, nudge)
    loss = problem.loss(model.out(hidden[:, -problem.answers :]), target) * len(few)
    (grad,) = torch.autograd.grad(loss, nudge)
    norms: Tensor = grad.norm(dim=-1).mean(0).flip(0)
    return [float(v) for v in norms]


def _with_nudges(layer: Recurrent, x: Tensor, nudge: Tensor) -> Tensor:
    """Hidden states with something added to every h_t, through the plain loop."""
    params = layer.layer_parameters(0, "")
    cell = TABLE[layer.cell]
    part = cell.ahead(x @ params["weight_ih"].T, params)
    state = tuple(s[0] for s in layer.initial_state(len(x)))
    outputs = []
    for t in range(x.shape[1]):
        state, _ = cell.step(part[:, t], state[0] @ params["weight_hh"].T, state, params)
        state = (state[0] + nudge[:, t], *state[1:])
        outputs.append(state[0])
    return torch.stack(outputs, 1)


@torch.no_grad()
def _score(model: Answerer, problem: Problem, data: tuple[Tensor, Tensor]) -> float:
    model.eval()
    score = problem.score(model(data[0]), data[1])
    model.train()
    return score if math.isfinite(score) else 0.0
