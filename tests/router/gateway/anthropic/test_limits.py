"""What a caller's limits have left, in the headers of Anthropic's API."""

from datetime import UTC, datetime
from typing import Any

import anthropic
import pytest

from router.access.keys import digest, make
from router.store.keys import StoredKey
from router.store.store import Store
from tests.fakes.scripted import MODEL, ScriptedEngine, answer, pairs

ASK: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100}
LIMITS = {"requests-per-minute": 2, "tokens-per-minute": 1000}  # which take seconds to come back
PREFIX = "anthropic-ratelimit"


async def test_they_tell_what_those_of_openai_do(guarded: Any, store: Store) -> None:
    gateway = await guarded(ScriptedEngine(*pairs(answer("Hello, world!"), 2)), keys=True, limits=LIMITS)
    key = make()
    await store.keys.add(StoredKey("key_1", digest(key), "acme", ""))
    async with anthropic.AsyncAnthropic(base_url=gateway.url, api_key=key, max_retries=0) as client:
        for stream in (False, True):
            raw = await client.messages.with_raw_response.create(**ASK, stream=stream)
            for kind in ("requests", "tokens"):
                for what in ("limit", "remaining"):
                    assert raw.headers[f"{PREFIX}-{kind}-{what}"] == raw.headers[f"x-ratelimit-{what}-{kind}"]
                assert 0 < seconds_to(raw.headers[f"{PREFIX}-{kind}-reset"]) < 62
            if stream:
                told: Any = await raw.parse()
                [event async for event in told]
        with pytest.raises(anthropic.RateLimitError) as raised:
            await client.messages.create(**ASK)
    refused = raised.value.response.headers
    assert (refused[f"{PREFIX}-requests-limit"], refused[f"{PREFIX}-requests-remaining"]) == ("2", "0")
    assert int(refused["retry-after"]) <= seconds_to(refused[f"{PREFIX}-requests-reset"])
    chat = await gateway.http.post("/v1/chat/completions", json=ASK, headers={"x-api-key": key})
    assert "x-ratelimit-limit-requests" in chat.headers
    assert not [name for name in chat.headers if name.startswith(PREFIX)]


def seconds_to(time: str) -> float:
    return (datetime.fromisoformat(time) - datetime.now(UTC)).total_seconds()
