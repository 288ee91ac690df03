"""How a model is trained: the settings that all applications share."""

from __future__ import annotations

from dataclasses import dataclass

from memorycell.setting_fields import check_choices, check_ranges


@dataclass(frozen=True)
class TrainSettings:
    """How a model is trained, for every application. Change one with --set key=value.

    epochs      passes over the training data; by default 24, or enough for 400 steps (at most 200);
                with --minutes, as many as fit
    steps       updates to train for, instead of epochs; the learning rate reaches zero with them.
                Many tasks have a number of their own; with --minutes as well, those are the limit
    lr          peak learning rate of AdamW (Loshchilov & Hutter 2017, arXiv:1711.05101): linear
                warm-up over the first epoch, cosine decay over the rest
    clip        maximum gradient norm (Pascanu et al. 2012, arXiv:1211.5063)
    precision   of the products in training: float32, or bfloat16 with states, sums and weights in
                float32; auto: bfloat16 where the processor multiplies it
    average     decay of the moving average of the weights, which is evaluated and saved
    patience    epochs without a better validation metric before training stops; by default a third
                of the epochs
    """

    epochs: int | None = None
    steps: int | None = None
    lr: float = 4e-3
    weight_decay: float = 0.01
    clip: float = 1.0
    average: float = 0.99
    patience: int | None = None
    precision: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        check_choices(self, precision=("float32", "bfloat16", "auto"))
        check_ranges(
            self,
            epochs=(1, 100_000),
            steps=(1, 1_000_000_000),
            lr=(1e-9, 10),
            weight_decay=(0, 1000),
            clip=(1e-6, 1e6),
            average=(0, 0.999999),
            patience=(1, 100_000),
            seed=(0, 2**32 - 1),
        )
        if self.epochs is not None and self.steps is not None:
            raise ValueError(f"steps={self.steps}: leave out epochs or steps")
