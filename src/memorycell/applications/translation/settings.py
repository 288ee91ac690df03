"""The settings of a translator."""

from __future__ import annotations

from dataclasses import dataclass

from memorycell.applications.translation.model import TranslatorConfig
from memorycell.applications.translation.search import check_search
from memorycell.errors import quote
from memorycell.language.codec import UNITS
from memorycell.language.files import check_encoding
from memorycell.setting_fields import check_choices, check_counts


@dataclass(frozen=True)
class TranslationSettings:
    """Settings of a translator.

    languages    source,target, such as de,en (or de-en): the suffixes of aligned files, or columns
                 of a table by name, language or number
    encoding     of text files; by default UTF-8, or UTF-16 with a byte order mark
    sheet        of a workbook; by default the first
    lossy        accept data of which more than 5% cannot be used: yes or no
    unit         piece (subwords, sentencepiece), word or char
    vocabulary   maximum number of tokens, per language where the vocabularies are separate
    joint        one vocabulary for both languages: yes, no, or auto: where they share their letters
    cell, hidden, layers, embedding   of the recurrent layers, and the embedding size
    dropout, embedding_dropout, weight_drop, smoothing   probabilities, see `TranslatorConfig` and
                 `ModelConfig`
    sampling     other segmentations of words in every epoch (subword regularisation): the power of
                 their probabilities, such as 0.2; 0: the likeliest always
    balance      of several sets joined by +: their shares of an epoch are in proportion to their
                 sizes to this power, by repeating the smaller ones; 1: no pair is repeated
    budget       tokens per batch, of both languages and including padding
    memory       give the translation of the nearest training sentence, from the similarity that is
                 best on the validation split: yes or no
    beam, alpha, coverage   of the search in evaluation, see `beam_search`
    """

    languages: str | None = None
    encoding: str | None = None
    sheet: str | None = None
    lossy: bool = False
    unit: str = "piece"
    vocabulary: int = 4000
    joint: str = "auto"
    cell: str = "lstm"
    hidden: int = 256
    layers: int = 1
    embedding: int = 256
    dropout: float = 0.2
    embedding_dropout: float = 0.0
    weight_drop: float = 0.0
    smoothing: float = 0.1
    sampling: float = 0.0
    balance: float = 0.5
    budget: int = 1600
    memory: bool = True
    beam: int = 5
    alpha: float = 1.0
    coverage: float = 0.0

    def __post_init__(self) -> None:
        check_choices(self, unit=UNITS, joint=("auto", "yes", "no"))
        check_counts(self, "vocabulary", "hidden", "layers", "embedding", "budget")
        check_encoding(self.encoding)
        check_search(self.beam, self.alpha, self.coverage)
        if self.languages is not None and self.language_pair is None:
            raise ValueError(
                f"languages={quote(self.languages)}: expected source,target, such as de,en"
            )
        if not 0 <= self.sampling <= 10:
            raise ValueError(f"sampling={self.sampling}: expected 0 to 10")
        if not 0 <= self.balance <= 1:
            raise ValueError(f"balance={self.balance}: expected 0 to 1")
        self.model_config(10, 0)  # checks the other settings

    def model_config(self, vocabulary: int, source_vocabulary: int) -> TranslatorConfig:
        """The configuration of a model with these settings."""
        return TranslatorConfig(
            vocabulary=vocabulary,
            source_vocabulary=source_vocabulary,
            embedding_size=self.embedding,
            hidden_size=self.hidden,
            cell=self.cell,
            num_layers=self.layers,
            dropout=self.dropout,
            embedding_dropout=self.embedding_dropout,
            weight_drop=self.weight_drop,
            smoothing=self.smoothing,
        )

    @property
    def language_pair(self) -> tuple[str, str] | None:
        """(source, target); None if `languages` is not set, or is not a pair."""
        languages = self.languages or ""
        parts = [part.strip() for part in languages.split("," if "," in languages else "-")]
        if len(parts) != 2 or not all(parts) or parts[0] == parts[1]:
            return None
        return parts[0], parts[1]
