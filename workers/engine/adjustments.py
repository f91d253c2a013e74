"""What one request's sampling adds to its logits: penalties, biases, and the ban of stops before `min_tokens`."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workers.engine.checks import MAX_BIAS
from workers.engine.ints import Array, Ints
from workers.engine.sampling import Sampling

Values = NDArray[np.float32]
NO_IDS, NO_VALUES = np.zeros(0, np.int32), np.zeros(0, np.float32)


class Tally:
    """How often each id has come, ids in the order of their first coming."""

    def __init__(self, tokens: ArrayLike = ()) -> None:
        ids, counts = np.unique(np.asarray(tokens, np.int32), return_counts=True)
        self.ids, self._counts = Ints(ids), Ints(counts)
        self._places = {id: place for place, id in enumerate(ids.tolist())}

    @property
    def counts(self) -> Array:
        """One per id."""
        return self._counts.array

    def add(self, token: int, times: int = 1) -> None:
        place = self._places.setdefault(token, len(self.ids))
        if place == len(self.ids):
            self.ids.extend([token])
            self._counts.extend([0])
        self.counts[place] += times


class Adjustments:
    """Follows a request's tokens, so that each step costs what they differ in, not what they are."""

    def __init__(self, sampling: Sampling, stops: Iterable[int], prompt: Array) -> None:
        self._sampling = sampling
        self._penalized = sampling.presence_penalty != 0 or sampling.frequency_penalty != 0
        self._seen = Tally(prompt) if sampling.repetition_penalty != 1 else None
        biases = {token: bias if bias > -MAX_BIAS else -np.inf for token, bias in sampling.logit_bias}
        banned = set(stops) if sampling.min_tokens else set()
        self._output = Tally()
        for token in sorted(biases.keys() | banned):
            self._output.add(token, 0)
        first = self._output.ids.array.tolist()
        self._biases = np.array([biases.get(token, 0.0) for token in first], np.float32)
        self._banned = np.flatnonzero([token in banned for token in first])

    def add(self, token: int, times: int = 1) -> None:
        """The token has come, or with -1 `times` has not come after all."""
        if self._penalized:
            self._output.add(token, times)
        if self._seen is not None:
            self._seen.add(token, times)

    @property
    def seen(self) -> Array:
        """Ids that the repetition penalty concerns."""
        return NO_IDS if self._seen is None else self._seen.ids.array[self._seen.counts > 0]

    def bias(self, position: int) -> tuple[Array, Values]:
        """Ids whose logits change for the output token at that position, and what is added to each."""
        counts, sampling = self._output.counts, self._sampling
        penalties = sampling.frequency_penalty * counts + sampling.presence_penalty * (counts > 0)
        values: Values = -penalties.astype(np.float32)
        values[: len(self._biases)] += self._biases
        if position < sampling.min_tokens:
            values[self._banned] = -np.inf
        changed = np.flatnonzero(values)
        return self._output.ids.array[changed], values[changed]


def adjustments(sampling: Sampling, stops: Iterable[int], prompt: Array) -> Adjustments | None:
    """None where the sampling leaves the logits as they are."""
    plain = (0.0, 0.0, 1.0, (), 0)
    given = (
        sampling.presence_penalty,
        sampling.frequency_penalty,
        sampling.repetition_penalty,
        sampling.logit_bias,
        sampling.min_tokens,
    )
    return None if given == plain else Adjustments(sampling, stops, prompt)
