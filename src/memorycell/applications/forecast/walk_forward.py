"""Walk-forward evaluation of forecasts."""

from __future__ import annotations

from dataclasses import replace

from memorycell.application.contract import ModelFile
from memorycell.applications.forecast.codec import SeriesCodec
from memorycell.applications.forecast.dataset import ForecastDataset
from memorycell.applications.forecast.model import Forecaster
from memorycell.applications.forecast.reopening import reopen
from memorycell.applications.forecast.settings import ForecastSettings
from memorycell.errors import UserError


class ForecastWalk:
    """See `WalkForward`: `test` is the period, as shares of the time range."""

    def settings(self, settings: ForecastSettings, begin: float, end: float) -> ForecastSettings:
        """See `WalkForward`."""
        if settings.split is not None:
            raise UserError("backtest: periods are shares of the time; leave split out")
        return replace(settings, test=f"{begin:.6g}:{end:.6g}")

    def reopen(
        self, file: ModelFile[Forecaster, SeriesCodec], begin: float, end: float
    ) -> ForecastDataset:
        """See `WalkForward`."""
        return reopen(None, file).with_test_period(f"{begin:.6g}:{end:.6g}")
