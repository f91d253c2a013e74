"""Which replica gets a request. A policy is a row of POLICIES: from replicas that may be picked, at least one, and the request
to one of them.

Outstanding tokens of a replica, summed over the requests that this router has dispatched to it and not finished:

    (prompt + resumed tokens, until the first answer) + max(1, min(max_tokens, EXPECTED_OUTPUT) - output so far)

It is counted at dispatch, so a burst spreads before any replica has reported its load.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol, TypeVar

from ossia.v1.engine_pb2 import Submit

TOGETHER = 4  # prompts that a replica may owe more than the least, to be given another choice of a request that it has
EXPECTED_OUTPUT = 256  # tokens; max_tokens is a bound, rarely an expectation


class Outstanding:
    """What one replica still owes this router."""

    def __init__(self) -> None:
        self.tokens = 0
        self.requests = 0
        self.dispatched = 0  # requests so far
        self._prompts: Counter[tuple[str, int]] = Counter()

    def open(self, submit: Submit) -> "Share":
        """Counts a request in; close the share when it has left the replica."""
        return Share(self, submit)

    def begin(self, submit: Submit) -> None:
        self.requests += 1
        self.dispatched += 1
        self._prompts[_prompt(submit)] += 1

    def end(self, submit: Submit) -> None:
        self.requests -= 1
        prompt = _prompt(submit)
        self._prompts[prompt] -= 1
        if not self._prompts[prompt]:
            del self._prompts[prompt]

    def has_choice(self, submit: Submit) -> bool:
        """Whether another choice of the same request is there, whose prompt this one shares."""
        return bool(submit.request_id) and _prompt(submit) in self._prompts


class Share:
    """One request's part of a replica's outstanding tokens."""

    def __init__(self, outstanding: Outstanding, submit: Submit) -> None:
        resumed = len(submit.resume.tokens)
        limit = submit.sampling.max_tokens if submit.sampling.HasField("max_tokens") else EXPECTED_OUTPUT
        self._outstanding = outstanding
        self._submit = submit
        self._prefill = len(submit.prompt) + resumed
        self._output = resumed
        self._expected = min(limit, EXPECTED_OUTPUT)
        self._counted = 0
        outstanding.begin(submit)
        self._count(self._cost)

    def answered(self, tokens: int) -> None:
        """A delta of that many tokens came: the prompt is prefilled."""
        self._prefill = 0
        self._output += tokens
        self._count(self._cost)

    def close(self) -> None:
        self._outstanding.end(self._submit)
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
    def __call__(self, candidates: Sequence[C], submit: Submit, /) -> C: ...


def least_outstanding_tokens(candidates: Sequence[C], submit: Submit) -> C:
    """Ties go to the replica that has been given the fewest requests so far.

    Choices of one request stay together, where their prompt is computed once, unless that replica is `TOGETHER` prompts behind.
    """
    least = _least(candidates)
    near = least.outstanding.tokens + TOGETHER * len(submit.prompt)
    together = [each for each in candidates if each.outstanding.tokens <= near and each.outstanding.has_choice(submit)]
    return _least(together) if together else least


def _least(candidates: Sequence[C]) -> C:
    return min(candidates, key=lambda candidate: (candidate.outstanding.tokens, candidate.outstanding.dispatched))


def _prompt(submit: Submit) -> tuple[str, int]:
    """Equal for all choices of one prompt of a request; ids are the callers', who may use one for everything."""
    return submit.request_id, len(submit.prompt)


POLICIES: Mapping[str, Policy] = MappingProxyType({"least-outstanding-tokens": least_outstanding_tokens})
