"""Outstanding tokens add up, and the least of them wins."""

from hypothesis import given
from hypothesis import strategies as st

from ossia.v1.engine_pb2 import Resume, Sampling, Submit
from router.policy import EXPECTED_OUTPUT, POLICIES, Outstanding, least_outstanding_tokens


class Candidate:
    def __init__(self) -> None:
        self.outstanding = Outstanding()


def submit(prompt: int, max_tokens: int | None = None, resumed: int = 0) -> Submit:
    return Submit(prompt=range(prompt), sampling=Sampling(max_tokens=max_tokens), resume=Resume(tokens=range(resumed)))


def place(candidates: list[Candidate], asked: Submit) -> int:
    """Which of them it is given to."""
    chosen = least_outstanding_tokens(candidates, asked)
    chosen.outstanding.open(asked)
    return candidates.index(chosen)


def test_formula() -> None:
    outstanding = Outstanding()
    share = outstanding.open(submit(100, max_tokens=30))
    assert outstanding.tokens == 130
    share.answered(1)
    assert outstanding.tokens == 29
    share.answered(28)
    assert outstanding.tokens == 1
    share.close()
    assert (outstanding.tokens, outstanding.requests, outstanding.dispatched) == (0, 0, 1)


def test_max_tokens_is_a_bound_and_no_expectation() -> None:
    outstanding = Outstanding()
    outstanding.open(submit(1, max_tokens=100_000))
    assert outstanding.tokens == 1 + EXPECTED_OUTPUT
    outstanding.open(submit(1))
    assert outstanding.tokens == 2 * (1 + EXPECTED_OUTPUT)


def test_resumed_tokens_are_prefilled_again_and_not_expected() -> None:
    outstanding = Outstanding()
    outstanding.open(submit(10, max_tokens=50, resumed=20))
    assert outstanding.tokens == 10 + 20 + 30


def test_ties_go_round() -> None:
    candidates = [Candidate(), Candidate(), Candidate()]
    for _ in range(6):
        least_outstanding_tokens(candidates, submit(1)).outstanding.open(submit(1)).close()
    assert [candidate.outstanding.dispatched for candidate in candidates] == [2, 2, 2]


@given(st.lists(st.tuples(st.integers(1, 5000), st.integers(1, 400)), min_size=1, max_size=40))
def test_never_worse_than_one_request_apart(requests: list[tuple[int, int]]) -> None:
    candidates = [Candidate(), Candidate(), Candidate()]
    largest = 0
    for prompt, limit in requests:
        asked = submit(prompt, limit)
        POLICIES["least-outstanding-tokens"](candidates, asked).outstanding.open(asked)
        largest = max(largest, prompt + min(limit, EXPECTED_OUTPUT))
        tokens = [candidate.outstanding.tokens for candidate in candidates]
        assert max(tokens) - min(tokens) <= largest


def test_choices_of_one_request_stay_together_while_that_is_not_far_behind() -> None:
    candidates = [Candidate(), Candidate(), Candidate()]
    choice = submit(1000, max_tokens=200)
    assert [place(candidates, choice) for _ in range(3)] == [0, 1, 2], "without an id nothing tells that they are"
    candidates = [Candidate(), Candidate(), Candidate()]
    choice.request_id = "one"
    assert [place(candidates, choice) for _ in range(8)] == [0, 0, 0, 0, 1, 1, 1, 1]
    other = submit(999, max_tokens=200)
    other.request_id = "one"
    assert place(candidates, other) == 2, "another prompt shares nothing"


def test_a_request_that_has_left_draws_no_other() -> None:
    candidates = [Candidate(), Candidate()]
    choice = submit(1000)
    choice.request_id = "one"
    candidates[0].outstanding.open(choice).close()
    assert place(candidates, choice) == 1
