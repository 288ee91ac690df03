"""The report of a trained model, for applications without one of their own."""

from __future__ import annotations

from typing import Any

from memorycell.application.contract import AnyModelFile
from memorycell.inspection.page import BLUE, GREY, Section, figure, page


def evaluation_page(file: AnyModelFile, result: dict[str, Any]) -> str:
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
