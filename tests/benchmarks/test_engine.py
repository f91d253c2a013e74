"""The engine's benchmarks run, and count what they say they count."""

import asyncio

import httpx
import pytest

from benchmarks.engine import __main__ as throughput
from benchmarks.engine.steps import KINDS, measure


@pytest.mark.parametrize("kind", KINDS)
def test_every_request_decodes_in_every_step_that_is_measured(kind: str) -> None:
    times = asyncio.run(measure(5, 40, 20, KINDS[kind]))
    assert len(times) == 20 and min(times) > 0


def test_servers_take_turns_with_the_same_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, list[object]] = {"http://one": [], "http://two": []}

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json={"data": [{"id": "model"}]})
        asked[f"http://{request.url.host}"].append(request.content)
        return httpx.Response(200, json={"usage": {"completion_tokens": 3}})

    client = httpx.AsyncClient
    monkeypatch.setattr(
        "httpx.AsyncClient", lambda **settings: client(**{**settings, "transport": httpx.MockTransport(answer)})
    )
    servers = [throughput.Server("ossia", "http://one"), throughput.peer("other=http://two")]
    rows = asyncio.run(throughput.compare(servers, [1, 4], rounds=3, prompt_tokens=7, tokens=3, settle_s=0))
    assert [(row["server"], row["concurrency"]) for row in rows] == [("ossia", 1), ("other", 1), ("ossia", 4), ("other", 4)]
    assert sorted(asked["http://one"], key=repr) == sorted(asked["http://two"], key=repr)
    assert len(asked["http://one"]) == 1 + 3 * (2 + 8)
    with pytest.raises(ValueError, match="ossia yields 3 tokens, not 4"):
        asyncio.run(throughput.compare(servers, [1], rounds=1, prompt_tokens=7, tokens=4, settle_s=0))
