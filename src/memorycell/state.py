"""State: the state of a recurrence between two steps, as a value that can be saved, forked and
selected.

    state = State(h=h, c=c)         named tensors; `h, c = state` unpacks them like torch's tuple
    state.save(path)                safetensors with a fingerprint of the weights and a checksum

The second axis of every tensor is the batch: h and c are [L·directions, B, H], a window of past
inputs is [W, B, C].
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from memorycell.errors import StateError, quote
from memorycell.files import read_tensors, tensors_to_bytes, write_atomically
from memorycell.setting_fields import from_json

FORMAT = "memorycell-state-2"
FORMAT_WITHOUT_CHECKSUM = "memorycell-state-1"
MAX_TENSORS = 256
"""Of a saved state: eight of each of 32 members."""

E = TypeVar("E")


class State(tuple[Tensor, ...]):
    """Named tensors in a fixed order, each with the batch as its second axis.

    A tuple, so that it works wherever torch's `(h, c)` does, and immutable. `State((h, c))` and
    `State([h])` name their tensors h and c, so that `type(s)(v.detach() for v in s)` works as with
    a tuple.
    """

    _names: tuple[str, ...]

    def __new__(cls, values: Iterable[Tensor] = (), /, **tensors: Tensor) -> State:
        """Raises ValueError if the tensors differ in batch size."""
        tensors = {**dict(zip(("h", "c"), values, strict=False)), **tensors}
        sizes = {name: tensor.shape[1] for name, tensor in tensors.items()}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"State: expected one batch size on the second axis, got {sizes}")
        self = super().__new__(cls, tensors.values())
        self._names = tuple(tensors)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _named, (self._names, tuple(self))

    def __getattr__(self, name: str) -> Tensor:
        if name.startswith("_") or name not in self._names:
            raise AttributeError(
                f"State has no {name!r}; it has {', '.join(self.__dict__.get('_names', ()))}"
            )
        return self[self._names.index(name)]

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name}={list(tensor.shape)}" for name, tensor in self.asdict().items())
        return f"State({shapes})"

    def asdict(self) -> dict[str, Tensor]:
        """Name -> tensor, in order."""
        return dict(zip(self._names, self, strict=True))

    @property
    def batch_size(self) -> int:
        """B."""
        return int(self[0].shape[1])

    def detach(self) -> State:
        """The same values without their graph, as for truncated backpropagation."""
        return State(**{name: tensor.detach() for name, tensor in self.asdict().items()})

    def fork(self) -> State:
        """An independent copy."""
        return State(**{name: tensor.detach().clone() for name, tensor in self.asdict().items()})

    def select(self, rows: Sequence[int] | Tensor) -> State:
        """A copy of the given batch rows, in that order."""
        index = torch.as_tensor(rows, dtype=torch.int64, device=self[0].device)
        return State(
            **{name: tensor.index_select(1, index) for name, tensor in self.asdict().items()}
        )

    @staticmethod
    def stack(states: Sequence[State]) -> State:
        """The states concatenated along the batch."""
        if not states or any(s._names != states[0]._names for s in states):
            raise ValueError("State.stack: expected one or more states with the same names")
        return State(**{n: torch.cat([getattr(s, n) for s in states], 1) for n in states[0]._names})

    def save(
        self, path: str | Path, *, fingerprint: str = "", extra: Mapping[str, Any] | None = None
    ) -> None:
        """Write `to_bytes` to a file, atomically. `fingerprint` identifies the weights (see
        `fingerprint`). Raises `UserError`.
        """
        write_atomically(Path(path), self.to_bytes(fingerprint=fingerprint, extra=extra))

    def to_bytes(self, *, fingerprint: str = "", extra: Mapping[str, Any] | None = None) -> bytes:
        """Safetensors bytes whose metadata is a JSON object with the format, a checksum of all
        bytes, the fingerprint and `extra`. Raises `StateError` for values that could not be loaded
        again: NaN and infinity, also in `extra`.
        """
        _check_values(self.asdict())
        note = {
            "format": FORMAT,
            "names": self._names,
            "fingerprint": fingerprint,
            "extra": dict(extra or {}),
        }
        try:
            return tensors_to_bytes(self.asdict(), note)
        except ValueError as error:
            raise StateError(f"state: its extra values cannot be stored ({error})") from None

    @classmethod
    def load(
        cls, path: str | Path, *, fingerprint: str | None = None
    ) -> tuple[State, dict[str, Any]]:
        """(state, extra) from a file that `save` wrote. Raises `StateError`; see `from_bytes`."""
        try:
            return cls.from_bytes(read_state_file(path), fingerprint=fingerprint)
        except StateError as error:
            raise StateError(f"{path}: {error}") from None

    @classmethod
    def from_bytes(
        cls, data: bytes, *, fingerprint: str | None = None
    ) -> tuple[State, dict[str, Any]]:
        """(state, extra) from the bytes of `to_bytes`. Raises `StateError` for damaged bytes and,
        if `fingerprint` is given, for a state of other weights.
        """
        note, tensors = _read_checked(data)
        if fingerprint is not None and note.fingerprint != fingerprint:
            raise StateError(
                "this state belongs to other weights or another precision"
                f" ({quote(note.fingerprint or 'unnamed')}, not {fingerprint}); use the model it"
                " was saved with, or start a new state"
            )
        return cls(**{name: tensors[name] for name in note.names}), dict(note.extra)


@dataclasses.dataclass(frozen=True)
class _Note:
    """The JSON object in a saved state's metadata."""

    format: str
    names: Annotated[list[str], msgspec.Meta(min_length=1, max_length=MAX_TENSORS)]
    fingerprint: str
    extra: dict[str, Any]
    checksum: str | None = None  # absent from format 1


