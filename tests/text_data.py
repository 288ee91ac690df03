"""Small texts that train in seconds."""

import random
from pathlib import Path

import pytest

pytest.importorskip("regex", reason="pip install 'memorycell[language]'")
pytest.importorskip("sentencepiece", reason="pip install 'memorycell[language]'")

ANIMALS, PLACES = ("cat", "dog", "peacock", "panda", "crane"), ("mat", "hill", "roof", "river")


def tale(sentences: int, seed: int = 0) -> str:
    """Sentences of a small grammar, four per line."""
    draw = random.Random(seed)
    lines = []
    for _ in range(sentences // 4):
        parts = [
            f"The {draw.choice(ANIMALS)} {draw.choice(('sat', 'sleeps', 'sings'))} on the"
            f" {draw.choice(PLACES)}."
            for _ in range(4)
        ]
        lines.append(" ".join(parts))
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="session")
def tale_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tale") / "tale.txt"
    path.write_text(tale(1200))
    return path
