"""Which part of the data an example belongs to: what is tested on is never learnt from."""

from __future__ import annotations

import hashlib

SPLITS = ("train", "valid", "test")


def part_of(key: str, one_in: int) -> str:
    """The part by a hash of what equal examples have in common: one in so many is "test", as many
    "valid".
    """
    digit = hashlib.sha256(key.encode(errors="surrogatepass")).digest()[0] % one_in
    return {0: "test", 1: "valid"}.get(digit, "train")
