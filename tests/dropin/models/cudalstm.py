"""Discharge of rivers from weather: an LSTM over days, its forget gates opened at the start, a head
on the last day.

Structure: CudaLSTM of NeuralHydrology, github.com/neuralhydrology/neuralhydrology; loss: Kratzert
et al. (2019), doi:10.5194/hess-23-5089-2019.
"""

import torch
from torch import Tensor, nn

VARIANTS = ("30 days", "365 days")
BASINS, HIDDEN, FORGET = 12, 20, 3.0


class CudaLSTM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(input_size=4 + 3, hidden_size=HIDDEN, batch_first=True)
        self.dropout = nn.Dropout(p=0.2)
        self.head = nn.Linear(HIDDEN, 1)
        self.days = 30
        self.reset_parameters()

    def reset_parameters(self) -> None:
        self.lstm.bias_hh_l0.data[HIDDEN : 2 * HIDDEN] = FORGET

    def forward(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        attributes = data["x_s"].unsqueeze(1).repeat(1, data["x_d"].shape[1], 1)
        lstm_output, (h_n, c_n) = self.lstm(input=torch.cat([data["x_d"], attributes], dim=-1))
        h_n, c_n = h_n.transpose(0, 1), c_n.transpose(0, 1)
        y_hat = self.head(self.dropout(lstm_output[:, -1, :]))
        return {"lstm_output": lstm_output, "h_n": h_n, "c_n": c_n, "y_hat": y_hat}


def build(variant: str) -> nn.Module:
    model = CudaLSTM()
    model.days = int(variant.split()[0])
    return model


def adopted(variant: str) -> dict[str, str]:
    return {"lstm": "LSTM"}


def weather(days: int, seed: int) -> dict[str, Tensor]:
    """What falls on each basin, what each basin is, and what runs off: a store that empties at the
    basin's own rate.
    """
    generator = torch.Generator().manual_seed(seed)
    x_d = torch.randn(BASINS, days, 4, generator=generator)
    x_s = torch.randn(BASINS, 3, generator=generator)
    rate, store = 0.05 + 0.2 * torch.sigmoid(x_s[:, 0]), torch.zeros(BASINS)
    for day in range(days):
        store = store * (1 - rate) + x_d[:, day, 0].clamp(min=0)
    return {"x_d": x_d, "x_s": x_s, "y": (rate * store)[:, None], "std": 0.1 + 0.2 * rate[:, None]}


@torch.no_grad()
def outputs(model: nn.Module) -> list[Tensor]:
    return list(model.eval()(weather(model.days, 900)).values())


class Training:
    def __init__(self, model: nn.Module) -> None:
        self.model = model
        rate = 1e-3 if model.days < 100 else 3e-4  # over a year, larger steps make rounding grow
        self.optimiser = torch.optim.Adam(model.parameters(), lr=rate)

    def loss(self, step: int) -> Tensor:
        data = weather(self.model.days, step % 10)
        error = self.model(data)["y_hat"] - data["y"]
        return (error**2 / (data["std"] + 0.1) ** 2).mean()

    def update(self) -> None:
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
