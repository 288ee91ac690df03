"""The piano roll of a piece."""

from hypothesis import given
from hypothesis import strategies as st

from memorycell.applications.music.piano_roll import held_notes, piano_roll_page

FRAMES = st.lists(st.lists(st.integers(36, 40), unique=True, max_size=4), max_size=12)


@given(FRAMES)
def test_notes_and_frames_are_the_same(frames):
    """Every frame is rebuilt from the notes; two notes of a pitch never touch."""
    notes = held_notes(frames)
    rebuilt = [sorted(p for p, b, e in notes if b <= k < e) for k in range(len(frames))]
    assert rebuilt == [sorted(frame) for frame in frames]
    assert len({(p, b) for p, b, _ in notes} | {(p, e) for p, _, e in notes}) == 2 * len(notes)


def test_page():
    record = {"frames": [[60, 64], [60], []], "frames_a_quarter": 2, "key": "C major", "notes": []}
    page = piano_roll_page(record)
    bars = page.figures()["notes"].data[0]
    assert (list(bars.y), list(bars.base), list(bars.x)) == ([60, 64], [0, 0], [1, 0.5])
    assert "C major, 0.375 bars" in page
    assert piano_roll_page({**record, "frames": [[]]}).figures()["notes"].data[0].y == ()
