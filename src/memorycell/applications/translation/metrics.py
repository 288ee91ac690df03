"""Metrics of translations, by sacrebleu (Post 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from memorycell.application.contract import Metrics

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF


def translation_metrics(translations: Sequence[str], references: Sequence[str]) -> Metrics:
    """chrf: chrF++ (Popović 2017); bleu (Papineni et al. 2002); both 0 to 100."""
    chrf, bleu = _scorers()
    return {
        "chrf": chrf.corpus_score(translations, [references]).score,
        "bleu": bleu.corpus_score(translations, [references]).score,
    }


def sentence_chrf(translations: Sequence[str], references: Sequence[str]) -> list[float]:
    """ChrF++ of each translation."""
    chrf, _ = _scorers()
    return [
        chrf.sentence_score(text, [reference]).score
        for text, reference in zip(translations, references, strict=True)
    ]


def metric_signatures() -> dict[str, str]:
    """Metric -> sacrebleu's signature, which identifies its parameters and version."""
    chrf, bleu = _scorers()
    for scorer in (chrf, bleu):
        scorer.corpus_score(["a"], [["a"]])  # the signature is complete after a first score
    return {"chrf": str(chrf.get_signature()), "bleu": str(bleu.get_signature())}


def _scorers() -> tuple[CHRF, BLEU]:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    return CHRF(word_order=2), BLEU()
