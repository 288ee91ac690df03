"""Negated phrases as additional training texts.

A treebank labels "boring" and few of its negations; models then read "never boring" by its second
word. Short phrases of a clear label are therefore also trained on with a negation before them and
the other label, and with neither, both in a sentence and alone.
"""

from __future__ import annotations

import random
import re

from memorycell.applications.sentiment.examples import Example, Examples

OPPOSITE = {"negative": "positive", "positive": "negative"}
MAX_WORDS, MIN_CONFIDENCE = 3, 0.75
"""Of a phrase that is negated."""
MAX_ADDED = 12_000
"""Negated phrases."""
CONFIDENCE = {"positive": 0.75, "negative": 0.85}
"""Of a negated phrase's label: "not bad" is little praise."""
NEGATIONS = (
    "not",
    "never",
    "isn't",
    "is not",
    "was not",
    "wasn't",
    "is never",
    "does not",
    "doesn't",
)
NEGATIONS_OF_BAD = ("far from", "without being", "no")
SUBJECTS = ("it", "the film", "this", "the acting", "that", "he")
NEGATED_VERBS = ("is not", "isn't", "was not", "wasn't", "is never", "was never")
NEGATION = re.compile(r"\b(?:no|not|never|without|hardly|nothing|neither|nor|none|\w+n't)\b", re.I)


def negated_examples(examples: Examples, seed: int = 0) -> Examples:
    """Negated and affirmed forms of the short phrases of training examples; none where the labels
    are others than negative and positive.
    """
    if not {e.label for e in examples} <= set(OPPOSITE):
        return []
    phrases = [
        e
        for e in dict.fromkeys(examples)
        if len(e.text.split()) <= MAX_WORDS
        and e.confidence >= MIN_CONFIDENCE
        and re.search(r"[^\W\d_]{3}", e.text)
        and not NEGATION.search(e.text)
    ]
    draw = random.Random(seed)
    draw.shuffle(phrases)
    added: Examples = []
    for e in phrases[:MAX_ADDED]:
        phrase, label = e.text.strip(" .,;:").lower(), OPPOSITE[e.label]
        bad = NEGATIONS_OF_BAD if e.label == "negative" else ()
        if draw.random() < 0.5:
            negated = f"{draw.choice((*NEGATIONS, *bad))} {phrase}"
        else:
            negated = f"{draw.choice(SUBJECTS)} {draw.choice(NEGATED_VERBS)} {phrase}."
            added.append(Example(f"{draw.choice(SUBJECTS)} is {phrase}.", e.label, e.confidence))
        added.append(Example(negated, label, CONFIDENCE[label]))
    return added
