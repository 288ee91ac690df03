"""Heads: from hidden states to what a person wants, with the loss that trains it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memorycell.ops.step import LinearStep
from memorycell.quantiles import quantile_levels

IGNORE = -100
"""The target of a step from which nothing is learnt."""


class Told(NamedTuple):
    """What a forecasting head says at every step: the middle [..., horizon, targets], what the spread is made of
    [..., horizon, targets, P], and the unit of both, the deviation of the step's own window [..., 1, targets], or 1.
    """

    middle: Any
    spread: Any
    unit: Any


class Forecast(nn.Module):
    """The distribution of the next `horizon` values of each target, as quantiles that never cross.

    At every step, with y_t the targets' last known level, u_t the inputs of the last W steps, and s_t their deviation where
    each window is normalised by its own (else 1):

        median_k = y_t + s_t ((A u_t)_k + (B h_t)_k)          k = 1..horizon
        the quantiles around it lie s_t softplus(C h_t) further out, one after another

    The linear path A sees what ridge regression sees; the recurrent part has to explain only the rest.
    """

    def __init__(self, hidden_size: int, window_size: int, horizon: int, targets: int, quantiles: int) -> None:
        super().__init__()
        self.horizon, self.targets, self.quantiles = horizon, targets, quantiles
        self.recurrent = nn.Linear(hidden_size, horizon * targets * self.parts)
        self.linear = nn.Linear(window_size, horizon * targets)
        self.reset_parameters()

    @property
    def parts(self) -> int:
        """Numbers that tell the distribution of one value."""
        return self.quantiles

    @property
    def middle(self) -> int:
        """Which of them is the middle."""
        return self.quantiles // 2

    def reset_parameters(self) -> None:
        """Start at persistence with a narrow spread: the first forecast is the last value."""
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
        gap = math.log(math.expm1(0.1))  # softplus(gap) = 0.1 standard deviations between neighbouring quantiles
        with torch.no_grad():
            bias = self.recurrent.bias.view(self.horizon, self.targets, self.parts)
            bias[...] = gap
            bias[..., self.middle] = 0.0

    def told(self, hidden: Tensor, window: Tensor, level: Tensor, unit: Tensor | None = None) -> Told:
        """Hidden [B, T, H], window [B, T, W·F], level and unit [B, T, targets] -> what is said of the next values."""
        shape = (self.horizon, self.targets)
        out = self.recurrent(hidden).unflatten(-1, (*shape, self.parts))
        middle = out[..., self.middle] + self.linear(window).unflatten(-1, shape)
        if unit is None:
            return Told(middle + level[..., None, :], out, 1.0)
        unit = unit[..., None, :]
        return Told(middle * unit + level[..., None, :], out, unit)

    def forward(self, hidden: Tensor, window: Tensor, level: Tensor) -> Tensor:
        """The quantiles [B, T, horizon, targets, K] of `told`."""
        return self.spread(self.told(hidden, window, level))

    def spread(self, told: Told) -> Tensor:
        """Quantiles [..., horizon, targets, K]."""
        middle, out, unit = told
        unit = unit if isinstance(unit, float) else unit[..., None]
        above = F.softplus(out[..., self.middle + 1 :]).cumsum(-1) * unit
        below = F.softplus(out[..., : self.middle]).flip(-1).cumsum(-1).flip(-1) * unit
        return torch.cat([middle[..., None] - below, middle[..., None], middle[..., None] + above], -1)

    def spread_now(self, told: Told) -> np.ndarray:
        """The same in numpy."""
        middle, out, unit = told
        gap = np.maximum(out, 0) + np.log1p(np.exp(-np.abs(out)))  # softplus
        gap *= unit if isinstance(unit, float) else unit[..., None]
        quantiles = np.empty_like(out)
        at = self.middle
        quantiles[..., at] = middle
        quantiles[..., at + 1 :] = middle[..., None] + gap[..., at + 1 :].cumsum(-1)
        quantiles[..., :at] = middle[..., None] - gap[..., :at][..., ::-1].cumsum(-1)[..., ::-1]
        return quantiles

    def score(self, told: Told, future: Tensor) -> Tensor:
        """What training makes small; future [B, T, horizon, targets], NaN where unknown."""
        return self.loss(self.spread(told), future)

    def loss(self, quantiles: Tensor, future: Tensor) -> Tensor:
        """Mean CRPS over the known values of future [B, T, horizon, targets] (NaN where unknown); see `metrics.crps`."""
        error = future.nan_to_num()[..., None] - quantiles
        levels = quantiles.new_tensor(quantile_levels(self.quantiles))
        pinball = torch.maximum(levels * error, (levels - 1) * error)
        return _known_mean(2 * pinball.mean(-1), future)


def _known_mean(score: Tensor, future: Tensor) -> Tensor:
    known = ~future.isnan()
    return torch.where(known, score, 0).sum() / known.sum().clamp(min=1)


class StudentForecast(Forecast):
    """The same as Student's t distribution, y ~ t_ν(median, s σ) with log σ = C h_t, and a ν above 2 for every lead time and
    target; its quantiles are those of the distribution (scipy). Trained by likelihood.
    """

    def __init__(self, hidden_size: int, window_size: int, horizon: int, targets: int, quantiles: int) -> None:
        super().__init__(hidden_size, window_size, horizon, targets, quantiles)
        self.tails = nn.Parameter(torch.full((horizon, targets), 1.5))

    parts, middle = 2, 0

    def reset_parameters(self) -> None:
        """Start at persistence."""
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
        with torch.no_grad():
            self.recurrent.bias.view(self.horizon, self.targets, 2)[..., 1] = math.log(0.3)

    @property
    def freedom(self) -> Tensor:
        """ν [horizon, targets]."""
        return 2 + F.softplus(self.tails)

    def spread(self, told: Told) -> Tensor:
        """See `Forecast`; no gradient flows through it."""
        parts = (part if isinstance(part, float) else part.detach().numpy() for part in told)
        return torch.from_numpy(self.spread_now(Told(*parts)))

    def spread_now(self, told: Told) -> np.ndarray:
        """See `Forecast`."""
        from scipy.stats import t

        levels = t.ppf(quantile_levels(self.quantiles), self.freedom.detach().numpy()[..., None]).astype(np.float32)
        return np.asarray(told.middle[..., None] + (np.exp(told.spread[..., 1]) * told.unit)[..., None] * levels)

    def score(self, told: Told, future: Tensor) -> Tensor:
        """Mean negative log-likelihood in nats."""
        v = self.freedom
        width = told.spread[..., 1].clamp(-8, 8)
        wide = width if isinstance(told.unit, float) else width + told.unit.log()
        u = (future.nan_to_num() - told.middle) * torch.exp(-wide)
        constant = torch.lgamma(v / 2) - torch.lgamma((v + 1) / 2) + 0.5 * torch.log(v * math.pi)
        return _known_mean(0.5 * (v + 1) * torch.log1p(u**2 / v) + wide + constant, future)


class CountForecast(StudentForecast):
    """The same of counts 0, 1, 2, …, as a negative binomial distribution with mean m = c softplus(median) and variance
    m + m²/r, log r = C h_t (Salinas et al. 2020, DeepAR, arXiv:1704.04110). Values are counts in units of c, `unit`.
    """

    def __init__(
        self, hidden_size: int, window_size: int, horizon: int, targets: int, quantiles: int, unit: float = 1.0
    ) -> None:
        super().__init__(hidden_size, window_size, horizon, targets, quantiles)
        self.unit = unit
        del self.tails

    def spread_now(self, told: Told) -> np.ndarray:
        """See `Forecast`: whole counts, in units of c."""
        from scipy.stats import nbinom

        mean = self.unit * np.logaddexp(0, told.middle.astype(np.float64)) + 1e-9
        r = np.exp(np.clip(told.spread[..., 1], -6, 8).astype(np.float64))
        counts = nbinom.ppf(quantile_levels(self.quantiles), r[..., None], (r / (r + mean))[..., None])
        return np.asarray(counts / self.unit, np.float32)

    def score(self, told: Told, future: Tensor) -> Tensor:
        """Mean negative log-likelihood in nats."""
        mean = self.unit * F.softplus(told.middle) + 1e-6
        r = told.spread[..., 1].clamp(-6, 8).exp()
        y = torch.round(future.nan_to_num() * self.unit)
        nats = torch.lgamma(r) + torch.lgamma(y + 1) - torch.lgamma(y + r)
        return _known_mean(nats + r * torch.log1p(mean / r) + y * torch.log1p(r / mean), future)


FORECASTS = {"quantiles": Forecast, "student": StudentForecast, "counts": CountForecast}


class ForecastStep:
    """A forecasting head for single steps, in numpy: for a few rows, torch's calls cost more than the work."""

    def __init__(self, head: Forecast) -> None:
        self._head = head
        self._shape = (head.horizon, head.targets)
        self._recurrent = LinearStep(head.recurrent.weight, head.recurrent.bias)
        self._linear = LinearStep(head.linear.weight, head.linear.bias)

    def __call__(
        self, hidden: np.ndarray, window: np.ndarray, level: np.ndarray, unit: np.ndarray | None = None
    ) -> np.ndarray:
        """Hidden [n, H], window [n, W·F], level and unit [n, targets] -> quantiles [n, horizon, targets, K], all float32."""
        out = self._recurrent(hidden).reshape(len(hidden), *self._shape, -1)
        middle = out[..., self._head.middle] + self._linear(window).reshape(-1, *self._shape)
        if unit is None:
            return self._head.spread_now(Told(middle + level[:, None, :], out, 1.0))
        unit = unit[:, None, :]
        return self._head.spread_now(Told(middle * unit + level[:, None, :], out, unit))


