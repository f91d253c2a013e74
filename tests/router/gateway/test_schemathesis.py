"""Requests made from the OpenAPI document, right and wrong ones, and bytes of any kind: no 5xx, no hang, answers as it says."""

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from router.gateway.app import create_app
from router.gateway.openapi import document
from router.gateway.server import listen, serving
from router.gateway.settings import Settings
from tests.fakes.scripted import MODEL, ScriptedEngine, answer, pairs

DOCUMENT: Any = document(create_app(ScriptedEngine()).routes)
OPERATIONS = [
    (method, path, mode)
    for path, methods in DOCUMENT["paths"].items()
    for method, told in methods.items()
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    if mode is GenerationMode.POSITIVE
    or "requestBody" in told
    or any(given["in"] == "query" for given in told.get("parameters", ()))
]
# The last reads OpenAPI 3.2's meaning into streams: that the schema is the event's, while ours is that of the data in it.
CHECKS: list[Any] = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
HANGS_S = 20
PIECES = [b"null", b"true", b"[]", b"{}", b'""', b"-1", b"1e308", b'"tool"', b",", b":", b'"', b"[", b"}"]
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
MAKING: dict[str, Any] = {
    "/v1/chat/completions": {**CHAT, "store": True},
    "/v1/conversations": {"items": [{"type": "message", "role": "user", "content": "Hi"}]},
    "/v1/responses": {"model": MODEL, "input": "Hi", "background": True},
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A gateway that runs beside the tests, which ask it as any client does."""
    bound = listen("127.0.0.1", 0)
    loop, stop = asyncio.new_event_loop(), asyncio.Event()

    async def serve() -> None:
        engine = ScriptedEngine(*pairs(answer("Hello", "Think."), 3))
        app = create_app(engine, Settings(beat_s=0), CollectorRegistry())
        async with serving(app, bound):
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=[serve()])
    thread.start()
    yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


def made(url: str, path: str) -> dict[str, str]:
    """Ids of what is there, for a path that has some: just made, so that it may be deleted."""
    with httpx.Client(base_url=url, timeout=HANGS_S) as client:
        collection = path.partition("/{")[0]
        if collection == "/v1/models":
            return {"name": MODEL}
        if collection == "/v1/files":
            return {"id": _file(client)}
        if collection == "/v1/batches":
            batch = {"input_file_id": _file(client), "endpoint": "/v1/chat/completions", "completion_window": "24h"}
            return {"id": _id(client.post(collection, json=batch))}
        id_ = _id(client.post(collection, json=MAKING[collection]))
        items = client.get(f"/v1/conversations/{id_}/items").json() if collection == "/v1/conversations" else None
        return {"id": id_, **({"item_id": items["data"][0]["id"]} if items else {})}


def _file(client: httpx.Client) -> str:
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": CHAT}
    return _id(client.post("/v1/files", files={"file": json.dumps(line).encode()}, data={"purpose": "batch"}))


def _id(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    return str(response.json()["id"])


@pytest.mark.parametrize(("method", "path", "mode"), OPERATIONS)
def test_no_request_breaks_it(url: str, method: str, path: str, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_dict(DOCUMENT)
    schema.config.update(base_url=url)
    operation = schema[path][method]
    ids = made(url, path) if "{" in path and mode is GenerationMode.POSITIVE else {}

    @settings(max_examples=12, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: schemathesis.Case) -> None:
        if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
            case.body["model"] = MODEL  # or else no request would come further than to the name
        case.path_parameters.update(ids)
        response = case.call(timeout=HANGS_S)
        streamed = response.headers["content-type"][0].startswith("text/event-stream")
        case.validate_response(response, checks=CHECKS[:-1] if streamed else CHECKS)

    ask()


SOUND: dict[str, Any] = {
    "/v1/chat/completions": {**CHAT, "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}], "stop": "x"},
    "/v1/completions": {"model": MODEL, "prompt": [1, 2], "logit_bias": {"17": -1}, "logprobs": 1},
    "/v1/responses": {"model": MODEL, "input": [{"role": "user", "content": "Hi"}], "text": {"format": {"type": "text"}}},
    "/v1/messages": {**CHAT, "max_tokens": 9, "system": [{"type": "text", "text": "x"}], "thinking": {"type": "adaptive"}},
    "/v1/conversations": MAKING["/v1/conversations"],
}
POSTED = [path for path, methods in DOCUMENT["paths"].items() if "requestBody" in methods.get("post", {})]
HOSTILE = [
    b"",
    b"[" * 100_000,
    b'{"messages":' * 100_000,
    b'{"model": "tiny", "input": "\\ud800", "prompt": "\\ud800"}',
    b'{"model": "tiny", "prompt": "x", "temperature": 1e999, "seed": 9e99}',
    b'{"model": "tiny", "prompt": "x", "max_tokens": ' + b"9" * 5000 + b"}",
    b'{"model": "tiny", "model": null, "": {}}',
    b"\xff\xfe{\x00}\x00",
]


def damaged(sound: bytes, cuts: list[tuple[int, int, bytes]]) -> bytes:
    """With parts taken out and others put in."""
    for begin, length, new in cuts:
        begin %= len(sound) + 1
        sound = sound[:begin] + new + sound[begin + length :]
    return sound


CUTS = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 12), st.binary(max_size=4) | st.sampled_from(PIECES)), max_size=4)


@pytest.mark.parametrize("path", POSTED)
def test_no_bytes_break_it(url: str, path: str) -> None:
    sound = json.dumps(SOUND.get(path, {**CHAT, "max_tokens": 9})).encode()
    with httpx.Client(base_url=url, timeout=HANGS_S) as client:

        def post(body: bytes) -> None:
            response = client.post(path.replace("{id}", "x"), content=body)
            assert response.status_code < 500, response.text
            assert response.status_code == 200 or "error" in response.json()

        @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
        @given(body=st.builds(damaged, st.just(sound), CUTS))
        def fuzz(body: bytes) -> None:
            post(body)

        for hostile in HOSTILE:
            post(hostile)
        fuzz()
