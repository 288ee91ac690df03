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
    NamedDataset(
        "chitchat",
        "7,168 conversations between students, 258,145 messages",
        "MIT",
        "W. Myers et al. (2018), Chit-Chat Challenge, BYU Perception, Control & Cognition Lab",
        package=("chitchat_dataset", "dataset.json", "chitchat-dataset"),
        settings={
            "lossy": True,  # many of its conversations were never answered
            "vocabulary": 2000,
            "dropout": 0.1,
            "variational": 0.0,
            "weight_drop": 0.0,
            "embedding_dropout": 0.0,
            "noise": 0.0,
            "budget": 2000,
        },
    ),
)
