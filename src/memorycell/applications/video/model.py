"""FramePredictor = patches of a frame -> ConvLSTM -> how each block moves, and what is added.

With x_t the frame, x_{t-1} the one before and s_t its slow means (exponential moving averages over
about 4 and 16 frames), the next frame at pixel p is

    y_t(p) = Σ_k a_k z_t(p + k) + w_{t,0}(p) x_t(p)
             + Σ_k≠0 w_{t,k}(p) (x_t(p + k) - x_t(p)) + r_t(p)

The first sum is linear and the same everywhere: z_t are all of these frames, and `a` is the ridge
regression of the training data (`baselines.Ridge`), which is not trained further. The weights w_t
of the shifts k within `reach` pixels, one set per block, and the residual r_t are read from the
recurrent layers; they begin at zero. Kernels that depend on the input are those of Jia et al.
(2016), "Dynamic filter networks", arXiv:1605.09673, and Finn et al. (2016), arXiv:1605.07157.

Of several such networks, the members of an ensemble, the next frame is the mean of theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memorycell.applications.video.member_states import join_states, split_state
from memorycell.models.members import check_members
from memorycell.models.model import Model, ModelConfig
from memorycell.nn.conv import of_conv_cell
from memorycell.nn.conv_step import ConvStepper
from memorycell.state import State

SLOW_RATES = (1 / 4, 1 / 16)
"""Of the moving averages."""
NUM_MAPS = 2 + len(SLOW_RATES)
"""The frame, the one before, and the slow means."""
MAX_PIXELS = 1 << 20


@dataclass(frozen=True, kw_only=True)
class FrameConfig(ModelConfig):
    """The configuration of a frame predictor; see `ModelConfig` and `VideoSettings`.

    members   networks, whose answers are averaged
    """

    height: int
    width: int
    kernel: int = 3
    patch: int = 4
    reach: int = 2
    block: int = 2
    members: int = 1

    counts: ClassVar[tuple[str, ...]] = (
        *ModelConfig.counts, "height", "width", "kernel", "patch", "block",
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.reach, int) or not 0 <= self.reach <= 15:
            raise ValueError(f"reach: expected 0 to 15, got {self.reach!r}")
        if self.patch > 16 or self.patch % self.block or self.kernel > 63:
            raise ValueError("patch, block, kernel: out of range, or block no divisor of patch")
        if self.height * self.width > MAX_PIXELS:
            raise ValueError(f"height, width: more than {MAX_PIXELS:,} pixels")
        check_members(self.members)

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches."""
        return -(-self.height // self.patch), -(-self.width // self.patch)


class FrameBatch(NamedTuple):
    """Sequences of frames.

    frames    [B, T + 1, height, width] float32 in 0 … 1
    reset     [B, T + 1] bool: a new clip begins at that frame
    rollout   frames at the end that are not seen: the model reads its own predictions instead
    carry     see `Batch`
    """

    frames: Tensor
    reset: Tensor
    rollout: int = 0
    carry: bool = False

    @property
    def steps(self) -> int:
        """Frames to learn from."""
        return self.reset[:, 1:].numel()


class FramePredictor(Model[FrameBatch]):
    """Predicts the next frame; frames are [height, width] float32 in 0 … 1."""

    kind = "frames"
    config_class = FrameConfig
    config: FrameConfig
    linear_weight: Tensor
    linear_bias: Tensor

    def __init__(self, config: FrameConfig) -> None:
        super().__init__()
        self.config = config
        area = config.patch**2
        self.taps = (2 * config.reach + 1) ** 2
        self.recurrent = of_conv_cell(
            config.cell,
            2 * area,
            config.hidden_size,
            config.kernel,
            config.num_layers,
            batch_first=True,
            size=config.grid,
            forget_bias=config.forget_bias if config.cell in ("lstm", "peephole") else None,
        )
        side = 2 * config.reach + 1
        self.register_buffer("linear_weight", torch.zeros(1, NUM_MAPS, side, side))
        self.register_buffer("linear_bias", torch.zeros(1))
        self._packed_linear: Tensor | None = None
        kernels = self.taps * (config.patch // config.block) ** 2
        self.head = nn.Conv2d(config.hidden_size + 2 * area, kernels + area, 1)
        with torch.no_grad():
            self.head.weight.zero_()  # it begins as the linear part alone
            cast(Tensor, self.head.bias).zero_()
            self.linear_weight[0, 0, config.reach, config.reach] = 1  # the last frame
        single = replace(config, members=1)
        self.others = nn.ModuleList(FramePredictor(single) for _ in range(config.members - 1))

    @property
    def networks(self) -> list[FramePredictor]:
        """The members; the first is the model itself."""
        return [self, *(cast(FramePredictor, other) for other in self.others)]

    @property
    def _margins(self) -> tuple[int, int]:
        """Pixels (below, to the right) by which the patches exceed the frame."""
        rows, columns = self.config.grid
        patch = self.config.patch
        return rows * patch - self.config.height, columns * patch - self.config.width

    def initial_state(self, batch_size: int = 1) -> State:
        """Zeros: h and c [L, B, C, rows, columns], `past` [1, B, height, width], `slow` [K, B,
        height, width], and `seen` [1, B, 1], 1 after the first frame; of several members see
        `join_states`.
        """
        return join_states([one._initial_state(batch_size) for one in self.networks])

    def _initial_state(self, batch_size: int) -> State:
        layers = self.recurrent.initial_state(batch_size).asdict()
        zeros = layers["h"].new_zeros
        size = (self.config.height, self.config.width)
        return State(
            **layers,
            past=zeros(1, batch_size, *size),
            slow=zeros(len(SLOW_RATES), batch_size, *size),
            seen=zeros(1, batch_size, 1),
        )

    def forward(
        self,
        x: Tensor,
        state: State | None = None,
        *,
        reset: Tensor | None = None,
        trace: bool = False,
        backend: str | None = None,
    ) -> Any:
        """Frames x [B, T, height, width], or as rows [B, T, height·width] -> (the next frame after
        each, [B, T, height, width], the state); with `trace` also the trace of the layers, of the
        first member.

        `backend` is accepted for `prove`; there is one.
        """
        state = self.initial_state(len(x)) if state is None else state
        states = split_state(state, self.config.members)
        results = [
            one.first(x, before, reset=reset, trace=trace and one is self)
            for one, before in zip(self.networks, states, strict=True)
        ]
        frames = [result[0] for result in results]
        y = frames[0] if len(frames) == 1 else torch.stack(frames).mean(0)
        return (y, join_states([result[1] for result in results]), *results[0][2:])

    def first(
        self,
        x: Tensor,
        state: State | None = None,
        *,
        reset: Tensor | None = None,
        trace: bool = False,
    ) -> Any:
        """As `forward`, of the first network alone."""
        x = x.reshape(*x.shape[:2], self.config.height, self.config.width)
        before = (self._initial_state(len(x)) if state is None else state).asdict()
        maps, past, slow = self._maps(x, before, reset)
        patches = self._patches(maps)
        layers = State(**{n: before[n] for n in ("h", "c") if n in before})
        hidden, after, *traces = self.recurrent(patches, layers, reset=reset, trace=trace)
        y = self._next(hidden.flatten(0, 1), patches.flatten(0, 1), maps.flatten(0, 1))
        result = State(**after.asdict(), past=past, slow=slow, seen=torch.ones_like(before["seen"]))
        return (y.unflatten(0, x.shape[:2]), result, *traces)

    def _maps(
        self, x: Tensor, before: dict[str, Tensor], reset: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(maps [B, T, NUM_MAPS, height, width], past, slow means) after frames x [B, T, …]."""
        past, slow = before["past"][0], before["slow"]
        fresh = before["seen"][0, :, :, None] < 0.5
        rates = torch.tensor(SLOW_RATES, dtype=x.dtype, device=x.device)[:, None, None, None]
        maps = []
        for t in range(x.shape[1]):
            frame = x[:, t]
            if reset is not None:
                fresh = fresh | reset[:, t, None, None]
            past, slow = torch.where(fresh, frame, past), torch.where(fresh, frame, slow)
            slow = torch.lerp(slow, frame, rates)
            maps.append(torch.stack([frame, past, *slow], 1))
            past, fresh = frame, torch.zeros_like(fresh)
        return torch.stack(maps, 1), past[None], slow

    def maps(self, x: Tensor) -> Tensor:
        """The maps [B, T, NUM_MAPS, height, width] z of the module's equation, for frames x [B, T,
        height, width] from the beginning of their clips.
        """
        return self._maps(x, self._initial_state(len(x)).asdict(), None)[0]

    def _patches(self, maps: Tensor) -> Tensor:
        """The frame and its difference from the slowest mean as [B, T, 2·patch², rows, columns]."""
        seen = torch.stack([maps[:, :, 0], maps[:, :, 0] - maps[:, :, -1]], 2)
        bottom, right = self._margins
        seen = seen.flatten(0, 1)
        if bottom or right:
            seen = F.pad(seen, (0, right, 0, bottom), mode="replicate")
        return F.pixel_unshuffle(seen, self.config.patch).unflatten(0, maps.shape[:2])

    def _next(self, hidden: Tensor, patches: Tensor, maps: Tensor) -> Tensor:
        """The next frames [N, height, width] from hidden [N, C, rows, columns]; see the module.

        Every sum is formed for the patch² pixels of a patch, [N, patch², rows, columns], so that
        products run along the patches, which have one distance in memory.
        """
        c = self.config
        (bottom, right), reach, side, area = self._margins, c.reach, 2 * c.reach + 1, c.patch**2
        sides = (reach, reach + right, reach, reach + bottom)
        padded = F.pad(maps, sides, mode="replicate")
        out = self.head(torch.cat([hidden, patches], 1))
        bias = self.linear_bias.expand(area)
        linear = self._linear_of_patch() if self._packed_linear is None else self._packed_linear
        y = F.conv2d(padded, linear, bias, stride=c.patch) + out[:, -area:]

        blocks = c.patch // c.block
        weights = out[:, :-area].flatten(2).unflatten(1, (side, side, blocks, 1, blocks, 1))
        reaching = F.unfold(padded[:, :1], c.patch + 2 * reach, stride=c.patch)
        pixels = reaching.unflatten(1, (c.patch + 2 * reach,) * 2)
        # [N, k, k, blocks, block, blocks, block, patches]: pixel p + k of every pixel p of a patch
        shifted = pixels.unfold(1, c.patch, 1).unfold(2, c.patch, 1).permute(0, 1, 2, 4, 5, 3)
        shifted = shifted.unflatten(4, (blocks, c.block)).unflatten(3, (blocks, c.block))
        moved = (weights * shifted).sum((1, 2))
        others = weights.sum((1, 2)) - weights[:, reach, reach]
        here = patches[:, :area].reshape_as(moved)
        y = y + (moved - here * others).reshape_as(y)
        return F.pixel_shuffle(y, c.patch)[:, 0, : c.height, : c.width]

    def _linear_of_patch(self) -> Tensor:
        """The linear part as one convolution per patch: a copy of its weights for every pixel of a
        patch, at that pixel's place, [patch², NUM_MAPS, patch + 2·reach, patch + 2·reach].
        """
        weight = F.pad(self.linear_weight[0].flatten(1), (0, 1))  # the last weight is zero
        patch, reach = self.config.patch, self.config.reach
        copies = weight.index_select(1, _places(patch, 2 * reach + 1).to(weight.device))
        side = patch + 2 * reach
        return copies.unflatten(1, (-1, side, side)).transpose(0, 1)

    def pack(self) -> None:
        """See `nn.conv_step.Packable`."""
        self._packed_linear = self._linear_of_patch()

    def loss(self, batch: FrameBatch, state: State | None) -> tuple[Tensor, State | None]:
        """Mean squared error of all next frames, in units of 1/100; those of the last `rollout`
        frames are predicted from predictions. Of the members the mean, each with its own
        predictions.
        """
        members = self.config.members
        states = [None] * members if state is None else split_state(state, members)
        total, after = batch.frames.new_zeros(()), []
        for one, before in zip(self.networks, states, strict=True):
            loss, own = one._first_loss(batch, before)
            total = total + loss
            after.append(own)
        return total / members, join_states(after)

    def _first_loss(self, batch: FrameBatch, state: State | None) -> tuple[Tensor, State]:
        """`loss` of the first network alone."""
        steps = batch.frames.shape[1] - 1 - batch.rollout
        y, after = self.first(batch.frames[:, :steps], state, reset=batch.reset[:, :steps])
        if batch.rollout:
            y = torch.cat([y, _rolled(self.first, y[:, -1], after, batch.rollout)[0]], 1)
        error = ((y - batch.frames[:, 1:]) ** 2).mean((2, 3))
        # The frame after the last one of a clip is that of another clip.
        known = (~batch.reset[:, 1:]).to(error.dtype)
        return 100 * (error * known).sum() / known.sum().clamp(min=1), after

    def loss_count(self, batch: FrameBatch) -> float:
        """See `Model`: the frames that `loss` compares."""
        return float((~batch.reset[:, 1:]).sum())

    def roll(self, frame: Tensor, state: State, count: int) -> tuple[Tensor, State]:
        """The `count` frames [B, count, …] after a predicted frame [B, …], by reading its own
        predictions, limited to 0 … 1; of several members the mean of theirs.
        """
        return _rolled(self, frame, state, count)

    def stepper(self, precision: str = "float32") -> ConvStepper:
        """See `Model`; an input is a frame as a row of height·width numbers."""
        return ConvStepper(self, (self.config.height * self.config.width,), precision)

    def random_inputs(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """See `Model`: brightness in 0 … 1."""
        return rng.random(shape, np.float32)

    def onnx_head(self) -> str:
        """See `Model`."""
        return "not for convolutional layers"

    def c_head(self) -> str:
        """See `Model`."""
        return "not for convolutional layers"


def _rolled(
    model: Callable[..., Any], frame: Tensor, state: State, count: int
) -> tuple[Tensor, State]:
    """See `FramePredictor.roll`, of a model as `FramePredictor.forward` or one of its networks."""
    frames = []
    for _ in range(count):
        y, state = model(frame[:, None].clamp(0, 1), state)
        frame = y[:, 0]
        frames.append(frame)
    return torch.stack(frames, 1), state


@cache
@torch.inference_mode(False)
def _places(patch: int, side: int) -> Tensor:
    """For pixel p of a patch and pixel q of its window of patch + side - 1 pixels to each side: the
    number of the weight of a side × side kernel at p that lies at q, side² where none does.
    [patch² · (patch + side - 1)²] int64.
    """
    shift = torch.arange(patch + side - 1) - torch.arange(patch)[:, None]  # of q from p, per axis
    down, right = shift[:, None, :, None], shift[None, :, None, :]
    within = (down >= 0) & (down < side) & (right >= 0) & (right < side)
    return torch.where(within, down * side + right, side**2).flatten()
