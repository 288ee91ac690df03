"""A pool of sessions, against sessions that are fed one by one."""

import numpy as np
import pytest
from quick import QUICK

import memorycell
from memorycell.errors import StateError, UserError
from memorycell.face.session_pool import SessionPool


def rows(frame, count):
    return [{"time": str(time), "load": value} for time, value in frame["load"][:count].items()]


def test_answers_are_those_of_sessions_fed_alone(forecaster, load_frame):
    pool = forecaster.pool(5)
    alone = [forecaster.session() for _ in range(5)]
    assert pool.steps_together
    assert len(pool) == 5
    given = rows(load_frame, 12)
    for k in range(8):  # the sessions are at different places of the series
        order = np.random.default_rng(k).permutation(5)[: 1 + k % 5]
        items = [given[k + s % 3] for s in order]
        expected = [alone[s].feed(item) for s, item in zip(order, items, strict=True)]
        assert pool.feed(pool.slots[order], items) == expected


def test_a_refused_item_changes_no_session(forecaster, load_frame):
    pool = forecaster.pool(3)
    first, second = rows(load_frame, 2)
    pool.feed(pool.slots, [first] * 3)
    before = [pool.snapshot(slot) for slot in pool.slots]
    with pytest.raises(UserError, match=r"slot 1: .*load"):
        pool.feed(pool.slots, [second, {**second, "load": "high"}, second])
    assert [pool.snapshot(slot) for slot in pool.slots] == before
    with pytest.raises(UserError, match="3 slots and 1 item;"):
        pool.feed(pool.slots, [second])
    with pytest.raises(StateError, match="slot 9 is not open"):
        pool.feed([9], [second])
    with pytest.raises(StateError, match="given twice"):
        pool.feed([0, 0], [second, second])


def test_sessions_are_opened_forked_restored_and_closed(forecaster, load_frame):
    pool = forecaster.pool()
    slot = pool.open()
    first, second = rows(load_frame, 2)
    pool.feed([slot], [first])
    copies = [pool.fork(slot), pool.restore(pool.snapshot(slot))]
    answers = pool.feed([slot, *copies], [second] * 3)
    assert answers[0] == answers[1] == answers[2]
    pool.close(slot)
    assert slot not in pool
    assert list(pool.slots) == copies
    assert pool.open() not in (slot, *copies)


def test_options_and_precision_are_those_of_sessions(forecaster):
    with pytest.raises(UserError, match="precision='int4'"):
        forecaster.pool(1, "int4")
    with pytest.raises(UserError, match="no setting 'adapt'"):
        forecaster.pool(1, adapt=3)


def test_texts_are_read_together(tmp_path):
    model = memorycell.train(
        "text", ["the cat sat on the mat. " * 60, "a dog ran in the park. " * 60], **QUICK
    )
    pool, alone = model.pool(2), [model.session(), model.session()]
    for items in (["the cat", "a dog"], [" sat", " ran"]):
        expected = [s.feed(item) for s, item in zip(alone, items, strict=True)]
        assert pool.feed(pool.slots, items) == expected


def test_sessions_that_cannot_step_together_are_fed_alone(forecaster, load_frame):
    """A session type without forks, as another package may have one."""

    class Plain:
        def __init__(self):
            self.session = forecaster.session()

        def feed(self, item):
            return self.session.feed(item)

        def close(self):
            return self.session.close()

        def snapshot(self):
            return self.session.snapshot()

        def restore(self, data):
            self.session.restore(data)

    pool = SessionPool(forecaster)
    pool._fork, pool._steps_together, pool._new = None, False, Plain
    assert not pool.steps_together
    slots = pool.open_many(2)
    first, second = rows(load_frame, 2)
    expected = forecaster.session().feed(first)
    assert pool.feed(slots, [first, first]) == [expected, expected]
    before = pool.snapshot(0)
    with pytest.raises(UserError, match="slot 1"):
        pool.feed(slots, [second, {"time": "never"}])
    assert pool.snapshot(0) == before
