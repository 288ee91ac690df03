"""LanguageModel: embedding -> recurrent stack -> distribution of the next token."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memorycell.language.mixing import NGramMix, Sequences
from memorycell.language.ngram_trie import MAX_NODES
from memorycell.models.batches import LaneBatch, known_targets
from memorycell.models.exporting import OnnxHead
from memorycell.models.heads import NextStep
from memorycell.models.model import ModelConfig, ScoredStepper, SteppedModel, carried
from memorycell.nn.regularise import embedding_dropout, variational_dropout
from memorycell.ops.step import LinearStep
from memorycell.state import Layout, State
from memorycell.streaming.stepping import Stepper

MAX_PENALTY = 1e3
"""Weight of AR and of TAR."""
WITH_NGRAM = "not with an n-gram model mixed in; train with --set mix=no"
"""Why a model is not exported."""
MAX_ORDER = 16
"""Of n-grams."""


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
    ngram_entries, ngram_order   of the n-gram model that is mixed in, see `NGramMix`; 0: none
    """

    vocabulary: int
    embedding_size: int
    tied: bool = True
    embedding_dropout: float = 0.0
    noise: float = 0.0
    activation: float = 0.0
    slowness: float = 0.0
    ngram_entries: int = 0
    ngram_order: int = 0

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
        entries, order = self.ngram_entries, self.ngram_order
        is_none = entries == order == 0
        if not is_none and not (1 <= entries <= MAX_NODES and 2 <= order <= MAX_ORDER):
            raise ValueError(f"ngram_entries, ngram_order: got {entries!r} and {order!r}")


class LanguageModel(SteppedModel[LaneBatch]):
    """Maps tokens to log-probabilities of the next token, with a state carried between calls.

    After training the n-gram model of the training text can be mixed in (`add_ngram`). Then the
    state also holds the last tokens as nodes of its table, and only `hidden` and `loss` are those
    of the network alone.
    """

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
        self.ngram = (
            NGramMix(config.ngram_entries, config.ngram_order, config.vocabulary)
            if config.ngram_entries
            else None
        )

    def add_ngram(self, ngram: NGramMix) -> None:
        """Mix an n-gram model in."""
        self.ngram = ngram
        self.config = replace(self.config, ngram_entries=len(ngram.packed), ngram_order=ngram.order)

    def initial_state(self, batch_size: int = 1) -> State:
        """Zeros: h, c, and the nodes of the last tokens [1, B, order - 1]."""
        state = self.recurrent.initial_state(batch_size)
        if self.ngram is None:
            return state
        context = state[0].new_zeros(1, batch_size, self.ngram.order - 1)
        return State(**state.asdict(), context=context)

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
        tokens = x if x.ndim == 2 else x[..., 0].long()
        hidden, after = self.hidden(tokens, state, reset, backend=backend)
        log_p = F.log_softmax(self.head(hidden, self.embedding.weight).float(), -1)
        if self.ngram is None:
            return log_p, after
        before = self.ngram.initial_context(len(tokens))
        if state is not None:
            before = self.ngram.read_context(state.context[0].numpy())
        flags = None if reset is None else reset.numpy()
        context = self.ngram.trie.contexts(tokens.numpy(), before, flags)
        rows = log_p.detach().numpy().reshape(-1, log_p.shape[-1])
        mixed = self.ngram.mix(rows, context.reshape(len(rows), -1))
        last = torch.from_numpy(context[:, -1]).to(log_p)[None]
        return torch.from_numpy(mixed).view(log_p.shape), State(**after.asdict(), context=last)

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
        network = self.network_nats(tokens, target, reset, chunk)
        if self.ngram is None:
            return network
        return self.ngram.nats(network, Sequences(tokens, target, reset))

    @torch.inference_mode()
    def network_nats(
        self, tokens: Tensor, target: Tensor, reset: Tensor | None = None, chunk: int = 512
    ) -> Tensor:
        """The same, of the network without the n-gram model."""
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

    def onnx_head(self) -> OnnxHead | str:
        """See `Model`."""
        if self.ngram is not None:
            return WITH_NGRAM
        from memorycell.language.onnx_head import LanguageOnnxHead

        return LanguageOnnxHead(self)

    def native_stepper(self, precision: str) -> Stepper:
        """See `SteppedModel`: x is a token id [1], y the next token's log-probabilities [V]."""
        return LanguageStepper(self, precision)


class LanguageStepper(ScoredStepper):
    """Single steps of a language model on the native engine. In a session's row, the nodes of the
    n-gram model follow h and c.
    """

    def __init__(self, model: LanguageModel, precision: str) -> None:
        head = model.head
        weight = head.weight if head.weight is not None else model.embedding.weight
        score = LinearStep(weight, head.bias)
        extra = 0 if model.ngram is None else model.ngram.order - 1
        if head.project is not None:
            project = LinearStep(head.project.weight, torch.zeros(len(head.project.weight)))
            super().__init__(
                model.recurrent, precision, lambda hidden: score(project(hidden)), extra
            )
        else:
            super().__init__(model.recurrent, precision, score, extra)
        self.input_size = 1
        self._table = model.embedding.weight.detach().float().numpy().copy()
        self._ngram = model.ngram
        if extra:
            self.layout = Layout({**self.layout.sizes, "context": (1, extra)})
            self._context = self.layout.slices["context"]

    def inputs(self, x: np.ndarray) -> np.ndarray:
        """The embeddings of token ids [..., 1]."""
        return self._table[x[..., 0].astype(np.int64)]

    def step_one(self, ring: np.ndarray, row: int, x: np.ndarray) -> tuple[np.ndarray, int]:
        """See `Stepper`."""
        if self._ngram is None:
            return super().step_one(ring, row, x)
        before = self._ngram.read_context(ring[row : row + 1, self._context])
        log_p, row = super().step_one(ring, row, x)
        if x.ndim == 1:
            context = self._ngram.trie.step(before, x.astype(np.int64))
        else:
            context = self._ngram.trie.contexts(x[None, :, 0].astype(np.int64), before, None)[0]
        for back in range(min(len(context), len(ring))):  # the steps that the ring stores
            ring[row - back, self._context] = context[len(context) - 1 - back]
        mixed = self._ngram.mix(log_p.reshape(len(context), -1), context)
        return mixed.reshape(log_p.shape), row

    def step_many(self, block: np.ndarray, rows: np.ndarray, x: np.ndarray) -> np.ndarray:
        """See `Stepper`."""
        log_p = super().step_many(block, rows, x)
        if self._ngram is None or not len(rows):
            return log_p
        before = self._ngram.read_context(block[rows, self._context])
        context = self._ngram.trie.step(before, x[:, 0].astype(np.int64))
        block[rows, self._context] = context
        return self._ngram.mix(log_p, context)
