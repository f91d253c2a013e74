"""A gateway that comes back when another one has taken its batch and ended it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from router.gateway.batches import document
from router.gateway.batches.ending import Ending
from router.gateway.batches.progress import Progress
from router.gateway.intake import Intake
from router.gateway.metrics import Metrics
from router.gateway.models import Models
from router.gateway.settings import Settings
from router.store.store import Store
from tests.fakes.scripted import ScriptedEngine


def ending(store: Store) -> Ending:
    engine = ScriptedEngine()
    return Ending(Progress(store, Intake(engine, Settings(), Metrics(CollectorRegistry()), Models(engine, ()))))


async def test_what_the_other_one_wrote_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow, quick = (Store(f"sqlite:///{tmp_path}/store.db") for _ in range(2))
    batch = document.created("/v1/completions", "file-1", None, None)
    batch = document.moved(batch, "in_progress", request_counts=document.counts(1, 0, 0))
    id_ = str(batch["id"])
    await slow.batches.put("a", batch)
    await slow.batches.add_result(id_, 1, {"custom_id": "1"}, failed=False)
    await slow.work.add("batch", id_, "a", {})
    lost, held = [await store.work.claim("batch", name, 0.0) for store, name in ((slow, "slow"), (quick, "quick"))]
    assert lost is not None
    assert held is not None

    reading, taken, results = asyncio.Event(), asyncio.Event(), slow.batches.results

    async def hesitant(*args: Any, **kwargs: Any) -> AsyncIterator[dict[str, object]]:
        async for result in results(*args, **kwargs):
            reading.set()
            await taken.wait()
            yield result

    monkeypatch.setattr(slow.batches, "results", hesitant)
    behind = asyncio.create_task(ending(slow).end(lost))
    await reading.wait()
    await ending(quick).end(held)
    taken.set()
    await behind

    found = await quick.batches.get("a", id_)
    assert found is not None
    assert found["status"] == "completed"
    page = await quick.files.list("a", None, None, 10, "desc")
    assert page is not None
    assert [file["id"] for file in page.data] == [found["output_file_id"]]
    content = [piece async for piece in quick.files.content(str(found["output_file_id"]))]
    assert b"".join(content) == b'{"custom_id":"1"}\n'
    await slow.close()
    await quick.close()
