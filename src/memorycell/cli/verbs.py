"""All verbs, in the order of `memorycell --help`."""

from memorycell.cli import train, tune, run, look, export, serve, lab, bench, data  # noqa: F401, I001
from memorycell.cli.app import app

__all__ = ["app"]
