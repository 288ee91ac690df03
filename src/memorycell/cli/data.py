"""data list, data get."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from memorycell.cli.app import AsJson, app
from memorycell.cli.console import log
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
        print(json.dumps(rows))
        return
    for row in rows:
        print(row["name"])
        for key in ("about", "licence", "cite", "where"):
            print(f"  {key:8} {row[key]}")


@data.command("get")
def data_get(
    name: Annotated[str, typer.Argument(help="A name from `memorycell data list`.")],
) -> None:
    """Print the path of a dataset, with its licence and citation."""
    from memorycell.application.datasets import named_dataset

    dataset = named_dataset(name)
    log(f"{dataset.name}: {dataset.about}. Licence: {dataset.licence}. Cite: {dataset.citation}")
    print(dataset.find())
