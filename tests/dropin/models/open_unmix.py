"""Separation of sources in the spectrogram: three bidirectional LSTMs, their output beside their
input, a mask.

Structure: Open-Unmix, Stöter et al. (2019), doi:10.21105/joss.01667,
github.com/sigsep/open-unmix-pytorch.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

VARIANTS = ("",)
BINS, HIDDEN, FRAMES, BATCH = 17, 16, 24, 4


class OpenUnmix(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.input_mean, self.input_scale = (
            nn.Parameter(torch.zeros(BINS)),
            nn.Parameter(torch.ones(BINS)),
        )
        self.output_mean, self.output_scale = (
            nn.Parameter(torch.ones(BINS)),
            nn.Parameter(torch.ones(BINS)),
        )
        self.fc1, self.bn1 = nn.Linear(BINS, HIDDEN, bias=False), nn.BatchNorm1d(HIDDEN)
        self.lstm = nn.LSTM(
            input_size=HIDDEN,
            hidden_size=HIDDEN // 2,
            num_layers=3,
            bidirectional=True,
            batch_first=False,
            dropout=0.0,
        )
        self.fc2, self.bn2 = nn.Linear(2 * HIDDEN, HIDDEN, bias=False), nn.BatchNorm1d(HIDDEN)
        self.fc3, self.bn3 = nn.Linear(HIDDEN, BINS, bias=False), nn.BatchNorm1d(BINS)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(2, 0, 1)  # frames, batch, bins
        frames, batch, bins = x.data.shape
        mixture = x.detach().clone()
        x = (x + self.input_mean) * self.input_scale
        x = self.bn1(self.fc1(x.reshape(-1, bins))).reshape(frames, batch, HIDDEN)
        x = torch.tanh(x)
        lstm_out = self.lstm(x)
        x = torch.cat([x, lstm_out[0]], -1)
        x = F.relu(self.bn2(self.fc2(x.reshape(-1, x.shape[-1]))))
        x = self.bn3(self.fc3(x)).reshape(frames, batch, bins)
        x = F.relu(x * self.output_scale + self.output_mean) * mixture
        return x.permute(1, 2, 0)


def build(variant: str) -> nn.Module:
    return OpenUnmix()


def adopted(variant: str) -> dict[str, str]:
    return {"lstm": "LSTM"}


def spectrogram(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    voice, noise = torch.rand(2, BATCH, BINS, FRAMES, generator=generator)
    voice = voice * torch.linspace(1, 0, BINS)[:, None]
    return voice + noise, voice


@torch.no_grad()
def outputs(model: nn.Module) -> list[Tensor]:
    return [model.eval()(spectrogram(900)[0])]


class Training:
    def __init__(self, model: nn.Module) -> None:
        self.model = model
        # bn1 takes input_mean out again: its gradient is rounding alone, of which Adam's usual eps
        # makes whole steps.
        self.optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-5, eps=1e-4)

    def loss(self, step: int) -> Tensor:
        mixture, voice = spectrogram(step % 10)
        return F.l1_loss(self.model(mixture), voice)

    def update(self) -> None:
        self.optimiser.step()
