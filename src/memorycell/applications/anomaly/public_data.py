"""The named public datasets of this application."""

from memorycell.application.datasets import NamedDataset

DATASETS = (
    NamedDataset(
        "skab",
        "34 recordings of a loop of water with a pump: eight sensors, a row a second, with"
        " faults that were put in",
        "GPL-3.0",
        "I. Katser & V. Kozitsin (2020), Skoltech Anomaly Benchmark",
        paths=("anomaly/skab", "skab"),
        settings={
            "label": "anomaly",
            "settle": 400,
            "columns": (
                "Accelerometer1RMS,Accelerometer2RMS,Current,Pressure,Temperature,Thermocouple,Voltage,Volume"
                " Flow RateRMS"
            ),
        },
    ),
)
