"""What a request can ask of sampling, over HTTP, from random weights: gateway, router, leader and runner as users have them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ossia.common.vocabulary import RETURN, decode, encode
from router.gateway.choice import derived
from tests.e2e.processes import GatewayProcess, ShardGang

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
BLOCK = 16
PROMPT = encode("The quick brown fox jumps over the lazy dog, and then again, because it likes to. " * 4)


class Served:
    """A gateway, asked with plain JSON."""

    def __init__(self, http: httpx.Client, model: str) -> None:
        self._http = http
        self._model = model

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        response = self._http.post(f"/v1/{path}", json={"model": self._model, **body})
        answer: dict[str, Any] = response.json()
        assert response.status_code == 200, answer
        return answer

    def complete(self, **body: Any) -> list[int]:
        """The token ids of one choice."""
        asked = {"prompt": PROMPT, "temperature": 0, "max_tokens": 12, "return_token_ids": True, **body}
        ids: list[int] = self.post("completions", **asked)["choices"][0]["token_ids"]
        return ids


@pytest.fixture(scope="module")
def served(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("requests")
    with (
        ShardGang(folder, checkpoint, deterministic=True, threads=1) as gang,
        GatewayProcess(folder, gang.address) as gateway,
        httpx.Client(base_url=gateway.url, timeout=120) as http,
    ):
        yield Served(http, checkpoint.name)


# ------------------------------------------------------------ sampling


def test_what_leaves_one_token_is_greedy(served: Served) -> None:
    greedy = served.complete()
    for asked in ({"top_k": 1}, {"min_p": 1}, {"top_p": 1e-9}):
        assert served.complete(temperature=1, **asked) == greedy, asked


def test_a_seed_says_it_all_and_temperature_matters(served: Served) -> None:
    seeded = served.complete(temperature=1, seed=3)
    assert served.complete(temperature=1, seed=3) == seeded
    assert served.complete(temperature=1, seed=4) != seeded
    assert served.complete(temperature=1, top_k=1, seed=3) != seeded


def test_biases_force_and_forbid(served: Served) -> None:
    greedy = served.complete()
    assert served.complete(logit_bias={"1734": 100}) == [1734] * 12
    forbidden = served.complete(logit_bias={str(token): -100 for token in set(greedy)})
    assert not set(forbidden) & set(greedy)


def test_penalties_act_on_what_was_said(served: Served) -> None:
    both = served.complete(frequency_penalty=2, logit_bias={"1734": 100, "99": 100}, max_tokens=60)
    assert set(both) == {1734, 99}
    assert min(both.count(1734), both.count(99)) > 10, "whichever was said more often is the less likely one"


def test_ends(served: Served) -> None:
    always = {"logit_bias": {str(RETURN): 100}}
    assert served.complete(**always) == [RETURN]
    late = served.complete(**always, min_tokens=3)
    assert (late.index(RETURN), len(late)) == (3, 4)
    assert served.complete(**always, ignore_eos=True) == [RETURN] * 12
    greedy = served.complete()
    stopped = served.complete(stop_token_ids=[greedy[4]])
    assert stopped == greedy[: greedy.index(greedy[4]) + 1]


def test_choices_are_what_their_seeds_say_alone(served: Served) -> None:
    asked: dict[str, Any] = {"prompt": PROMPT, "max_tokens": 8, "return_token_ids": True, "seed": 11}
    several = served.post("completions", **asked, n=4)
    alone = [served.complete(temperature=1, max_tokens=8, seed=_signed(derived(11, index))) for index in range(4)]
    assert [choice["token_ids"] for choice in several["choices"]] == alone
    assert several["usage"]["prompt_tokens"] == len(PROMPT)
    assert several["usage"]["completion_tokens"] == sum(map(len, alone))


def _signed(seed: int) -> int:
    return seed - (1 << 64) if seed >> 63 else seed


# ------------------------------------------------------------ what is told


def test_a_repeated_prompt_is_not_computed_again(served: Served) -> None:
    prompt = encode("Some other text, which nobody has asked for before. " * 7)
    cached = [
        served.post("completions", prompt=prompt, max_tokens=1, cache_salt=salt)["usage"]["prompt_tokens_details"][
            "cached_tokens"
        ]
        for salt in ("a", "a", "b")
    ]
    assert cached == [0, (len(prompt) - 1) // BLOCK * BLOCK, 0]


def test_drafts_are_told(served: Served) -> None:
    usage = served.post("completions", prompt=PROMPT, max_tokens=64, temperature=0, logit_bias={"1734": 100})["usage"]
    details = usage["completion_tokens_details"]
    assert details["accepted_prediction_tokens"] > 10, "one token again and again is easy to foresee"
    misleading = ([1734] * 4 + [99]) * 6
    usage = served.post("completions", prompt=misleading, max_tokens=24, temperature=0, logit_bias={"1734": 100})["usage"]
    assert usage["completion_tokens_details"]["rejected_prediction_tokens"] > 0, "99 has always followed, and cannot"


def test_an_echo_scores_what_was_generated_as_it_was_scored_then(served: Served) -> None:
    said = served.post("completions", prompt=PROMPT, max_tokens=8, temperature=0, logprobs=2, return_token_ids=True)["choices"][
        0
    ]
    both = [*PROMPT, *said["token_ids"]]
    echoed = served.post("completions", prompt=both, max_tokens=0, echo=True, logprobs=2)["choices"][0]
    logprobs = echoed["logprobs"]
    assert (echoed["text"], echoed["finish_reason"]) == (decode(both), "length")
    assert logprobs["token_logprobs"][0] is None
    assert len(logprobs["tokens"]) == len(both)
    assert logprobs["token_logprobs"][len(PROMPT) :] == pytest.approx(said["logprobs"]["token_logprobs"], abs=1e-4)
    for now, then in zip(logprobs["top_logprobs"][len(PROMPT) :], said["logprobs"]["top_logprobs"], strict=True):
        assert now == pytest.approx(then, abs=1e-4)


def test_log_probabilities_are_the_models_own_whatever_was_allowed(served: Served) -> None:
    (choice,) = served.post(
        "completions", prompt=PROMPT, max_tokens=40, structured_outputs={"regex": "[a-z]{20}"}, logprobs=3, temperature=0
    )["choices"]
    logprobs = choice["logprobs"]
    assert "".join(logprobs["tokens"][:-1]) == choice["text"]
    assert any(len(top) == 4 for top in logprobs["top_logprobs"]), "of all tokens, three others are more likely"
    for own, top in zip(logprobs["token_logprobs"], logprobs["top_logprobs"], strict=True):
        assert own <= max(top.values()) < 0


def test_a_grammar_that_leads_nowhere(served: Served) -> None:
    (choice,) = served.post("completions", prompt="x", min_tokens=3, structured_outputs={"regex": "0"})["choices"]
    assert (choice["text"], choice["finish_reason"], choice["finish_details"]["type"]) == ("0", "length", "grammar")
