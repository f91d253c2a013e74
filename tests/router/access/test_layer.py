"""Callers as their clients see it: keys, models, limits and their headers, through the official client."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import openai
import pytest

from router.access.keys import digest, make
from router.access.layer import PUBLIC
from router.engine import EngineError
from router.gateway.settings import Settings
from router.store.keys import StoredKey
from router.store.store import Store
from tests.fakes.scripted import MODEL, ScriptedEngine, answer, pairs
from tests.router.gateway.conftest import Gateway, eventually

ASK: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
TOKENS = answer("Hello, world!")
NewKey = Callable[..., Awaitable[str]]


@pytest.fixture
def new_key(store: Store) -> NewKey:
    """Makes a key: `key = await new_key(models=[...], requests_per_minute=1)`."""

    async def begin(
        tenant: str = "acme",
        models: list[str] | None = None,
        highest_priority: int | None = None,
        reasoning: str = "both",
        **limits: int,
    ) -> str:
        key = make()
        id_ = f"key_{digest(key)[:8]}"
        await store.keys.add(StoredKey(id_, digest(key), tenant, "test", models, limits, highest_priority, reasoning))
        return key

    return begin


def client(gateway: Gateway, key: str) -> openai.AsyncOpenAI:
    return gateway.client.with_options(api_key=key)


async def prompt_tokens(gateway: Gateway, key: str) -> int:
    got = await client(gateway, key).chat.completions.create(**ASK)
    return int(got.usage.prompt_tokens)


async def test_a_key_is_needed_and_tells_whose_the_request_is(guarded: Any, new_key: NewKey) -> None:
    engine = ScriptedEngine(*pairs(TOKENS, 2))
    gateway = await guarded(engine, keys=True)
    with pytest.raises(openai.AuthenticationError) as raised:
        await client(gateway, "sk-ossia-wrong").chat.completions.create(**ASK)
    assert raised.value.code == "invalid_api_key"
    assert raised.value.response.headers["www-authenticate"] == "Bearer"
    assert not engine.submits

    got = await client(gateway, await new_key("acme")).chat.completions.create(**ASK)
    assert got.choices[0].message.content == "Hello, world!"
    assert engine.submits[0].tenant == "acme"


@pytest.mark.parametrize("path", ["/v1/models", "/v1/nothing", "/tokenize", "/anything"])
async def test_without_a_key_only_public_paths_answer(guarded: Any, path: str) -> None:
    gateway = await guarded(ScriptedEngine(), keys=True)
    assert [(await gateway.http.get(public)).status_code for public in ("/health", "/ready", "/metrics")] == [200] * 3
    refused = await gateway.http.get(path)
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "missing_api_key")


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"])
async def test_whatever_is_documented_needs_a_key_whatever_the_method(guarded: Any, method: str) -> None:
    gateway = await guarded(ScriptedEngine(), keys=True)
    documented = set((await gateway.http.get("/openapi.json")).json()["paths"])
    paths = documented - PUBLIC
    assert len(paths) > 20
    for path in paths:
        refused = await gateway.http.request(method, path.replace("{", "").replace("}", ""))
        assert (path, refused.status_code) == (path, 401)


@pytest.mark.parametrize(
    "target",
    [
        *("/%76%31/models", "//v1/models", "/v1/models/", "/health/../v1/models", "/health%2f..%2fv1/models", "/./v1/models"),
        *("http://x/v1/models", "/v1/models?/health", "/v1/models;a=/health", "/v1/models%00", "/HEALTH", "/health/", "*"),
    ],
)
async def test_no_spelling_of_a_path_gets_around_the_key(guarded: Any, target: str) -> None:
    gateway = await guarded(ScriptedEngine(), keys=True)
    reader, writer = await asyncio.open_connection(gateway.http.base_url.host, gateway.http.base_url.port)
    writer.write(f"GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
    assert (await reader.readline()).split()[1] == b"401"
    writer.close()


async def test_anthropics_header_is_read_too(guarded: Any, new_key: NewKey) -> None:
    gateway = await guarded(ScriptedEngine(), keys=True)
    listed = await gateway.http.get("/v1/models", headers={"x-api-key": await new_key()})
    assert [model["id"] for model in listed.json()["data"]] == [MODEL, "someone/tiny"]


@pytest.mark.parametrize("header", ["Basic abc", "Bearer", "bearer x", "\u00ff", "Bearer \u00e9\u00ff"])
async def test_no_header_breaks_it(guarded: Any, header: str) -> None:
    gateway = await guarded(ScriptedEngine(), keys=True)
    refused = await gateway.http.get("/v1/models", headers={"authorization": header.encode("latin-1")})
    assert refused.status_code == 401


async def test_a_key_sees_its_models_alone(guarded: Any, new_key: NewKey) -> None:
    gateway = await guarded(ScriptedEngine(*pairs(TOKENS, 2)), keys=True)
    narrow = client(gateway, await new_key(models=["someone/tiny"]))
    assert [model.id async for model in narrow.models.list()] == ["someone/tiny"]
    with pytest.raises(openai.NotFoundError) as raised:
        await narrow.chat.completions.create(**ASK)
    assert raised.value.code == "model_not_found"
    await narrow.chat.completions.create(**{**ASK, "model": "someone/tiny"})


RESPONSE: dict[str, Any] = {"model": MODEL, "input": "Hi"}
COMPLETION: dict[str, Any] = {"model": MODEL, "prompt": "Hi"}


@pytest.mark.parametrize(
    ("highest", "path", "asked", "refused"),
    [
        (0, "/v1/chat/completions", ASK | {"priority": -1}, "priority"),
        (0, "/v1/chat/completions", ASK | {"service_tier": "priority"}, "service_tier"),
        (0, "/v1/completions", COMPLETION | {"priority": -1}, "priority"),
        (0, "/v1/responses", RESPONSE | {"service_tier": "fast"}, "service_tier"),
        (0, "/v1/responses", RESPONSE | {"priority": -1, "background": True}, "priority"),
        (-10, "/v1/chat/completions", ASK | {"priority": -11}, "priority"),
        (5, "/v1/chat/completions", ASK | {"priority": 4}, "priority"),
    ],
)
async def test_a_key_comes_no_earlier_than_it_may(
    guarded: Any, new_key: NewKey, highest: int, path: str, asked: dict[str, Any], refused: str
) -> None:
    engine = ScriptedEngine()
    gateway = await guarded(engine, keys=True)
    headers = {"x-api-key": await new_key(highest_priority=highest)}
    got = await gateway.http.post(path, json=asked, headers=headers)
    assert got.status_code == 400, got.text
    assert (got.json()["error"]["param"], got.json()["error"]["code"]) == (refused, "priority_not_allowed")
    assert not engine.submits


@pytest.mark.parametrize(
    ("own", "files", "asked", "urgency"),
    [
        (None, None, {"priority": -7}, 7),
        (None, 0, {}, 0),
        (None, 0, {"priority": 3}, -3),
        (-10, 0, {"priority": -10}, 10),
        (-200, 0, {"service_tier": "priority"}, 100),
        (5, 0, {}, -5),
        (None, 5, {"service_tier": "flex"}, -100),
    ],
)
async def test_within_its_priority_a_key_may_choose(
    guarded: Any, new_key: NewKey, own: int | None, files: int | None, asked: dict[str, Any], urgency: int
) -> None:
    engine = ScriptedEngine(*pairs(TOKENS, 2))
    gateway = await guarded(engine, keys=True, highest_priority=files)
    headers = {"x-api-key": await new_key(highest_priority=own)}
    got = await gateway.http.post("/v1/chat/completions", json=ASK | asked, headers=headers)
    assert got.status_code == 200, got.text
    assert engine.submits[0].priority == urgency


async def test_background_work_comes_no_earlier_than_its_key_may(guarded: Any, new_key: NewKey) -> None:
    engine = ScriptedEngine(*pairs(TOKENS, 2))
    gateway = await guarded(engine, keys=True)
    headers = {"x-api-key": await new_key(highest_priority=9)}
    await gateway.http.post("/v1/responses", json=RESPONSE | {"background": True}, headers=headers)
    await eventually(lambda: engine.submits)
    assert engine.submits[0].priority == -9


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("shown", ["both", "reasoning", "reasoning_content"])
async def test_a_key_chooses_where_reasoning_is_shown(guarded: Any, new_key: NewKey, shown: str, stream: bool) -> None:
    gateway = await guarded(ScriptedEngine(*pairs(answer("Yes.", "Hm."), 2)), keys=True)
    headers = {"x-api-key": await new_key(reasoning=shown)}
    got = await gateway.http.post("/v1/chat/completions", json=ASK | {"stream": stream}, headers=headers)
    if stream:
        chunks = [json.loads(line.removeprefix("data: ")) for line in got.text.splitlines() if line.startswith("data: {")]
        messages = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    else:
        messages = [got.json()["choices"][0]["message"]]
    for name in ("reasoning", "reasoning_content"):
        told = [message[name] for message in messages if name in message]
        assert "".join(told) == ("Hm." if shown in ("both", name) else "")
        assert bool(told) == (shown in ("both", name))
    assert "".join(message.get("content") or "" for message in messages) == "Yes."


async def test_revoked_and_expired_keys_open_nothing(guarded: Any, store: Store) -> None:
    gateway = await guarded(ScriptedEngine(), keys=True)
    revoked, expired = make(), make()
    await store.keys.add(StoredKey("key_1", digest(revoked), "acme", ""))
    await store.keys.add(StoredKey("key_2", digest(expired), "acme", "", expires=1.0))
    assert await store.keys.revoke("key_1")
    for key in (revoked, expired):
        with pytest.raises(openai.AuthenticationError):
            await client(gateway, key).models.list()


async def test_headers_tell_what_is_left(guarded: Any, new_key: NewKey) -> None:
    gateway = await guarded(ScriptedEngine(*pairs(TOKENS, 2)), keys=True)
    asking = client(gateway, await new_key(requests_per_minute=10, tokens_per_minute=10_000))
    for stream in (False, True):
        raw = await asking.chat.completions.with_raw_response.create(**ASK, max_tokens=100, stream=stream)
        assert (raw.headers["x-ratelimit-limit-requests"], raw.headers["x-ratelimit-limit-tokens"]) == ("10", "10000")
        assert raw.headers["x-ratelimit-remaining-requests"] == ("8" if stream else "9")
        assert 9_600 < int(raw.headers["x-ratelimit-remaining-tokens"]) < 9_900
        assert raw.headers["x-ratelimit-reset-requests"].endswith("s")
        if stream:
            stream_of: Any = raw.parse()
            [chunk async for chunk in stream_of]
    assert "x-ratelimit-limit-requests" not in (await asking.models.with_raw_response.list()).headers


async def test_requests_a_minute(guarded: Any, new_key: NewKey) -> None:
    engine = ScriptedEngine(*pairs(TOKENS, 2))
    gateway = await guarded(engine, keys=True, limits={"requests-per-minute": 2})
    asking = client(gateway, await new_key())
    for _ in range(2):
        await asking.chat.completions.create(**ASK)
    with pytest.raises(openai.RateLimitError) as raised:
        await asking.chat.completions.create(**ASK)
    assert raised.value.code == "rate_limit_exceeded"
    assert 25 <= int(raised.value.response.headers["retry-after"]) <= 30
    assert raised.value.response.headers["x-ratelimit-remaining-requests"] == "0"
    assert len(engine.submits) == 2
    await client(gateway, await new_key()).chat.completions.create(**ASK)  # another key has limits of its own


async def test_a_days_budget_is_reserved_with_the_outputs_limit_and_settled_by_what_was_used(
    guarded: Any, new_key: NewKey
) -> None:
    engine = ScriptedEngine(*pairs(TOKENS, 2))
    gateway = await guarded(engine, keys=True)
    prompt = await prompt_tokens(gateway, await new_key())
    used = prompt + len(TOKENS)
    asking = client(gateway, await new_key(tokens_per_day=3 * used + prompt + 49))
    for _ in range(3):
        await asking.chat.completions.create(**ASK, max_tokens=50)
    with pytest.raises(openai.RateLimitError) as raised:
        await asking.chat.completions.create(**ASK, max_tokens=50)
    assert raised.value.code == "insufficient_quota"
    assert raised.value.response.headers["x-should-retry"] == "false"
    assert len(engine.submits) == 4
    await asking.chat.completions.create(**ASK, max_tokens=49)


async def test_choices_count_their_prompt_once_and_their_outputs_each(guarded: Any, new_key: NewKey) -> None:
    gateway = await guarded(ScriptedEngine(*pairs(TOKENS, 2)), keys=True)
    prompt = await prompt_tokens(gateway, await new_key())
    asking = client(gateway, await new_key(tokens_per_day=4 * prompt + 4 * len(TOKENS)))
    await asking.chat.completions.create(**ASK, n=3, max_tokens=len(TOKENS))
    await asking.chat.completions.create(**ASK, max_tokens=len(TOKENS))


async def test_every_choice_is_reserved_although_the_limits_are_still_being_looked_up(guarded: Any, new_key: NewKey) -> None:
    engine = ScriptedEngine(*pairs(TOKENS, 2))
    gateway = await guarded(engine, keys=True)
    asking = client(gateway, await new_key(tokens_per_day=1000))
    with pytest.raises(openai.RateLimitError):
        await asking.chat.completions.create(**ASK, n=8, max_tokens=300)
    assert len(engine.submits) < 4


@pytest.mark.parametrize("stream", [False, True])
async def test_an_output_without_a_limit_ends_where_the_day_does(guarded: Any, new_key: NewKey, stream: bool) -> None:
    tokens = answer("word " * 3000)
    gateway = await guarded(ScriptedEngine(*pairs(tokens, 100)), keys=True)
    prompt = await prompt_tokens(gateway, await new_key())
    asking = client(gateway, await new_key(tokens_per_day=prompt + 2500))
    if stream:
        chunks = [chunk async for chunk in await asking.chat.completions.create(**ASK, stream=True)]
        finish, said = chunks[-1].choices[0].finish_reason, "".join(c.choices[0].delta.content or "" for c in chunks)
    else:
        got = await asking.chat.completions.create(**ASK)
        finish, said = got.choices[0].finish_reason, got.choices[0].message.content or ""
        assert got.usage.completion_tokens == 2048
    assert finish == "length"
    assert 2000 < len(said.split()) <= 2048


async def test_requests_at_once(guarded: Any, new_key: NewKey) -> None:
    engine = ScriptedEngine(TOKENS[:3], None, TOKENS[3:])
    gateway = await guarded(engine, keys=True)
    asking = client(gateway, await new_key(concurrent_requests=2))
    begun = [asyncio.create_task(asking.chat.completions.create(**ASK)) for _ in range(2)]
    await eventually(lambda: engine.running == 2)
    with pytest.raises(openai.RateLimitError, match="2 requests at once"):
        await asking.chat.completions.create(**ASK)
    begun[0].cancel()
    await eventually(lambda: engine.running == 1)
    engine.go.set()
    await asking.chat.completions.create(**ASK)
    await begun[1]


async def test_more_tokens_than_a_minute_ever_has_are_refused_for_good(guarded: Any, new_key: NewKey) -> None:
    gateway = await guarded(ScriptedEngine(*pairs(TOKENS, 2)), keys=True)
    asking = client(gateway, await new_key(tokens_per_minute=500))
    with pytest.raises(openai.RateLimitError) as raised:
        await asking.chat.completions.create(**ASK, max_tokens=600)
    assert raised.value.response.headers["x-should-retry"] == "false"
    await asking.chat.completions.create(**ASK, max_tokens=100)


@pytest.mark.parametrize("broken", [EngineError(grpc.StatusCode.UNAVAILABLE, "no replica"), 5])
async def test_what_is_refused_or_fails_before_it_begins_costs_no_tokens(guarded: Any, new_key: NewKey, broken: Any) -> None:
    """The latter is a bug of ours."""
    engine = ScriptedEngine(*pairs(TOKENS, 2))
    gateway = await guarded(engine, keys=True)
    prompt = await prompt_tokens(gateway, await new_key())
    asking = client(gateway, await new_key(tokens_per_day=prompt + 50))
    with pytest.raises(openai.BadRequestError):
        await asking.chat.completions.create(**ASK, max_tokens=50, temperature=3)
    engine.script = (broken,)
    with pytest.raises(openai.InternalServerError):
        await asking.chat.completions.create(**ASK, max_tokens=50)
    engine.script = tuple(pairs(TOKENS, 2))
    await asking.chat.completions.create(**ASK, max_tokens=50)


async def test_a_refusal_that_comes_after_the_status_line_costs_no_tokens(guarded: Any, new_key: NewKey) -> None:
    engine = ScriptedEngine(*pairs(TOKENS, 2))
    gateway = await guarded(engine, Settings(admission_s=0.05, ping_s=0.05), keys=True)
    prompt = await prompt_tokens(gateway, await new_key())
    asking = client(gateway, await new_key(tokens_per_day=prompt + 50))
    engine.script = (None, EngineError(grpc.StatusCode.RESOURCE_EXHAUSTED, "full"))
    stream = await asking.chat.completions.create(**ASK, max_tokens=50, stream=True)
    engine.go.set()
    with pytest.raises(openai.APIError, match="full"):
        [chunk async for chunk in stream]
    engine.script = tuple(pairs(TOKENS, 2))
    await asking.chat.completions.create(**ASK, max_tokens=50)


async def test_open_access_asks_nobody(guarded: Any) -> None:
    gateway = await guarded(ScriptedEngine(*pairs(TOKENS, 2)), open=True, limits={"requests-per-minute": 1})
    await gateway.client.chat.completions.create(**ASK)
    with pytest.raises(openai.RateLimitError):
        await gateway.client.chat.completions.create(**ASK)


async def test_anthropics_clients_are_refused_in_their_own_words(guarded: Any, new_key: NewKey) -> None:
    gateway = await guarded(ScriptedEngine(*pairs(TOKENS, 2)), keys=True)
    ask = {"model": MODEL, "max_tokens": 50, "messages": [{"role": "user", "content": "Hi"}]}
    refused = await gateway.http.post("/v1/messages", json=ask)
    assert (refused.status_code, refused.json()["error"]["type"]) == (401, "authentication_error")
    headers = {"x-api-key": await new_key(requests_per_minute=1)}
    assert (await gateway.http.post("/v1/messages", json=ask, headers=headers)).status_code == 200
    refused = await gateway.http.post("/v1/messages", json=ask, headers=headers)
    assert (refused.status_code, refused.json()["error"]["type"]) == (429, "rate_limit_error")
    assert int(refused.headers["retry-after"]) > 50


async def test_what_is_stored_is_seen_by_its_tenant_alone(guarded: Any, new_key: NewKey) -> None:
    gateway = await guarded(ScriptedEngine(*pairs(TOKENS, 2)), keys=True)
    mine, same, other = [client(gateway, await new_key(tenant)) for tenant in ("acme", "acme", "else")]
    response = await mine.responses.create(model=MODEL, input="Hi")
    conversation = await mine.conversations.create()
    completion = await mine.chat.completions.create(**ASK, store=True)
    file = await mine.files.create(file=b"{}\n", purpose="batch")
    for ask in (
        lambda asking: asking.responses.retrieve(response.id),
        lambda asking: asking.conversations.retrieve(conversation.id),
        lambda asking: asking.chat.completions.retrieve(completion.id),
        lambda asking: asking.files.retrieve(file.id),
    ):
        assert (await ask(same)).id
        with pytest.raises(openai.NotFoundError):
            await ask(other)
    assert [file async for file in other.files.list()] == []


async def test_responses_count_like_chats(guarded: Any, new_key: NewKey) -> None:
    gateway = await guarded(ScriptedEngine(*pairs(TOKENS, 2)), keys=True)
    asking = client(gateway, await new_key(requests_per_minute=1, tokens_per_minute=10_000))
    raw = await asking.responses.with_raw_response.create(model=MODEL, input="Hi")
    left = 10_000 - int(raw.headers["x-ratelimit-remaining-tokens"])
    assert left > 1024
    with pytest.raises(openai.RateLimitError):
        await asking.responses.create(model=MODEL, input="Hi")
