"""The coverage of a search, and sampled segmentations."""

import itertools

import pytest
import torch

from memorycell.applications.translation.model import Translator, TranslatorConfig
from memorycell.applications.translation.search import MIN_COVERED, beam_search, check_search
from memorycell.language.codec import END_ID, fit_text_codec

SIZES = {"vocabulary": 5, "embedding_size": 6, "hidden_size": 8, "dropout": 0.0}
ALPHA, COVERAGE = 0.8, 0.7


@torch.no_grad()
def test_coverage_is_that_of_the_definition():
    torch.manual_seed(3)
    model = Translator(TranslatorConfig(**SIZES)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
        model.head.bias[END_ID] = -1.5  # so that translations have several tokens
    source, lengths = torch.randint(2, 5, (4, 12)), torch.tensor([12, 11, 9, 7])
    found = beam_search(model, source, lengths, width=3, alpha=ALPHA, coverage=COVERAGE)
    lengths_found = []
    for row, hypothesis in enumerate(found):
        tokens = hypothesis.tokens.tolist()
        lengths_found.append(len(tokens))
        only, length = source[row : row + 1, : lengths[row]], lengths[row : row + 1]
        logits, _, attention = model.decode(
            torch.tensor([[END_ID, *tokens]]), *model.encode(only, length)
        )
        log_p = logits[0].log_softmax(-1)
        log_p[:, 0] -= 1.0  # UNKNOWN_PENALTY
        targets = torch.tensor([*tokens, END_ID])
        total = float(log_p.gather(1, targets[:, None]).sum())
        covered = attention[0].sum(0).clamp(MIN_COVERED, 1)
        wanted = total / len(targets) ** ALPHA + COVERAGE * float(covered.log().sum())
        assert hypothesis.score == pytest.approx(wanted, abs=1e-4)
    assert max(lengths_found) > 1
    plain = beam_search(model, source, lengths, width=3, alpha=ALPHA)
    assert any(a.score != b.score for a, b in zip(found, plain, strict=True))
    with pytest.raises(ValueError, match="coverage=-1"):
        check_search(5, 1.0, -1)
    check_search(1, 0.0, 0.0)
    with pytest.raises(ValueError, match="beam=0"):
        check_search(0, 0.0)
    with pytest.raises(ValueError, match="alpha=-0.1"):
        check_search(1, -0.1)


def test_sampled_segmentations_spell_the_same_text():
    words = ["unhappiness", "happiness", "unhappy", "happy", "hap", "ness", "un"]
    texts = [" ".join(pair) for pair in itertools.permutations(words, 2)]
    codec = fit_text_codec(texts * 5, "piece", vocabulary=40)
    text = "unhappiness\nhappy ness"
    likely = codec.encode(text)
    sampled = [codec.encode_sampled(text, 0.1) for _ in range(30)]
    assert {codec.decode(tokens) for tokens in sampled} == {text}
    assert len({tuple(tokens) for tokens in sampled}) > 3
    assert codec.encode(text) == likely
