"""Labels that are written in several ways."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from memorycell.applications.sentiment.examples import Examples
from memorycell.errors import quote


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
