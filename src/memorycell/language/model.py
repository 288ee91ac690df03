"""LanguageModel: embedding -> recurrent stack -> distribution of the next token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memorycell.models.batches import LaneBatch, known_targets
from memorycell.models.exporting import OnnxHead
from memorycell.models.heads import NextStep
from memorycell.models.model import ModelConfig, ScoredStepper, SteppedModel, carried
from memorycell.nn.regularise import embedding_dropout, variational_dropout
from memorycell.ops.step import LinearStep
from memorycell.state import State
from memorycell.streaming.stepping import Stepper

MAX_PENALTY = 1e3
"""Weight of AR and of TAR."""


@dataclass(frozen=True, kw_only=True)
class LanguageConfig(ModelConfig):
    """The sizes of a language model and its regularisation (Merity et al. 2017, arXiv:1708.02182).

    vocabulary          number of tokens
    embedding_size      of a token
    tied                the output weights are those of the embedding
    embedding_dropout   probability that a token of the vocabulary is dropped for a whole batch
    noise               probability that an input token is replaced by one drawn from the batch,
                        similar to smoothing in n-gram models (Xie et al. 2017, arXiv:1703.02573)
    activation          weight of the mean square of the head's input (AR)
    slowness            weight of the mean square of the last layer's change between steps (TAR)
    """

    vocabulary: int
    embedding_size: int
    tied: bool = True
    embedding_dropout: float = 0.0
    noise: float = 0.0
    activation: float = 0.0
    slowness: float = 0.0

    counts: ClassVar[tuple[str, ...]] = (*ModelConfig.counts, "vocabulary", "embedding_size")
    probabilities: ClassVar[tuple[str, ...]] = (
        *ModelConfig.probabilities,
        "embedding_dropout",
        "noise",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("activation", "slowness"):
            if not 0 <= getattr(self, name) <= MAX_PENALTY:
                raise ValueError(
                    f"{name}: expected 0 to {MAX_PENALTY:g}, got {getattr(self, name)!r}"
                )


class LanguageModel(SteppedModel[LaneBatch]):
    """Maps tokens to log-probabilities of the next token, with a state carried between calls."""

    kind = "language"
    config_class = LanguageConfig
    config: LanguageConfig

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.embedding_size)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.recurrent = config.stack(config.embedding_size)
        self.head = NextStep(
            config.hidden_size, config.vocabulary, config.embedding_size if config.tied else None
        )

    def initial_state(self, batch_size: int = 1) -> State:
        """Zeros."""
        return self.recurrent.initial_state(batch_size)

    def forward(
        self,
        x: Tensor,
        state: State | None = None,
        reset: Tensor | None = None,
        *,
        backend: str | None = None,
    ) -> tuple[Tensor, State]:
        """X [B, T] token ids (or [B, T, 1] of any dtype), reset [B, T] bool -> (log-probabilities
        [B, T, V], state).
        """
        hidden, state = self.hidden(
            x if x.ndim == 2 else x[..., 0].long(), state, reset, backend=backend
        )
        return F.log_softmax(self.head(hidden, self.embedding.weight).float(), -1), state

    def hidden(
        self,
        tokens: Tensor,
        state: State | None,
        reset: Tensor | None = None,
        *,
        backend: str | None = None,
    ) -> tuple[Tensor, State]:
        """Token ids [B, T] int64 -> (hidden states [B, T, H], state)."""
        state = self.initial_state(len(tokens)) if state is None else state
        table = embedding_dropout(
            self.embedding.weight, self.config.embedding_dropout, self.training
        )
        output, after = carried(
            self.recurrent, F.embedding(tokens, table), state, reset=reset, backend=backend
        )
        return output, State(**after)

    def loss(self, batch: LaneBatch, state: State | None) -> tuple[Tensor, State]:
        """Nats per token, plus AR and TAR (Merity, McCann & Socher 2017, arXiv:1708.01009)."""
        x = batch.x
        if self.training and self.config.noise:
            random = x.flatten()[torch.randint(x.numel(), x.shape, device=x.device)]
            x = torch.where(torch.rand(x.shape, device=x.device) < self.config.noise, random, x)
        hidden, after = self.hidden(x, state, batch.reset)
        features = variational_dropout(hidden, self.config.dropout, self.training)
        loss = self.head.loss(self.head(features, self.embedding.weight), batch.target)
        if self.training and self.config.activation:
            loss = loss + self.config.activation * features.float().square().mean()
        if self.training and self.config.slowness and hidden.shape[1] > 1:
            loss = (
                loss
                + self.config.slowness * (hidden[:, 1:] - hidden[:, :-1]).float().square().mean()
            )
        return loss, after

    def loss_count(self, batch: LaneBatch) -> int:
        """See `Model`: tokens."""
        return known_targets(batch.target)

    @torch.inference_mode()
    def nats(
        self, tokens: Tensor, target: Tensor, reset: Tensor | None = None, chunk: int = 512
    ) -> Tensor:
        """Negative log-likelihoods [B, T] of the targets [B, T], zero where the target is `IGNORE`.

        reset   [B, T] bool: a new sequence begins at that step
        chunk   steps per call of the model
        """
        self.eval()
        state, parts = None, []
        for begin in range(0, tokens.shape[1], chunk):
            now = slice(begin, begin + chunk)
            x, y = tokens[:, now], target[:, now]
            hidden, state = self.hidden(x, state, None if reset is None else reset[:, now])
            scores = self.head(hidden, self.embedding.weight).float()
            parts.append(
                F.cross_entropy(scores.flatten(0, 1), y.flatten(), reduction="none").view(y.shape)
            )
        return torch.cat(parts, 1)

    @property
    def step_size(self) -> int:
        """See `SteppedModel`."""
        return 1

    def random_inputs(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """See `Model`: token ids."""
        return rng.integers(0, self.config.vocabulary, size=shape).astype(np.float32)

    def onnx_head(self) -> OnnxHead:
        """See `Model`."""
        from memorycell.language.onnx_head import LanguageOnnxHead

        return LanguageOnnxHead(self)

    def native_stepper(self, precision: str) -> Stepper:
        """See `SteppedModel`: x is a token id [1], y the next token's log-probabilities [V]."""
        return LanguageStepper(self, precision)


class LanguageStepper(ScoredStepper):
    """Single steps of a language model on the native engine."""

    def __init__(self, model: LanguageModel, precision: str) -> None:
        head = model.head
        weight = head.weight if head.weight is not None else model.embedding.weight
        score = LinearStep(weight, head.bias)
        if head.project is not None:
            project = LinearStep(head.project.weight, torch.zeros(len(head.project.weight)))
            super().__init__(model.recurrent, precision, lambda hidden: score(project(hidden)))
        else:
            super().__init__(model.recurrent, precision, score)
        self.input_size = 1
        self._table = model.embedding.weight.detach().float().numpy().copy()

    def inputs(self, x: np.ndarray) -> np.ndarray:
        """The embeddings of token ids [..., 1]."""
        return self._table[x[..., 0].astype(np.int64)]
