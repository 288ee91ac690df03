"""One-step frames that are answered together equal those that are answered one by one."""

import gc

import numpy as np
import pytest
from websockets.client import ClientProtocol
from websockets.uri import parse_uri

from memorycell.server.collecting import NEW_OBJECTS, rare_collections
from memorycell.server.frame_steps import FrameStep, answer_frames, are_frames, inputs_of
from memorycell.server.frames import ONE, outputs_frame
from memorycell.server.tensor_work import Work
from memorycell.server.wires import AsgiWire


class Socket:
    def __init__(self):
        self.frames, self.messages = [], []

    def answer(self, data):
        self.messages.append(data)

    def answer_frame(self, frame):
        self.frames.append(frame)


def steps(x, sockets):
    found = []
    for k, row in enumerate(x):
        message = ONE.pack(1, 0, 0, 1000 + k, 1, len(row), 7) + row.tobytes()
        found.append(FrameStep(k, message, 1000 + k, sockets[k]))
    return found


@pytest.mark.parametrize("width", [1, 27, 28, 64, 16_400])
def test_answers_that_are_made_together_equal_those_made_one_by_one(width):
    rng = np.random.default_rng(width)
    x = rng.standard_normal((5, 3), np.float32)
    y = rng.standard_normal((5, width), np.float32)
    sockets = [Socket() for _ in x]
    works = steps(x, sockets)
    assert are_frames(works)
    assert np.array_equal(inputs_of(works, 3), x)
    assert [work.row for work in works] == [row.tobytes() for row in x]
    answer_frames(works, y)
    client = ClientProtocol(parse_uri("ws://localhost/"), max_size=None)
    client.state = client.state.OPEN
    for k, socket in enumerate(sockets):
        client.parser = client.parse()
        next(client.parser)
        client.receive_data(socket.frames[0])
        (event,) = client.events_received()
        assert bytes(event.data) == outputs_frame(1000 + k, 1, width, y[k].tobytes(), None)
        works[k].reply(y[k].tobytes(), None)
        assert socket.messages == [bytes(event.data)]
        wire = AsgiWire(None, None)  # a server that makes frames of its own
        wire.post_frame(socket.frames[0])
        assert wire._outbox[0]["bytes"] == bytes(event.data)


def test_a_batch_with_other_work_is_not_taken_for_frames():
    frames = steps(np.ones((2, 3), np.float32), [Socket(), Socket()])
    assert not are_frames([*frames, Work(2, b"", 1, print)])
    assert not are_frames([])


def test_searches_for_garbage_are_rare_only_while_a_server_runs():
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    with rare_collections():
        assert gc.get_threshold()[0] == NEW_OBJECTS
        assert gc.get_freeze_count() > frozen
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0
