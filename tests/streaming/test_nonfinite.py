"""NaN, infinity and overflow never remain in a live sequence: such a step is refused or left out.

The reference for "left out" is a sequence that never had the step.
"""

import warnings

import numpy as np
import pytest
import torch

import memorycell
from memorycell.applications.forecast.model import Forecaster, ForecasterConfig
from memorycell.errors import StateError, UserError
from memorycell.models.classifier import Classifier, ClassifierConfig
from memorycell.nn.layers import of_cell
from memorycell.ops import binding
from memorycell.state import State
from memorycell.streaming.finite import NonFiniteError, check_bounded
from memorycell.streaming.pool import Pool
from memorycell.streaming.stream import Stream

BAD = [np.nan, np.inf, -np.inf]


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


def layer(kind=memorycell.LSTM, **options):
    torch.manual_seed(0)
    return kind(5, 7, **{"num_layers": 2, "batch_first": True, **options})


def relu() -> torch.nn.Module:
    """Its state grows a billionfold at every step, whatever the input."""
    module = memorycell.RNN(5, 7, nonlinearity="relu", batch_first=True)
    with torch.no_grad():
        module.weight_hh_l0.copy_(1e9 * torch.eye(7))
        module.weight_ih_l0.fill_(1.0)
    return module


def model() -> Forecaster:
    torch.manual_seed(0)
    return Forecaster(ForecasterConfig(input_size=5, hidden_size=9, horizon=3, window=4))


MODULES = [
    layer,
    lambda: layer(memorycell.GRU),
    lambda: layer(proj_size=3),  # through the layer's own forward
    model,
]


def rows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 5)).astype(np.float32)


def with_value(x: np.ndarray, at: tuple[int, ...], value: float) -> np.ndarray:
    x = x.copy()
    x[at] = value
    return x


def same_state(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state, b.state, strict=True))


@pytest.mark.parametrize("make", MODULES)
@pytest.mark.parametrize("history", [0, 3])
@pytest.mark.parametrize("bad", BAD)
def test_a_stream_refuses_the_step_by_default_and_is_unchanged(make, history, bad):
    x, module = rows(9), make()
    stream, other = Stream(module, history=history), Stream(module, history=history)
    stream.step(x[:4])
    other.step(x[:4])
    for wrong, message in (
        (with_value(x[4], (3,), bad), rf"x: step 5: x\[3\] is {bad}, not a finite float32;"),
        (with_value(x[4:], (2, 0), bad), rf"x: step 7: x\[0\] is {bad}"),
        (torch.from_numpy(with_value(x[4], (3,), bad)), "step 5"),
        (with_value(x[4], (3,), bad).astype(float).tolist(), "step 5"),
    ):
        with pytest.raises(ValueError, match=message):
            stream.step(wrong)
        with pytest.raises(UserError, match=message):
            stream.step(wrong)
        assert same_state(stream, other)
    np.testing.assert_allclose(stream.step(x[4:]), other.step(x[4:]), rtol=0, atol=1e-6)
    stream.rewind(min(3, history))


def test_history_that_a_refused_chunk_overwrote_is_not_offered():
    x, stream = rows(20), Stream(layer(), history=5)
    stream.step(x[:9])
    wrong = np.full((4, 5), np.nan, np.float32)
    with pytest.raises(ValueError, match="step 10"):
        stream.step(wrong)
    stream.rewind(1)
    other = Stream(stream.module)
    other.step(x[:8])
    assert same_state(stream, other)
    with pytest.raises(ValueError, match=r"rewind: expected 0\.\.0 steps"):
        stream.rewind(1)


