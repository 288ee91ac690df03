"""Complete replies compared with references and with simpler ways to reply."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from memorycell.application.contract import ModelFile, Record
from memorycell.applications.chat.dialogues import Dialogue, first_message
from memorycell.applications.chat.limits import Limits, unsure_limits
from memorycell.applications.chat.replies import PredictOptions, ScoredReply, best_reply
from memorycell.applications.chat.session import ChatSession
from memorycell.language.codec import TextCodec
from memorycell.language.model import LanguageModel
from memorycell.language.nearest import NEVER, NearestText, choose_threshold, reply_scores

NUM_FITTED, NUM_COMPARED, NUM_EXAMPLES, NUM_SHUFFLED = 300, 100, 20, 40
GREEDY = PredictOptions(beam=0, temperature=0.0, nearest=False)
OWN = PredictOptions(nearest=False)
WEIGHTS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8)
"""Of `mmi`, to choose from."""
MORE_DIVERSE, NUM_ERRORS = 2.5, 2.0
"""Times the distinct pairs of words of the most likely tokens that replies are to have, and the
standard errors that their chrF may be lower by.
"""

File = ModelFile[LanguageModel, TextCodec]


def fit_limits(
    file: File, valid: Sequence[Dialogue], pairs: Sequence[tuple[str, str]]
) -> tuple[Limits, list[str]]:
    """(the limits on validation dialogues, notes on them); the pairs are those to remember."""
    chosen = chosen_dialogues(valid, NUM_FITTED)
    wanted = [_wanted(turns) for turns in chosen]
    greedy = [reply_to_first(file, turns, GREEDY)["reply"] for turns in chosen]
    found = [_session(file, turns).candidates(_message(turns), OWN) for turns in chosen]
    mmi, weighed = choose_weight([c for _, c in found], greedy, wanted)
    memory = ModelFile(file.model, file.codec, file.info, Limits(similarity=0.0).arrays(pairs))
    near = [reply_to_first(memory, turns, replace(GREEDY, nearest=True)) for turns in chosen]
    own = [best_of(candidates, mmi) for _, candidates in found]
    # A larger weight gives up closeness for diversity, which must not make the memory win.
    ours = reply_scores([best_of(c, WEIGHTS[0])[0] for _, c in found], wanted)
    theirs = reply_scores([r["reply"] for r in near], wanted)
    similarity = choose_threshold([r.get("similarity", 0.0) for r in near], ours, theirs)
    p, nats = [math.exp(reply.log_p) for _, reply in own], [n for n, _ in found]
    min_p, max_nats = unsure_limits(p, nats)
    limits = Limits(similarity, min_p, max_nats, mmi)
    weighted = replace(OWN, mmi=mmi)
    strange = [ChatSession(file).say(text, weighted) for text in _shuffled(chosen)]
    shares = [
        float(np.mean([a < min_p or b > max_nats for a, b in measured]))
        for measured in (zip(p, nats, strict=True), ((r["p"], r["nats"]) for r in strange))
    ]
    use = (
        "not used"
        if similarity >= NEVER
        else f"given from a similarity of {similarity:g} (nearest=no: never)"
    )
    return limits, [
        weighed,
        f"replies on validation, chrF: own with mmi={WEIGHTS[0]:g} {np.mean(ours):.1f}, nearest"
        f" message's {np.mean(theirs):.1f}, which is {use}",
        f"unsure: {shares[0]:.0%} of the replies to held-out messages, {shares[1]:.0%} of those to"
        " their words in random order",
    ]


def choose_weight(
    found: Sequence[Sequence[tuple[str, ScoredReply]]],
    greedy: Sequence[str],
    wanted: Sequence[str],
) -> tuple[float, str]:
    """(the weight `mmi`, a note): the first of `WEIGHTS` whose replies are `MORE_DIVERSE` than the
    most likely tokens, by distinct pairs of words; where none is, the most diverse one. Those
    whose chrF is significantly lower are left out, except for the first.

    found   for each message the texts and scores to choose from
    """
    likely, enough = np.array(reply_scores(greedy, wanted)), MORE_DIVERSE * distinct_2(greedy)
    best, best_distinct, best_chrf = WEIGHTS[0], -1.0, 0.0
    for mmi in WEIGHTS:
        texts = [best_of(candidates, mmi)[0] for candidates in found]
        scores, distinct = np.array(reply_scores(texts, wanted)), distinct_2(texts)
        gain = scores - likely
        is_close = gain.mean() >= -NUM_ERRORS * gain.std() / math.sqrt(len(gain))
        if mmi == WEIGHTS[0] or (is_close and distinct > best_distinct):
            best, best_distinct, best_chrf = mmi, distinct, float(scores.mean())
        if best_distinct >= enough:
            break
    return best, (
        f"mmi={best:g}, chosen on validation: chrF {best_chrf:.1f}, distinct-2 {best_distinct:.3f};"
        f" the most likely tokens: {likely.mean():.1f}, {distinct_2(greedy):.3f}"
    )


def best_of(candidates: Sequence[tuple[str, ScoredReply]], mmi: float) -> tuple[str, ScoredReply]:
    """The text and the scores of the best candidate, see `best_reply`."""
    best = best_reply([reply for _, reply in candidates], mmi)
    return next(candidate for candidate in candidates if candidate[1] is best)


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
        replies["nearest_"] = nearest.answers([_message(turns) for turns in chosen])
    result: dict[str, Any] = {}
    for name, texts in replies.items():
        result[f"{name}chrf"] = round(float(np.mean(reply_scores(texts, wanted))), 2)
        result[f"{name}distinct_2"] = round(distinct_2(texts), 4)
    result["unsure"] = round(float(np.mean([r["unsure"] for r in records])), 4)
    examples = [
        {"source": _message(turns), "ours": record["reply"], "wanted": reference}
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


def chosen_dialogues(dialogues: Sequence[Dialogue], count: int = NUM_COMPARED) -> list[Dialogue]:
    """Up to `count` dialogues in an order of a fixed seed."""
    order = np.random.default_rng(0).permutation(len(dialogues))[:count]
    return [dialogues[k] for k in order]


def reply_to_first(file: File, turns: Dialogue, options: PredictOptions) -> dict[str, Any]:
    """The model's reply to the user's first turn, after the greeting if there is one."""
    return _session(file, turns).say(_message(turns), options)


def _session(file: File, turns: Dialogue) -> ChatSession:
    """A session that waits for the user's first turn."""
    session = ChatSession(file)
    if first_message(turns):
        session.read_reply(turns[1])
    return session


def _message(turns: Dialogue) -> str:
    return turns[first_message(turns)]


def _wanted(turns: Dialogue) -> str:
    return turns[first_message(turns) + 1]


def _shuffled(dialogues: Sequence[Dialogue]) -> list[str]:
    """Messages of the words of first turns in random order."""
    words = " ".join(turns[first_message(turns)] for turns in dialogues).split()
    order = np.random.default_rng(0).permutation(len(words))
    shuffled = [words[k] for k in order]
    return [" ".join(shuffled[k : k + 6]) for k in range(0, len(shuffled), 6)][:NUM_SHUFFLED]
