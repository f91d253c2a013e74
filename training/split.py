"""What is kept from training: a stable share of everything that tasks are made of."""

import hashlib
from collections.abc import Callable
from typing import TypeVar

from training.task import Split

Made = TypeVar("Made")
SHARE = 8  # one in so many is held out


def held_out(*parts: object) -> bool:
    """Whether these parts together (a spelled name, a pair of numbers, a word and a letter) are never trained on."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return digest[0] % SHARE == 0


def draw(split: Split, make: Callable[[], Made]) -> Made:
    """Makes things until one belongs to the split."""
    while True:
        made = make()
        if held_out(made) == (split == "held-out"):
            return made
