"""The report of a trained model, for applications without one of their own."""

from __future__ import annotations

from typing import Any

from memorycell.application.contract import AnyModelFile
from memorycell.inspection.page import BLUE, GREY, Page, Section, figure, page


def evaluation_page(file: AnyModelFile, result: dict[str, Any]) -> Page:
    """The report of a trained model: its metrics and the baselines', examples, the training."""
    names = list(result["metrics"])
    rows = [
        [method, *(f"{values[n]:.4g}" if n in values else "" for n in names)]
        for method, values in [*result["baselines"].items(), ("memorycell", result["metrics"])]
    ]
    sections = [
        Section(
            "Compared with baselines on the held-out test split",
            table=[["", *names], *rows],
            highlight="memorycell",
        )
    ]
    if "confusion" in result:
        table = result["confusion"]
        body = [[name, *(f"{n:,}" for n in row.values())] for name, row in table.items()]
        sections.append(
            Section("True class (rows), prediction (columns)", table=[["", *table], *body])
        )
    if "examples" in result:
        cells = [[e["source"], e["ours"], e["wanted"]] for e in result["examples"]]
        sections.append(Section("Examples", table=[["input", "prediction", "reference"], *cells]))
    history = file.history
    metric = next((n for n in history[0] if n.startswith("valid_")), "") if history else ""
    if metric:
        fig = figure(300)
        epochs = list(range(1, len(history) + 1))
        for name, colour in ((metric, BLUE), ("loss", GREY)):
            values = [entry.get(name) for entry in history]
            fig.add_scatter(
                x=epochs,
                y=values,
                name=name.replace("_", " "),
                mode="lines+markers",
                line={"color": colour},
            )
        fig.update_xaxes(title="epoch")
        sections.append(Section("Training", "", fig, name="training"))
    skill = result["skill"]
    verdict = (
        ""
        if skill is None
        else f": {abs(skill):.1%} {'better' if skill >= 0 else 'WORSE'} than the best baseline"
    )
    return page(
        f"{result['task']}, {result['primary']}{verdict}", "", sections, file.info.get("notes", [])
    )
