"""A page to listen to scores: piano rolls, a play button, and the engraved music. It needs no
network.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from memorycell.applications.music.musicxml import engrave
from memorycell.applications.music.score.notation import TICKS, Score
from memorycell.applications.music.score.predict import score_of_record
from memorycell.applications.music.score.spelling import spelled_name
from memorycell.applications.music.score.written_music import score_to_musicxml
from memorycell.inspection.page import BLUE, GREEN, ORANGE, PURPLE, STYLE, markup_text

COLOURS = (ORANGE, PURPLE, GREEN, BLUE)
ROLL_WIDTH, NOTE_HEIGHT, MARGIN = 1000, 5, 2
PAGE_STYLE = """
button { font: inherit; padding: .3rem 1rem; border: 1px solid var(--line); border-radius: .4rem;
  background: var(--card); color: var(--ink); cursor: pointer; }
.roll { display: block; width: 100%; background: var(--card); border-radius: .4rem;
  margin: .6rem 0; }
.bar { stroke: var(--line); } .cursor { stroke: var(--ink); stroke-width: 2; }
details svg { background: #fff; border-radius: .4rem; max-width: 100%; height: auto; }
summary { cursor: pointer; color: var(--soft); }
"""

# Every note is two sine waves with a soft attack and decay. One piece plays at a time.
PLAYER = """
let context = null, stop = () => {};
const frequency = pitch => 440 * 2 ** ((pitch - 69) / 12);
function sound(note, start, second, output) {
  const [pitch, begin, length] = note, from = start + begin * second, end = from + length * second;
  for (const [times, level] of [[1, 0.16], [2, 0.05], [3, 0.02]]) {
    const wave = context.createOscillator(), gain = context.createGain();
    wave.frequency.value = frequency(pitch) * times;
    gain.gain.setValueAtTime(0, from);
    gain.gain.linearRampToValueAtTime(level, from + 0.03);
    gain.gain.setTargetAtTime(level * 0.5, from + 0.03, 0.4);
    gain.gain.setTargetAtTime(0, Math.max(from + 0.05, end - 0.04), 0.03);
    wave.connect(gain).connect(output);
    wave.start(from);
    wave.stop(end + 0.3);
  }
}
function play(article) {
  const button = article.querySelector('button'), cursor = article.querySelector('.cursor');
  const piece = JSON.parse(article.querySelector('script').textContent);
  context = context || new AudioContext();
  context.resume();
  const output = context.createGain(), second = 60 / piece.tempo, start = context.currentTime + 0.1;
  output.connect(context.destination);
  for (const note of piece.notes) sound(note, start, second, output);
  let frame = 0;
  stop = () => {
    cancelAnimationFrame(frame);
    output.disconnect();
    cursor.setAttribute('visibility', 'hidden');
    button.textContent = 'Play';
    article.dataset.playing = '';
    stop = () => {};
  };
  button.textContent = 'Stop';
  article.dataset.playing = 'yes';
  cursor.setAttribute('visibility', 'visible');
  (function move() {
    const quarters = (context.currentTime - start) / second;
    if (quarters > piece.quarters + 1) return stop();
    const x = Math.max(0, Math.min(1, quarters / piece.quarters)) * WIDTH;
    cursor.setAttribute('x1', x);
    cursor.setAttribute('x2', x);
    frame = requestAnimationFrame(move);
  })();
}
for (const article of document.querySelectorAll('article'))
  article.querySelector('button').addEventListener('click', () => {
    const playing = article.dataset.playing === 'yes';
    stop();
    if (!playing) play(article);
  });
"""


def listening_page(record: Mapping[str, Any]) -> str:
    """The HTML page of the record of one score or of several; see `predict_scores`."""
    pieces = record.get("pieces", [record])
    articles = "".join(_article(piece, number) for number, piece in enumerate(pieces, 1))
    title = "Composed by memorycell"
    lead = (
        "Every piece is a sample of the model, by the seed given; none was chosen, but its last two"
        " bars may have been composed again until they ended on the tonic. Colours are voices;"
        " lines are bar lines; a dot is the end of a phrase."
    )
    script = PLAYER.replace("WIDTH", str(ROLL_WIDTH))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}{PAGE_STYLE}</style></head>\n"
        f"<body><h1>{title}</h1><p>{lead}</p>{articles}<script>{script}</script></body></html>\n"
    )


def _article(piece: Mapping[str, Any], number: int) -> str:
    score = score_of_record(piece)
    head = f"{number}. {piece['key']}, {piece['metre']}, {score.bars} bars, seed {piece['seed']}"
    data = {
        "tempo": piece["tempo"],
        "quarters": score.length / TICKS,
        "notes": [[p, begin / TICKS, ticks / TICKS] for _, begin, ticks, p, _ in _notes(score)],
    }
    engraved = engrave(score_to_musicxml(score))
    notes = "".join(f"<p>{markup_text(note)}</p>" for note in piece.get("notes", []))
    return (
        f"<article><h2>{markup_text(head)}</h2>{notes}<button>Play</button>{_roll(score)}"
        f"<details><summary>Score</summary>{engraved}</details>"
        f'<script type="application/json">{json.dumps(data)}</script></article>'
    )


def _notes(score: Score) -> list[tuple[int, int, int, int, bool]]:
    """(voice, begin and length in ticks, MIDI pitch, whether a phrase ends) of every note."""
    notes = []
    for k, voice in enumerate(score.voices):
        now = 0
        for note in voice:
            if note.pitch is not None:
                notes.append((k, now, note.length, note.pitch, note.phrase_end))
            now += note.length
    return notes


def _roll(score: Score) -> str:
    """The notes as SVG, pitch over time."""
    notes = _notes(score)
    pitches = [pitch for _, _, _, pitch, _ in notes] or [60]
    top = max(pitches) + MARGIN
    height = (top - min(pitches) + MARGIN) * NOTE_HEIGHT
    scale = ROLL_WIDTH / max(score.length, 1)
    begins = range(score.pickup or score.metre.bar, score.length, score.metre.bar)
    lines = [
        f'<line class="bar" x1="{x * scale:.1f}" x2="{x * scale:.1f}" y1="0" y2="{height}"/>'
        for x in begins
    ]
    for k, begin, ticks, pitch, phrase_end in notes:
        x, width = begin * scale, max(1.5, ticks * scale - 1.5)
        y = (top - pitch) * NOTE_HEIGHT
        name = markup_text(spelled_name(pitch, score.key))
        lines.append(
            f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{NOTE_HEIGHT}" rx="2"'
            f' fill="{COLOURS[k % len(COLOURS)]}"><title>{name}</title></rect>'
        )
        if phrase_end and k == 0:
            lines.append(
                f'<circle cx="{x + width / 2:.1f}" cy="{y - 5}" r="2.5" fill="{COLOURS[0]}"/>'
            )
    return (
        f'<svg class="roll" viewBox="0 0 {ROLL_WIDTH} {height}" role="img"'
        f' aria-label="piano roll">{"".join(lines)}'
        f'<line class="cursor" y1="0" y2="{height}" visibility="hidden"/></svg>'
    )
