"""Several policies as one: a single recurrent stack, for exports."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from memorycell.applications.control.model import RecurrentPolicy
from memorycell.models.merging import merged
from memorycell.state import State


class MergedPolicy(RecurrentPolicy):
    """A policy whose hidden states are those of all networks of `policy`, one after another, and
    whose actor gives the outputs of each; `forward` averages them, see `mean_outputs`.
    """

    def __init__(self, policy: RecurrentPolicy) -> None:
        networks, config = policy.networks, policy.config
        size, count = config.hidden_size, len(networks)
        super().__init__(replace(config, members=1, hidden_size=count * size))
        self.merged = count
        self.scaling, self.recurrent = policy.scaling, merged([n.recurrent for n in networks])
        self.actor = nn.Linear(count * size, count * config.outputs)
        with torch.no_grad():
            self.actor.weight.copy_(torch.block_diag(*(n.actor.weight for n in networks)))
            self.actor.bias.copy_(torch.cat([n.actor.bias for n in networks]))
        self.eval()

    def distributions(
        self,
        x: Tensor,
        state: State | None,
        reset: Tensor | None = None,
        backend: str | None = None,
    ) -> tuple[list[tuple[Tensor, Tensor]], State]:
        """See `Policy`: of every network that it was made of."""
        z, state = self.features(self.scaling(x), state, reset, backend)
        parts = self.actor(z).split(self.config.outputs, -1)
        return [(part, self.log_std) for part in parts], state
