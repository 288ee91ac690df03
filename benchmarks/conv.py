"""Forward pass of ConvLSTM compared with plain PyTorch loops over the same convolutions, one core.

    python benchmarks/conv.py [--smoke]

Two loops, with the activations of the equations: one convolution of [x_t, h_{t-1}] per step, and
the convolution of all x_t at once followed by one of h_{t-1} per step. Their outputs are compared
with the layer's first. Then the three take turns in one process, and the ratio is that of the
quicker loop's median processor time to the layer's: above 1 the layer is quicker.

Last, a live frame of the video model for 72 x 96 pixels (`pedestrians`), from pixels to the next
frame through `Stream`: minimum and median, with 24 (docs/video.md) and 48 channels (the default).
The frames are compared with those of the complete sequence first. Weights are random.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from memorycell.applications.video.model import FrameConfig, FramePredictor
from memorycell.nn.conv import ConvLSTM
from memorycell.streaming.stream import Stream

# (steps, batch, channels of the input, channels of the state, height, width, side of the kernel)
SHAPES = (
    (7, 1, 32, 48, 18, 24, 3),
    (11, 3, 5, 17, 13, 19, 3),
    (9, 16, 32, 24, 8, 8, 3),
    (5, 2, 3, 33, 31, 29, 5),
    (21, 1, 1, 7, 9, 11, 3),
    (3, 5, 64, 64, 15, 17, 1),
)
SMOKE_SHAPES = ((3, 2, 3, 5, 7, 9, 3),)
ROUNDS, SECONDS = 15, 0.02
TOLERANCE = 1e-5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="one round of one small shape")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print("steps batch input state grid     kernel  layer ms  joint  separate  ratio")
    for shape in SMOKE_SHAPES if options.smoke else SHAPES:
        measure(*shape, rounds=1 if options.smoke else ROUNDS)
    for channels in (24, 48):
        live_frame(channels, frames=4 if options.smoke else 400)


@torch.inference_mode()
def measure(
    steps: int, batch: int, inputs: int, size: int, height: int, width: int, side: int, rounds: int
) -> None:
    """Print one line: median milliseconds of the layer and of the loops, and the ratio."""
    layer = ConvLSTM(inputs, size, side, forget_bias=1.0)
    x = torch.randn(steps, batch, inputs, height, width)
    methods: list[Callable[[], Tensor]] = [
        lambda: layer(x)[0],
        lambda: joint_loop(layer, x),
        lambda: separate_loop(layer, x),
    ]
    expected = methods[0]()
    for method in methods[1:]:
        difference = float((method() - expected).abs().max())
        assert difference <= TOLERANCE, f"outputs differ by {difference}"
    start = time.process_time()
    methods[0]()
    repeats = 1 + int(SECONDS / max(time.process_time() - start, 1e-4))
    times: list[list[float]] = [[] for _ in methods]
    for _ in range(rounds):
        for method, taken in zip(methods, times, strict=True):
            start = time.process_time()
            for _ in range(repeats):
                method()
            taken.append((time.process_time() - start) / repeats * 1e3)
    ours, joint, separate = map(statistics.median, times)
    print(
        f"{steps:5} {batch:5} {inputs:5} {size:5} {f'{height} x {width}':9} {side:5}"
        f" {ours:9.3f} {joint:6.3f} {separate:9.3f} {min(joint, separate) / ours:6.2f}"
    )


@torch.inference_mode()
def live_frame(channels: int, frames: int) -> None:
    """Print one line: processor milliseconds of a step of the video model."""
    model = FramePredictor(FrameConfig(height=72, width=96, hidden_size=channels)).eval()
    for parameter in model.parameters():
        parameter.normal_(std=0.02)
    stream = Stream(model, history=0)
    x = torch.rand(8, 72 * 96)
    expected = model(x[None])[0][0]
    for frame, next_frame in zip(x.numpy(), expected.numpy(), strict=True):
        difference = float(np.abs(stream.step(frame) - next_frame).max())
        assert difference <= TOLERANCE, f"frames differ by {difference}"
    times = []
    for k in range(frames):
        start = time.process_time()
        stream.step(x[k % 8].numpy())
        times.append((time.process_time() - start) * 1e3)
    print(
        f"live frame 72 x 96, {channels} channels: {min(times):.2f} ms minimum,"
        f" {statistics.median(times):.2f} ms median"
    )


def joint_loop(layer: ConvLSTM, x: Tensor) -> Tensor:
    """[T, B, C, height, width], with one convolution per step."""
    weight = torch.cat([layer.weight_ih_l0, layer.weight_hh_l0], 1)
    bias = layer.bias_ih_l0 + layer.bias_hh_l0
    h = c = x.new_zeros(x.shape[1], layer.hidden_size, *x.shape[3:])
    outputs = []
    for x_t in x:
        pre = F.conv2d(torch.cat([x_t, h], 1), weight, bias, padding=layer.kernel_size[0] // 2)
        h, c = gates(pre, c)
        outputs.append(h)
    return torch.stack(outputs)


def separate_loop(layer: ConvLSTM, x: Tensor) -> Tensor:
    """[T, B, C, height, width], with the convolution of the input for all steps at once."""
    margin = layer.kernel_size[0] // 2
    bias = layer.bias_ih_l0 + layer.bias_hh_l0
    parts = F.conv2d(x.flatten(0, 1), layer.weight_ih_l0, bias, padding=margin)
    h = c = x.new_zeros(x.shape[1], layer.hidden_size, *x.shape[3:])
    outputs = []
    for part in parts.unflatten(0, x.shape[:2]):
        h, c = gates(part + F.conv2d(h, layer.weight_hh_l0, padding=margin), c)
        outputs.append(h)
    return torch.stack(outputs)


def gates(pre: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """(h, c) after a step."""
    i, f, g, o = pre.chunk(4, 1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


if __name__ == "__main__":
    main()