class NextRow(nn.Module):
    """The distribution of the next row of readings: Student's t for every number, a softmax for every category,

        z_j ~ t_ν(μ_j, σ_j),   μ_j = Σ_w a_jw z_{j, t-w} + (A h)_j,   log σ_j = (B h)_j
        p(category) = softmax(C h)

    A column's own last W values weigh in directly, so that one that wanders is followed wherever it goes; the recurrent part
    has to explain only the rest. Tails as heavy as those of ν = 5 leave a lone outlier to itself.
    """

    freedom = 5.0
    narrowest = -5.0
    """Least log σ: a column that stands still is not expected to do so for ever."""

    def __init__(self, hidden_size: int, columns: int, sizes: Sequence[int], window: int) -> None:
        super().__init__()
        self.columns, self.sizes = columns, tuple(sizes)
        self.recurrent = nn.Linear(hidden_size, 2 * columns + sum(sizes))
        self.own = nn.Parameter(torch.zeros(columns, window))
        nn.init.zeros_(self.recurrent.weight)
        nn.init.zeros_(self.recurrent.bias)
        with torch.no_grad():
            self.own[:, -1] = 0.5

    def forward(self, hidden: Tensor, window: Tensor) -> Tensor:
        """Hidden [B, T, H], window [B, T, W, K] of deviations -> y [B, T, 2 K + V]: μ, log σ, log-probabilities."""
        out = self.recurrent(hidden).float()
        k = self.columns
        mean = out[..., :k] + (window * self.own.T).sum(-2)
        parts = [F.log_softmax(scores, -1) for scores in out[..., 2 * k :].split(self.sizes, -1)] if self.sizes else []
        return torch.cat([mean, out[..., k : 2 * k].clamp(min=self.narrowest), *parts], -1)

    def nats(self, y: Tensor, target: Tensor) -> Tensor:
        """Of target [..., K + C], numbers and then the numbers of categories; NaN where missing -> [..., K + C], 0 there."""
        k, v = self.columns, self.freedom
        known = ~target.isnan()
        target = target.nan_to_num()
        u = (target[..., :k] - y[..., :k]) * torch.exp(-y[..., k : 2 * k])
        constant = math.lgamma(v / 2) - math.lgamma((v + 1) / 2) + 0.5 * math.log(v * math.pi)
        parts = [0.5 * (v + 1) * torch.log1p(u**2 / v) + y[..., k : 2 * k] + constant]
        for log_p, choice in zip(y[..., 2 * k :].split(self.sizes, -1) if self.sizes else (), target[..., k:].unbind(-1),
                                 strict=True):  # fmt: skip
            parts.append(-log_p.gather(-1, choice.long()[..., None]))
        return torch.where(known, torch.cat(parts, -1), 0.0)


