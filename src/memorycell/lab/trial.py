"""One trial of the lab: train one cell on one problem until it is solved, then test it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from memorycell.cells import CELLS as CELL_TABLE
from memorycell.inspection.trace import trace_layers
from memorycell.lab.problems import PROBLEMS, Batch, Problem
from memorycell.nn.layers import Recurrent, of_cell

CLASSIC_CELLS = ("rnn", "gru", "lstm", "peephole", "coupled", "layernorm")
RECENT_CELLS = ("mogrifier", "slstm", "mlstm", "minlstm", "mingru")
CELLS = CLASSIC_CELLS + RECENT_CELLS
HIDDEN_SIZE = 48
BATCH_SIZE = 32
NUM_TEST = 512
GRADIENT_SEQUENCES = 16
EVALUATION_INTERVAL = 50
LEARNING_RATE = 3e-3
MAX_UPDATES = 5000
SOLVED_ACCURACY = 0.995


@dataclass
class TrialResult:
    """Result of one trial.

    accuracy          on 512 test sequences not used in training
    updates           optimiser steps; seconds: training time
    history           (updates, validation accuracy)
    gradient_before   |∂loss / ∂h_t| against the distance T - 1 - t, batch mean, before training
    gradient_after    the same after training
    cell_state        [T, H] c (h for cells without c, or with a matrix) of the first test sequence
                      after training
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


class TrialModel(nn.Module):
    """A recurrent layer and a linear output at the last steps."""

    def __init__(self, cell: str, problem: Problem, hidden_size: int = HIDDEN_SIZE) -> None:
        super().__init__()
        self.recurrent = build_layer(cell, problem.input_size, hidden_size, problem.seq_len)
        self.out = nn.Linear(hidden_size, problem.output_size)
        self.num_answers = problem.num_answers

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, I] -> [B, num_answers, output_size]."""
        hidden: Tensor = self.recurrent(x)[0]
        return self.out(hidden[:, -self.num_answers :])


def build_layer(cell: str, input_size: int, hidden_size: int, seq_len: int) -> Recurrent:
    """A layer initialised to remember over `seq_len` steps: the bias of the forget gate is
    ln U(1, T - 1), that of the input gate its negative (Tallec & Ollivier 2018, arXiv:1804.11188).
    The plain RNN has no gates and keeps torch's initialisation.
    """
    layer = of_cell(cell, input_size, hidden_size, batch_first=True)
    bias = torch.empty(hidden_size).uniform_(1, max(2, seq_len - 1)).log()
    rows = CELL_TABLE[cell].rows(hidden_size)
    keeps = {"f": bias, "i": -bias, "z": -bias if cell == "mingru" else bias}
    with torch.no_grad():
        for name, value in keeps.items():
            if name in rows:
                block = layer.get_parameter("bias_ih_l0")[rows[name]]
                block.copy_(value[: len(block)])  # one value per head in the mlstm
                if CELL_TABLE[cell].recurrent:
                    layer.get_parameter("bias_hh_l0")[rows[name]] = 0.0
    return layer


def run_trial(
    problem_name: str, gap: int, cell: str, max_updates: int = MAX_UPDATES, seed: int = 0
) -> TrialResult:
    """Train until the problem is solved, or for `max_updates`, then test the weights that were best
    on validation.
    """
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    problem = PROBLEMS[problem_name](gap)
    model = TrialModel(cell, problem)
    result = TrialResult(problem_name, gap, cell, 0.0, problem.chance, 0, 0.0)
    valid = problem.draw(np.random.default_rng(seed + 1_000_000), NUM_TEST)
    test = problem.draw(np.random.default_rng(seed + 2_000_000), NUM_TEST)
    result.gradient_before = gradient_by_distance(model, problem, valid)
    _train(model, problem, valid, result, max_updates, np.random.default_rng(seed))
    result.accuracy = _accuracy(model, problem, test)
    result.gradient_after = gradient_by_distance(model, problem, valid)
    with torch.no_grad(), trace_layers(model) as traces:
        model(test[0][:1])
    gates = traces[0].gates
    has_vector = "c" in gates and not CELL_TABLE[cell].per_head
    result.cell_state = np.round(gates["c" if has_vector else "h"][0].numpy(), 3).tolist()
    return result


def _train(
    model: TrialModel,
    problem: Problem,
    valid: Batch,
    result: TrialResult,
    max_updates: int,
    rng: np.random.Generator,
) -> None:
    """Adam with linear decay. Stops after two evaluations at `SOLVED_ACCURACY` in succession, or
    after `max_updates`. Leaves the best weights on validation in the model.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    best, best_weights = -1.0, _copy_weights(model)
    start = time.monotonic()
    solved = 0
    while True:
        if result.updates % EVALUATION_INTERVAL == 0 or result.updates == max_updates:
            accuracy = _accuracy(model, problem, valid)
            result.history.append((result.updates, accuracy))
            if accuracy > best:
                best, best_weights = accuracy, _copy_weights(model)
            solved = solved + 1 if accuracy >= SOLVED_ACCURACY else 0
            if solved == 2 or result.updates == max_updates:
                break
        x, target = problem.draw(rng, BATCH_SIZE)
        remaining = 1 - result.updates / max_updates
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * (0.1 + 0.9 * remaining)
        loss = problem.loss(model(x), target)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        result.updates += 1
    result.seconds = time.monotonic() - start
    model.load_state_dict(best_weights)


def _copy_weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def gradient_by_distance(model: TrialModel, problem: Problem, batch: Batch) -> list[float]:
    """|∂loss / ∂h_t| at every distance T - 1 - t from the end, starting at 0: mean norm over
    `GRADIENT_SEQUENCES` sequences.
    """
    x, target = (part[:GRADIENT_SEQUENCES] for part in batch)
    layer, seq_len = model.recurrent, x.shape[1]
    offsets = torch.zeros(len(x), seq_len, layer.hidden_size, requires_grad=True)
    hidden = hidden_with_offsets(layer, x, offsets)
    loss = problem.loss(model.out(hidden[:, -problem.num_answers :]), target) * len(x)
    (grad,) = torch.autograd.grad(loss, offsets)
    norms: Tensor = grad.norm(dim=-1).mean(0).flip(0)
    return [float(v) for v in norms]


def hidden_with_offsets(layer: Recurrent, x: Tensor, offsets: Tensor) -> Tensor:
    """Hidden states [B, T, H] with `offsets` [B, T, H] added to every h_t, by the reference loop:
    the gradient with respect to `offsets` is ∂loss / ∂h_t.
    """
    params = layer.layer_parameters(0, "")
    cell = CELL_TABLE[layer.cell]
    projected = cell.input_part(x, params)
    state = tuple(s[0] for s in layer.initial_state(len(x)))
    outputs = []
    for t in range(x.shape[1]):
        state, _ = cell.advance(projected[:, t], state, params)
        state = (state[0] + offsets[:, t], *state[1:])
        outputs.append(state[0])
    return torch.stack(outputs, 1)


@torch.no_grad()
def _accuracy(model: TrialModel, problem: Problem, batch: Batch) -> float:
    model.eval()
    score = problem.score(model(batch[0]), batch[1])
    model.train()
    return score if math.isfinite(score) else 0.0
