"""A word-level language model with tied words, its state carried from piece to piece, and a plain
descent by hand.

Structure: "Word-level Language Modeling using RNN", github.com/pytorch/examples,
word_language_model.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

VARIANTS = ("LSTM", "GRU", "RNN")
WORDS, PIECE, BATCH = 40, 12, 8


class LanguageModel(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.2)
        self.encoder = nn.Embedding(WORDS, 24)
        self.rnn = getattr(nn, kind)(24, 24, 2)
        self.decoder = nn.Linear(24, WORDS)
        self.decoder.weight = self.encoder.weight
        nn.init.uniform_(self.encoder.weight, -0.3, 0.3)
        nn.init.zeros_(self.decoder.bias)

    def forward(self, tokens: Tensor, hidden):
        output, hidden = self.rnn(self.drop(self.encoder(tokens)), hidden)
        decoded = self.decoder(self.drop(output)).view(-1, WORDS)
        return F.log_softmax(decoded, dim=1), hidden

    def init_hidden(self, batch: int):
        weight = next(self.parameters())
        zeros = weight.new_zeros(2, batch, 24)
        return (zeros, weight.new_zeros(2, batch, 24)) if isinstance(self.rnn, nn.LSTM) else zeros


def repackage(hidden):
    """The same state, cut from its history."""
    if isinstance(hidden, Tensor):
        return hidden.detach()
    return tuple(repackage(part) for part in hidden)


def build(variant: str) -> nn.Module:
    return LanguageModel(variant)


def adopted(variant: str) -> dict[str, str]:
    return {"rnn": variant}


def text() -> Tensor:
    """[26·PIECE + 1, BATCH]: each word is mostly its predecessor's double plus one."""
    generator = torch.Generator().manual_seed(1)
    words = [torch.randint(WORDS, (BATCH,), generator=generator)]
    for _ in range(26 * PIECE):
        noise = torch.randint(WORDS, (BATCH,), generator=generator)
        surprise = torch.rand(BATCH, generator=generator) < 0.2
        words.append(torch.where(surprise, noise, (2 * words[-1] + 1) % WORDS))
    return torch.stack(words)


@torch.no_grad()
def outputs(model: nn.Module) -> list[Tensor]:
    """A whole piece at once, then words written one at a time, each drawn from the last
    distribution.
    """
    model.eval()
    scores, hidden = model(text()[:PIECE], model.init_hidden(BATCH))
    states = [hidden] if isinstance(hidden, Tensor) else list(hidden)
    generator = torch.Generator().manual_seed(2)
    token, hidden, written = torch.tensor([[3]]), model.init_hidden(1), []
    for _ in range(60):
        output, hidden = model(token, hidden)
        drawn = torch.multinomial(output.squeeze().exp(), 1, generator=generator)
        token.fill_(drawn[0])
        written.append(drawn[0])
    last = [hidden] if isinstance(hidden, Tensor) else list(hidden)
    return [scores, *states, torch.stack(written), *last]


class Training:
    def __init__(self, model: nn.Module) -> None:
        self.model, self.text = model, text()
        self.hidden = model.init_hidden(BATCH)

    def loss(self, step: int) -> Tensor:
        begin = step % 26 * PIECE
        self.hidden = repackage(self.hidden)
        scores, self.hidden = self.model(self.text[begin : begin + PIECE], self.hidden)
        return F.nll_loss(scores, self.text[begin + 1 : begin + 1 + PIECE].view(-1))

    def update(self) -> None:
        nn.utils.clip_grad_norm_(self.model.parameters(), 0.25)
        for parameter in self.model.parameters():
            parameter.data.add_(parameter.grad, alpha=-2.0)
