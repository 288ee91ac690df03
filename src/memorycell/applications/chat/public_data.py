"""The named public datasets of this application."""

from memorycell.application.named_dataset import NamedDataset

DATASETS = (
    NamedDataset(
        "chatterbot",
        "small talk and questions with their answers, by subject",
        "BSD-3-Clause",
        "G. Cox, chatterbot-corpus",
        package=("chatterbot_corpus", "data/english", "chatterbot-corpus"),
    ),
)
