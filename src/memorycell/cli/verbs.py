"""The verbs. Everything heavy is imported inside them, so that `memorycell --help` is instant."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from memorycell.cli import console
from memorycell.errors import DataError, UserError

EXTRAS = {
    "polars": "forecast",
    "plotly": "forecast",
    "scipy": "forecast",
    "statsforecast": "classic",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "regex": "language",
    "sentencepiece": "language",
    "sacrebleu": "language",
    "sklearn": "anomaly",
    "polib": "language",
    "yaml": "language",
    "soundfile": "speech",
    "soxr": "speech",
    "kaldi_native_fbank": "speech",
    "flashlight": "speech",
    "jiwer": "speech",
    "symusic": "music",
    "verovio": "music",
    "miditok": "music",
    "music21": "musicxml",
    "PIL": "handwriting",
    "defusedxml": "handwriting",
}
"""Package that an import may miss -> the extra that brings it."""


class Verbs(TyperGroup):
    """Mistakes of the user's are one line on stderr and status 2; Ctrl-C and SIGTERM end with 130."""

    def invoke(self, ctx: Any) -> Any:
        """Run the verb."""
        with contextlib.suppress(ValueError):  # only the main thread may
            signal.signal(signal.SIGTERM, _interrupt)
        try:
            return super().invoke(ctx)
        except UserError as error:
            print(f"memorycell: {error}", file=sys.stderr)
            raise SystemExit(2) from None
        except ModuleNotFoundError as error:
            extra = EXTRAS.get((error.name or "").split(".")[0])
            if extra is None:
                raise
            print(
                f"memorycell: this needs {error.name}: pip install 'memorycell[{extra}]'",
                file=sys.stderr,
            )
            raise SystemExit(2) from None
        except KeyboardInterrupt:
            print("memorycell: stopped", file=sys.stderr)
            raise SystemExit(130) from None
        except BrokenPipeError:  # whoever read our output has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(0) from None


app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help=(
        "Train an LSTM on your sequences, look inside its gates, and run it live, one step at a"
        " time."
    ),
)
data_app = typer.Typer(no_args_is_help=True, help="Named public data sets.")
app.add_typer(data_app, name="data")

AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")
]
ModelPath = Annotated[Path, typer.Argument(metavar="FILE", help="A model file (.safetensors).")]


@app.command()
def tasks(as_json: AsJson = False) -> None:
    """What memorycell can do, and what each task reads."""
    from memorycell.tasks import TASKS

    if as_json:
        keys = ("name", "about", "reads", "source", "primary", "baselines")
        print(json.dumps([{key: getattr(task, key) for key in keys} for task in TASKS.values()]))
        return
    for task in TASKS.values():
        print(f"{task.name}\n  {task.about}\n  reads      {task.reads}\n  shown on   {task.source}")
        print(f"  must beat  {', '.join(task.baselines)}")
        print(f"  settings   {' '.join(_settings_of(task))}\n")
    print(
        "memorycell train TASK [DATA] --set key=value … ; memorycell data list names the public"
        " data sets"
    )


