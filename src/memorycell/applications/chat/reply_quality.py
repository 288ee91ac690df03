"""Complete replies compared with references and with simpler ways to reply."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from memorycell.application.contract import ModelFile, Record
from memorycell.applications.chat.dialogues import Dialogue, first_message
from memorycell.applications.chat.limits import Limits, unsure_limits
from memorycell.applications.chat.replies import PredictOptions
from memorycell.applications.chat.session import ChatSession
from memorycell.language.codec import TextCodec
from memorycell.language.model import LanguageModel
from memorycell.language.nearest import NEVER, NearestText, choose_threshold, reply_scores

NUM_COMPARED, NUM_EXAMPLES, NUM_SHUFFLED = 100, 20, 40
GREEDY = PredictOptions(beam=0, temperature=0.0, nearest=False)
OWN = PredictOptions(nearest=False)

File = ModelFile[LanguageModel, TextCodec]


def fit_limits(
    file: File, valid: Sequence[Dialogue], pairs: Sequence[tuple[str, str]]
) -> tuple[Limits, list[str]]:
    """(the limits on validation dialogues, notes on them); the pairs are those to remember."""
    chosen = chosen_dialogues(valid)
    own = [reply_to_first(file, turns, OWN) for turns in chosen]
    wanted = [_wanted(turns) for turns in chosen]
    nearest = NearestText([s for s, _ in pairs], [t for _, t in pairs], "word")
    found = nearest.find([turns[first_message(turns)] for turns in chosen])
    ours = reply_scores([r["reply"] for r in own], wanted)
    theirs = reply_scores([reply for _, reply in found], wanted)
    similarity = choose_threshold([s for s, _ in found], ours, theirs)
    min_p, max_nats = unsure_limits([r["p"] for r in own], [r["nats"] for r in own])
    limits = Limits(similarity, min_p, max_nats)
    strange = [ChatSession(file).say(text, OWN) for text in _shuffled(chosen)]
    shares = [
        float(np.mean([r["p"] < min_p or r["nats"] > max_nats for r in records]))
        for records in (own, strange)
    ]
    use = (
        "not used"
        if similarity >= NEVER
        else f"given from a similarity of {similarity:g} (nearest=no: never)"
    )
    return limits, [
        f"replies on validation, chrF: own {np.mean(ours):.1f}, nearest message's"
        f" {np.mean(theirs):.1f}, which is {use}",
        f"unsure: {shares[0]:.0%} of the replies to held-out messages, {shares[1]:.0%} of those to"
        " their words in random order",
    ]


def compare_replies(
    file: File, dialogues: Sequence[Dialogue], nearest: NearestText | None
) -> Record:
    """`{"replies": {metric: value}, "examples"}`: chrF with the references, and the share of
    distinct pairs of words (distinct-2, Li et al. 2016), also of the most likely tokens one by one
    ("greedy") and of the nearest training message's reply.
    """
    chosen = chosen_dialogues(dialogues)
    wanted = [_wanted(turns) for turns in chosen]
    records = [reply_to_first(file, turns, PredictOptions()) for turns in chosen]
    replies = {
        "": [r["reply"] for r in records],
        "greedy_": [reply_to_first(file, turns, GREEDY)["reply"] for turns in chosen],
    }
    if nearest is not None:
        replies["nearest_"] = nearest.answers([turns[first_message(turns)] for turns in chosen])
    result: dict[str, Any] = {}
    for name, texts in replies.items():
        result[f"{name}chrf"] = round(float(np.mean(reply_scores(texts, wanted))), 2)
        result[f"{name}distinct_2"] = round(distinct_2(texts), 4)
    result["unsure"] = round(float(np.mean([r["unsure"] for r in records])), 4)
    examples = [
        {"source": turns[first_message(turns)], "ours": record["reply"], "wanted": reference}
        for turns, record, reference in zip(chosen, records, wanted, strict=True)
    ]
    return {"replies": result, "examples": examples[:NUM_EXAMPLES]}


def render_details(result: dict[str, Any]) -> list[str]:
    """See `Application`."""
    r = result.get("replies")
    if not r:
        return []
    lines = [
        "replies to first turns       chrF  distinct-2",
        f"memorycell                 {r['chrf']:6.1f}  {r['distinct_2']:10.3f}",
        f"most likely tokens         {r['greedy_chrf']:6.1f}  {r['greedy_distinct_2']:10.3f}",
    ]
    if "nearest_chrf" in r:
        lines.append(
            f"nearest training message   {r['nearest_chrf']:6.1f}  {r['nearest_distinct_2']:10.3f}"
        )
    return ["\n".join(lines), f"unsure of {r['unsure']:.0%} of the replies"]


def distinct_2(texts: Iterable[str]) -> float:
    """Distinct pairs of successive words over all pairs."""
    words = [text.lower().split() for text in texts]
    pairs = [pair for w in words for pair in itertools.pairwise(w)]
    return len(set(pairs)) / max(len(pairs), 1)


def chosen_dialogues(dialogues: Sequence[Dialogue]) -> list[Dialogue]:
    """Up to `NUM_COMPARED` dialogues in an order of a fixed seed."""
    order = np.random.default_rng(0).permutation(len(dialogues))[:NUM_COMPARED]
    return [dialogues[k] for k in order]


def reply_to_first(file: File, turns: Dialogue, options: PredictOptions) -> dict[str, Any]:
    """The model's reply to the user's first turn, after the greeting if there is one."""
    session, k = ChatSession(file), first_message(turns)
    if k:
        session.read_reply(turns[1])
    return session.say(turns[k], options)


def _wanted(turns: Dialogue) -> str:
    return turns[first_message(turns) + 1]


def _shuffled(dialogues: Sequence[Dialogue]) -> list[str]:
    """Messages of the words of first turns in random order."""
    words = " ".join(turns[first_message(turns)] for turns in dialogues).split()
    order = np.random.default_rng(0).permutation(len(words))
    shuffled = [words[k] for k in order]
    return [" ".join(shuffled[k : k + 6]) for k in range(0, len(shuffled), 6)][:NUM_SHUFFLED]
