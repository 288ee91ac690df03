"""How a recurrence runs: one layer, one direction, over a full sequence. See `dispatch`."""

from memorycell.ops.dispatch import (
    BACKENDS,
    Choice,
    Result,
    check_options,
    choose,
    native_reason,
    recurrence,
    runs_all_steps_at_once,
)

__all__ = [
    "BACKENDS",
    "Choice",
    "Result",
    "check_options",
    "choose",
    "native_reason",
    "recurrence",
    "runs_all_steps_at_once",
]
