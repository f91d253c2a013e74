"""The OpenAPI document: every route is in it, every reference leads somewhere, bodies are told as they are read."""

import base64
import hashlib
import inspect
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from router.gateway.app import create_app
from router.gateway.openapi import declared
from tests.fakes.scripted import MODEL, ScriptedEngine, answer, call, pairs


@pytest.fixture(scope="module")
def app() -> Starlette:
    return create_app(ScriptedEngine([200_002]))


@pytest.fixture(scope="module")
def document(app: Starlette) -> dict[str, Any]:
    response = TestClient(app).get("/openapi.json")
    assert response.status_code == 200
    described: dict[str, Any] = response.json()
    return described


def test_every_route_declares_what_it_does(app: Starlette) -> None:
    for route in app.routes:
        assert isinstance(route, Route)
        assert declared(route), f"{route.path}: its handler lacks @Operation (router/gateway/openapi.py)"
        assert inspect.getdoc(route.endpoint), f"{route.path}: its handler lacks a docstring"


def test_what_a_query_does_not_take_is_refused_by_every_route(app: Starlette) -> None:
    client = TestClient(app)
    for route in app.routes:
        assert isinstance(route, Route)
        path = re.sub(r"{\w+(:\w+)?}", "x", route.path)
        for method in (route.methods or set()) - {"HEAD"}:
            refused = client.request(method, path, params={"limitt": 1})
            if route.path in ("/", "/docs", "/health", "/ready", "/metrics", "/metrics/targets"):  # see AnyQuery
                assert refused.status_code in (200, 503)
            else:
                assert (path, refused.status_code) == (path, 400)
                assert "unknown parameter: 'limitt'" in refused.text


def test_a_key_may_come_in_either_header(document: dict[str, Any]) -> None:
    schemes = document["components"]["securitySchemes"]
    assert document["security"] == [{}, *({name: []} for name in schemes)]
    assert {scheme.get("name", "authorization") for scheme in schemes.values()} == {"authorization", "x-api-key"}


