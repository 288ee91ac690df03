"""Heads: from hidden states to what a person wants, with the loss that trains it."""

from memorycell.applications.anomaly.head import NextRow, NextRowStep
from memorycell.applications.drawing.head import Mixture
from memorycell.applications.forecast.head import (
    FORECASTS,
    CountForecast,
    Forecast,
    ForecastStep,
    StudentForecast,
    Told,
)
from memorycell.applications.music.head import Keys, Voices
from memorycell.models.heads import CTC, IGNORE, Classify, NextStep, WordPairs

__all__ = [
    "CTC",
    "FORECASTS",
    "IGNORE",
    "Classify",
    "CountForecast",
    "Forecast",
    "ForecastStep",
    "Keys",
    "Mixture",
    "NextRow",
    "NextRowStep",
    "NextStep",
    "StudentForecast",
    "Told",
    "Voices",
    "WordPairs",
]
