"""The linear model in a model file, and the mixture of a network with it."""

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from memorycell.applications.sentiment.baselines import INVERSE_PENALTIES, TfIdf
from memorycell.applications.sentiment.mixing import WEIGHTS, Mixture, fit_mixture
from memorycell.errors import ModelFileError

TEXTS = ["a good film", "good fun!", "a bad film", "so bad, so dull", "fine fun", "dull film"]
TRUTH = np.array([1, 1, 0, 0, 1, 0])


@pytest.mark.parametrize("truth", [TRUTH, np.array([1, 1, 0, 0, 2, 2])])
def test_probabilities_are_those_of_scikit_learn(truth):
    ours = TfIdf(TEXTS, truth, TEXTS, truth)
    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\b\w+(?:'\w+)?\b|[!?]"
    )
    x = vectorizer.fit_transform(TEXTS)
    models = [LogisticRegression(C=c, max_iter=300).fit(x, truth) for c in INVERSE_PENALTIES]
    best = max(models, key=lambda model: model.score(x, truth))
    new = ["a good bad film", "zebra", ""]
    wanted = best.predict_log_proba(vectorizer.transform(new))
    np.testing.assert_allclose(ours.log_probabilities(new), wanted, rtol=1e-9)
    again = TfIdf.of(ours.arrays())
    np.testing.assert_allclose(again.log_probabilities(new), wanted, rtol=1e-5)


def test_damaged_linear_models_are_refused():
    arrays = {**Mixture(0.2, TfIdf(TEXTS, TRUTH, TEXTS, TRUTH)).arrays()}
    assert Mixture.of(arrays).weight == pytest.approx(0.2)
    for name, value in (
        ("tfidf.terms", arrays["tfidf.terms"][:-5]),
        ("tfidf.idf", arrays["tfidf.idf"][1:]),
        ("tfidf.bias", torch.zeros(3)),
    ):
        with pytest.raises(ModelFileError, match="linear model of the classifier is damaged"):
            Mixture.of({**arrays, name: value})
    with pytest.raises(ModelFileError, match="mixture"):
        Mixture.of({**arrays, "mixture": torch.tensor([2.0])})
    missing = {name: value for name, value in arrays.items() if name != "tfidf.weight"}
    with pytest.raises(ModelFileError, match="damaged"):
        Mixture.of(missing)
    three = np.full((1, 3), 1 / 3)
    with pytest.raises(ModelFileError, match="other classes"):
        Mixture.of(arrays).mix(three, ["a"])


def test_the_weight_has_the_lowest_log_loss():
    linear = TfIdf(TEXTS, TRUTH, TEXTS, TRUTH)
    rng = np.random.default_rng(0)
    second = rng.random(len(TEXTS))
    p = np.stack([1 - second, second], 1)
    mixture, note = fit_mixture(linear, p, TEXTS, TRUTH)
    by_linear = np.exp(linear.log_probabilities(TEXTS))
    losses = [
        -np.log(((1 - w) * p + w * by_linear)[np.arange(len(p)), TRUTH]).mean() for w in WEIGHTS
    ]
    assert mixture.weight == WEIGHTS[int(np.argmin(losses))] > 0
    assert f"mixed {min(losses):.4f}" in note
    perfect = np.eye(2)[TRUTH] * 0.998 + 0.001
    mixture, note = fit_mixture(linear, perfect, TEXTS, TRUTH)
    assert mixture.weight == 0
    assert mixture.arrays() == {}
    assert note.startswith("not mixed")
