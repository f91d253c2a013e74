"""The weights that training starts from."""

import hashlib
import math
import re
from collections.abc import Sequence

import torch
from torch import Tensor

from ossia.common import vocabulary
from training import induction
from training.model import Parameters, shapes
from workers.model.config import ModelConfig

LAST_NORM = 0.5  # the others are one: makes the first guesses modest, for rows are tied
LENGTH = 0.05  # of a row, a dimension
SAME, FORM, OWN = 0.8, 0.4, 0.45  # what rows of the same letters share, those that begin alike, and none
WORD = re.compile(r"([ ._]?)([A-Za-z]+)")


def initial(config: ModelConfig, ids: Sequence[int], seed: int) -> Parameters:
    """Float32 parameters: norms, biases and sinks of a constant, matrices at random, and `induction` written into them.

    Rows of tokens of the same letters (" find", "find", ".find") start alike, so that one is soon copied as another.
    """
    generator = torch.Generator().manual_seed(seed)

    def make(name: str, shape: tuple[int, ...]) -> Tensor:
        if name.endswith("norm"):
            return torch.full(shape, LAST_NORM if name == "norm" else 1.0)
        if name.endswith(("bias", "sinks")):
            return torch.zeros(shape)
        return torch.randn(shape, generator=generator) * _deviation(name, shape, config)

    parameters = {name: make(name, shape) for name, shape in shapes(config, len(ids)).items()}
    for row, token in zip(parameters["rows"], ids, strict=False):
        _spell(row, vocabulary.decode([token]))
    induction.write(parameters, config, generator)
    return parameters


def _spell(row: Tensor, text: str) -> None:
    word = WORD.fullmatch(text)
    if word is not None:
        row.mul_(OWN).add_(LENGTH * (SAME * _vector(word[2], len(row)) + FORM * _vector(f"form {word[1]}", len(row))))


def _vector(name: str, size: int) -> Tensor:
    """Normal numbers that depend on the name alone."""
    digest = hashlib.sha256(name.encode()).digest()
    return torch.randn(size, generator=torch.Generator().manual_seed(int.from_bytes(digest[:7], "little")))


def _deviation(name: str, shape: tuple[int, ...], config: ModelConfig) -> float:
    """So that the rows outweigh what layers add at first."""
    match name:
        case "rows":
            return LENGTH
        case "out":
            return 0.15 / math.sqrt(shape[-2] * shape[-3])
        case "down":
            return 0.15 / math.sqrt(shape[-2] * config.num_experts_per_tok)
        case _:
            return 0.5 / math.sqrt(shape[-1])
