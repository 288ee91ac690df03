"""One network of a sequence model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from memorycell.applications.sequences.convolutions import ConvolutionBranch
from memorycell.applications.sequences.heads import first_bias
from memorycell.applications.sequences.model_config import SequenceModelConfig
from memorycell.models.model import carried
from memorycell.models.pooling import pool_complete, pool_steps
from memorycell.nn.attention import AttentionPool
from memorycell.nn.regularise import dropout, variational_dropout
from memorycell.state import State

BRANCH_DROPOUT = 0.8
"""Of the recurrent part where convolutions read the same rows (Karim et al. 2018)."""


class Member(nn.Module):
    """One recurrent stack with its pooling, convolutions where configured, and its head."""

    def __init__(self, config: SequenceModelConfig) -> None:
        super().__init__()
        self.config = config
        self.recurrent = config.stack(config.input_size, bidirectional=config.bidirectional)
        size = config.hidden_size * len(self.recurrent.directions)
        attends = config.pooling == "attention" and not config.every_step
        self.pool = AttentionPool(size) if attends else None
        self.branch = None
        if config.encoder == "conv":
            self.branch = ConvolutionBranch(
                config.patch // config.stride, config.stride * config.row_size, config.channels
            )
            size += self.branch.output_size
        self.head = nn.Linear(size, config.outputs * config.params)
        if config.numeric:
            nn.init.normal_(self.head.weight, std=0.01)
            with torch.no_grad():
                bias = first_bias(config.interval, config.quantiles, config.outputs)
                self.head.bias.copy_(bias)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """X [B, T, I], lengths [B] -> parameters [B, outputs · P], or [B, T, outputs · P]."""
        config = self.config
        hidden, _ = self.recurrent(x, lengths=lengths)
        if config.every_step:
            return self.head(variational_dropout(hidden, config.dropout, self.training))
        hidden = variational_dropout(hidden, config.dropout / 2, self.training)
        z = pool_complete(config.pooling, self.pool, hidden, lengths, config.hidden_size)
        if self.branch is not None:
            z = dropout(z, BRANCH_DROPOUT, self.training)
            z = torch.cat([z, self.branch(x, lengths)], -1)
        return self.head(dropout(z, config.dropout, self.training))

    def steps(
        self, x: Tensor, before: State, backend: str | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """X [B, T, I], the state of this member before the first step -> (parameters after every
        step [B, T, outputs · P], the state after the last one by name).
        """
        config, given = self.config, before.asdict()
        z, after = carried(self.recurrent, x, before, backend=backend)
        if not config.every_step:
            sums = before.pooled[0] if "pooled" in given else None
            pooled, z = pool_steps(config.pooling, self.pool, z, sums)
            if pooled is not None:
                after["pooled"] = pooled[None]
        if self.branch is not None:
            features, branch = self.branch.steps(x, before.convolutions[0])
            after["convolutions"] = branch[None]
            z = torch.cat([z, features], -1)
        return self.head(z), after