@pytest.mark.parametrize("make", MODULES)
@pytest.mark.parametrize("bad", BAD)
def test_a_stream_leaves_steps_out(make, bad):
    x, module = rows(9), make()
    wrong = with_value(with_value(x, (3, 1), bad), (6, 0), bad)
    for steps in ([wrong], list(wrong)):
        skip, reset, plain = (
            Stream(module, on_nonfinite="skip"),
            Stream(module, on_nonfinite="reset"),
            Stream(module),
        )
        good = [0, 1, 2, 4, 5, 7, 8]
        expected = np.stack([plain.step(row) for row in x[good]])
        y = np.concatenate([skip.step(s).reshape(-1, *expected.shape[1:]) for s in steps])
        np.testing.assert_allclose(y[good], expected, rtol=0, atol=1e-6)
        assert np.isnan(y[[3, 6]]).all()
        assert skip.nonfinite_steps == 2
        y = np.concatenate([reset.step(s).reshape(-1, *expected.shape[1:]) for s in steps])
        np.testing.assert_allclose(y[:3], expected[:3], rtol=0, atol=1e-6)
        plain.reset()
        np.testing.assert_allclose(y[7:], plain.step(x[7:]), rtol=0, atol=1e-6)
        assert np.isnan(y[[3, 6]]).all()
        assert skip.fork().on_nonfinite == "skip"


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn", "peephole", "coupled", "layernorm"])
@pytest.mark.parametrize("size", [1e8, 1e15, 1e19, 1e25, 3e38])
def test_finite_inputs_are_never_refused_for_their_size_alone(cell, size):
    """Sums of squares overflow long before the products of a step do."""
    torch.manual_seed(0)
    module = of_cell(cell, 5, 7)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1e-3)
    stream = Stream(module, on_nonfinite="skip")
    y = stream.step(np.array([size, -size, size, 0, 1], np.float32))
    # Layer normalisation squares its products.
    if cell != "layernorm" or size < 1e18:
        assert np.isfinite(y).all()
        assert stream.nonfinite_steps == 0
    assert all(part.isfinite().all() for part in stream.state)


@pytest.mark.parametrize("kind", [Stream, Pool])
@pytest.mark.parametrize("make", [layer, lambda: layer(memorycell.GRU), relu, model])
def test_huge_finite_inputs_leave_no_nan_behind(kind, make):
    """Whatever the step itself gives, the sequence goes on from a finite state."""
    module, x = make(), rows(6)
    for policy in ("raise", "skip", "reset"):
        live = kind(module, on_nonfinite=policy)
        slots = [] if kind is Stream else [live.open_many(3)]
        one = 5 if kind is Stream else (3, 5)
        for value in (1e38, -3e38, 3e38):
            huge = np.full(one, value, np.float32)
            huge[..., ::2] *= -1
            for _ in range(3):
                try:
                    live.step(*slots, huge)
                except ValueError as error:
                    assert (policy, "overflows" in str(error)) == ("raise", True)
        state = live.state if kind is Stream else live.state(*slots)
        assert all(part.isfinite().all() for part in state)
        if make is layer:
            y = live.step(*slots, x[0] if kind is Stream else x[:3])
            assert np.isfinite(y).all()


def test_overflow_without_large_inputs_is_refused_with_its_step():
    stream = Stream(relu())
    x = np.ones((9, 5), np.float32)
    with pytest.raises(ValueError, match=r"x: step 6: the state overflows; the largest input is 1"):
        stream.step(x)
    assert not stream.state[0].any()
    stream.step(x[:5])
    before = stream.state
    with pytest.raises(ValueError, match="step 6"):
        stream.step(x[5])
    assert torch.equal(before[0], stream.state[0])
    pool = Pool(relu(), on_nonfinite="reset")
    slots = [pool.open(before), pool.open()]
    y = pool.step(slots, x[:2])
    assert np.isnan(y[0]).all()
    assert np.isfinite(y[1]).all()
    assert not pool.state(slots[:1])[0].any()
    assert pool.nonfinite_steps == 1


# ---- pools ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", MODULES)
@pytest.mark.parametrize("bad", BAD)
def test_a_pool_refuses_the_call_and_names_the_session(make, bad, tmp_path):
    module = make()
    pool = Pool(module, spill=tmp_path)
    slots = pool.open_many(4)
    pool.step(slots, rows(4))
    before = pool.state(slots)
    with pytest.raises(
        ValueError, match=rf"x: step 2 of the pool, session 2: x\[1\] is {bad}, not a finite"
    ):
        pool.step(slots[::-1], with_value(rows(4, 1), (1, 1), bad))
    after = pool.state(slots)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    pool.step(slots, rows(4, 1))


@pytest.mark.parametrize("make", MODULES)
@pytest.mark.parametrize("all_bad", [False, True])
def test_a_pool_leaves_sessions_out(make, all_bad):
    module = make()
    x = rows(4, 1)
    wrong = with_value(x, (slice(None) if all_bad else 2, 1), np.nan)
    good = [] if all_bad else [0, 1, 3]
    plain = Pool(module)
    slots = plain.open_many(4)
    first = plain.step(slots, rows(4))
    start = plain.state(slots)
    if good:
        expected = plain.step(slots[good], x[good])
    for policy in ("skip", "reset"):
        pool = Pool(module, on_nonfinite=policy)
        assert np.array_equal(pool.step(pool.open_many(4), rows(4)), first)
        y = pool.step(slots, wrong)
        out = sorted({0, 1, 2, 3} - set(good))
        assert y.shape == first.shape
        assert np.isnan(y[out]).all()
        assert pool.nonfinite_steps == len(out)
        if good:
            np.testing.assert_allclose(y[good], expected, rtol=0, atol=1e-6)
        state = pool.state(slots).select(out)
        if policy == "skip":
            assert all(torch.equal(a, b) for a, b in zip(state, start.select(out), strict=True))
        else:
            assert not any(part.any() for part in state)


