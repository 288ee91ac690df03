"""Models with weights that are all different, and their outputs by the reference."""

import torch

from memorycell.applications.forecast.model import Forecaster, ForecasterConfig
from memorycell.cells import CELLS
from memorycell.nn.layers import Recurrent, of_cell
from memorycell.state import State

ODD = [{}, {"num_layers": 3}, {"bias": False}, {"zoneout": 0.2, "num_layers": 2}]
FORECASTERS = [
    {"window": 1},
    {"targets": 2, "quantiles": 5},
    {"cell": "gru", "num_layers": 2},
    {"horizon": 1, "window": 2, "quantiles": 1},
    {"input_size": 6, "horizon": 7, "targets": 3, "window": 9, "quantiles": 3},
    {"cell": "layernorm", "zoneout": 0.1, "targets": 4, "num_layers": 2},
    {"normal": "level", "seen": 3, "targets": 2, "num_layers": 2},
    {"normal": "level", "seen": 2, "window": 1},
    {"normal": "level", "seen": 3, "targets": 2, "raw_linear": True},
    {"normal": "level", "seen": 3, "linear": 1, "raw_linear": True, "window": 6},
    {"normal": "level", "seen": 3, "targets": 2, "linear": 3},
    {"normal": "level", "seen": 3, "targets": 2, "linear": 2},
    {"targets": 2, "linear": 3, "window": 4},
]


def layer(cell: str, **options) -> torch.nn.Module:
    """7 units over 5 inputs, all weights different, so that swapped gates are found."""
    torch.manual_seed(0)
    if CELLS[cell].stabilised and options.pop("zoneout", 0):  # which these do not have
        options["heads"] = 7
    module = of_cell(cell, 5, 7, batch_first=True, **options)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.startswith("gain"):
                parameter.uniform_(0.1, 0.4)
    return module.eval()


def model(cell: str = "lstm", **options) -> Forecaster:
    torch.manual_seed(0)
    sizes = {"input_size": 4, "hidden_size": 7, "horizon": 3, "window": 5, "cell": cell}
    module = Forecaster(ForecasterConfig(**{**sizes, **options}))
    with torch.no_grad():
        for parameter in module.head.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return module.eval()


def random_state(module: torch.nn.Module, batch: int) -> State:
    zeros = module.initial_state(batch).asdict()
    state = {name: torch.randn_like(value) for name, value in zeros.items()}
    if "n" in state:  # a normaliser is 1 or more
        state["n"] = 1 + state["n"].abs()
    return State(**state)


def expected(
    module: torch.nn.Module, x: torch.Tensor, state: State
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The outputs and the new state, by the reference."""
    with torch.no_grad():
        single = isinstance(module, Recurrent) and len(state) == 1
        y, after = module(x, state[0] if single else state, backend="reference")
    return y, list((after,) if isinstance(after, torch.Tensor) else after)
