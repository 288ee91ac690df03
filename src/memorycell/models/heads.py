"""Output heads for tokens and classes: next token, sequence class, and CTC."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IGNORE = -100
"""The target of a step without loss."""


class NextStep(nn.Module):
    """The distribution of the next token: log softmax(E (P h_t) + b).

    tied_size   E is the input embedding of this size (Press & Wolf 2017, arXiv:1608.05859; Inan et
                al. 2017, arXiv:1611.01462), and P projects h to it if the sizes differ; None: E
                has weights of its own, and P is the identity
    """

    def __init__(self, hidden_size: int, vocabulary: int, tied_size: int | None = None) -> None:
        super().__init__()
        self.project = (
            nn.Linear(hidden_size, tied_size, bias=False)
            if tied_size not in (None, hidden_size)
            else None
        )
        self.weight = (
            nn.Parameter(torch.empty(vocabulary, hidden_size)) if tied_size is None else None
        )
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        if self.weight is not None:
            nn.init.uniform_(self.weight, -1 / math.sqrt(hidden_size), 1 / math.sqrt(hidden_size))

    def forward(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        """Hidden [..., H], embedding [V, E] -> logits [..., V]."""
        hidden = hidden if self.project is None else self.project(hidden)
        return F.linear(hidden, embedding if self.weight is None else self.weight, self.bias)

    def loss(self, scores: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
        """Mean loss in nats over the targets [...] int64 that are not `IGNORE`."""
        return F.cross_entropy(
            scores.flatten(0, -2).float(),
            target.flatten(),
            ignore_index=IGNORE,
            label_smoothing=smoothing,
        )


class WordPairs(nn.Module):
    """A linear model of unigrams and bigrams, added to the logits of the recurrent part,

        Σ_t (w[x_t] + v[hash(x_{t-1}, x_t)]) / √n

    (wide & deep learning, Cheng et al. 2016, arXiv:1606.07792; hashed features, Weinberger et al.
    2009, arXiv:0902.2206).
    """

    def __init__(self, vocabulary: int, classes: int, buckets: int = 1 << 17) -> None:
        super().__init__()
        self.single = nn.Embedding(vocabulary, classes)
        self.pair = nn.Embedding(buckets, classes)
        for table in (self.single, self.pair):
            nn.init.zeros_(table.weight)

    def forward(self, tokens: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [B, T] int64, past [B, classes + 2] -> (logits after every step [B, T, classes],
        past after the last step).

        past holds the sum, the number of tokens and the last token; zeros at the start.
        """
        before = torch.cat([past[:, -1:].long(), tokens[:, :-1]], 1)
        buckets = (before * 1_000_003 + tokens * 8191) % self.pair.num_embeddings
        terms = torch.cat(
            [self.single(tokens) + self.pair(buckets), torch.ones_like(tokens[..., None])], -1
        )
        sums = terms.cumsum(1) + past[:, None, :-1]
        after = torch.cat([sums[:, -1], tokens[:, -1:].to(sums.dtype)], 1)
        return sums[..., :-1] / sums[..., -1:].sqrt(), after


class Classify(nn.Module):
    """The distribution over the classes of a sequence: softmax((W z + b) / temperature).

    The temperature is 1 in training; `calibrate` fits it on validation examples (Guo et al. 2017,
    arXiv:1706.04599).
    """

    temperature: Tensor

    def __init__(self, size: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size, classes)
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, z: Tensor, extra_logits: Tensor | None = None) -> Tensor:
        """Z [..., Z], logits to add [..., classes] -> log-probabilities [..., classes]."""
        return self.distribution(self.logits(z, extra_logits))

    def logits(self, z: Tensor, extra_logits: Tensor | None = None) -> Tensor:
        """Z [..., Z], logits to add [..., classes] -> logits [..., classes]."""
        logits = self.linear(z).float()
        return logits if extra_logits is None else logits + extra_logits

    def distribution(self, logits: Tensor) -> Tensor:
        """Logits [..., classes] -> log-probabilities at the temperature."""
        return F.log_softmax(logits / self.temperature, -1)

    @torch.no_grad()
    def calibrate(self, log_p: Tensor, target: Tensor) -> None:
        """Set the temperature, 0.1 to 10, of the lowest loss on targets [N] given log_p [N,
        classes] at temperature 1.

        A share 1 / (N + 2) of every target is spread over all classes (Platt 1999): N examples
        without an error do not show that there are none.
        """
        grid, share = torch.logspace(-1, 1, 81), 1 / (len(target) + 2)
        losses = torch.stack(
            [F.cross_entropy(log_p / t, target, label_smoothing=share) for t in grid]
        )
        self.temperature.fill_(float(grid[losses.argmin()]))


class CTC(nn.Module):
    """The distribution of a letter or the blank (token 0) at every step: log softmax(W h + b).

    Connectionist temporal classification (Graves et al. 2006): the probability of a text is the sum
    over all alignments of its letters, with blanks between them, to the steps.
    """

    def __init__(self, size: int, vocabulary: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size, vocabulary)

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden [..., H] -> log-probabilities [..., V] float32."""
        return F.log_softmax(self.linear(hidden).float(), -1)

    def loss(self, log_p: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        """Nats per text [B], of log_p [B, T, V] with lengths [B] and target [B, S] int64, padded
        with 0; zero where a text has too few steps.
        """
        return F.ctc_loss(
            log_p.transpose(0, 1),
            target,
            lengths,
            (target > 0).sum(1),
            blank=0,
            reduction="none",
            zero_infinity=True,
        )
