"""Labels that are written in several ways."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from memorycell.applications.sentiment.examples import Examples, label_counts
from memorycell.errors import quote

MAX_LISTED = 12
"""Labels in a note."""


def unify_labels(
    splits: dict[str, Examples], known: Iterable[str] = ()
) -> tuple[dict[str, Examples], list[str]]:
    """(the examples with one spelling of each label, notes): labels that differ only in case and
    spaces are one label, written as most of its texts have it, or as one of the `known` labels.
    """
    counts = Counter(example.label for part in splits.values() for example in part)
    spelling: dict[str, str] = {}
    for label in [*known, *(label for label, _ in counts.most_common())]:
        spelling.setdefault(label_key(label), label)
    new = {label: spelling[label_key(label)] for label in counts if label not in set(known)}
    new = {label: other for label, other in new.items() if label != other}
    if not new:
        return splits, []
    changed = sum(counts[label] for label in new)
    some = ", ".join(
        f"{quote(label)} is {quote(other)}" for label, other in sorted(new.items())[:3]
    )
    note = f"{changed:,} texts: labels that differ only in case or spaces are one: {some}"
    return {
        split: [e._replace(label=new.get(e.label, e.label)) for e in part]
        for split, part in splits.items()
    }, [note]


def label_key(label: str) -> str:
    """Equal for labels that differ only in case and spaces."""
    return " ".join(label.split()).casefold()


def one_label(examples: dict[str, Examples], counts: dict[str, int]) -> str:
    """Why the training split has fewer than two labels."""
    label = quote(next(iter(counts), "none"))
    every = label_counts(e for part in examples.values() for e in part)
    others = ", ".join(quote(other) for other in list(every)[:3] if other not in counts)
    if len(every) < 2:
        return f"every text has the label {label}"
    if not counts:
        return f"no label is in the training split, of {len(examples['train']):,} texts ({others})"
    return f"every text of the training split has the label {label}; too few have {others}"


def label_list(counts: dict[str, int]) -> str:
    """The most frequent labels with their counts."""
    listed = [f"{quote(label)[1:-1]} {n:,}" for label, n in list(counts.items())[:MAX_LISTED]]
    more = len(counts) - len(listed)
    return ", ".join(listed) + (f" and {more:,} more" if more else "")
