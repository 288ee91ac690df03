"""The progress of a training run in a notebook, on a stand-in for IPython's display."""

import sys
import types

import pytest
import rich.console

from memorycell.training import notebook_progress
from memorycell.training.events import Epoch, Step
from memorycell.training.progress import progress_bar


@pytest.fixture
def shown(monkeypatch):
    """What a cell showed, in order."""
    contents = []

    class Handle:
        def update(self, data, *, raw):
            assert raw
            contents.append(data)

    def display(data, *, raw, display_id):
        assert raw
        assert display_id
        contents.append(data)
        return Handle()

    module = types.ModuleType("IPython.display")
    module.display = display
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.setattr(rich.console, "_is_jupyter", lambda: True)
    monkeypatch.setattr(notebook_progress, "UPDATE_EVERY_S", 0.0)
    return contents


def test_a_bar_in_a_notebook(shown, capsys):
    lines = []
    with progress_bar("crps", lines.append) as on_event:
        on_event(Step(0, 2, 5, 20, 1.25, 1.0, 100.0))
        on_event(Epoch(1, 2, 1.25, {"crps": 0.5}, 0.5, None, 1.0, 100.0, "loss: <b>"))
        on_event(Step(1, 2, 15, 20, 1.0, 3.0, 100.0))
    first, early, late, last = shown
    assert first == {"text/plain": "reading"}
    assert 'value="0.250"' in early["text/html"]
    assert early["text/plain"].startswith("25% epoch 1/2 loss 1.2500, 100 steps/s, 3 s left")
    assert 'value="0.750"' in late["text/html"]
    assert "crps 0.5 (best 0.5)" in late["text/plain"]
    assert last == {"text/html": "", "text/plain": ""}
    assert lines == ["warning: loss: <b>"]
    assert capsys.readouterr() == ("", "")  # nothing of rich's


def test_it_is_closed_where_training_fails(shown):
    with pytest.raises(KeyboardInterrupt), progress_bar("crps", print):
        raise KeyboardInterrupt
    assert shown[-1] == {"text/html": "", "text/plain": ""}


def test_at_most_five_times_a_second(shown, monkeypatch):
    monkeypatch.setattr(notebook_progress, "UPDATE_EVERY_S", 0.2)
    clock = iter([10.0, 10.0, 10.1, 10.25, 10.25])
    monkeypatch.setattr(notebook_progress.time, "monotonic", lambda: next(clock))
    line = notebook_progress.NotebookLine()
    for text in ("a", "b", "<c>"):
        line.show(text, None)
    assert [data["text/plain"] for data in shown[1:]] == ["a", "<c>"]
    assert shown[-1]["text/html"].endswith("&lt;c&gt;")


def test_without_a_cell_nothing_is_shown(shown, monkeypatch):
    monkeypatch.setattr(sys.modules["IPython.display"], "display", lambda *_, **__: None)
    with progress_bar("crps", print) as on_event:
        on_event(Step(0, 2, 5, 20, 1.25, 1.0, 100.0))
    assert shown == []
