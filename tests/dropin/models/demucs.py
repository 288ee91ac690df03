"""Separation of sources in the waveform: a convolution down, a bidirectional LSTM over overlapping
windows, and up again.

Structure: the BLSTM block of Demucs, Défossez et al. (2019), arXiv:1911.13254,
github.com/facebookresearch/demucs.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

VARIANTS = ("whole", "windows")
CHANNELS, WIDTH = 12, 24


class BLSTM(nn.Module):
    """[B, C, T] to the same; longer than `max_steps`, in windows that overlap by half, each trusted
    in its middle.
    """

    def __init__(self, dim: int, layers: int, max_steps: int | None) -> None:
        super().__init__()
        self.max_steps = max_steps
        self.lstm = nn.LSTM(bidirectional=True, num_layers=layers, hidden_size=dim, input_size=dim)
        self.linear = nn.Linear(2 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, steps = x.shape
        skip, width = x, self.max_steps
        windows = width is not None and steps > width
        if windows:
            stride = width // 2
            count = -(-steps // stride)
            frames = F.pad(x, (0, (count - 1) * stride + width - steps)).unfold(-1, width, stride)
            x = frames.permute(0, 2, 1, 3).reshape(-1, channels, width)
        x = x.permute(2, 0, 1)
        x = self.linear(self.lstm(x)[0]).permute(1, 2, 0)
        if windows:
            edge = stride // 2
            frames = x.reshape(batch, -1, channels, width)
            parts = [frames[:, 0, :, : width - edge]]
            parts += [
                frames[:, number, :, edge : width - edge] for number in range(1, frames.shape[1])
            ]
            x = torch.cat(parts, -1)[..., :steps]
        return x + skip


class Separator(nn.Module):
    def __init__(self, max_steps: int | None) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv1d(1, CHANNELS, 8, 4), nn.ReLU(), nn.Conv1d(CHANNELS, 2 * CHANNELS, 1), nn.GLU(1)
        )
        self.lstm = BLSTM(CHANNELS, 2, max_steps)
        self.decoder = nn.Sequential(
            nn.Conv1d(CHANNELS, 2 * CHANNELS, 1), nn.GLU(1), nn.ConvTranspose1d(CHANNELS, 2, 8, 4)
        )

    def forward(self, mixture: Tensor) -> Tensor:
        return self.decoder(self.lstm(self.encoder(mixture)))


def build(variant: str) -> nn.Module:
    return Separator(WIDTH if variant == "windows" else None)


def adopted(variant: str) -> dict[str, str]:
    return {"lstm.lstm": "LSTM"}


def sound(seed: int) -> tuple[Tensor, Tensor]:
    """A mixture [2, 1, 404] of a low and a high tone, and the tones apart [2, 2, 404]."""
    generator = torch.Generator().manual_seed(seed)
    pitch = torch.rand(2, 2, 1, generator=generator) * 0.1 + torch.tensor([[0.1], [0.8]])
    tones = torch.sin(pitch * torch.arange(404) + 6 * torch.rand(2, 2, 1, generator=generator))
    return tones.sum(1, keepdim=True), tones


@torch.no_grad()
def outputs(model: nn.Module) -> list[Tensor]:
    return [model.eval()(sound(900)[0])]


class Training:
    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)

    def loss(self, step: int) -> Tensor:
        mixture, tones = sound(step % 10)
        return F.l1_loss(self.model(mixture), tones)

    def update(self) -> None:
        self.optimiser.step()
