"""The named public datasets of this application."""

from memorycell.application.named_dataset import NamedDataset

DATASETS = (
    NamedDataset(
        "multi30k-de-en",
        "captions of pictures in German and English: 29,000 training pairs",
        "non-commercial",
        "D. Elliott et al. (2016), Multi30K, arXiv:1605.00459",
        paths=("translation/multi30k", "multi30k"),
        settings={"languages": "de-en"},
    ),
    NamedDataset(
        "tatoeba-en-hi",
        "3,117 English sentences with their Hindi translations",
        "CC BY 2.0 FR",
        "Tatoeba (tatoeba.org)",
        paths=("translation/tatoeba-en-hi.txt", "tatoeba-en-hi.txt"),
    ),
    NamedDataset(
        "localisation-en-hi",
        "64,534 English messages of programs with their Hindi translations",
        "the programs' own free licences",
        "Debian's message catalogues",
        paths=("translation/localisation-en-hi.tsv.gz", "localisation-en-hi.tsv.gz"),
    ),
)