def test_every_route_and_method_is_told_once(app: Starlette, document: dict[str, Any]) -> None:
    served = {
        (re.sub(r":\w+}", "}", route.path), method.lower())
        for route in app.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert {(path, method) for path, methods in document["paths"].items() for method in methods} == served
    ids = [told["operationId"] for methods in document["paths"].values() for told in methods.values()]
    assert len(ids) == len(set(ids)) == len(served)


def test_schemas_are_schemas_and_references_lead_somewhere(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    references = set(_references(document))
    assert references
    assert {reference.removeprefix("#/components/schemas/") for reference in references} <= set(schemas)


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(reference := part.get("$ref"), str):
            yield reference
        for inner in part.values():
            yield from _references(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from _references(inner)


CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}


@pytest.mark.parametrize(
    ("more", "valid"),
    [
        ({}, True),
        ({"temperature": 0.5, "stop": "x", "response_format": {"type": "json_object"}}, True),
        ({"logit_bias": {"17": 1}}, True),
        ({"modalities": ["text"]}, True),
        ({"user": "me"}, True),
        ({"temperature": "0.5"}, False),
        ({"temperature": 3}, False),
        ({"modalities": ["audio"]}, False),
        ({"colour": "red"}, False),
        ({"messages": []}, False),
    ],
)
def test_bodies_are_told_as_they_are_read(app: Starlette, document: dict[str, Any], more: dict[str, Any], valid: bool) -> None:
    schema = {**document, "$ref": "#/components/schemas/ChatBody"}
    assert Draft202012Validator(schema).is_valid({**CHAT, **more}) == valid
    response = TestClient(app).post("/v1/chat/completions", json={**CHAT, **more})
    assert response.status_code == (200 if valid else 400)


def test_a_mapping_in_a_query_is_told_as_it_is_read(document: dict[str, Any]) -> None:
    told = {given["name"]: given for given in document["paths"]["/v1/chat/completions"]["get"]["parameters"]}
    assert told["metadata"]["style"] == "deepObject"
    assert "style" not in told["limit"]


def test_the_page_tells_the_whole_document_and_asks_nobody(app: Starlette, document: dict[str, Any]) -> None:
    response = TestClient(app).get("/docs")
    page = response.text
    assert response.headers["content-type"].startswith("text/html")
    reader = Links()
    reader.feed(page)
    for path, methods in document["paths"].items():
        for method, told in methods.items():
            assert f"<b>{method.upper()}</b> <code>{path}</code>" in page
            assert told["operationId"] in reader.ids
    assert set(document["components"]["schemas"]) <= reader.ids
    assert {link for link in reader.links if not link.startswith("#")} == {"openapi.json"}
    assert {link.removeprefix("#") for link in reader.links - {"openapi.json"}} <= reader.ids
    assert not reader.foreign
    style = page[page.index("<style>") + 7 : page.index("</style>")]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in response.headers["content-security-policy"]


class Links(HTMLParser):
    """What a page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.foreign: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids.add(given.get("id") or "")
        self.links.add(given.get("href") or "#")
        if "src" in given or tag in ("script", "link", "img", "iframe"):
            self.foreign.append(tag)


TOOL = {"name": "weather", "description": "The sky."}
ASKED: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        **CHAT,
        "tools": [{"type": "function", "function": TOOL}],
        "logprobs": True,
        "top_logprobs": 1,
        "service_tier": "flex",
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    },
    "/v1/completions": {"model": MODEL, "prompt": "x", "logprobs": 1, "return_token_ids": True},
    "/v1/messages": {
        **CHAT,
        "max_tokens": 50,
        "tools": [{**TOOL, "input_schema": {}}],
        "thinking": {"type": "adaptive"},
    },
}
TURNS = [answer("Hello", "Think."), call("weather", '{"city":"Oslo"}', "Think."), [200_002]]


@pytest.mark.parametrize("tokens", TURNS, ids=["text", "call", "nothing"])
@pytest.mark.parametrize("path", ASKED)
def test_answers_are_told_whole(document: dict[str, Any], path: str, tokens: list[int]) -> None:
    """Every key is in the document, and every one that it says is always there is."""
    closed = _closed(document)
    told = closed["paths"][path]["post"]["responses"]["200"]["content"]
    client = TestClient(create_app(ScriptedEngine(*pairs(tokens, 2))))
    body = ASKED[path]
    whole = client.post(path, json={key: value for key, value in body.items() if key != "stream_options"}).json()
    _hold(closed, told["application/json"]["schema"], whole)
    lines = client.post(path, json={**body, "stream": True}).text.splitlines()
    events = [line.removeprefix("data: ") for line in lines if line.startswith("data: ") and line != "data: [DONE]"]
    assert len(events) > 1
    for event in events:
        _hold(closed, told["text/event-stream"]["schema"], json.loads(event))


def test_a_stored_chat_is_told_whole(document: dict[str, Any]) -> None:
    closed = _closed(document)
    with TestClient(create_app(ScriptedEngine(TURNS[0]))) as client:
        made = client.post("/v1/chat/completions", json={**CHAT, "store": True, "metadata": {"a": "b"}}).json()
        stored = client.get(f"/v1/chat/completions/{made['id']}").json()
    told = closed["paths"]["/v1/chat/completions/{id}"]["get"]["responses"]["200"]["content"]
    _hold(closed, told["application/json"]["schema"], stored)
    assert stored == {**made, "metadata": {"a": "b"}}


def test_what_is_stored_is_told_whole(document: dict[str, Any]) -> None:
    """Each endpoint once, its parts in the order that they can be asked for."""
    closed = _closed(document)
    line = json.dumps({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": CHAT})
    item = {"type": "message", "role": "user", "content": "Hi"}
    tools = [{"type": "function", "name": "weather"}]
    asked: list[tuple[str, str, dict[str, Any]]] = [
        ("post", "/v1/conversations", {"json": {"items": [item], "metadata": {"a": "b"}}}),
        ("post", "/v1/conversations/{id}", {"json": {"metadata": {}}}),
        ("get", "/v1/conversations/{id}", {}),
        ("post", "/v1/conversations/{id}/items", {"json": {"items": [item]}}),
        ("get", "/v1/conversations/{id}/items", {}),
        ("delete", "/v1/conversations/{id}", {}),
        ("post", "/v1/responses/input_tokens", {"json": {"model": MODEL, "input": "Hi"}}),
        ("post", "/v1/responses/render", {"json": {"model": MODEL, "input": "Hi"}}),
        ("post", "/v1/responses", {"json": {"model": MODEL, "input": "Hi", "tools": tools, "background": True}}),
        ("post", "/v1/responses/{id}/cancel", {}),
        ("post", "/v1/responses", {"json": {"model": MODEL, "input": "Hi", "tools": tools, "service_tier": "flex"}}),
        ("get", "/v1/responses/{id}", {}),
        ("get", "/v1/responses/{id}/input_items", {}),
        ("delete", "/v1/responses/{id}", {}),
        ("post", "/v1/files", {"files": {"file": line.encode()}, "data": {"purpose": "batch"}}),
        ("get", "/v1/files", {}),
        ("get", "/v1/files/{id}", {}),
        ("post", "/v1/batches", {"json": {"endpoint": "/v1/chat/completions", "completion_window": "24h"}}),
        ("get", "/v1/batches", {}),
        ("get", "/v1/batches/{id}", {}),
        ("post", "/v1/chat/completions", {"json": {**CHAT, "store": True}}),
        ("get", "/v1/chat/completions", {}),
        ("get", "/v1/chat/completions/{id}/messages", {}),
        ("delete", "/v1/chat/completions/{id}", {}),
    ]
    ids: dict[str, str] = {}
    with TestClient(create_app(ScriptedEngine(call("weather", "{}", "Think.")))) as client:
        for method, path, more in asked:
            collection = path.partition("/{")[0]
            if collection == "/v1/batches" and "json" in more:
                more["json"]["input_file_id"] = ids["/v1/files"]
            answered = client.request(method, path.replace("{id}", ids.get(collection, "")), **more)
            assert answered.status_code == 200, (path, answered.text)
            ids[collection] = answered.json().get("id", ids.get(collection, ""))
            schema = closed["paths"][path][method]["responses"]["200"]["content"]["application/json"]["schema"]
            assert schema.keys() == {"$ref"}, path
            _hold(closed, schema, answered.json())


def _closed(part: Any) -> Any:
    """The same, with no key allowed that is not named."""
    if isinstance(part, list):
        return [_closed(inner) for inner in part]
    if not isinstance(part, dict):
        return part
    closed = {key: _closed(value) for key, value in part.items()}
    return {"additionalProperties": False, **closed} if "properties" in part and "type" in part else closed


def _hold(document: dict[str, Any], schema: dict[str, Any], value: Any) -> None:
    Draft202012Validator({**document, **schema}).validate(value)
