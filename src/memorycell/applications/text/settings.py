"""The settings of a language model."""

from __future__ import annotations

from dataclasses import dataclass

from memorycell.language.codec import UNITS
from memorycell.language.files import check_encoding
from memorycell.language.model import LanguageConfig
from memorycell.setting_fields import check_choices, check_counts

MAX_CHAR_EMBEDDING = 64
"""The default embedding size of the unit char, at most."""


@dataclass(frozen=True)
class TextSettings:
    """Settings of a language model of text.

    unit         char, word or piece (subwords, sentencepiece)
    vocabulary   maximum number of tokens
    encoding     of the files; by default UTF-8, or UTF-16 with a byte order mark
    lossy        accept data of which more than 5% cannot be used: yes or no
    valid        fraction of every text for validation, before the last 10%, which is for the test
    cell, hidden, layers   of the recurrent layers
    embedding    embedding size; by default `hidden`, for the unit char at most 64
    dropout, variational, weight_drop, embedding_dropout, noise, zoneout   probabilities, see
                 `LanguageConfig` and `ModelConfig`
    activation, slowness   weights of AR and TAR
    lanes, bptt  sequences per batch, and steps per batch, through which gradients flow back
    mix          mix the n-gram model of the training text in, where that is better on the
                 validation split: yes or no
    dynamic      learning rate of dynamic evaluation (Krause et al. 2018, arXiv:1709.07432), a
                 second test metric of a model that keeps learning from the test text; 0: off
    """

    unit: str = "char"
    vocabulary: int = 8000
    encoding: str | None = None
    lossy: bool = False
    valid: float = 0.05
    cell: str = "lstm"
    hidden: int = 256
    layers: int = 1
    embedding: int | None = None
    dropout: float = 0.1
    variational: float = 0.0
    weight_drop: float = 0.0
    embedding_dropout: float = 0.0
    noise: float = 0.0
    zoneout: float = 0.0
    activation: float = 0.0
    slowness: float = 0.0
    lanes: int = 16
    bptt: int = 64
    mix: bool = True
    dynamic: float = 0.0

    def __post_init__(self) -> None:
        check_encoding(self.encoding)
        check_choices(self, unit=UNITS)
        check_counts(self, "vocabulary", "hidden", "layers", "embedding", "lanes", "bptt")
        if not 0.001 <= self.valid <= 0.4:
            raise ValueError(f"valid={self.valid}: expected a fraction from 0.001 to 0.4")
        if not 0 <= self.dynamic < 10:
            raise ValueError(f"dynamic={self.dynamic}: expected a learning rate")
        self.model_config(10)  # checks the other settings

    def model_config(self, vocabulary: int) -> LanguageConfig:
        """The configuration of a model with these settings."""
        is_char = self.unit == "char"
        default_size = min(self.hidden, MAX_CHAR_EMBEDDING) if is_char else self.hidden
        return LanguageConfig(
            vocabulary=vocabulary,
            embedding_size=self.embedding or default_size,
            tied=not is_char,
            hidden_size=self.hidden,
            cell=self.cell,
            num_layers=self.layers,
            dropout=self.dropout,
            variational_dropout=self.variational,
            weight_drop=self.weight_drop,
            embedding_dropout=self.embedding_dropout,
            noise=self.noise,
            zoneout=self.zoneout,
            activation=self.activation,
            slowness=self.slowness,
        )
