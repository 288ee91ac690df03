"""The pictures of a trained model as plotly figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memorycell.application import catalogue
from memorycell.application.contract import AnyModelFile, Record
from memorycell.application.predicting import predict_record
from memorycell.application.report import evaluation_page
from memorycell.errors import UserError, quote
from memorycell.face.memory import with_files, without_paths
from memorycell.face.options import typed_options
from memorycell.face.pictures import main_figure
from memorycell.inspection.page import BLUE, GREY, Page, escaped_figure, figure
from memorycell.inspection.report import FIGURE_NAMES
from memorycell.setting_fields import suggestion

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from memorycell.face.trained import Trained


def named_figure(model: Trained, name: str | None, x: Any, options: Mapping[str, Any]) -> go.Figure:
    """See `Trained.figure`."""
    if name is not None and name in OWN_FIGURES:
        return escaped_figure(OWN_FIGURES[name](model))
    if name is not None and name.rstrip(" 0123456789") in FIGURE_NAMES:
        return model.inspect(x).figure(name)
    figures = model.figures(x, **options)
    if name is None and figures:
        return next(iter(figures.values()))
    if name is None or name not in figures:
        there = list(dict.fromkeys([*figures, *OWN_FIGURES, *FIGURE_NAMES]))
        raise UserError(
            f"{model.task}: no figure {quote(name)}; {suggestion(str(name), there)}there are"
            f" {', '.join(there)}"
        )
    return figures[name]


def prediction_figures(model: Trained, x: Any, options: Mapping[str, Any]) -> dict[str, go.Figure]:
    """Name -> figure of the prediction for x. Raises `UserError`."""
    application = model.application
    if ".html" not in application.figures:
        raise UserError(f"{model.task}: a prediction has no figures; see write()")
    with with_files(application, options) as named, model.input(x) as source:
        given = typed_options(application.predict_options, named, application.name)
        page = application.figures[".html"](model, predict_record(model, source, given))
    return page.figures() if isinstance(page, Page) else {}


def report_page(model: AnyModelFile, source: str | None, result: Record | None) -> Page:
    """The page of an evaluation on the model's own data, or on those at a path.

    result   of the evaluation, where there is one already
    """
    from memorycell.training import loop

    application = catalogue.load(model.task)
    if application.report is not None:
        given = result or {}
        page = application.report(model, source, given)
    else:
        given = result or loop.evaluate(application, model, Path(model.data), source)
        page = evaluation_page(model, given)
    clean = Page(without_paths(page))
    if isinstance(page, Page):
        clean.sections = page.sections
    return clean


def _baselines_figure(model: Trained) -> go.Figure:
    """A bar for the primary metric of every method, best last."""
    primary, scores = model.primary, {**model.baselines, "memorycell": model.metrics}
    names = sorted(
        (name for name in scores if primary in scores[name]),
        key=lambda name: scores[name][primary],
        reverse=not model.higher_is_better,
    )
    fig = figure(120 + 36 * len(names))
    fig.add_bar(
        x=[scores[name][primary] for name in names],
        y=names,
        orientation="h",
        marker={"color": [BLUE if name == "memorycell" else GREY for name in names]},
        hovertemplate="%{y}: %{x:.4g}<extra></extra>",
    )
    fig.update_layout(hovermode="closest")
    better = "higher" if model.higher_is_better else "lower"
    fig.update_xaxes(title=f"{primary} on the test split ({better} is better)")
    return fig


def _training_figure(model: Trained) -> go.Figure:
    """The validation metric after every epoch, and that of the best baseline."""
    name, values, baseline = training_curve(model)
    fig = figure(300)
    epochs = list(range(1, len(values) + 1))
    fig.add_scatter(x=epochs, y=values, name=name, mode="lines+markers", line={"color": BLUE})
    if baseline is not None:
        fig.add_scatter(
            x=[epochs[0], epochs[-1]],
            y=[baseline] * 2,
            name="best baseline",
            mode="lines",
            line={"color": GREY, "dash": "dash"},
        )
    fig.update_xaxes(title="epoch")
    fig.update_yaxes(title=name)
    return fig


def training_curve(model: Trained) -> tuple[str, list[float | None], float | None]:
    """(name, values, the best baseline's value) of the validation metric that selected the best
    epoch. Raises `UserError` for a model without a history.
    """
    if not model.history:
        raise UserError("the model file has no training history")
    application = model.application
    name = f"valid_{application.selection_metric or model.primary}"
    name = name if name in model.history[0] else "loss"
    baseline = None if name == "loss" else model.info.get("to_beat")
    values = [entry.get(name) for entry in model.history]
    return name.replace("_", " "), values, baseline


OWN_FIGURES: Mapping[str, Callable[[Trained], go.Figure]] = {
    "main": main_figure,
    "baselines": _baselines_figure,
    "training": _training_figure,
}
"""Name -> what draws it from what is known of the model."""
