"""What callers see while the database is away."""

import json
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import pytest

from router.access.access import admitting
from router.access.config import AccessConfig, AuditConfig
from router.access.keys import digest, make
from router.store.keys import StoredKey
from router.store.store import Store
from tests.fakes.postgres import postgres_server
from tests.fakes.scripted import MODEL, ScriptedEngine, answer, pairs
from tests.router.gateway.conftest import running

ASK = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9}


async def test_a_database_that_is_away_is_503_and_no_bug(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    config = AccessConfig(keys=True, audit=AuditConfig(file=str(tmp_path / "audit")))
    with ExitStack() as server:
        address = server.enter_context(postgres_server())
        connection = await asyncpg.connect(f"{address}/postgres")
        await connection.execute("CREATE DATABASE ossia")
        await connection.close()
        store = Store(f"{address}/ossia")
        key = make()
        await store.keys.add(StoredKey("key_1", digest(key), "acme", "", limits={"requests_per_minute": 5}))
        engine = ScriptedEngine(*pairs(answer("Hello"), 2))
        async with admitting(config, store) as access, running(engine, access=access, store=store) as gateway:
            gateway.http.headers["authorization"] = f"Bearer {key}"
            assert (await gateway.http.post("/v1/chat/completions", json=ASK)).status_code == 200
            server.close()
            for path, body in (("/v1/chat/completions", ASK), ("/v1/responses", {"model": MODEL, "input": "Hi"})):
                refused = await gateway.http.post(path, json=body)
                assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
                assert refused.headers["retry-after"] == "1"
            assert (await gateway.http.get("/health")).status_code == 200
        await store.close()
    assert len(engine.submits) == 1
    assert "a request failed" not in caplog.text
    assert [json.loads(line)["status"] for line in (tmp_path / "audit").read_text().splitlines()] == [200, 503, 503]
