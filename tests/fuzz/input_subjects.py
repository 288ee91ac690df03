"""What others wrote and memorycell reads: tables, texts, sound, strokes, pictures, music."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import tiny_models
from mutations import mutate_bytes, mutate_text

from memorycell.application import catalogue
from memorycell.application.predicting import predict_record
from memorycell.errors import DataError

Mutate = Callable[[bytes, Random], bytes]


class PredictSubject:
    """An input of `predict`: a file of another suffix than the model's own, or the own one."""

    def __init__(self, kind: str, folder: Path) -> None:
        name, self.suffix = kind.split(" .")
        self.tiny = tiny_models.built(name)
        self.raw = FILES[self.suffix](self.tiny)
        self.mutate: Mutate = mutate_text if self.suffix in TEXTS else mutate_bytes
        self.folder = folder

    def mutated(self, draw: Random) -> bytes:
        """A damaged input."""
        return self.mutate(self.raw, draw)

    def check(self, data: bytes, draw: Random) -> None:
        """A prediction, for the terminal and as JSON."""
        application = self.tiny.application
        path = self.folder / f"x.{self.suffix}"
        path.write_bytes(data)
        given = str(path)
        if application.predict_reads == "text":
            from memorycell.reading import read_text

            given = read_text(path)
        options = application.predict_options(**self.tiny.options)
        record = predict_record(self.tiny.file, given, options)
        json.dumps(record, allow_nan=False)
        application.render(record)


class PrepareSubject:
    """Data to train on."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.folder = folder / "data"
        self.given = tiny_models.KINDS[kind](_made(self.folder), {})
        self.application = catalogue.load(kind.split()[0])
        files = [p for p in (self.folder.iterdir()) if p.is_file()]
        lists = [p for p in files if p.name == "transcripts.csv"]
        self.file = lists[0] if lists else self.given.data if self.given.data in files else files[0]
        self.raw = self.file.read_bytes()
        self.mutate: Mutate = mutate_text if self.file.suffix[1:] in TEXTS else mutate_bytes

    def mutated(self, draw: Random) -> bytes:
        """The data with one file damaged."""
        return self.mutate(self.raw, draw)

    def check(self, data: bytes, draw: Random) -> None:
        """Read them and take a batch."""
        self.file.write_bytes(data)
        settings = self.application.settings(**self.given.settings)
        dataset = self.application.prepare(str(self.given.data), settings)
        model = dataset.build()
        json.dumps(dataset.info(), allow_nan=False)
        for batch in dataset.batches(0):
            model.loss(batch, None)
            break


class ItemSubject:
    """The items of a session, one of them damaged; the session continues after a refusal."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.tiny = tiny_models.built(kind)
        self.items = self.tiny.items

    def mutated(self, draw: Random) -> bytes:
        """The position of an item and its damaged bytes."""
        at = draw.randrange(len(self.items))
        item = self.items[at]
        raw = item if isinstance(item, bytes) else item.encode()
        change = mutate_bytes if isinstance(item, bytes) else mutate_text
        return bytes([at]) + change(raw, draw)

    def check(self, data: bytes, draw: Random) -> None:
        """Feed the items before it, the damaged one and those after it."""
        application, at = self.tiny.application, data[0]
        session = application.session(self.tiny.file, "float32", application.stream_options())
        damaged: Any = data[1:]
        if application.stream_reads == "lines":
            damaged = damaged.decode("utf-8", "surrogateescape")
        refusal: Exception | None = None
        answers = []
        for item in (*self.items[:at], damaged, *self.items[at + 1 :]):
            try:
                answers += session.feed(item)
            except DataError as error:
                refusal = error
        session.snapshot()
        json.dumps([*answers, *session.close()], allow_nan=False)
        if refusal is not None:
            raise refusal