def test_a_repeated_or_closed_slot_is_refused_before_anything_is_reset():
    pool = Pool(layer(), on_nonfinite="reset")
    a, b, c = (pool.open() for _ in range(3))
    pool.step([a, b, c], rows(3))
    pool.close(c)
    before = pool.state([a, b])
    for slots, words in (([a, a], "at most once"), ([a, c], "is not open"), ([a, 999], "not open")):
        with pytest.raises(ValueError, match=words):
            pool.step(slots, np.full((2, 5), np.nan, np.float32))
    assert all(torch.equal(x, y) for x, y in zip(before, pool.state([a, b]), strict=True))


# ---- states --------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", BAD)
def test_states_that_are_not_finite_are_refused(bad, tmp_path):
    stream, pool = Stream(layer()), Pool(layer())
    stream.step(rows(3))
    slot = pool.open(stream.state)
    wrong = stream.state
    wrong.c[1, 0, 3] = bad
    for act in (
        lambda: setattr(stream, "state", wrong),
        lambda: setattr(stream, "state", tuple(wrong)),
        lambda: pool.open(wrong),
        lambda: pool.set_state([slot], wrong),
        lambda: wrong.save(tmp_path / "s"),
    ):
        with pytest.raises(StateError, match="NaN or infinity"):
            act()
    assert list(tmp_path.iterdir()) == []
    assert len(pool) == 1
    assert all(torch.equal(a, b) for a, b in zip(stream.state, pool.state([slot]), strict=True))


def test_a_huge_state_that_was_set_cannot_overflow_unnoticed():
    state = State(h=torch.full((2, 1, 7), 3e38), c=torch.full((2, 1, 7), -3e38))
    for live in (Stream(layer()), Pool(layer())):
        args = []
        if isinstance(live, Stream):
            live.state = state
        else:
            args = [[live.open(state)]]
        x = rows(1)[0] if not args else rows(1)
        try:
            live.step(*args, x)
        except ValueError as error:
            assert "overflows" in str(error)
        now = live.state(*args) if args else live.state
        assert all(part.isfinite().all() for part in now)


def test_the_policy_is_checked():
    with pytest.raises(ValueError, match="on_nonfinite: expected one of raise, skip, reset"):
        memorycell.stream(layer(), on_nonfinite="ignore")
    with pytest.raises(ValueError, match="on_nonfinite"):
        Pool(layer(), on_nonfinite="ignore")
    stream = memorycell.stream(layer(), on_nonfinite="skip")
    assert np.isnan(stream.step(np.full(5, np.nan))).all()


@pytest.mark.skipif(binding.engine is None, reason="lower precisions need the engine")
@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_lower_precisions(precision):
    stream = Stream(layer(), precision, on_nonfinite="skip")
    for value in (np.nan, np.inf, 1e38, 3e38):
        stream.step(np.full(5, value, np.float32))
        assert all(part.isfinite().all() for part in stream.state)


def test_saved_states_of_bounded_inputs_are_bounded():
    check_bounded(State(h=torch.full((1, 2, 3), 1e9), c=torch.zeros(1, 2, 3)))
    for value in (2e9, -3e38):
        with pytest.raises(StateError, match="beyond 1e"):
            check_bounded(State(h=torch.zeros(1, 2, 3), c=torch.full((1, 2, 3), value)))


def test_an_output_that_is_not_a_number_is_refused():
    """The pooled sum of a damaged state without weight: 0 / 0 in the head, with a finite state."""
    config = ClassifierConfig(
        vocabulary=0, input_size=3, classes=2, hidden_size=4, pooling="mean", bidirectional=False
    )
    stream = Stream(Classifier(config).eval())
    state = stream.state
    state.pooled[:] = torch.tensor([0.0, 0.0, 0.0, 0.0, -1.0])
    stream.state = state
    with np.errstate(invalid="ignore", divide="ignore"), pytest.raises(NonFiniteError):
        stream.step(np.zeros(3, np.float32))
    assert stream.state.pooled.flatten().tolist() == [0, 0, 0, 0, -1]
