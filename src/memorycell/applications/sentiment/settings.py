"""The settings of a text classifier."""

from __future__ import annotations

from dataclasses import dataclass

from memorycell.language.files import check_encoding
from memorycell.models.classifier import ClassifierConfig
from memorycell.models.pooling import POOLINGS
from memorycell.setting_fields import check_choices, check_counts


@dataclass(frozen=True)
class SentimentSettings:
    """Settings of a text classifier.

    text, label  columns of the table; by default recognised by name, or by their contents
    encoding     of text files; by default UTF-8, or UTF-16 with a byte order mark
    sheet        of a workbook; by default the first
    lossy        accept data of which more than 5% cannot be used: yes or no
    trees        of the Stanford treebank: binary (without neutral sentences; neutral phrases are
                 half of each class) or five classes
    unit         word, piece (subwords, sentencepiece) or char
    vocabulary   maximum number of tokens
    direction    both (bidirectional), or forward, which can also run live
    pooling      over time: attention, max or last
    pairs        add a linear model of words and pairs of words: yes or no
    mix          mix the labels of the TF-IDF baseline in, where that is better on the validation
                 split: yes or no
    negations    also train on negations of short phrases with the other label, where the labels are
                 negative and positive, as in the treebank: yes or no
    balance      weight rare classes higher: yes, no, or auto: where one class is more than 1.5
                 times as frequent as another
    start        a model file of the task text; its codec, embedding and layers are the initial
                 ones, and the direction is forward
    cell, hidden, layers, embedding   of the recurrent layers, and the embedding size
    dropout, embedding_dropout, word_dropout, weight_drop, smoothing   probabilities, see
                 `ClassifierConfig` and `ModelConfig`
    unknown      texts of none of the labels: other labels, as names or patterns, or text files with
                 a text per line, separated by commas, such as "sport,german.txt"; a third is
                 trained on as none of the labels, a third sets the probability below which the
                 answer is "unknown", a third measures it
    false_acceptance   share of the second third's texts that may get a label all the same
    members      networks that are trained together, whose probabilities are averaged
    budget       steps per batch, including padding
    """

    text: str | None = None
    label: str | None = None
    encoding: str | None = None
    sheet: str | None = None
    lossy: bool = False
    trees: str = "binary"
    unit: str = "word"
    vocabulary: int = 20_000
    direction: str = "both"
    pooling: str = "attention"
    pairs: bool = True
    mix: bool = True
    negations: bool = True
    balance: str = "auto"
    start: str | None = None
    cell: str = "lstm"
    hidden: int = 128
    layers: int = 1
    embedding: int = 128
    dropout: float = 0.5
    embedding_dropout: float = 0.0
    word_dropout: float = 0.1
    weight_drop: float = 0.0
    smoothing: float = 0.0
    unknown: str | None = None
    false_acceptance: float = 0.05
    members: int = 1
    budget: int = 4000

    def __post_init__(self) -> None:
        check_encoding(self.encoding)
        check_choices(
            self,
            direction=("both", "forward"),
            pooling=POOLINGS,
            balance=("auto", "yes", "no"),
            trees=("binary", "five"),
            unit=("word", "piece", "char"),
        )
        check_counts(self, "vocabulary", "hidden", "layers", "embedding", "budget")
        if not 0 < self.false_acceptance < 1:
            raise ValueError(f"false_acceptance={self.false_acceptance}: expected 0 to 1")
        self.model_config(10, 2)  # checks the other settings

    def model_config(self, vocabulary: int, classes: int) -> ClassifierConfig:
        """The configuration of a model with these settings."""
        return ClassifierConfig(
            vocabulary=vocabulary,
            input_size=self.embedding,
            classes=classes,
            pooling=self.pooling,
            pairs=self.pairs,
            bidirectional=self.direction == "both",
            hidden_size=self.hidden,
            cell=self.cell,
            num_layers=self.layers,
            dropout=self.dropout,
            embedding_dropout=self.embedding_dropout,
            word_dropout=self.word_dropout,
            weight_drop=self.weight_drop,
            smoothing=self.smoothing,
            members=self.members,
        )
