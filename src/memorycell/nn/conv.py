"""ConvLSTM and ConvGRU: recurrent layers whose products are convolutions over a grid.

Shi et al. (2015), "Convolutional LSTM network: a machine learning approach for precipitation
nowcasting", arXiv:1506.04214. A state is a stack of C maps of the grid's size. With * for the
convolution and ⊙ for the elementwise product, a ConvLSTM is

    pre = W_ih * x_t + b_ih + W_hh * h_{t-1} + b_hh      [4·C, height, width], blocks i, f, g, o
    i = σ(pre_i)   f = σ(pre_f)   g = tanh(pre_g)   o = σ(pre_o)
    c_t = f ⊙ c_{t-1} + i ⊙ g
    h_t = o ⊙ tanh(c_t)

with peepholes pre_i + w_ci ⊙ c_{t-1}, pre_f + w_cf ⊙ c_{t-1} and pre_o + w_co ⊙ c_t, the paper's
equation 3. On a grid of one cell with kernels of one weight these are the layers of `nn.layers`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from memorycell.cells import CELLS, Tensors
from memorycell.nn.conv_cells import (
    STEPS,
    STEPS_WITHOUT_GRADIENT,
    Params,
    doubled_candidate,
    lstm_sequence,
    same_conv,
)
from memorycell.nn.conv_step import ConvStepper
from memorycell.state import State

Pair = int | tuple[int, int]


class ConvRecurrent(nn.Module):
    """A stack of convolutional recurrent layers. Use `ConvLSTM` or `ConvGRU`.

    input_size    channels of the input
    hidden_size   C, channels of the state
    kernel_size   of both convolutions, (height, width) or one number for both. They are padded with
                  zeros to keep the grid's size: (k - 1) // 2 before and k // 2 after, so that an
                  even kernel reaches one cell further right and down, as Keras's "same"
    size          (height, width) of the grid. Only needed for peepholes with a weight per cell, as
                  in the paper, and for `Stream`; without it peepholes have a weight per channel
    cell          "lstm" or "peephole"; "gru" or "gru_reset_before"
    forget_bias   initial value of b_ih + b_hh of the forget gate; None keeps torch's initial values

    Parameters are named as torch names those of LSTM and GRU, with the same blocks of rows:
    `weight_ih_l0` [4·C, I, height, width], `weight_hh_l0`, `bias_ih_l0`, `bias_hh_l0`, and
    `weight_ch_l0` [3·C, 1, 1] or [3·C, height, width] for w_ci, w_cf, w_co.
    """

    cells: tuple[str, ...] = ()
    train_calls: int = 0

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        kernel_size: Pair = 3,
        num_layers: int = 1,
        *,
        cell: str,
        bias: bool = True,
        batch_first: bool = False,
        size: tuple[int, int] | None = None,
        forget_bias: float | None = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if cell not in self.cells:
            raise ValueError(
                f"cell: {type(self).__name__} has {', '.join(self.cells)}, got {cell!r}"
            )
        kernel = (kernel_size,) * 2 if isinstance(kernel_size, int) else tuple(kernel_size)
        for name, values in {
            "input_size": (input_size,),
            "hidden_size": (hidden_size,),
            "num_layers": (num_layers,),
            "kernel_size": kernel,
            "size": size or (1, 1),
        }.items():
            if any(not isinstance(v, int) or v < 1 for v in values):
                raise ValueError(f"{name}: expected 1 or more, got {values}")
        if len(kernel) != 2 or (size is not None and len(size) != 2):
            raise ValueError("kernel_size, size: expected (height, width)")
        if forget_bias is not None and ("f" not in CELLS[cell].blocks or not bias):
            raise ValueError(f"forget_bias: the cell {cell!r} with bias={bias} has none")
        self.cell, self.bias, self.batch_first = cell, bias, batch_first
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.kernel_size: tuple[int, int] = (kernel[0], kernel[1])
        self.size, self.forget_bias = size, forget_bias
        self._packed: list[Params] | None = None
        rows = len(CELLS[cell].blocks) * hidden_size
        options = {"device": device, "dtype": dtype}
        for k in range(num_layers):
            inputs = hidden_size if k else input_size
            shapes: dict[str, tuple[int, ...]] = {
                "weight_ih": (rows, inputs, *kernel),
                "weight_hh": (rows, hidden_size, *kernel),
            }
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)} if bias else {}
            shapes |= {
                n: (m * hidden_size, *(size or (1, 1))) for n, m in CELLS[cell].extra.items()
            }
            for name, shape in shapes.items():
                self.register_parameter(f"{name}_l{k}", nn.Parameter(torch.empty(shape, **options)))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Uniform in ±1/√(C · weights of a kernel), as torch initialises its layers; then
        `forget_bias`.
        """
        height, width = self.kernel_size
        bound = 1 / math.sqrt(self.hidden_size * height * width)
        for name, parameter in self.named_parameters():
            nn.init.uniform_(parameter, -bound, bound)
            if self.forget_bias is not None and name.startswith("bias_"):
                block = parameter.narrow(0, self.hidden_size, self.hidden_size)
                block.fill_(self.forget_bias if name.startswith("bias_ih") else 0.0)

    def train(self, mode: bool = True) -> Self:
        """As in torch; calls are counted as in `nn.recurrent`."""
        self.train_calls += mode
        return super().train(mode)

    def extra_repr(self) -> str:
        """The arguments."""
        size = "" if self.size is None else f", size={self.size}"
        return (
            f"{self.input_size}, {self.hidden_size}, kernel_size={self.kernel_size},"
            f" num_layers={self.num_layers}, cell={self.cell}{size}"
        )

    def initial_state(
        self,
        batch_size: int = 1,
        size: tuple[int, int] | None = None,
        *,
        like: Tensor | None = None,
    ) -> State:
        """Zeros: h, and c if the cell has one, [L, B, C, height, width]. `size` may be left out
        where the layer has one.
        """
        size = size or self.size
        if size is None:
            raise ValueError("initial_state: the layer has no size; give (height, width)")
        like = next(self.parameters()) if like is None else like
        shape = (self.num_layers, batch_size, self.hidden_size, *size)
        return State(**{name: like.new_zeros(shape) for name in CELLS[self.cell].state})

    def stepper(self, precision: str = "float32") -> ConvStepper:
        """Runs the layers frame by frame, for `Stream` and `Pool`: a frame is a row of
        input_size·height·width numbers, an output is [C, height, width].

        Raises ValueError without `size`, and for another precision than float32.
        """
        if self.size is None:
            raise ValueError("stream: give the layer the size of its frames: size=(height, width)")
        return ConvStepper(self, (self.input_size, *self.size), precision)

    def forward(
        self,
        input: Tensor,  # noqa: A002  torch's name
        hx: Sequence[Tensor] | Tensor | None = None,
        *,
        lengths: Tensor | Sequence[int] | None = None,
        reset: Tensor | None = None,
        trace: bool = False,
    ) -> Any:
        """Run a full sequence.

        input     [T, B, I, height, width]; [B, T, …] with batch_first; [T, …] unbatched
        hx        (h_0, c_0), or h_0 for cells without a cell state: [L, B, C, height, width],
                  without B where the input has none
        lengths   [B], 1..T; outputs past the length are zero and the final state is the one at the
                  length
        reset     [B, T] bool: a new sequence begins at that step
        trace     also return the gates and states of every step: a dict per layer, each value
                  [B, T, C, height, width]

        Returns (output, (h_n, c_n)), (output, h_n) for cells without a cell state, and with `trace`
        the trace as a third value. If hx is a `State`, so is the final state. Raises ValueError
        for other shapes.
        """
        batched = input.ndim == 5
        x = input if batched else input[:, None] if input.ndim == 4 else input
        if x.ndim == 5 and batched and self.batch_first:
            x = x.transpose(0, 1)
        state = self._checked_state(x, hx, batched)
        steps, batch = x.shape[:2]
        kept, ends = _masks(lengths, reset, batch, steps, x.device)
        finals: list[Tensors] = []
        traces: list[dict[str, Tensor]] = []
        for k in range(self.num_layers):
            before = tuple(value[k] for value in state)
            x, after, gates = self._run_layer(k, x, before, kept, ends, trace)
            finals.append(after)
            traces.append(gates)
        final = tuple(torch.stack(values) for values in zip(*finals, strict=True))
        output = x.transpose(0, 1) if batched and self.batch_first else x
        if not batched:
            output, final = output[:, 0], tuple(value[:, 0] for value in final)
        result: Any = final if len(final) > 1 else final[0]
        if isinstance(hx, State):
            result = State(**dict(zip(CELLS[self.cell].state, final, strict=True)))
        return (output, result, traces) if trace else (output, result)

    def _checked_state(self, x: Tensor, hx: Any, batched: bool) -> Tensors:
        if x.ndim != 5 or not x.shape[0] or x.shape[2] != self.input_size:
            raise ValueError(
                f"input: expected [T, B, {self.input_size}, height, width], T of 1 or more, got"
                f" {list(x.shape)} (time first)"
            )
        size = (x.shape[3], x.shape[4])
        if self.size is not None and self.size != size:
            raise ValueError(f"input: the layer is made for frames of {self.size}, got {size}")
        if hx is None:
            return tuple(self.initial_state(x.shape[1], size, like=x))
        state = (hx,) if isinstance(hx, Tensor) else tuple(hx)
        state = state if batched else tuple(value[:, None] for value in state)
        names = CELLS[self.cell].state
        shape = (self.num_layers, x.shape[1], self.hidden_size, *size)
        if len(state) != len(names) or any(value.shape != shape for value in state):
            got = ", ".join(str(list(value.shape)) for value in state)
            raise ValueError(f"hx: expected {', '.join(names)} {list(shape)}, got {got}")
        return state

    def _run_layer(
        self,
        layer: int,
        x: Tensor,
        state: Tensors,
        kept: Sequence[Tensor | None],
        ends: Sequence[Tensor | None],
        trace: bool,
    ) -> tuple[Tensor, Tensors, dict[str, Tensor]]:
        """One layer over x [T, B, I, height, width]: (output, final state, trace)."""
        quick = not (torch.is_grad_enabled() or trace) and x.dtype is torch.float32
        packed = quick and self._packed is not None
        params = self._packed[layer] if packed else self._step_parameters(layer, quick)  # type: ignore[index]
        if "c" in CELLS[self.cell].state:
            parts = x
        else:
            bias = params["bias_ih"] if self.bias else None
            product = same_conv(x.flatten(0, 1), params["weight_ih"], bias)
            parts = product.unflatten(0, x.shape[:2])
        if quick and self.cell == "lstm" and not any(v is not None for v in (*kept, *ends)):
            return *lstm_sequence(parts, state, params), {}
        step = (STEPS_WITHOUT_GRADIENT if quick else STEPS)[self.cell]
        outputs: list[Tensor] = []
        records: list[tuple[Tensors, Tensors]] = []
        for part, begin, end in zip(parts.unbind(), kept, ends, strict=True):
            before = state if begin is None else tuple(value * begin for value in state)
            after, gates = step(part, before, params)
            if end is not None:
                after = tuple(torch.where(end, a, b) for a, b in zip(after, state, strict=True))
            outputs.append(after[0] if end is None else after[0] * end)
            if trace:
                records.append((gates, after))
            state = after
        output = torch.stack(outputs)
        return output, state, self._stacked(records) if trace else {}

    def _step_parameters(self, layer: int, quick: bool) -> Params:
        """What the steps of a layer read; `quick`: those of `STEPS_WITHOUT_GRADIENT`."""
        params = self.layer_parameters(layer)
        if "c" in CELLS[self.cell].state:
            # One convolution of x_t and h_{t-1} together is quicker than one of each.
            params["weight"] = torch.cat([params["weight_ih"], params["weight_hh"]], 1)
            params["bias"] = params["bias_ih"] + params["bias_hh"]
            if quick and self.cell == "lstm":
                doubled_candidate(params)
        return params

    @torch.no_grad()
    def pack(self) -> None:
        """Prepare the weights for single steps without gradients, which no longer see changes of
        the parameters.
        """
        layers = range(self.num_layers)
        self._packed = [
            self._step_parameters(k, next(self.parameters()).dtype is torch.float32) for k in layers
        ]

    def _stacked(self, records: list[tuple[Tensors, Tensors]]) -> dict[str, Tensor]:
        cell = CELLS[self.cell]
        names = [*cell.gates, *cell.state]
        series = zip(*((*gates, *state) for gates, state in records), strict=True)
        return {name: torch.stack(values, 1) for name, values in zip(names, series, strict=True)}

    def layer_parameters(self, layer: int) -> dict[str, Tensor]:
        """One layer's parameters without suffix; an absent bias is a scalar zero."""
        suffix = f"_l{layer}"
        params = {
            name.removesuffix(suffix): cast(Tensor, value)
            for name, value in self._parameters.items()
            if name.endswith(suffix) and value is not None
        }
        if not self.bias:
            params["bias_ih"] = params["bias_hh"] = params["weight_ih"].new_zeros(())
        return params


