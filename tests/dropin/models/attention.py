"""Translation: a packed bidirectional encoder, additive attention, and a decoder called once for
every word.

Structure: Bahdanau, Cho & Bengio (2015), arXiv:1409.0473, as PyTorch's translation tutorial lays it
out, github.com/pytorch/tutorials, intermediate_source/seq2seq_translation_tutorial.py.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

VARIANTS = ("GRU", "LSTM")
WORDS, HIDDEN, BATCH, LONGEST = 14, 16, 8, 7
PAD, BEGIN, END = 0, 1, 2


class Encoder(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, HIDDEN, padding_idx=PAD)
        self.rnn = getattr(nn, kind)(HIDDEN, HIDDEN, bidirectional=True)
        self.fc = nn.Linear(2 * HIDDEN, HIDDEN)

    def forward(self, source: Tensor, lengths: Tensor):
        packed = pack_padded_sequence(self.embedding(source), lengths, enforce_sorted=False)
        packed, hidden = self.rnn(packed)
        annotations, _ = pad_packed_sequence(packed)
        states = hidden if isinstance(hidden, tuple) else (hidden,)
        first = tuple(
            torch.tanh(self.fc(torch.cat((s[-2], s[-1]), 1))).unsqueeze(0) for s in states
        )
        return annotations.transpose(0, 1), first if isinstance(hidden, tuple) else first[0]


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(HIDDEN, HIDDEN, bias=False)
        self.keys = nn.Linear(2 * HIDDEN, HIDDEN)
        self.score = nn.Linear(HIDDEN, 1, bias=False)

    def forward(self, query: Tensor, annotations: Tensor, mask: Tensor):
        scores = self.score(
            torch.tanh(self.query(query).unsqueeze(1) + self.keys(annotations))
        ).squeeze(2)
        weights = F.softmax(scores.masked_fill(~mask, -1e10), 1)
        return torch.bmm(weights.unsqueeze(1), annotations), weights


class Decoder(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, HIDDEN)
        self.attention = Attention()
        self.rnn = getattr(nn, kind)(3 * HIDDEN, HIDDEN, batch_first=True)
        self.out = nn.Linear(HIDDEN, WORDS)

    def forward(self, token: Tensor, hidden, annotations: Tensor, mask: Tensor):
        top = (hidden[0] if isinstance(hidden, tuple) else hidden)[-1]
        context, weights = self.attention(top, annotations, mask)
        output, hidden = self.rnn(torch.cat((self.embedding(token), context), 2), hidden)
        return self.out(output.squeeze(1)), hidden, weights


class Translator(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(kind), Decoder(kind)

    def forward(
        self, source: Tensor, lengths: Tensor, target: Tensor | None = None, forced: float = 0.0
    ):
        """Scores [B, steps, WORDS] and where each word looked; the next input is the target's word,
        or the best one.
        """
        annotations, hidden = self.encoder(source, lengths)
        mask = torch.arange(annotations.shape[1])[None] < lengths[:, None]
        token = torch.full((source.shape[1], 1), BEGIN)
        scores, looks = [], []
        for step in range(LONGEST + 1 if target is None else target.shape[1]):
            output, hidden, weights = self.decoder(token, hidden, annotations, mask)
            scores.append(output)
            looks.append(weights)
            use_target = target is not None and float(torch.rand(())) < forced
            token = target[:, step : step + 1] if use_target else output.topk(1)[1].detach()
        return torch.stack(scores, 1), torch.stack(looks, 1)


def build(variant: str) -> nn.Module:
    return Translator(variant)


def adopted(variant: str) -> dict[str, str]:
    return {"encoder.rnn": variant, "decoder.rnn": variant}


def sentences(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Words [T, B] of unequal lengths, padded, and the same ones turned round [B, T + 1], with an
    end.
    """
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, LONGEST + 1, (BATCH,), generator=generator)
    source = torch.zeros(int(lengths.max()), BATCH, dtype=torch.int64)
    target = torch.zeros(BATCH, int(lengths.max()) + 1, dtype=torch.int64)
    for row, length in enumerate(lengths.tolist()):
        words = torch.randint(3, WORDS, (length,), generator=generator)
        source[:length, row] = words
        target[row, : length + 1] = torch.cat([words.flip(0), torch.tensor([END])])
    return source, lengths, target


@torch.no_grad()
def outputs(model: nn.Module) -> list[Tensor]:
    """Greedy decoding: the words, their scores, and where they looked."""
    source, lengths, _ = sentences(900)
    scores, looks = model.eval()(source, lengths)
    return [scores.argmax(2), scores, looks]


class Training:
    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)

    def loss(self, step: int) -> Tensor:
        source, lengths, target = sentences(step % 10)
        scores, _ = self.model(source, lengths, target, forced=0.7)
        return F.cross_entropy(scores.flatten(0, 1), target.flatten(), ignore_index=PAD)

    def update(self) -> None:
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
