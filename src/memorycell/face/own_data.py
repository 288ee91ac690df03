"""A trained model with the data that it was trained on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from memorycell.application import catalogue
from memorycell.application.advice import training_advice
from memorycell.application.contract import (
    AnyApplication,
    AnyDataset,
    AnyModelFile,
    ModelFile,
    NoOptions,
    Record,
)
from memorycell.application.picture import Picture
from memorycell.application.train_settings import TrainSettings
from memorycell.errors import ModelFileError, UserError
from memorycell.face.memory import (
    NAME,
    are_several_series,
    as_input,
    as_source,
    without_paths,
)
from memorycell.face.pictures import take_picture
from memorycell.face.writers import SERIES_COLUMN
from memorycell.inspection.inspect import Inspection
from memorycell.setting_fields import settings_from_json
from memorycell.training.events import Log, ignore


class ModelWithData(ModelFile[Any, Any]):
    """See `Trained`."""

    def __init__(self, file: AnyModelFile, path: Path | None = None) -> None:
        super().__init__(file.model, file.codec, file.info, file.arrays)
        self.path = path
        self.result: Record | None = None
        self.picture: Picture | None = None
        self._trained_on: object = None

    @property
    def application(self) -> AnyApplication:
        """Of its task."""
        return catalogue.load(self.task)

    def remember(self, result: Record, data: object) -> None:
        """Set the result of its training, and the data in memory that it was trained on."""
        self.picture = take_picture(result)
        self.result, self._trained_on = result, data

    def forget_path(self) -> None:
        """Its file was temporary."""
        self.path = None
        if self.result is not None:
            self.result = {**self.result, "file": None}

    def own_dataset(self, log: Log = ignore) -> AnyDataset | None:
        """The data that it was trained on; None where they are no longer available, which is
        logged.
        """
        try:
            with self.own_file() as file:
                return self.application.reopen(None, file)
        except UserError as error:
            log(f"proved on random inputs, not on the model's own data ({error})")
            return None

    @contextmanager
    def own_file(self, *, needed: bool = True) -> Iterator[AnyModelFile]:
        """The model as a file whose data are available, in a temporary file where they are in
        memory.

        needed   raise `UserError` where they were in memory and are not available; else the error
                 of who reads them says so
        """
        if self._trained_on is None:
            try:
                if needed:
                    self.own_data()
                yield self
            except UserError as error:
                if str(error).startswith(f"{NAME}: no such"):
                    self.own_data()
                raise
            return
        with self.source(None) as source:
            yield ModelFile(self.model, self.codec, {**self.info, "data": source}, self.arrays)

    def source(self, data: Any) -> AbstractContextManager[str | None]:
        """The path or name of data, by default its own, for the readers. Raises `UserError`."""
        own = self.own_data() if data is None else data
        self._check_series(own)
        return as_source(self.application, own, series=self.names_series)

    def input(self, x: Any) -> AbstractContextManager[str | None]:
        """What `predict` reads, for the readers. Raises `UserError`."""
        application = self.application
        self._check_series(x)
        return as_input(application, application.predict_reads, x, series=self.names_series)

    def own_data(self) -> Any:
        """The data in memory that it was trained on; None: those that the model file names. Raises
        `UserError` where these were in memory.
        """
        if self.data == NAME and self._trained_on is None:
            raise UserError("it was trained on data in memory: give the data again")
        return self._trained_on

    def _check_series(self, data: Any) -> None:
        """Raises `UserError` for several series where the model is of one."""
        settings = self.info.get("settings") or {}
        if are_several_series(self.application, data) and not settings.get("group"):
            raise UserError(
                f"{self.task}: the model is of one series, and these are {len(data)} arrays: give"
                " one at a time, or train on a list of arrays"
            )

    @property
    def names_series(self) -> bool:
        """Whether it was trained on a list of arrays, one per series."""
        settings = self.info.get("settings") or {}
        return self.application.in_memory == "table" and settings.get("group") == SERIES_COLUMN

    def training_settings(self) -> TrainSettings:
        """How it was trained. Raises `ModelFileError` where that is incomplete."""
        try:
            return settings_from_json(TrainSettings, self.info.get("training") or {})
        except ValueError as error:
            raise ModelFileError(
                f"the model file's description of its training is incomplete ({error}); train a new"
                " model"
            ) from None


def inspect_own(file: AnyModelFile) -> Inspection:
    """The inspection of a model on its own data. Raises `UserError`."""
    application = catalogue.load(file.task)
    with training_advice(application, NoOptions()):
        found = application.inspect(file, None)
    return replace(found, title=without_paths(found.title))
