"""What a large body costs is done aside of the loop that everybody's streams share."""

import asyncio
import threading
from typing import Any, cast

import pytest

from router.gateway.intake import Intake, weight
from router.gateway.responses import plans, prompt
from tests.fakes.scripted import MODEL, ScriptedEngine, answer

LONG = 1 << 16


def test_a_document_weighs_what_it_holds() -> None:
    assert weight({"a": "four", "b": [1, None, {"c": "six six"}]}) == 2 + 4 + 3 + 1 + 1 + 1 + 7
    for long in ("x" * LONG, [1] * LONG, {str(number): 0 for number in range(LONG)}, [["x" * 1000]] * 100):
        assert weight(long) >= LONG


@pytest.mark.parametrize(("words", "aside"), [(10, False), (40_000, True)])
async def test_what_grows_with_a_body_is_done_aside(start: Any, monkeypatch: Any, words: int, aside: bool) -> None:
    threads: set[str] = set()

    def watch(module: Any, name: str) -> None:
        real = getattr(module, name)

        def watched(*given: Any, **more: Any) -> Any:
            threads.add(f"{name} {threading.current_thread().name}")
            return real(*given, **more)

        monkeypatch.setattr(module, name, watched)

    steps = {"opened": plans, "identified": plans, "begun": plans, "offer": plans, "render": prompt}
    for name, module in steps.items():
        watch(module, name)
    engine = ScriptedEngine(answer("x"))
    engine.card.max_context = 1 << 17  # type: ignore[union-attr]
    gateway = await start(engine)
    asked = {"model": MODEL, "input": "word " * words}
    first = (await gateway.http.post("/v1/responses", json=asked)).json()
    assert threads == {f"{name} {'long-prompts_0' if aside else 'MainThread'}" for name in steps}
    threads.clear()
    await gateway.client.responses.create(model=MODEL, input="And?", previous_response_id=first["id"])
    assert ("render long-prompts_0" in threads) == aside


async def test_what_is_huge_holds_up_nothing_that_is_long() -> None:
    intake, go = Intake(*[cast(Any, None)] * 4), threading.Event()
    huge = asyncio.create_task(intake.prepare(1 << 20, go.wait))
    await asyncio.sleep(0)  # it is given to its thread
    try:
        async with asyncio.timeout(10):
            assert await intake.prepare(LONG, lambda: "done") == "done"
        assert not huge.done()
    finally:
        go.set()
    assert await huge
