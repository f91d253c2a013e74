"""Requests that the gateway makes of itself."""

import asyncio
import json
from http import HTTPStatus
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from router.access.access import Access
from router.access.config import AccessConfig
from router.access.principal import Principal
from router.engine import EngineError
from router.gateway.api import Api
from router.gateway.errors import dumps
from router.gateway.inside import Inside, Reply
from router.gateway.intake import Intake
from router.gateway.kept import Kept
from router.gateway.metrics import Metrics
from router.gateway.models import Models
from router.gateway.settings import Settings
from router.store.database import Unavailable
from router.store.store import Store
from tests.fakes.scripted import MODEL, ScriptedEngine, answer, pairs

COMPLETIONS = "/v1/completions"
HELLO = {"model": MODEL, "prompt": [1, 2, 3], "max_tokens": 9}


async def ask(engine: ScriptedEngine, access: Access | None = None, **more: Any) -> Reply:
    intake = Intake(engine, Settings(), Metrics(CollectorRegistry()), Models(engine, ()))
    store = Store("sqlite://")
    inside = Inside(Api(intake, Kept(intake, store.completions)).routes(), access)
    return await inside.post(COMPLETIONS, dumps({**HELLO, **more}).encode(), Principal("a", "key"), "req_1", -5, "batch_1")


async def test_it_is_answered_as_a_client_is() -> None:
    engine = ScriptedEngine(*pairs(answer("Hello"), 3))
    reply = await ask(engine)
    assert (reply.status, reply.retry_after_s) == (200, None)
    assert reply.body["object"] == "text_completion"
    (submit,) = engine.submits
    assert (submit.priority, submit.tenant, submit.request_id) == (-5, "a", "req_1")


async def test_a_refusal_is_told_and_whether_to_come_again() -> None:
    reply = await ask(ScriptedEngine(), model="other")
    assert (reply.status, reply.retry_after_s) == (HTTPStatus.NOT_FOUND, None)
    full = EngineError(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", reason="QUEUE_FULL", retry_after_s=3)
    reply = await ask(ScriptedEngine(full))
    assert (reply.status, reply.retry_after_s) == (HTTPStatus.TOO_MANY_REQUESTS, 3)
    away = EngineError(grpc.StatusCode.UNAVAILABLE, "none", reason="NO_REPLICA")
    assert (await ask(ScriptedEngine(away))).retry_after_s == 1


async def test_a_bug_is_a_500_of_its_own() -> None:
    async def broken(request: Request) -> Response:
        raise ZeroDivisionError

    async def halfway(request: Request) -> Response:
        return JSONResponse({"client": str(request.client), "body": (await request.body()).decode()})

    routes = [Route("/broken", broken, methods=["POST"]), Route("/echo", halfway, methods=["POST"])]
    inside = Inside(routes, None)
    reply = await inside.post("/broken", b"{}", Principal(), "req_1", 0, "batch_1")
    assert (reply.status, reply.body["error"]["code"]) == (500, "internal_error")  # type: ignore[index]
    assert (await inside.post("/echo", b"x", Principal(), "req_1", 0, "batch_1")).body == {"client": "None", "body": "x"}


async def test_a_database_that_is_away_is_waited_for() -> None:
    async def away(request: Request) -> Response:
        raise Unavailable("nothing answers")

    inside = Inside([Route("/away", away, methods=["POST"])], None)
    reply = await inside.post("/away", b"{}", Principal(), "req_1", 0, "batch_1")
    assert (reply.status, reply.retry_after_s) == (HTTPStatus.SERVICE_UNAVAILABLE, 1)


async def test_it_counts_against_the_callers_limits() -> None:
    store = Store("sqlite://")
    access = Access(AccessConfig.model_validate({"keys": True, "limits": {"tokens_per_day": 20}}), store)
    await access.open()
    engine = ScriptedEngine(*pairs(answer("Hello")[:5], 3))
    assert (await ask(engine, access)).status == 200
    reply = await ask(engine, access, max_tokens=18)
    assert (reply.status, reply.retry_after_s) == (HTTPStatus.TOO_MANY_REQUESTS, None)
    assert (await ask(engine, access)).status == 200, "what the first did not use was not given back"
    await access.close()
    await store.close()


@pytest.mark.parametrize("contents", [False, True])
async def test_it_has_a_line_in_the_audit_log(tmp_path: Path, contents: bool) -> None:
    store, file = Store("sqlite://"), tmp_path / "audit.jsonl"
    access = Access(AccessConfig.model_validate({"keys": True, "audit": {"file": str(file), "contents": contents}}), store)
    await access.open()
    await ask(ScriptedEngine(*pairs(answer("Hello"), 3)), access)
    await ask(ScriptedEngine(), access, model="other")
    await access.close()
    await store.close()
    done, refused = (json.loads(line) for line in file.read_text().splitlines())
    for line in (done, refused):
        assert (line["request_id"], line["tenant"], line["key"], line["batch"]) == ("req_1", "a", "key", "batch_1")
        assert (line["method"], line["path"]) == ("POST", COMPLETIONS)
        assert ("request" in line, "answer" in line) == (contents, contents)
    assert (done["status"], done["model"], done["prompt_tokens"]) == (200, MODEL, 3)
    assert done["output_tokens"] > 1
    assert refused["status"] == HTTPStatus.NOT_FOUND
    assert "prompt_tokens" not in refused


async def test_whoever_stops_it_stops_the_engine() -> None:
    engine = ScriptedEngine([5], None)
    task = asyncio.create_task(ask(engine))
    while not engine.running:  # noqa: ASYNC110 - another task's work
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert engine.left.is_set()