def _made(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


# ---- files of every suffix -----------------------------------------------------------------------


def _own(tiny: tiny_models.Tiny) -> bytes:
    return Path(tiny.source).read_bytes()


def _own_data(tiny: tiny_models.Tiny) -> bytes:
    return tiny.data.read_bytes()


def _table(write: str) -> Callable[[tiny_models.Tiny], bytes]:
    def raw(tiny: tiny_models.Tiny) -> bytes:
        import polars as pl

        buffer = io.BytesIO()
        frame = pl.read_csv(tiny.source, try_parse_dates=True).head(40)
        getattr(frame, write)(buffer)
        return buffer.getvalue()

    return raw


def _tsv(tiny: tiny_models.Tiny) -> bytes:
    return _own(tiny).replace(b",", b"\t")


def _sound(kind: str) -> Callable[[tiny_models.Tiny], bytes]:
    def raw(_tiny: tiny_models.Tiny) -> bytes:
        import soundfile

        buffer = io.BytesIO()
        soundfile.write(buffer, tiny_models.sound(0.2, 500), tiny_models.RATE, format=kind)
        return buffer.getvalue()

    return raw


def _picture(kind: str) -> Callable[[tiny_models.Tiny], bytes]:
    def raw(tiny: tiny_models.Tiny) -> bytes:
        from PIL import Image

        buffer = io.BytesIO()
        Image.open(tiny.source).save(buffer, kind)
        return buffer.getvalue()

    return raw


def _text(text: str) -> Callable[[tiny_models.Tiny], bytes]:
    return lambda _tiny: text.encode()


INKML = """<?xml version="1.0" encoding="UTF-8"?>
<ink xmlns="http://www.w3.org/2003/InkML">
<traceFormat><channel name="X" type="decimal"/><channel name="Y" type="decimal"/></traceFormat>
<annotation type="truth">cross</annotation>
<trace id="0">10 20, 11 21, 12 25, 15 30</trace>
<trace id="1">5 5, '1'1, "2 "3, 1 1</trace>
<traceGroup><annotation type="truth">x</annotation><traceView traceDataRef="0"/></traceGroup>
</ink>
"""
SVG = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 100">
<g transform="translate(5 6) rotate(10)"><path d="M 10 10 L 20 20 C 1 2 3 4 5 6 q 1 1 2 2 z"/></g>
<polyline points="0,0 10,10 20,5"/><line x1="1" y1="2" x2="3" y2="4"/>
</svg>
"""
QUICK = json.dumps(
    {"word": "cross", "recognized": True, "drawing": [[[0, 9, 20], [5, 6, 9]], [[1, 2], [3, 4]]]}
)
MUSICXML = """<?xml version="1.0"?><score-partwise version="4.0"><part-list><score-part id="P1">
<part-name/></score-part></part-list><part id="P1"><measure number="1"><attributes><divisions>2
</divisions><time><beats>4</beats><beat-type>4</beat-type></time></attributes>
<note><pitch><step>C</step><octave>4</octave></pitch><duration>2</duration></note>
<note><pitch><step>E</step><octave>4</octave></pitch><duration>2</duration></note>
<note><rest/><duration>4</duration></note></measure></part></score-partwise>
"""
TEXTS = ("csv", "tsv", "jsonl", "ndjson", "json", "txt", "inkml", "svg", "musicxml")
FILES: dict[str, Callable[[tiny_models.Tiny], bytes]] = {
    "csv": _own,
    "tsv": _tsv,
    "ndjson": _table("write_ndjson"),
    "parquet": _table("write_parquet"),
    "jsonl": _own_data,
    "wav": _sound("WAV"),
    "flac": _sound("FLAC"),
    "ogg": _sound("OGG"),
    "png": _picture("PNG"),
    "jpg": _picture("JPEG"),
    "tif": _picture("TIFF"),
    "gif": _picture("GIF"),
    "inkml": _text(INKML),
    "svg": _text(SVG),
    "quick.ndjson": _text(QUICK + "\n" + QUICK),
    "mid": _own,
    "musicxml": _text(MUSICXML),
    "json": _text(json.dumps([[48, 64], [48, 64], [], [50]])),
    "txt": _text("The cat sat\non the hill\n"),
}
PREDICT = (
    *(f"forecast .{suffix}" for suffix in ("csv", "tsv", "ndjson", "parquet")),
    *(f"anomaly .{suffix}" for suffix in ("csv", "ndjson")),
    "control .csv",
    *(f"speech classes .{suffix}" for suffix in ("wav", "flac", "ogg")),
    *(f"handwriting lines .{suffix}" for suffix in ("png", "jpg", "tif", "gif")),
    *(f"handwriting strokes .{s}" for s in ("jsonl", "inkml", "svg", "quick.ndjson")),
    *(f"music .{suffix}" for suffix in ("mid", "musicxml", "json")),
    *(f"{kind} .txt" for kind in ("text word", "sentiment", "translation", "chat")),
)
