"""Saved speech sessions: a changed field is refused, and the session is unchanged."""

import json

import numpy as np
import pytest
from signal_data import RATE, letter_tones

from memorycell.application import modelfile
from memorycell.applications.speech.session import SpeechSession
from memorycell.errors import StateError
from memorycell.state import State

CHANGES = {
    "ear": [None, {}, {"samples": [], "frames": [], "heard": []}],
    "letters": [[[1, 2]], [[0, 0, 1, 0.5]], [[10**6, 0, 1, 0.5]], [[3, 5, 2, 0.5]], "x"],
    "last": [-1, 10**9, "a", None],
    "steps": [-1, 1.5, "2", 1 << 60],
    "begin": [-1, 10**12],
    "finished": [[1], "words", None],
    "partial": [3, None],
    "log_p": [[0.5], "x", None],
    "level": [[0.0, 1.0, 2.0], [0.0, 1.0, -1.0, 0.0], [0.0, 1.0, 1.0, 7.0], [1e300, 0.0, 0.0, 0.0]],
}


@pytest.mark.parametrize("name", CHANGES)
def test_changed_states_are_refused(spelling_model, name):
    session = SpeechSession(modelfile.load(spelling_model[1]))
    session.feed_samples(letter_tones("bad cab", np.random.default_rng(8))[:6000], RATE)
    good = session.snapshot()
    state, extra = State.from_bytes(good)
    fingerprint = session._stream.fingerprint
    assert name in extra
    without = {key: value for key, value in extra.items() if key != name}
    for changed in (without, *({**extra, name: value} for value in CHANGES[name])):
        json.dumps(changed)
        with pytest.raises(StateError):
            session.restore(state.to_bytes(fingerprint=fingerprint, extra=changed))
        assert session.snapshot() == good
    session.restore(good)
    assert session.snapshot() == good
