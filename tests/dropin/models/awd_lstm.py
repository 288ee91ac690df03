"""A language model of three LSTMs with dropped recurrent weights, masks locked over time, and
penalties on activations.

Structure: AWD-LSTM, Merity, Keskar & Socher (2017), arXiv:1708.02182,
github.com/salesforce/awd-lstm-lm; the wrapper that keeps its raw weights on itself is fastai's,
github.com/fastai/fastai.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

VARIANTS = ("salesforce", "fastai")
WORDS, PIECE, BATCH, SIZES = 40, 10, 6, (16, 28, 28, 16)


class WeightDrop(nn.Module):
    """Keeps the raw weight under another name and gives the layer a dropped one before every call.

    salesforce keeps the raw weight on the layer and calls its forward; fastai keeps it on the
    wrapper and calls the layer; fastai 1 does too, and writes the dropped weight past `setattr`,
    among the layer's parameters.
    """

    def __init__(
        self, module: nn.Module, names: tuple[str, ...], dropout: float, style: str
    ) -> None:
        super().__init__()
        self.module, self.names, self.dropout, self.style = module, names, dropout, style
        if isinstance(module, nn.RNNBase):
            module.flatten_parameters = self.nothing
        self.holder = [module if style == "salesforce" else self]  # in a list: not a child
        for name in names:
            weight = getattr(module, name)
            if style == "salesforce":
                del module._parameters[name]
            elif style == "fastai":
                delattr(module, name)
            self.holder[0].register_parameter(name + "_raw", nn.Parameter(weight.data))
            if style == "fastai":
                setattr(module, name, weight.data.clone())

    def nothing(self, *args) -> None:
        """Stands in for flatten_parameters."""

    def forward(self, *args):
        for name in self.names:
            raw = getattr(self.holder[0], name + "_raw")
            dropped = F.dropout(raw, self.dropout) if self.training else raw.clone()
            if self.style == "fastai 1":
                self.module._parameters[name] = dropped
            else:
                setattr(self.module, name, dropped)
        return self.module.forward(*args) if self.style == "salesforce" else self.module(*args)


def locked_dropout(x: Tensor, probability: float, training: bool) -> Tensor:
    if not training:
        return x
    mask = x.data.new(1, x.size(1), x.size(2)).bernoulli_(1 - probability) / (1 - probability)
    return mask.expand_as(x) * x


class AWD(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Embedding(WORDS, SIZES[0])
        self.rnns = nn.ModuleList(
            nn.LSTM(a, b, 1, dropout=0) for a, b in zip(SIZES[:-1], SIZES[1:], strict=True)
        )
        self.decoder = nn.Linear(SIZES[0], WORDS)
        self.decoder.weight = self.encoder.weight
        nn.init.uniform_(self.encoder.weight, -0.3, 0.3)

    def forward(self, tokens: Tensor, hidden):
        weight = self.encoder.weight
        if self.training:  # whole words are dropped
            weight = weight * (weight.data.new(WORDS, 1).bernoulli_(0.9).expand_as(weight) / 0.9)
        raw = locked_dropout(F.embedding(tokens, weight), 0.3, self.training)
        states = []
        for number, rnn in enumerate(self.rnns):
            raw, state = rnn(raw, hidden[number])
            states.append(state)
            last = raw
            raw = locked_dropout(raw, 0.2, self.training)
        decoded = self.decoder(raw.view(raw.size(0) * raw.size(1), raw.size(2)))
        return decoded.view(tokens.size(0), tokens.size(1), WORDS), states, last, raw

    def init_hidden(self, batch: int):
        weight = next(self.parameters()).data
        return [
            (weight.new(1, batch, n).zero_(), weight.new(1, batch, n).zero_()) for n in SIZES[1:]
        ]


def repackage(hidden):
    if isinstance(hidden, Tensor):
        return hidden.detach()
    return tuple(repackage(part) for part in hidden)


def build(variant: str) -> nn.Module:
    return AWD()


def adopted(variant: str) -> dict[str, str]:
    return {f"rnns.{number}": "LSTM" for number in range(3)}


def finish(model: nn.Module, variant: str) -> None:
    """Wrap the layers, in place: the step that people's code does after, or before, the layers are
    adopted.
    """
    for number, rnn in enumerate(model.rnns):
        model.rnns[number] = WeightDrop(rnn, ("weight_hh_l0",), 0.5, variant)


def piece(step: int) -> tuple[Tensor, Tensor]:
    """[PIECE, BATCH] of a text in which a word is its predecessor's triple, and the words that
    follow.
    """
    generator = torch.Generator().manual_seed(step % 20)
    words = torch.randint(WORDS, (1, BATCH), generator=generator)
    rows = [words]
    for _ in range(PIECE):
        rows.append((3 * rows[-1] + 1) % WORDS)
    text = torch.cat(rows)
    return text[:-1], text[1:]


@torch.no_grad()
def outputs(model: nn.Module) -> list[Tensor]:
    scores, states, last, dropped = model.eval()(piece(900)[0], model.init_hidden(BATCH))
    return [scores, last, dropped, *(part for state in states for part in state)]


class Training:
    def __init__(self, model: nn.Module) -> None:
        self.model, self.hidden = model, model.init_hidden(BATCH)
        self.optimiser = torch.optim.SGD(model.parameters(), lr=2.0, weight_decay=1.2e-6)

    def loss(self, step: int) -> Tensor:
        tokens, targets = piece(step)
        self.hidden = repackage(self.hidden)
        scores, self.hidden, last, dropped = self.model(tokens, self.hidden)
        loss = F.cross_entropy(scores.view(-1, WORDS), targets.view(-1))
        return loss + 2.0 * dropped.pow(2).mean() + (last[1:] - last[:-1]).pow(2).mean()

    def update(self) -> None:
        nn.utils.clip_grad_norm_(self.model.parameters(), 0.25)
        self.optimiser.step()