@app.command()
def train(
    task: Annotated[
        str, typer.Argument(metavar="TASK", help="What to train; see `memorycell tasks`.")
    ],
    data: Annotated[
        str | None, typer.Argument(metavar="[DATA]", help="A file, or the name of a data set.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The model file to write [default: TASK.safetensors]."),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", min=0.01, help="Train for about so long.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was interrupted.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option("--report", help="Also write an HTML report.")
    ] = None,
    tensorboard: Annotated[
        Path | None, typer.Option("--tensorboard", help="Log to this folder.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a model on a data set or a file of yours; keep the best; compare it with simple
    methods.
    """
    from memorycell.settings import parse_settings

    chosen = _task(task)
    own, how = parse_settings((chosen.settings(), chosen.training), _pairs(settings or []))
    minutes = chosen.minutes if minutes is None and how.epochs is None else minutes
    out = out or Path(f"{task}.safetensors")
    _check_writable(out, report)
    from memorycell.training import loop as training

    try:
        with console.progress(chosen.watch or chosen.primary) as watch:
            result = training.train(
                chosen,
                data,
                own,
                how,
                out,
                minutes=minutes,
                resume=resume,
                tensorboard=tensorboard,
                say=_say,
                watch=watch,
            )
    except KeyboardInterrupt:
        saved = (
            f"the best model so far is in {out}; --resume goes on"
            if out.exists()
            else "nothing was saved yet"
        )
        print(f"memorycell: stopped; {saved}", file=sys.stderr)
        raise SystemExit(130) from None
    if report is not None:
        _write_report(out, data, report, result)
    console.print_result(result, as_json)


@app.command()
def backtest(
    task: Annotated[
        str, typer.Argument(metavar="TASK", help="A task with a time to walk along: forecast.")
    ],
    data: Annotated[
        str | None, typer.Argument(metavar="[DATA]", help="A file, or the name of a data set.")
    ] = None,
    folds: Annotated[
        int, typer.Option("--folds", min=1, help="Stretches that are forecast one after another.")
    ] = 4,
    start: Annotated[
        float,
        typer.Option(
            "--start", min=0.1, max=0.99, help="The share of the time at which the first begins."
        ),
    ] = 0.6,
    refit: Annotated[
        bool, typer.Option("--refit/--no-refit", help="Train anew before each, or once.")
    ] = True,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Keep the model files here.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", min=0.01, help="Train each for about so long.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Walk forward through the time: train on what came before, forecast the next stretch, go on."""
    from memorycell.settings import parse_settings

    chosen = _task(task)
    own, how = parse_settings((chosen.settings(), chosen.training), _pairs(settings or []))
    import tempfile

    from memorycell.files import made_folder
    from memorycell.training import loop as training

    with (
        tempfile.TemporaryDirectory() as folder,
        console.progress(chosen.watch or chosen.primary) as watch,
    ):
        result = training.backtest(
            chosen,
            data,
            own,
            how,
            made_folder(out or Path(folder)),
            folds=folds,
            start=start,
            refit=refit,
            minutes=minutes,
            say=_say,
            watch=watch,
        )
    console.print_backtest(result, as_json)


@app.command()
def evaluate(
    file: ModelPath,
    data: Annotated[
        str | None, typer.Argument(metavar="[DATA]", help="Other data than it was trained on.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Also write an HTML report.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score a model on data it never saw, beside simple methods."""
    from memorycell.application import modelfile
    from memorycell.training import loop as training

    model = modelfile.load(file)
    result = training.evaluate(_task(model.info["task"]), model, file, data, _say)
    if report is not None:
        _write_report(file, data, report, result)
    console.print_result(result, as_json)


@app.command()
def predict(
    file: ModelPath,
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[INPUT]",
            help="A table that ends where a forecast begins; a text, a text file, or - for stdin.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="How to do it.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write a picture (.html), or the table (.csv).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What the model makes of an input: a forecast, a text that goes on, a label, a translation, a
    reply.
    """
    from memorycell.application import live, modelfile
    from memorycell.settings import parse_settings

    _check_writable(out)
    model = modelfile.load(file)
    task = str(model.info["task"])
    work = live.application(task)
    (how,) = parse_settings([work.Options()], _pairs(settings or []))
    record = work.predict(model, _source(source, work), how)
    if out is not None:
        from memorycell.files import write_atomically
        from memorycell.inspection import pictures

        write_atomically(out, pictures.of(task, model, record, out.suffix))
        _say(f"written: {out}")
    if as_json:
        print(json.dumps({"task": task, "file": str(file), **record}, ensure_ascii=False))
    else:
        print(work.show(record))


@app.command()
def stream(
    file: ModelPath,
    state: Annotated[
        Path | None,
        typer.Option("--state", help="Take up this state if it exists, and save it there."),
    ] = None,
    precision: Annotated[
        str, typer.Option("--precision", help="float32, bfloat16 or int8.")
    ] = "float32",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="What comes in.")
    ] = None,
) -> None:
    """A line in, a line out, state kept: rows of readings (CSV with a header, or JSON lines), text
    as it is typed; or sound in (a WAV file, or bare samples), words out.

    At a lower precision it is first proved that the model still runs the same in every way, and
    said what it costs.
    """
    from memorycell.application import live, modelfile
    from memorycell.settings import parse_settings

    _check_precision(precision)
    model = modelfile.load(file)
    if precision != "float32":
        _check_engine(model, precision)
        _, _, proof = _proved(model, (precision,), ())
        if not proof.ok:
            raise SystemExit(1)
    options = getattr(live.application(str(model.info["task"])), "Streaming", None)
    (how,) = parse_settings([options()] if options else [], _pairs(settings or [])) or (None,)
    running = live.live(model, precision, how)
    if state is not None and state.exists():
        running.load(state)
    last_save = time.monotonic()
    try:
        for answer in _answers(running, sys.stdin):
            print(json.dumps(answer, ensure_ascii=False), flush=True)
            if state is not None and time.monotonic() - last_save > 10:
                running.save(state)
                last_save = time.monotonic()
    finally:  # also when the row is wrong, the pipe is closed or the user stops: what was read is not lost
        if state is not None:
            running.save(state)


@app.command()
def prove(
    file: ModelPath,
    precision: Annotated[
        list[str] | None,
        typer.Option("--precision", help="float32, bfloat16, int8 [default: all three]."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a model in every way it can be run and print the largest difference: whole, in chunks,
    step by step, among others in a pool, saved and loaded, rewound and forked, exported. Status 1
    when one is larger than it may be.
    """
    from memorycell.application import modelfile

    precisions = precision or ["float32", "bfloat16", "int8"]
    _check_precision(*precisions)
    result, costs, proof = _proved(modelfile.load(file), precisions, ("onnx", "c"))
    if as_json:
        print(json.dumps({"file": str(file), **result, "costs": costs}))
    if not proof.ok:
        raise SystemExit(1)


@app.command()
def inspect(
    file: ModelPath,
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[INPUT]", help="A table or a text to read; else the model's own data."
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="The page to write.")] = Path("report.html"),
    as_json: AsJson = False,
) -> None:
    """Look inside the gates: what they did over time, what saturates, and how far back the model
    remembers.
    """
    _check_writable(out)
    from memorycell.application import modelfile
    from memorycell.application.datasets import locate
    from memorycell.files import write_atomically
    from memorycell.tables.table import read_table

    model = modelfile.load(file)
    task, own = str(model.info["task"]), source is None
    source = str(model.info["data"]) if source is None else source
    if task == "forecast":
        from memorycell.applications.forecast.figures import inside

        path, named = locate(source)
        found = inside(model, read_table(path), named.name if named else source)
    else:
        from memorycell.application import live
        from memorycell.language import figures as language
        from memorycell.signals import figures as signals

        work = live.application(task)
        if hasattr(work, "features_of"):
            read = (
                _task(task).reopen(None, model).reading()
                if own
                else work.features_of(model, source)
            )
            found = signals.inside(model, read, source)
        else:
            text = _task(task).reopen(None, model).reading() if own else _source(source, work)
            found = language.inside(model, text or "", source if own else "what was given")
    write_atomically(out, found.page())
    _say(found.sentence)
    for line in found.advice:
        _say(f"try: {line}")
    _say(f"written: {out}")
    if as_json:
        print(json.dumps({"file": str(file), "report": str(out), **found.to_json()}))


@app.command()
def lab(
    what: Annotated[
        str,
        typer.Argument(
            metavar="[classics|story]", help="The long-lag problems, or the article's example."
        ),
    ] = "classics",
    out: Annotated[Path, typer.Option("--out", help="The page to write.")] = Path("lab.html"),
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", min=0.01, help="Take about so long [3; the story 0.8]."),
    ] = None,
    gap: Annotated[int, typer.Option("--gap", help="The longest gap of the recall problem.")] = 200,
    cell: Annotated[
        list[str] | None, typer.Option("--cell", help="Cells [default: all six].")
    ] = None,
    problem: Annotated[
        list[str] | None,
        typer.Option("--problem", help="recall, adding, order, copy [default: all]."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    as_json: AsJson = False,
) -> None:
    """The memory lab: why a plain RNN forgets and the gated cells do not, trained before your eyes."""
    if what not in ("classics", "story"):
        raise UserError(f"lab {what}: expected classics or story")
    _check_writable(out)
    from memorycell.files import write_atomically

    if what == "story":
        from memorycell.lab import story

        told = story.tell(minutes or 0.8, seed, _say)
        write_atomically(out, story.report(told))
        _say(f"so this country is … {told.completion.capitalize()} ({told.probability:.1%})")
        result = told.to_json()
    else:
        from memorycell.lab import lab as classics
        from memorycell.lab.problems import PROBLEMS
        from memorycell.lab.trial import CELLS

        began = time.monotonic()
        outcomes = classics.trials(
            minutes or 3.0, gap, cell or CELLS, problem or tuple(PROBLEMS), seed=seed, say=_say
        )
        result = classics.to_json(outcomes, time.monotonic() - began)
        write_atomically(out, classics.report(outcomes, result["carousel"]["max_change"]))
    _say(f"written: {out}")
    if as_json:
        print(json.dumps({"report": str(out), **result}))


@app.command()
def export(
    file: ModelPath,
    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="onnx|c", help="An ONNX file, or C99 source with its header and test."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="The folder to write into.")
    ] = Path(),
    precision: Annotated[
        str, typer.Option("--precision", help="float32, or int8 for C.")
    ] = "float32",
    as_json: AsJson = False,
) -> None:
    """Write a model for another world, and prove that it still gives the same numbers there."""
    from memorycell.application import modelfile
    from memorycell.exchange import files

    _check_precision(precision)
    model = modelfile.load(file)
    if precision != "float32":
        _check_engine(model, precision)
    files.check(model, to)
    problem = _reopened(model)
    test = None if problem is None else problem.sample(32)
    written = files.write(model, to, out, file.stem, precision=precision, test=test)
    for path in written["files"]:
        _say(f"written: {path}")
    if "flash_bytes" in written:
        _say(
            "{flash_bytes:,} bytes of constants (flash), {state_bytes:,} bytes of state,"
            " {stack_bytes:,} bytes of stack for a step's arrays (RAM)".format(**written)
        )
    result, costs, proof = _proved(model, (precision,), (to,), problem)
    if as_json:
        print(json.dumps({"file": str(file), **written, "proof": result, "costs": costs}))
    if not proof.ok:
        raise SystemExit(1)


@app.command()
def bench(
    work: Annotated[
        str,
        typer.Argument(
            metavar="step|stream|sessions|train",
            help="One live step, raw or through Stream; many sessions; or one training step.",
        ),
    ],
    hidden: Annotated[
        list[int] | None,
        typer.Option("--hidden", help="Sizes of the layer [default: 64 128 256 512]."),
    ] = None,
    cell: Annotated[list[str] | None, typer.Option("--cell", help="Cells [default: lstm].")] = None,
    precision: Annotated[
        list[str] | None, typer.Option("--precision", help="float32, bfloat16, int8 (step).")
    ] = None,
    peers: Annotated[
        str, typer.Option("--peers", help="torch, onnxruntime, openvino, reference; with commas.")
    ] = "torch",
    batch: Annotated[
        int, typer.Option("--batch", min=1, help="Sequences in a training step.")
    ] = 64,
    sessions: Annotated[
        int, typer.Option("--sessions", min=1, help="Live sequences stepped together.")
    ] = 64,
    steps: Annotated[
        int, typer.Option("--steps", min=1, help="Their length in a training step.")
    ] = 100,
    zoneout: Annotated[
        float, typer.Option("--zoneout", min=0, max=0.99, help="Of a training step.")
    ] = 0.0,
    threads: Annotated[int, typer.Option("--threads", min=1)] = 1,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Write a page with the table and a picture.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure speed beside peers: outputs compared first, then timed in turns, medians."""
    if work not in ("step", "stream", "sessions", "train"):
        raise UserError(f"bench {work}: expected step, stream, sessions or train")
    _check_writable(plot)
    from memorycell.bench import measure as benchmark

    result = benchmark.run(
        work,
        hidden or [64, 128, 256, 512],
        cell or ["lstm"],
        [p.strip() for p in peers.split(",") if p.strip()],
        precision or ["float32"],
        batch=batch,
        sessions=sessions,
        steps=steps,
        threads=threads,
        zoneout=zoneout,
        say=_say,
    )
    if plot is not None:
        benchmark.plot(result, plot)
        _say(f"written: {plot}")
    if as_json:
        print(json.dumps(result))


@data_app.command("list")
def data_list(as_json: AsJson = False) -> None:
    """The data sets, their licences, and whether they are here."""
    from memorycell.application.datasets import SOURCES

    rows = []
    for source in SOURCES.values():
        try:
            where = str(source.find())
        except DataError as error:
            where = f"not here ({error})"
        about = {
            "name": source.name,
            "about": source.about,
            "licence": source.licence,
            "cite": source.citation,
        }
        rows.append({**about, "where": where})
    if as_json:
        print(json.dumps(rows))
        return
    for row in rows:
        print(row["name"])
        for key in ("about", "licence", "cite", "where"):
            print(f"  {key:8} {row[key]}")


@data_app.command("get")
def data_get(
    name: Annotated[str, typer.Argument(help="A name from `memorycell data list`.")],
) -> None:
    """Print where a data set lies, with its licence and citation."""
    from memorycell.application.datasets import SOURCES

    if name not in SOURCES:
        raise UserError(f"{name}: no such data set; there are {', '.join(SOURCES)}")
    source = SOURCES[name]
    _say(f"{source.name}: {source.about}. Licence: {source.licence}. Cite: {source.citation}")
    print(source.find())


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"memorycell {version('memorycell')}")
        raise typer.Exit


@app.callback()
def main_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Train an LSTM on your sequences, look inside its gates, and run it live, one step at a time."""


def main() -> None:
    """The entry point of the `memorycell` command."""
    app(prog_name="memorycell")


# ---- what the verbs share ------------------------------------------------------------------------


def _answers(running: Any, stdin: Any) -> Iterator[Any]:
    """What a model says to what comes in: lines, or bytes as they arrive."""
    if not hasattr(running, "feed_bytes"):
        answers = (
            running.line(line.rstrip("\r\n"), number) for number, line in enumerate(stdin, 1)
        )
        yield from (answer for answer in answers if answer is not None)
        return
    while data := stdin.buffer.read1(1 << 16):
        yield from running.feed_bytes(data)
    yield from running.close()


def _interrupt(signum: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _check_engine(model: Any, precision: str) -> None:
    reason = model.model.unsupported_reason()
    if reason:
        raise UserError(f"--precision {precision}: {reason}")


def _check_precision(*names: str) -> None:
    from memorycell.ops import binding

    for name in names:
        if name not in binding.PRECISIONS:
            raise UserError(f"--precision {name}: expected {', '.join(binding.PRECISIONS)}")


def _reopened(model: Any) -> Any:
    """The model's own test data, or None where it is not here any more."""
    try:
        return _task(model.info["task"]).reopen(None, model)
    except UserError as error:
        _say(f"proved on random numbers, not on the model's own data ({error})")
        return None


def _proved(
    model: Any, precisions: Any, exports: Any, problem: Any = None
) -> tuple[dict[str, Any], list[Any], Any]:
    """Prove a model on its own test data, if that is here, and say what each lower precision costs
    on it.
    """
    from memorycell import proof as proofs

    problem = problem or _reopened(model)
    inputs = None if problem is None else problem.sample(proofs.STEPS)
    try:
        found = proofs.prove(model, inputs, precisions=precisions, exports=exports, say=_say)
    except ValueError as error:  # a model that has no steps
        raise UserError(f"prove: {str(error).removeprefix('stream: ')}") from None
    for name, why in found.skipped.items():
        _say(f"not checked: {name}: {why}")
    costs = []
    for precision in [p for p in precisions if p != "float32" and problem is not None]:
        if any(check.precision == precision for check in found.checks):
            metric = _task(model.info["task"]).primary
            cost = proofs.precision_cost(
                lambda p: problem.score(model.model, "test", p), metric, precision
            )
            _say(
                f"{precision}: {metric} on the test part {cost['float32']:.4g} ->"
                f" {cost[precision]:.4g} ({cost['change']:+.2%})"
            )
            costs.append({"precision": precision, **cost})
    return found.to_json(), costs, found


def _task(name: str) -> Any:
    from memorycell.tasks import TASKS

    if name not in TASKS:
        raise UserError(f"{name}: no such task; there is {', '.join(TASKS)} (memorycell tasks)")
    return TASKS[name]


def _settings_of(task: Any) -> list[str]:
    import dataclasses

    from memorycell.application.contract import TrainSettings

    return [
        field.name for kind in (task.settings, TrainSettings) for field in dataclasses.fields(kind)
    ]


def _pairs(settings: list[str]) -> dict[str, str]:
    pairs = {}
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--set {text}: expected key=value")
        pairs[key.strip()] = value.strip()
    return pairs


def _check_writable(*paths: Path | None) -> None:
    """Before long work: a folder that is missing is told now, not at the end."""
    for path in paths:
        if path is not None and not path.parent.is_dir():
            raise UserError(
                f"{path}: there is no folder {path.parent}; make it, or name another file"
            )


def _source(given: str | None, work: Any) -> str | None:
    """What INPUT says: the name of a file, where the application reads one; else a text, or the
    text in a file or on stdin.
    """
    if given is None or getattr(work, "READS", "text") == "file":
        return given
    if given == "-":
        return sys.stdin.read()
    try:
        is_file = len(given) < 1000 and Path(given).is_file()
    except (OSError, ValueError):  # a text with a NUL, or with too long a word
        is_file = False
    if is_file:
        from memorycell.language.codec import read_text

        return read_text(Path(given))
    return given


def _write_report(file: Path, data: str | None, report: Path, result: dict[str, Any]) -> None:
    from memorycell.application import modelfile
    from memorycell.files import write_atomically

    model = modelfile.load(file)
    if result["task"] == "forecast":
        from memorycell.applications.forecast.figures import evaluation_page

        text = evaluation_page(model, _task("forecast").reopen(data, model))
    else:
        from memorycell.language import figures as language

        text = language.evaluation_page(model, result)
    write_atomically(report, text)
    _say(f"written: {report}")
