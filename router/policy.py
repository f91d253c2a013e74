"""Which replica gets a request. A policy is a row of POLICIES: from replicas that may be picked, at least one, to one of them.

Outstanding tokens of a replica, summed over the requests that this router has dispatched to it and not finished:

    (prompt + resumed tokens, until the first answer) + max(1, min(max_tokens, EXPECTED_OUTPUT) - output so far)

It is counted at dispatch, so a burst spreads before any replica has reported its load.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol, TypeVar

from ossia.v1.engine_pb2 import Submit

EXPECTED_OUTPUT = 256  # tokens; max_tokens is a bound, rarely an expectation


class Outstanding:
    """What one replica still owes this router."""

    def __init__(self) -> None:
        self.tokens = 0
        self.requests = 0
        self.dispatched = 0  # requests so far

    def open(self, submit: Submit) -> "Share":
        """Counts a request in; close the share when it has left the replica."""
        return Share(self, submit)


class Share:
    """One request's part of a replica's outstanding tokens."""

    def __init__(self, outstanding: Outstanding, submit: Submit) -> None:
        resumed = len(submit.resume.tokens)
        limit = submit.sampling.max_tokens if submit.sampling.HasField("max_tokens") else EXPECTED_OUTPUT
        self._outstanding = outstanding
        self._prefill = len(submit.prompt) + resumed
        self._output = resumed
        self._expected = min(limit, EXPECTED_OUTPUT)
        self._counted = 0
        outstanding.requests += 1
        outstanding.dispatched += 1
        self._count(self._cost)

    def answered(self, tokens: int) -> None:
        """A delta of that many tokens came: the prompt is prefilled."""
        self._prefill = 0
        self._output += tokens
        self._count(self._cost)

    def close(self) -> None:
        self._outstanding.requests -= 1
        self._count(0)

    @property
    def _cost(self) -> int:
        return self._prefill + max(1, self._expected - self._output)

    def _count(self, cost: int) -> None:
        self._outstanding.tokens += cost - self._counted
        self._counted = cost


class Candidate(Protocol):
    """What a policy sees of a replica."""

    @property
    def outstanding(self) -> Outstanding: ...


C = TypeVar("C", bound=Candidate)


class Policy(Protocol):
    def __call__(self, candidates: Sequence[C], /) -> C: ...


def least_outstanding_tokens(candidates: Sequence[C]) -> C:
    """Ties go to the replica that has been given the fewest requests so far."""
    return min(candidates, key=lambda candidate: (candidate.outstanding.tokens, candidate.outstanding.dispatched))


POLICIES: Mapping[str, Policy] = MappingProxyType({"least-outstanding-tokens": least_outstanding_tokens})
