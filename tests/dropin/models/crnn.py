"""Text in pictures: convolutions down to one row, two bidirectional LSTMs with a projection after
each, CTC.

Structure: CRNN, Shi, Bai & Yao (2015), arXiv:1507.05717, github.com/meijieru/crnn.pytorch.
"""

import torch
from torch import Tensor, nn

VARIANTS = ("",)
SIGNS, HIDDEN, BATCH = 11, 20, 4


class BidirectionalLSTM(nn.Module):
    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.rnn = nn.LSTM(inputs, hidden, bidirectional=True)
        self.embedding = nn.Linear(hidden * 2, outputs)

    def forward(self, x: Tensor) -> Tensor:
        recurrent, _ = self.rnn(x)
        T, b, h = recurrent.size()
        t_rec = recurrent.view(T * b, h)
        return self.embedding(t_rec).view(T, b, -1)


class CRNN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1),
            nn.ReLU(True),
            nn.MaxPool2d(2, 2),
            nn.Conv2d(6, 12, 3, padding=1),
            nn.BatchNorm2d(12),
            nn.ReLU(True),
            nn.MaxPool2d((2, 1)),
            nn.Conv2d(12, 16, 3, padding=1),
            nn.ReLU(True),
            nn.MaxPool2d((2, 1)),
            nn.Conv2d(16, 16, 2),
            nn.BatchNorm2d(16),
            nn.ReLU(True),
        )
        self.rnn = nn.Sequential(
            BidirectionalLSTM(16, HIDDEN, HIDDEN), BidirectionalLSTM(HIDDEN, HIDDEN, SIGNS)
        )

    def forward(self, pictures: Tensor) -> Tensor:
        columns = self.cnn(pictures)
        assert columns.size(2) == 1
        return self.rnn(columns.squeeze(2).permute(2, 0, 1))


def build(variant: str) -> nn.Module:
    return CRNN()


def adopted(variant: str) -> dict[str, str]:
    return {"rnn.0.rnn": "LSTM", "rnn.1.rnn": "LSTM"}


def pictures(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """[BATCH, 1, 16, 48] with a sign every eight columns, the signs end to end, and how many in
    each picture.
    """
    generator = torch.Generator().manual_seed(seed)
    shapes = torch.rand(SIGNS, 16, 8, generator=torch.Generator().manual_seed(5))
    counts = torch.randint(2, 6, (BATCH,), generator=generator)
    image = 0.1 * torch.randn(BATCH, 1, 16, 48, generator=generator)
    labels = []
    for row, count in enumerate(counts.tolist()):
        signs = torch.randint(1, SIGNS, (count,), generator=generator)
        labels.append(signs)
        for place, sign in enumerate(signs.tolist()):
            image[row, 0, :, 8 * place : 8 * place + 8] += shapes[sign]
    return image, torch.cat(labels), counts


@torch.no_grad()
def outputs(model: nn.Module) -> list[Tensor]:
    scores = model.eval()(pictures(900)[0])
    return [scores, scores.argmax(2)]


class Training:
    def __init__(self, model: nn.Module) -> None:
        self.model, self.criterion = model, nn.CTCLoss(zero_infinity=True)
        self.optimiser = torch.optim.Adadelta(model.parameters(), lr=0.3)

    def loss(self, step: int) -> Tensor:
        image, labels, counts = pictures(step % 10)
        scores = self.model(image).log_softmax(2)
        return self.criterion(scores, labels, torch.full((BATCH,), scores.size(0)), counts)

    def update(self) -> None:
        self.optimiser.step()
