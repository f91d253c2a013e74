"""SplitMix64 (Steele, Lea and Flood, 2014): numbers made of numbers, the same on every machine, wherever chance is needed."""

from typing import Any

WORD = (1 << 64) - 1
GAMMA = 0x9E3779B97F4A7C15


def mix(value: Any) -> Any:
    """The finalizer, of an int below 2^64 or of an array of uint64."""
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & WORD
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & WORD
    return value ^ (value >> 31)


def pair(first: Any, second: Any) -> Any:
    """One number of two, in this order: output number `first` of the generator started at `second`. Types as in `mix`."""
    return mix((first + 1) * GAMMA + second & WORD)
