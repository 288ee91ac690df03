"""The models of `serve --demo`: trained once, kept, and reported while they are trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import memorycell
from memorycell.errors import UserError
from memorycell.server import demo as demos
from memorycell.server.demo import DEMOS, Demo, demo_path, train_demos
from memorycell.server.demo_digits import TEMPLATES, digit_lines, draw_digit


def _few_digits(folder: Path) -> str:
    path = folder / "few.jsonl"
    path.write_text("\n".join(digit_lines(12)))
    return str(path)


def _nothing(folder: Path) -> str:
    raise UserError("needs a package: pip install something")


SMALL = Demo("digits", "handwriting", "Digits", _few_digits, {"epochs": 1, "hidden": 8})
BROKEN = Demo("broken", "handwriting", "Nothing", _nothing)


def test_trained_once_kept_and_reported(tmp_path: Path) -> None:
    ready: list[tuple[str, Path]] = []
    states: list[tuple[str, dict[str, Any]]] = []

    def train(*chosen: Demo) -> dict[str, Path]:
        return train_demos(
            tmp_path,
            on_ready=lambda name, path: ready.append((name, path)),
            on_progress=lambda name, state: states.append((name, state)),
            demos=chosen,
        )

    files = train(BROKEN, SMALL)
    assert files == {"digits": demo_path(SMALL, tmp_path)}
    assert ready == [("digits", files["digits"])]
    assert memorycell.load(files["digits"]).task == "handwriting"
    last = dict(states)
    assert last["broken"]["state"] == "failed"
    assert "pip install something" in last["broken"]["message"]
    assert last["digits"]["state"] == "ready"
    shares = [s["share"] for name, s in states if name == "digits" and s["state"] == "training"]
    assert shares == sorted(shares)
    assert shares[-1] > 0.9
    before = files["digits"].read_bytes()
    ready.clear()
    assert train(SMALL) == files
    assert ready == [("digits", files["digits"])]
    assert files["digits"].read_bytes() == before


def test_a_stopped_training_is_not_in_the_cache(tmp_path: Path) -> None:
    assert train_demos(tmp_path, demos=(SMALL,), stopped=lambda: True) == {}
    assert not demo_path(SMALL, tmp_path).exists()


def test_every_demo_finds_its_data_without_a_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEMORYCELL_DATA", raising=False)
    assert [demo.name for demo in DEMOS] == ["glucose", "digits", "cartpole", "music", "text"]
    for demo in DEMOS:
        if demo.name == "music":
            pytest.importorskip("music21")
        if demo.name == "cartpole":
            assert demo.find(tmp_path) in pytest.importorskip("gymnasium").registry
            continue
        source = demo.find(tmp_path)
        assert source is None or Path(source).exists()


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert demos.cache_folder() == Path("/somewhere/memorycell/demo")


def test_digits_are_drawn_in_every_style() -> None:
    rng = np.random.default_rng(0)
    for label, styles in TEMPLATES.items():
        counts = {len(draw_digit(label, rng)) for _ in range(60)}
        assert counts == {len(style) for style in styles}
    assert len(list(digit_lines(2))) == 20
    assert list(digit_lines(1, seed=1)) != list(digit_lines(1, seed=2))
