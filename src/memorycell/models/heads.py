"""Tokens and classes: the next one, the one of a whole sequence, and letters over time."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IGNORE = -100
"""The target of a step from which nothing is learnt."""


class NextStep(nn.Module):
    """The distribution of the next token: log softmax(E (P h_t) + b).

    With `embedding` the output weights E are the input embedding's (Press & Wolf 2017,
    arXiv:1608.05859; Inan et al. 2017, arXiv:1611.01462), and P brings h to its size where it has
    another; else E is its own and P the identity.
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
        """Hidden [..., H], embedding [V, E] -> scores [..., V] before the softmax."""
        hidden = hidden if self.project is None else self.project(hidden)
        return F.linear(hidden, embedding if self.weight is None else self.weight, self.bias)

    def loss(self, scores: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
        """Mean negative log-likelihood in nats over the targets [...] int64 that are not `IGNORE`."""
        return F.cross_entropy(
            scores.flatten(0, -2).float(),
            target.flatten(),
            ignore_index=IGNORE,
            label_smoothing=smoothing,
        )


class WordPairs(nn.Module):
    """A linear path beside the recurrent one: what single tokens and pairs of neighbours say about
    the class, summed,

        Σ_t (w[x_t] + v[hash(x_{t-1}, x_t)]) / √n

    which is what logistic regression on counted words sees; the recurrent part has to explain only
    the rest (Cheng et al. 2016, wide & deep learning, arXiv:1606.07792; hashed features: Weinberger
    et al. 2009, arXiv:0902.2206).
    """

    def __init__(self, vocabulary: int, classes: int, buckets: int = 1 << 17) -> None:
        super().__init__()
        self.single = nn.Embedding(vocabulary, classes)
        self.pair = nn.Embedding(buckets, classes)
        for table in (self.single, self.pair):
            nn.init.zeros_(table.weight)

    def forward(self, tokens: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [B, T] int64, past [B, classes + 2] -> (scores after every step [B, T, classes],
        past afterwards).

        past is the sum so far, how many tokens it is of, and the last of them; zeros at the
        beginning.
        """
        before = torch.cat([past[:, -1:].long(), tokens[:, :-1]], 1)
        numbers = (before * 1_000_003 + tokens * 8191) % self.pair.num_embeddings
        terms = torch.cat(
            [self.single(tokens) + self.pair(numbers), torch.ones_like(tokens[..., None])], -1
        )
        sums = terms.cumsum(1) + past[:, None, :-1]
        after = torch.cat([sums[:, -1], tokens[:, -1:].to(sums.dtype)], 1)
        return sums[..., :-1] / sums[..., -1:].sqrt(), after


class Classify(nn.Module):
    """The distribution over classes of a whole sequence: softmax((W z + b) / temperature).

    The temperature is 1 while it trains; `calibrate` sets it on held-out examples (Guo et al. 2017,
    arXiv:1706.04599).
    """

    temperature: Tensor

    def __init__(self, size: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size, classes)
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, z: Tensor, besides: Tensor | None = None) -> Tensor:
        """Z [..., Z], scores of another path [..., classes] -> log-probabilities [..., classes]."""
        scores = self.linear(z).float()
        return F.log_softmax(
            (scores if besides is None else scores + besides) / self.temperature, -1
        )

    @torch.no_grad()
    def calibrate(self, log_p: Tensor, target: Tensor) -> None:
        """Set the temperature that makes the targets [N] most likely, given log_p [N, classes] at
        temperature 1.
        """
        choices = torch.logspace(-1, 1, 81)
        losses = torch.stack([F.nll_loss(F.log_softmax(log_p / t, -1), target) for t in choices])
        self.temperature.fill_(float(choices[losses.argmin()]))


class CTC(nn.Module):
    """The distribution of the next letter, or of the blank (token 0), at every step: log softmax(W
    h + b).

    Graves et al. (2006), connectionist temporal classification: a text is as likely as all the ways
    to spread its letters over the steps, with blanks between them, together.
    """

    def __init__(self, size: int, vocabulary: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size, vocabulary)

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden [..., H] -> log-probabilities [..., V] float32."""
        return F.log_softmax(self.linear(hidden).float(), -1)

    def loss(self, log_p: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        """Nats of every text [B], of log_p [B, T, V] with lengths [B] and target [B, S] int64,
        filled up with 0; zero where the steps are too few for the text.
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
