"""The settings of a chat model."""

from __future__ import annotations

from dataclasses import dataclass

from memorycell.language.codec import UNITS
from memorycell.language.files import check_encoding
from memorycell.language.model import LanguageConfig
from memorycell.setting_fields import check_choices, check_counts


@dataclass(frozen=True)
class ChatSettings:
    """Settings of a language model of dialogues.

    unit         word, piece (subwords, sentencepiece) or char
    vocabulary   maximum number of tokens
    cell, hidden, layers, embedding   of the recurrent layers, and the embedding size
    dropout, variational, weight_drop, embedding_dropout, noise   probabilities, see
                 `LanguageConfig` and `ModelConfig`
    mix          mix the n-gram model of the dialogues in, where that is better on the validation
                 split: yes or no
    budget       tokens per batch, including padding
    encoding     of the files; by default UTF-8, or UTF-16 with a byte order mark
    lossy        accept data of which more than 5% cannot be used: yes or no
    """

    unit: str = "piece"
    vocabulary: int = 1200
    cell: str = "lstm"
    hidden: int = 256
    layers: int = 1
    embedding: int = 192
    dropout: float = 0.5
    variational: float = 0.3
    weight_drop: float = 0.5
    embedding_dropout: float = 0.1
    noise: float = 0.15
    mix: bool = True
    budget: int = 1500
    encoding: str | None = None
    lossy: bool = False

    def __post_init__(self) -> None:
        check_encoding(self.encoding)
        check_choices(self, unit=UNITS)
        check_counts(self, "vocabulary", "hidden", "layers", "embedding", "budget")
        self.model_config(10)  # checks the other settings

    def model_config(self, vocabulary: int) -> LanguageConfig:
        """The configuration of a model with these settings."""
        return LanguageConfig(
            vocabulary=vocabulary,
            embedding_size=self.embedding,
            tied=True,
            hidden_size=self.hidden,
            cell=self.cell,
            num_layers=self.layers,
            dropout=self.dropout,
            variational_dropout=self.variational,
            weight_drop=self.weight_drop,
            embedding_dropout=self.embedding_dropout,
            noise=self.noise,
        )
