"""The public dataset of anomaly detection."""

from memorycell.application.named_dataset import NamedDataset

SKAB_COLUMNS = (
    "Accelerometer1RMS",
    "Accelerometer2RMS",
    "Current",
    "Pressure",
    "Temperature",
    "Thermocouple",
    "Voltage",
    "Volume Flow RateRMS",
)

DATASETS = (
    NamedDataset(
        "skab",
        "34 recordings of a water circulation loop with a pump: eight sensors, one row per second,"
        " with induced faults",
        "GPL-3.0",
        "I. Katser & V. Kozitsin (2020), Skoltech Anomaly Benchmark",
        paths=("anomaly/skab", "skab"),
        settings={"label": "anomaly", "settle": 400, "columns": ",".join(SKAB_COLUMNS)},
    ),
)
