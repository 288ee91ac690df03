"""The tasks that there are, for people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from memorycell.application import catalogue
from memorycell.application.contract import Record
from memorycell.errors import UserError
from memorycell.face.setting_list import settings
from memorycell.training.events import Log, ignore


@dataclass(frozen=True)
class Task:
    """A task: what it does, what it reads, and the names of its settings."""

    name: str
    summary: str
    reads: str
    default_dataset: str
    metric: str
    baselines: tuple[str, ...]
    settings: tuple[str, ...]

    def to_json(self) -> Record:
        """The entry of `memorycell tasks --json`."""
        return {
            "name": self.name,
            "about": self.summary,
            "reads": self.reads,
            "source": self.default_dataset,
            "primary": self.metric,
            "baselines": self.baselines,
        }

    def __str__(self) -> str:
        return (
            f"{self.name}\n  {self.summary}\n  reads      {self.reads}\n"
            f"  default    {self.default_dataset}\n"
            f"  baselines  {', '.join(self.baselines)}\n  settings   {' '.join(self.settings)}"
        )


def task_list(log: Log = ignore) -> list[Task]:
    """The tasks whose packages are installed; `log` is called with what the others need."""
    return list(_tasks(log))


def _tasks(log: Log) -> Iterator[Task]:
    for name in catalogue.names():
        try:
            a = catalogue.load(name)
        except UserError as error:  # a package is missing
            log(str(error))
            continue
        own = tuple(setting.name for setting in settings(name))
        yield Task(
            name, a.summary, a.reads, a.default_dataset, a.metric.name, tuple(a.baselines), own
        )
