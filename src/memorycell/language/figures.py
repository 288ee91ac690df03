"""Pictures of models that read text: what was surprising, which words mattered, what a translation
looked at.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from memorycell.application.modelfile import ModelFile
from memorycell.applications.translation.live import translate
from memorycell.applications.translation.model import Translator
from memorycell.errors import DataError
from memorycell.inspection.inside import Inspection, inspect
from memorycell.inspection.page import BLUE, GREY, Section, figure, page
from memorycell.language.model import LanguageModel
from memorycell.models.classifier import Classifier

MOST = 12
"""Answers that are drawn of one call."""


def page_of(task: str, record: dict[str, Any]) -> str:
    """The picture of what `predict` gave."""
    if task == "translation":
        return _translations(record["translations"])
    if task == "sentiment":
        return _labels(record["texts"])
    return _text(record)


def _translations(found: list[dict[str, Any]]) -> str:
    sections = []
    for one in [o for o in found if o["tokens"]][:MOST]:
        fig = figure(140 + 26 * len(one["tokens"]))
        fig.add_heatmap(
            z=one["attention"],
            x=_distinct(one["sources"]),
            y=_distinct(one["tokens"]),
            colorscale=[[0, "rgba(61,143,209,0)"], [1, BLUE]],
            zmin=0,
            zmax=1,
            showscale=False,
            xgap=2,
            ygap=2,
            hovertemplate="%{y} looked at %{x}: %{z:.0%}<extra></extra>",
        )
        fig.update_yaxes(autorange="reversed", showgrid=False)
        fig.update_xaxes(side="top", showgrid=False, tickangle=-35)
        fig.update_layout(hovermode="closest", margin={"l": 90, "r": 20, "t": 90, "b": 20})
        sections.append(
            Section(one["text"], f"of: {one['source']}  (p = {one['p']:.2f} a token)", fig)
        )
    return page(
        "What each word of the translation looked at",
        "Rows are the translation's tokens from top to bottom, columns the "
        "source's; the darker, the more attention.",
        sections,
    )


def _distinct(names: list[str]) -> list[str]:
    """Names that an axis does not take for the same: invisible signs behind those that repeat."""
    seen: dict[str, int] = {}
    result = []
    for name in (n.strip() or "·" for n in names):
        seen[name] = seen.get(name, 0) + 1
        result.append(name + "\u200b" * (seen[name] - 1))
    return result


def _labels(found: list[dict[str, Any]]) -> str:
    sections = []
    for one in found[:MOST]:
        weights = [w["weight"] for w in one.get("words", [])]
        most = max([0.05, *map(abs, weights)])
        shares = ", ".join(f"{label} {p:.1%}" for label, p in one["probabilities"].items())
        words = [(w["word"], w["weight"] / most) for w in one.get("words", [])]
        sections.append(Section(f"{one['label']}, {one['p']:.1%} sure", shares, words=words))
    return page(
        "Which words mattered",
        "Blue words spoke for the answer, orange ones against it: by how much its probability falls"
        " when the word is left out.",
        sections,
    )


def _text(record: dict[str, Any]) -> str:
    sections = [Section("How it goes on", record["text"] + "▸" + record["continuation"])]
    if record["next"]:
        fig = figure(80 + 28 * len(record["next"]))
        words = list(reversed(record["next"]))
        fig.add_bar(
            x=[w["p"] for w in words],
            y=[w["word"] for w in words],
            orientation="h",
            marker={"color": BLUE},
        )
        fig.update_xaxes(tickformat=".1%" if words[-1]["p"] < 0.1 else ".0%", title="probability")
        sections.append(Section("The next word", figure=fig))
    if record["score"]:
        told = record["score"]
        words = [
            (t["token"].replace("\n", "⏎ ").replace(" ", "·"), -min(1.0, t["nats"] / 8))
            for t in told["tokens"][:2000]
        ]
        sections.append(
            Section(
                f"What was given: {told['nats']:.2f} nats a token, perplexity"
                f" {told['perplexity']:.3g}",
                "The stronger the colour, the less the model expected the token.",
                words=words,
            )
        )
    return page("A text and what the model makes of it", "", sections)


# ---- training ------------------------------------------------------------------------------------


def evaluation_page(file: ModelFile, result: dict[str, Any]) -> str:
    """The report of a trained model: its metrics beside the simple methods', examples, the
    training.
    """
    names = list(result["metrics"])
    rows = [
        [method, *(f"{values[n]:.4g}" if n in values else "" for n in names)]
        for method, values in [*result["baselines"].items(), ("memorycell", result["metrics"])]
    ]
    sections = [
        Section(
            "Beside simple methods, on what it never saw",
            table=[["", *names], *rows],
            highlight="memorycell",
        )
    ]
    if "confusion" in result:
        table = result["confusion"]
        body = [[name, *(f"{n:,}" for n in row.values())] for name, row in table.items()]
        sections.append(
            Section(
                "What it was (rows), and what was answered (columns)", table=[["", *table], *body]
            )
        )
    if "examples" in result:
        cells = [[e["source"], e["ours"], e["wanted"]] for e in result["examples"]]
        sections.append(Section("As they are", table=[["given", "answered", "wanted"], *cells]))
    history = file.info.get("history") or []
    watched = next((n for n in history[0] if n.startswith("valid_")), "") if history else ""
    if watched:
        fig = figure(300)
        epochs = list(range(1, len(history) + 1))
        for name, colour in ((watched, BLUE), ("loss", GREY)):
            values = [entry[name] for entry in history]
            fig.add_scatter(
                x=epochs,
                y=values,
                name=name.replace("_", " "),
                mode="lines+markers",
                line={"color": colour},
            )
        fig.update_xaxes(title="epoch")
        sections.append(Section("Training", "", fig))
    skill = result["skill"]
    verdict = (
        ""
        if skill is None
        else f": {abs(skill):.1%} {'better' if skill >= 0 else 'WORSE'} than the best simple method"
    )
    return page(
        f"{result['task']}, {result['primary']}{verdict}", "", sections, file.info.get("notes", [])
    )


# ---- inside --------------------------------------------------------------------------------------


class _Whole(nn.Module):
    """A model that reads its input whole, as something to be called with tokens alone."""

    def __init__(self, model: Classifier | Translator, target: Tensor | None = None) -> None:
        super().__init__()
        self.model, self.target = model, target

    def forward(self, tokens: Tensor) -> None:
        lengths = torch.tensor([tokens.shape[1]])
        if isinstance(self.model, Classifier):
            self.model.classify(tokens, lengths)
        else:
            assert self.target is not None
            self.model.write(self.target, *self.model.read(tokens, lengths))


def inside(file: ModelFile, text: str, where: str, *, steps: int = 1000) -> Inspection:
    """Look inside a model that reads text while it reads one. Raises `DataError` for an empty text."""
    codec, model = file.codec, file.model
    settings = file.info.get("settings") or {}
    if isinstance(model, LanguageModel):
        tokens = codec.encode(text)[-steps:]
        labels = [codec.surfaces[t] for t in tokens]
    elif isinstance(model, Classifier):
        tokens = codec.text.encode(text)[-steps:]
        labels = [codec.text.surfaces[t] for t in tokens]
    else:
        tokens = codec.encode(text)[0][-steps:]
        labels = [codec.source.surfaces[t] for t in tokens]
    if len(tokens) < 2:
        raise DataError(f"{where}: holds too little text to look at")
    called: nn.Module = model
    if isinstance(model, Classifier):
        called = _Whole(model)
    elif isinstance(model, Translator):
        written = [codec.target.numbers.get(t, 0) for t in translate(file, [text])[0].tokens]
        called = _Whole(model, torch.tensor([[1, *written]]))
    found = inspect(
        called.eval(),
        torch.tensor(tokens)[None],
        labels=[label.replace("\n", "⏎") for label in labels],
        title=f"Inside a model of {file.info.get('data', 'text')}",
        trained_on=settings.get("bptt"),
    )
    found.history = file.info.get("history") or []
    found.notes.append(f"{where}: {len(tokens):,} tokens")
    return found