class NextRowStep:
    """`NextRow.forward` for single steps, in numpy: h and the columns' own values go through one product."""

    def __init__(self, head: NextRow) -> None:
        columns, window = head.own.shape
        own = torch.zeros(len(head.recurrent.weight), window, columns)
        own[torch.arange(columns), :, torch.arange(columns)] = head.own.detach()
        self._product = LinearStep(torch.cat([head.recurrent.weight, own.flatten(1)], 1), head.recurrent.bias)
        self._scale = slice(columns, 2 * columns)
        self._begin, self._sizes = 2 * columns, head.sizes

    def __call__(self, seen: np.ndarray) -> np.ndarray:
        """Hidden and window side by side [n, H + W K] -> y [n, 2 K + V], all float32."""
        y = self._product(seen)
        scale = y[:, self._scale]
        np.maximum(scale, NextRow.narrowest, out=scale)
        begin = self._begin
        for size in self._sizes:
            scores = y[:, begin : begin + size]
            scores -= scores.max(-1, keepdims=True)
            scores -= np.log(np.exp(scores).sum(-1, keepdims=True))
            begin += size
        return y


class NextStep(nn.Module):
    """The distribution of the next token: log softmax(E (P h_t) + b).

    With `embedding` the output weights E are the input embedding's (Press & Wolf 2017, arXiv:1608.05859; Inan et al. 2017,
    arXiv:1611.01462), and P brings h to its size where it has another; else E is its own and P the identity.
    """

    def __init__(self, hidden_size: int, vocabulary: int, tied_size: int | None = None) -> None:
        super().__init__()
        self.project = nn.Linear(hidden_size, tied_size, bias=False) if tied_size not in (None, hidden_size) else None
        self.weight = nn.Parameter(torch.empty(vocabulary, hidden_size)) if tied_size is None else None
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
            scores.flatten(0, -2).float(), target.flatten(), ignore_index=IGNORE, label_smoothing=smoothing
        )


