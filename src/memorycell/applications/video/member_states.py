"""The states of the networks of an ensemble as one: what each has of its own, h, c and `total`, is
joined along the channels, [L, B, members · C, …]; what they all read of the frames is stored once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from memorycell.state import State

OWN = ("h", "c", "total")
"""What each network has of its own."""


def join_states(states: Sequence[State]) -> State:
    """The states of all networks as one."""
    first = states[0]
    if len(states) == 1:
        return first
    return State(
        **{
            name: torch.cat([getattr(state, name) for state in states], 2) if name in OWN else value
            for name, value in first.asdict().items()
        }
    )


def split_state(state: State, members: int) -> list[State]:
    """The states of `members` networks, of one that `join_states` gave."""
    if members == 1:
        return [state]
    parts = {
        name: [part.contiguous() for part in value.chunk(members, 2)]
        if name in OWN
        else [value] * members
        for name, value in state.asdict().items()
    }
    return [State(**{name: part[k] for name, part in parts.items()}) for k in range(members)]