class ConvLSTM(ConvRecurrent):
    """Convolutional LSTM; see `ConvRecurrent`. Shi et al. (2015), arXiv:1506.04214; `peephole=True`
    adds the paper's connections from the cell state to the gates.
    """

    cells = ("lstm", "peephole")

    def __init__(self, *args: Any, peephole: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, cell="peephole" if peephole else "lstm", **kwargs)


class ConvGRU(ConvRecurrent):
    """Convolutional GRU; see `ConvRecurrent`. Ballas et al. (2015), arXiv:1511.06432, with the
    reset gate after the product, as in torch's GRU, or before it, as in the paper
    (`cell="gru_reset_before"`).
    """

    cells = ("gru", "gru_reset_before")

    def __init__(self, *args: Any, cell: str = "gru", **kwargs: Any) -> None:
        super().__init__(*args, cell=cell, **kwargs)


def of_conv_cell(cell: str, *args: Any, **options: Any) -> ConvRecurrent:
    """The layers of a cell. Raises ValueError for a cell without convolutional layers."""
    if cell in ConvGRU.cells:
        return ConvGRU(*args, cell=cell, **options)
    if cell in ConvLSTM.cells:
        return ConvLSTM(*args, peephole=cell == "peephole", **options)
    known = ", ".join((*ConvLSTM.cells, *ConvGRU.cells))
    raise ValueError(f"cell: convolutional layers have {known}, got {cell!r}")


def _masks(
    lengths: Tensor | Sequence[int] | None,
    reset: Tensor | None,
    batch: int,
    steps: int,
    device: torch.device,
) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """For every step: 0 where a sequence begins, and whether a step is within the sequence's
    length; each [B, 1, 1, 1], or None where all sequences continue. Raises ValueError.
    """
    kept: list[Tensor | None] = [None] * steps
    ends: list[Tensor | None] = [None] * steps
    if reset is not None:
        if reset.shape != (batch, steps) or reset.dtype is not torch.bool:
            raise ValueError(f"reset: expected {[batch, steps]} bool, got {list(reset.shape)}")
        for t in reset.any(0).nonzero()[:, 0].tolist():
            kept[t] = (~reset[:, t]).to(device)[:, None, None, None]
    if lengths is not None:
        ends_at = torch.as_tensor(lengths, device=device)
        if ends_at.shape != (batch,) or not bool(((ends_at >= 1) & (ends_at <= steps)).all()):
            raise ValueError(f"lengths: expected {batch} lengths of 1..{steps}")
        for t in range(int(ends_at.min()), steps):
            ends[t] = (ends_at > t)[:, None, None, None]
    return kept, ends
