"""data list, data get."""

from __future__ import annotations

from typing import Annotated

import typer

from memorycell.cli.app import app
from memorycell.cli.console import log, put, put_json
from memorycell.cli.options import AsJson
from memorycell.errors import DataError

data = typer.Typer(no_args_is_help=True, help="Named public datasets.")
app.add_typer(data, name="data")


@data.command("list")
def data_list(as_json: AsJson = False) -> None:
    """List the datasets with their licences, and whether they are available here."""
    from memorycell.application.datasets import named_datasets

    rows = []
    for dataset in named_datasets().values():
        try:
            where = str(dataset.find())
        except DataError as error:
            where = f"not here ({error})"
        rows.append(
            {
                "name": dataset.name,
                "about": dataset.about,
                "licence": dataset.licence,
                "cite": dataset.citation,
                "where": where,
            }
        )
    if as_json:
        put_json(rows)
        return
    for row in rows:
        put(row["name"])
        for key in ("about", "licence", "cite", "where"):
            put(f"  {key:8} {row[key]}")


@data.command("get")
def data_get(
    name: Annotated[str, typer.Argument(help="A name from `memorycell data list`.")],
) -> None:
    """Print the path of a dataset, with its licence and citation."""
    from memorycell.application.datasets import named_dataset

    dataset = named_dataset(name)
    log(f"{dataset.name}: {dataset.about}. Licence: {dataset.licence}. Cite: {dataset.citation}")
    put(str(dataset.find()))
