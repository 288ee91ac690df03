"""The named public datasets of this application."""

from memorycell.application.named_dataset import NamedDataset

DATASETS = (
    NamedDataset(
        "free-spoken-digits",
        "3,000 spoken English digits by six speakers; the first five recordings of each speaker and"
        " digit are the test split",
        "CC BY-SA 4.0",
        "Z. Jackson et al. (2018), free-spoken-digit-dataset",
        paths=("speech/free-spoken-digits", "free-spoken-digits"),
        settings={"names": "{label}_{group}_{index}", "held_out": "index<5"},
    ),
    NamedDataset(
        "asterisk-en",
        "568 English telephone prompts with transcripts, one speaker, 25 minutes",
        "CC BY-SA 3.0",
        "Asterisk core sounds, English (Digium)",
        paths=("speech/asterisk-en", "asterisk-en"),
    ),
)
