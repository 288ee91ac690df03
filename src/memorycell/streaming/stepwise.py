"""Work that consists of steps of streams, as generators: run alone, or many together.

    def read(self, token) -> StreamSteps[Answer]:   # yields what is to be stepped
        y = yield self.stream, x                    # and receives the output
        return Answer(y)

`run(work)` steps the streams one by one. `run_together` steps the streams of many generators that
share packed weights in one call of the engine, which reads the weights once for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TypeAlias, TypeVar

import numpy as np

from memorycell.streaming.finite import all_finite
from memorycell.streaming.stream import Stream

T = TypeVar("T")

Request: TypeAlias = tuple[Stream, np.ndarray]
"""(a stream, its input [I] or [T, I] float32)"""
StreamSteps: TypeAlias = Generator[Request, np.ndarray, T]
OnStep: TypeAlias = Callable[[int, Stream, np.ndarray], None]
"""Called with the number of the generator, the stream and its input before a step."""


def run(steps: StreamSteps[T]) -> T:
    """Run a generator to its end, stepping its streams."""
    try:
        stream, x = next(steps)
        while True:
            try:
                y = stream.step(x)
            except ValueError as error:
                stream, x = steps.throw(error)
            else:
                stream, x = steps.send(y)
    except StopIteration as end:
        result: T = end.value
        return result


def run_together(
    works: Sequence[StreamSteps[T]], on_step: OnStep | None = None
) -> list[T | Exception]:
    """Run generators to their ends; the result of each, or the exception that it raised.

    Outputs are those of `run`, to the bit on the native engine. The generators use different
    streams.
    """
    results: list[T | Exception] = [RuntimeError("not run")] * len(works)
    waiting: list[tuple[int, Stream, np.ndarray]] = []

    def advance(k: int, y: np.ndarray | Exception | None) -> None:
        try:
            if isinstance(y, Exception):
                stream, x = works[k].throw(y)
            else:
                stream, x = next(works[k]) if y is None else works[k].send(y)
        except StopIteration as end:
            results[k] = end.value
        except Exception as error:
            results[k] = error
        else:
            if on_step is not None:
                on_step(k, stream, x)
            waiting.append((k, stream, x))

    for k in range(len(works)):
        advance(k, None)
    while waiting:
        requests, waiting = waiting, []
        outputs = step_streams([(stream, x) for _, stream, x in requests])
        for (k, _, _), y in zip(requests, outputs, strict=True):
            advance(k, y)
    return results


def step_streams(requests: Sequence[Request]) -> list[np.ndarray | Exception]:
    """Step different streams; the output of each, or the exception of its `Stream.step`.

    Single steps of streams that were forked from one another run in one call.
    """
    outputs: list[np.ndarray | Exception | None] = [None] * len(requests)
    groups: dict[int, list[int]] = {}
    for k, (stream, x) in enumerate(requests):
        if x.ndim == 1:
            groups.setdefault(id(stream.stepper), []).append(k)
    for members in groups.values():
        if len(members) > 1:
            _step_group(requests, members, outputs)
    return [_step_alone(*requests[k]) if y is None else y for k, y in enumerate(outputs)]


def _step_alone(stream: Stream, x: np.ndarray) -> np.ndarray | Exception:
    try:
        y: np.ndarray = stream.step(x)
    except (ValueError, RuntimeError) as error:
        return error
    return y


def _step_group(
    requests: Sequence[Request], members: list[int], outputs: list[np.ndarray | Exception | None]
) -> None:
    """One call for streams of one stepper. Without outputs where an input or a state is not finite:
    each of the streams then steps alone, which says which one it was.
    """
    streams = [requests[k][0] for k in members]
    stepper = streams[0].stepper
    try:
        x = np.stack([requests[k][1] for k in members]).astype(np.float32, copy=False)
    except ValueError:  # an input of another size
        return
    if x.shape[1] != stepper.input_size or not all_finite(x):
        return
    block = np.concatenate([stream.row for stream in streams])
    y = stepper.step_many(block, np.arange(len(streams)), x)
    if not all_finite(block) or np.isnan(y).any():
        return
    for stream, row, k, own in zip(streams, block, members, y, strict=True):
        stream.advance(row)
        outputs[k] = own
