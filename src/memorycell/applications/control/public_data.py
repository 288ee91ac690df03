"""The named dataset of control: an environment that needs memory, made by the application."""

from memorycell.application.named_dataset import NamedDataset
from memorycell.applications.control.t_maze import NAME

DATASETS = (
    NamedDataset(
        name=NAME,
        about="an environment: a corridor with a sign at its start that says which way to turn at"
        " its end, 100 steps later (--set gap=…); made by memorycell",
        licence="Apache-2.0",
        citation="after Bakker (2001), Reinforcement learning with long short-term memory, NIPS 14",
        package=("memorycell", "applications/control/t_maze.py", "memorycell"),
        settings={"rollout": 256, "discount": 0.999},
    ),
)