class WordPairs(nn.Module):
    """A linear path beside the recurrent one: what single tokens and pairs of neighbours say about the class, summed,

        Σ_t (w[x_t] + v[hash(x_{t-1}, x_t)]) / √n

    which is what logistic regression on counted words sees; the recurrent part has to explain only the rest (Cheng et al.
    2016, wide & deep learning, arXiv:1606.07792; hashed features: Weinberger et al. 2009, arXiv:0902.2206).
    """

    def __init__(self, vocabulary: int, classes: int, buckets: int = 1 << 17) -> None:
        super().__init__()
        self.single = nn.Embedding(vocabulary, classes)
        self.pair = nn.Embedding(buckets, classes)
        for table in (self.single, self.pair):
            nn.init.zeros_(table.weight)

    def forward(self, tokens: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [B, T] int64, past [B, classes + 2] -> (scores after every step [B, T, classes], past afterwards).

        past is the sum so far, how many tokens it is of, and the last of them; zeros at the beginning.
        """
        before = torch.cat([past[:, -1:].long(), tokens[:, :-1]], 1)
        numbers = (before * 1_000_003 + tokens * 8191) % self.pair.num_embeddings
        terms = torch.cat([self.single(tokens) + self.pair(numbers), torch.ones_like(tokens[..., None])], -1)
        sums = terms.cumsum(1) + past[:, None, :-1]
        after = torch.cat([sums[:, -1], tokens[:, -1:].to(sums.dtype)], 1)
        return sums[..., :-1] / sums[..., -1:].sqrt(), after


class Classify(nn.Module):
    """The distribution over classes of a whole sequence: softmax((W z + b) / temperature).

    The temperature is 1 while it trains; `calibrate` sets it on held-out examples (Guo et al. 2017, arXiv:1706.04599).
    """

    temperature: Tensor

    def __init__(self, size: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size, classes)
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, z: Tensor, besides: Tensor | None = None) -> Tensor:
        """Z [..., Z], scores of another path [..., classes] -> log-probabilities [..., classes]."""
        scores = self.linear(z).float()
        return F.log_softmax((scores if besides is None else scores + besides) / self.temperature, -1)

    @torch.no_grad()
    def calibrate(self, log_p: Tensor, target: Tensor) -> None:
        """Set the temperature that makes the targets [N] most likely, given log_p [N, classes] at temperature 1."""
        choices = torch.logspace(-1, 1, 81)
        losses = torch.stack([F.nll_loss(F.log_softmax(log_p / t, -1), target) for t in choices])
        self.temperature.fill_(float(choices[losses.argmin()]))


class CTC(nn.Module):
    """The distribution of the next letter, or of the blank (token 0), at every step: log softmax(W h + b).

    Graves et al. (2006), connectionist temporal classification: a text is as likely as all the ways to spread its letters
    over the steps, with blanks between them, together.
    """

    def __init__(self, size: int, vocabulary: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size, vocabulary)

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden [..., H] -> log-probabilities [..., V] float32."""
        return F.log_softmax(self.linear(hidden).float(), -1)

    def loss(self, log_p: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        """Nats of every text [B], of log_p [B, T, V] with lengths [B] and target [B, S] int64, filled up with 0; zero where
        the steps are too few for the text.
        """
        return F.ctc_loss(
            log_p.transpose(0, 1), target, lengths, (target > 0).sum(1), blank=0, reduction="none", zero_infinity=True
        )


class Mixture(nn.Module):
    """The distribution of the pen's next move (dx, dy) and of what the pen does then: M Gaussians of two dimensions,

        p(dx, dy) = Σ_m π_m N(dx, dy; μ_m, σ_m, ρ_m),

    and a softmax over the pen's doings. Graves (2013), Generating sequences with recurrent neural networks,
    arXiv:1308.0850, sections 4.1 and 5.4.
    """

    def __init__(self, size: int, mixtures: int, pens: int) -> None:
        super().__init__()
        self.mixtures = mixtures
        self.linear = nn.Linear(size, 6 * mixtures + pens)

    def forward(self, hidden: Tensor, bias: float = 0.0) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Hidden [..., H] -> (log π [..., M], μ [..., M, 2], log σ [..., M, 2], ρ [..., M], log p of the pen [..., P]).

        bias   above 0, the likelier is taken: deviations times exp(-bias), log π times 1 + bias (Graves, section 5.4)
        """
        out = self.linear(hidden).float()
        m = self.mixtures
        weight = F.log_softmax(out[..., :m] * (1 + bias), -1)
        mean = out[..., m : 3 * m].unflatten(-1, (m, 2))
        spread = out[..., 3 * m : 5 * m].clamp(-7, 7).unflatten(-1, (m, 2)) - bias
        slope = 0.98 * torch.tanh(out[..., 5 * m : 6 * m])
        return weight, mean, spread, slope, F.log_softmax(out[..., 6 * m :] * (1 + bias), -1)

    def log_likelihood(self, hidden: Tensor, move: Tensor, pen: Tensor) -> tuple[Tensor, Tensor]:
        """Of move [..., 2] and pen [...] int64, given hidden [..., H]: nats of each, [...]."""
        weight, mean, spread, slope, doing = self(hidden)
        z = (move[..., None, :] - mean) / spread.exp()
        room = 1 - slope**2
        square = (z**2).sum(-1) - 2 * slope * z.prod(-1)
        log_p = -square / (2 * room) - spread.sum(-1) - 0.5 * torch.log(room) - math.log(2 * math.pi)
        return torch.logsumexp(weight + log_p, -1), doing.gather(-1, pen[..., None])[..., 0]


class Keys(nn.Module):
    """Which keys sound next, each for itself: p(frame) = Π_k σ(W h + b)_k."""

    def __init__(self, size: int, keys: int, voices: int) -> None:
        super().__init__()
        self.keys, self.voices = keys, voices
        self.linear = nn.Linear(size, keys)
        nn.init.constant_(self.linear.bias, -3.0)  # few of the keys sound

    def nats(self, hidden: Tensor, frame: Tensor) -> Tensor:
        """Of frames [..., keys] in 0 and 1, given hidden [..., H]: [...]."""
        return F.binary_cross_entropy_with_logits(self.linear(hidden).float(), frame.float(), reduction="none").sum(-1)

    def sample(self, hidden: Tensor, generator: torch.Generator, *, temperature: float, allowed: Tensor,
               fixed: Tensor) -> Tensor:  # fmt: skip
        """A frame [keys] bool, given hidden [H]: of the keys that are `allowed` [keys] bool; those that are `fixed` sound.

        At most `voices` keys, the likeliest of those drawn.
        """
        p = torch.sigmoid(self.linear(hidden).float() / temperature) * allowed
        drawn = (torch.rand(len(p), generator=generator) < p) | fixed
        if int(drawn.sum()) > self.voices:
            best = torch.where(fixed, torch.inf, torch.where(drawn, p, -torch.inf)).topk(self.voices).indices
            drawn = torch.zeros_like(drawn).index_fill(0, best, True)
        return drawn


class Voices(nn.Module):
    """Which keys sound next, from the highest down, each knowing those above it:

        p(frame) = Π_v p(key_v | h, key_1 … key_{v-1}),   key_{v+1} < key_v, ended by "no more"

    by the chain rule a distribution over all frames of up to V keys; the fashion of NADE (Larochelle & Murray 2011;
    Boulanger-Lewandowski, Bengio & Vincent 2012, arXiv:1206.6392), which goes over all keys instead of those that sound.
    """

    def __init__(self, size: int, keys: int, voices: int) -> None:
        super().__init__()
        self.keys, self.voices = keys, voices
        self.inner = nn.Linear(size, size)
        self.above = nn.Embedding(keys + 1, size)  # of every key that was said; the last row is "nothing yet"
        self.place = nn.Embedding(voices + 1, size)
        self.outer = nn.Linear(size, keys + 1)  # the last is "no more"

    def _log_p(self, begun: Tensor, lowest: Tensor) -> Tensor:
        """Scores of the next key [..., keys + 1] where `begun` [..., H] is what is known and keys lie below `lowest` [...]."""
        scores = self.outer(torch.tanh(begun)).float()
        barred = torch.arange(self.keys + 1, device=scores.device) >= lowest[..., None]
        barred[..., -1] = False
        return F.log_softmax(scores.masked_fill(barred, -torch.inf), -1)

    def nats(self, hidden: Tensor, frame: Tensor) -> Tensor:
        """Of frames [..., keys] in 0 and 1, given hidden [..., H]: [...]; of more than V keys, of the V highest."""
        order = torch.arange(1, self.keys + 1, device=frame.device, dtype=torch.float32)
        ranked = (frame.float() * order).topk(
            self.voices, -1
        ).values.long() - 1  # the highest first, -1 where none is left
        said = torch.where(ranked < 0, self.keys, ranked)
        known = self.inner(hidden)
        total = known.new_zeros(known.shape[:-1], dtype=torch.float32)
        lowest = torch.full_like(said[..., 0], self.keys)
        going = torch.ones_like(total, dtype=torch.bool)
        for voice in range(self.voices + 1):
            before = torch.full_like(lowest, self.keys) if voice == 0 else said[..., voice - 1]
            known = known + self.above(before)
            if voice == self.voices:
                break  # all voices are taken: nothing is left to be said
            log_p = self._log_p(known + self.place.weight[voice], lowest)
            key = said[..., voice]
            total = total - torch.where(going, log_p.gather(-1, key[..., None])[..., 0], 0.0)
            going = going & (key < self.keys)
            lowest = torch.where(going, key, lowest)
        return total

    def sample(self, hidden: Tensor, generator: torch.Generator, *, temperature: float, allowed: Tensor,
               fixed: Tensor) -> Tensor:  # fmt: skip
        """A frame [keys] bool, given hidden [H]: of the keys that are `allowed` [keys] bool; those that are `fixed` sound."""
        known = self.inner(hidden)
        frame, lowest, before = fixed.clone(), self.keys, self.keys
        waiting = [int(k) for k in fixed.nonzero().flatten().flip(0)]
        for voice in range(self.voices):
            known = known + self.above.weight[before]
            free = self.voices - voice > len(waiting)  # or the voices left are those that are fixed
            scores = self._log_p(known + self.place.weight[voice], torch.tensor(lowest)) / temperature
            may = torch.cat([allowed, torch.ones(1, dtype=torch.bool)])
            if waiting:
                may[-1] = False
                may[: waiting[0]] = False  # what is fixed is not passed over
                may[waiting[0]] = True
                if not free:
                    may[waiting[0] + 1 :] = False
            p = scores.masked_fill(~may, -torch.inf).softmax(-1)
            key = int(torch.multinomial(p, 1, generator=generator))
            if key == self.keys:
                break
            if waiting and key == waiting[0]:
                waiting.pop(0)
            frame[key] = True
            lowest = before = key
        return frame
