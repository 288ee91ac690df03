"""Training, validation and test splits: test examples are never trained on."""

from __future__ import annotations

import hashlib

SPLITS = ("train", "valid", "test")


def split_of(key: str, one_in: int) -> str:
    """The split of an example by a hash of its key: one in `one_in` goes to "test", as many to
    "valid". Equal keys go to the same split.
    """
    digit = hashlib.sha256(key.encode(errors="surrogatepass")).digest()[0] % one_in
    return {0: "test", 1: "valid"}.get(digit, "train")
