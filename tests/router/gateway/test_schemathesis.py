"""Requests made from the OpenAPI document, right and wrong ones: no 5xx, no hang, and answers are as it says."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
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
CHECKS: list[Any] = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
HANGS_S = 20


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A gateway that runs beside the tests, which ask it as any client does."""
    bound = listen("127.0.0.1", 0)
    loop, stop = asyncio.new_event_loop(), asyncio.Event()

    async def serve() -> None:
        app = create_app(ScriptedEngine(*pairs(answer("Hello", "Think."), 3)), registry=CollectorRegistry())
        async with serving(app, bound):
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=[serve()])
    thread.start()
    yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


@pytest.mark.parametrize(("method", "path", "mode"), OPERATIONS)
def test_no_request_breaks_it(url: str, method: str, path: str, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_dict(DOCUMENT)
    schema.config.update(base_url=url)
    operation = schema[path][method]

    @settings(max_examples=20, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: schemathesis.Case) -> None:
        if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
            case.body["model"] = MODEL  # or else no request would come further than to the name
        response = case.call(timeout=HANGS_S)
        case.validate_response(response, checks=CHECKS)

    ask()
