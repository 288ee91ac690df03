"""Named public datasets: where they are, their licence, how to cite them.

A dataset is looked for in the folders of MEMORYCELL_DATA (colon-separated), then in an installed
package. Every application names its own.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TypeVar

from memorycell.application import catalogue
from memorycell.application.named_dataset import NamedDataset
from memorycell.errors import DataError, UserError, quote
from memorycell.setting_fields import suggestion

S = TypeVar("S")


def named_datasets() -> dict[str, NamedDataset]:
    """Name -> dataset, of all applications whose packages are installed."""
    found: dict[str, NamedDataset] = {}
    for name in catalogue.names():
        try:
            application = catalogue.load(name)
        except UserError:
            continue
        found |= {dataset.name: dataset for dataset in application.datasets}
    return found


def named_dataset(name: str) -> NamedDataset:
    """The dataset of a name. Raises `UserError` for an unknown one."""
    found = named_datasets()
    if name not in found:
        raise UserError(
            f"{quote(name)[1:-1]}: no such dataset; {suggestion(name, found)}there are"
            f" {', '.join(found)}"
        )
    return found[name]


def locate(name_or_path: str | Path, *, stem: bool = False) -> tuple[Path, NamedDataset | None]:
    """The file of a path or of a dataset's name, and the dataset if it was a name. An existing file
    of that name takes precedence.

    stem   it may also be what the names of two files have in common before their suffixes
    """
    path = Path(name_or_path)
    if path.exists() or (stem and any(path.parent.glob(f"{path.name}.*"))):
        return path, None
    dataset = named_datasets().get(str(name_or_path))
    if dataset is None:
        raise DataError(f"{path}: no such file, and no dataset of that name (memorycell data list)")
    return dataset.find(), dataset


def with_dataset_settings(settings: S, dataset: NamedDataset | None) -> S:
    """The settings with a named dataset's own, where the user has left the default."""
    if dataset is None:
        return settings
    default = vars(type(settings)())
    given = vars(settings)
    own = {k: v for k, v in dataset.settings.items() if given[k] == default[k]}
    return dataclasses.replace(settings, **own)  # type: ignore[type-var]