def _read_checked(data: bytes) -> tuple[_Note, dict[str, Tensor]]:
    """The note and the tensors of a saved state, once its checksum and its parts are checked."""
    try:
        values, tensors = read_tensors(data)
        kind = values.get("format") if isinstance(values, dict) else None
        if kind not in (FORMAT, FORMAT_WITHOUT_CHECKSUM):
            raise StateError(
                "not a state written by memorycell, or written by a later version of it"
            )
        note = from_json(_Note, values)
        if (note.checksum is None) != (kind == FORMAT_WITHOUT_CHECKSUM):
            raise ValueError("a checksum is missing or unexpected")
        if sorted(note.names) != sorted(tensors):
            raise ValueError("other tensors than those listed")
    except StateError:
        raise
    except ValueError as error:
        raise StateError(
            f"damaged or not a saved state ({quote(str(error))}); start a new state"
        ) from None
    _check_values(tensors)
    return note, tensors


def _check_values(tensors: Mapping[str, Tensor]) -> None:
    """Raises `StateError` for tensors that cannot be a state's: each is [R, B, …], finite, of
    floats.
    """
    sizes = {tensor.shape[1] for tensor in tensors.values() if tensor.ndim > 1}
    if len(sizes) != 1 or any(tensor.ndim < 2 for tensor in tensors.values()):
        raise StateError("state: expected tensors of one batch size on the second axis")
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or tensor.element_size() < 2:
            raise StateError(f"state: {quote(name)} has the type {tensor.dtype}, not a float's")
        if not bool(tensor.detach().isfinite().all()):
            raise StateError(f"state: {quote(name)} has NaN or infinity; start a new state")


def typed_extra(kind: type[E], extra: Mapping[str, Any], owner: str) -> E:
    """The values stored with a state as a dataclass, each checked against its type and range; see
    `memorycell.setting_fields.from_json`. `owner` is what wrote them, for messages: "forecaster".

    Raises `StateError`.
    """
    try:
        return from_json(kind, extra)
    except ValueError as error:
        raise StateError(
            f"not the state of a {owner} ({quote(str(error))}); start without it"
        ) from None


def read_state_file(path: str | Path) -> bytes:
    """The bytes of a file. Raises `StateError` without the path, which the caller adds."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise StateError("no such file") from None
    except OSError as error:
        raise StateError(f"cannot be read ({error.strerror or error})") from None


def _named(names: tuple[str, ...], values: Iterable[Any]) -> State:
    """A state of any values: PyTorch's tree functions do not only store tensors."""
    state = tuple.__new__(State, values)
    state._names = tuple(names)
    return state


# PyTorch treats a State as plain data: in pytrees (torch.compile, torch.func) and in
# `torch.load(weights_only=True)`.
pytree.register_pytree_node(
    State,
    lambda state: (list(state), state._names),
    lambda values, names: _named(names, values),
    serialized_type_name="memorycell.State",
)
torch.serialization.add_safe_globals([_named])


class Layout:
    """The layout of one session's state as a row of float32 values, as Stream and Pool store it.

    sizes    name -> (R, S) for the state's tensors [R, B, S]: h and c are (L, H)
    slices   name -> the tensor's slice of the row
    width    values per row
    """

    def __init__(self, sizes: Mapping[str, tuple[int, int]]) -> None:
        self.sizes = dict(sizes)
        lengths = [rows * size for rows, size in self.sizes.values()]
        ends = list(itertools.accumulate(lengths))
        self.slices = {
            name: slice(end - length, end)
            for name, end, length in zip(self.sizes, ends, lengths, strict=True)
        }
        self.width = ends[-1]

    def state(self, rows: np.ndarray) -> State:
        """Rows [B, width] as a `State`: a copy."""
        parts = {
            n: np.array(rows[:, s]).reshape(len(rows), *self.sizes[n])
            for n, s in self.slices.items()
        }
        return State(
            **{n: torch.from_numpy(part.swapaxes(0, 1).copy()) for n, part in parts.items()}
        )

    def rows(self, state: Tensor | Sequence[Tensor]) -> np.ndarray:
        """A state, or the tuple or tensor that torch's layers return, as rows [B, width]. Raises
        `StateError` for other shapes.
        """
        state = (state,) if isinstance(state, Tensor) else state
        tensors = (
            state.asdict()
            if isinstance(state, State)
            else dict(zip(self.sizes, state, strict=False))
        )
        batch = next(iter(tensors.values())).shape[1] if tensors else 1
        shapes = {name: (rows, batch, size) for name, (rows, size) in self.sizes.items()}
        if {name: tuple(tensor.shape) for name, tensor in tensors.items()} != shapes:
            expected = ", ".join(
                f"{name}={[rows, 'B', size]}" for name, (rows, size) in self.sizes.items()
            )
            got = ", ".join(f"{name}={list(tensor.shape)}" for name, tensor in tensors.items())
            raise StateError(f"state: expected {expected}, got {got}; start a new state")
        parts = [
            tensors[n].detach().to("cpu", torch.float32).transpose(0, 1).reshape(batch, -1)
            for n in self.sizes
        ]
        return torch.cat(parts, 1).numpy()


def fingerprint(module: nn.Module, precision: str = "float32") -> str:
    """16 hexadecimal digits of SHA-256 over the names, shapes, types and bytes of a module's
    weights, and the precision unless it is float32.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16] + ("" if precision == "float32" else f" in {precision}")
