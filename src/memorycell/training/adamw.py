"""AdamW without the import of Dynamo."""

from __future__ import annotations

import inspect
from typing import Any

import torch


class AdamW(torch.optim.AdamW):
    """`torch.optim.AdamW`: the same arithmetic, state and `state_dict` (Loshchilov & Hutter 2019).

    torch wraps the methods of its optimisers for `torch.compile`. The first call of one imports
    Dynamo, which takes a second, longer than the training of a small model; the functions inside
    the wrappers do not. A compiled training step needs `torch.optim.AdamW` itself.
    """

    add_param_group = inspect.unwrap(torch.optim.AdamW.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.AdamW.zero_grad)
    state_dict = inspect.unwrap(torch.optim.AdamW.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.AdamW.load_state_dict)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """See `torch.optim.AdamW`."""
        return _step(self, closure)


_step = inspect.unwrap(torch.optim.AdamW.step)
