"""Sessions keep their interpreters, one each; there is room for so many, and idle ones end."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from router.tools.python.lockdown import Limits
from router.tools.python.sessions import Sessions
from tests.router.tools.python.conftest import needs_lock

pytestmark = needs_lock
LONG_S = 60.0


@pytest.fixture
async def sessions() -> AsyncIterator[Sessions]:
    """Room for two."""
    sessions = Sessions(Limits(), 1000, most=2)
    yield sessions
    await sessions.close()


async def _text(sessions: Sessions, session: str, code: str) -> str:
    return (await sessions.run(session, code, LONG_S)).text


async def test_sessions_do_not_see_each_other(sessions: Sessions) -> None:
    await _text(sessions, "a", "x = 1")
    await _text(sessions, "b", "x = 2")
    assert await _text(sessions, "a", "x") == "1\n"
    assert await _text(sessions, "b", "x") == "2\n"


async def test_calls_without_a_session_share_nothing(sessions: Sessions) -> None:
    await _text(sessions, "", "x = 1; open('x', 'w')")
    assert "NameError" in await _text(sessions, "", "x")
    assert await _text(sessions, "", "import os; os.listdir()") == "[]\n"


async def test_cells_of_a_session_run_one_after_the_other(sessions: Sessions) -> None:
    await _text(sessions, "a", "import time; log = []")
    cell = "log.append('in'); time.sleep(0.05); log.append('out')"
    await asyncio.gather(*(_text(sessions, "a", cell) for _ in range(3)))
    assert await _text(sessions, "a", "log") == f"{['in', 'out'] * 3}\n"


async def test_the_longest_idle_makes_room(sessions: Sessions) -> None:
    for session in ("a", "b", "c"):
        await _text(sessions, session, "x = 1")
    assert await _text(sessions, "b", "x") == "1\n"
    assert "NameError" in await _text(sessions, "a", "x")


async def test_who_finds_no_room_waits_and_is_told_in_time(sessions: Sessions) -> None:
    busy = [asyncio.ensure_future(sessions.run("", "import time; time.sleep(0.5)", LONG_S)) for _ in range(2)]
    await asyncio.wait(busy, timeout=0.05)
    late = await sessions.run("", "1", 0.1)
    assert late.error
    assert late.text.startswith("[no interpreter was free within 0.1 seconds")
    assert await _text(sessions, "", "1") == "1\n"
    assert not any(task.result().error for task in await asyncio.gather(*map(_settled, busy)))


async def _settled(task: asyncio.Future) -> asyncio.Future:
    await asyncio.wait({task})
    return task


async def test_a_tenant_leaves_room_for_others(sessions: Sessions) -> None:
    busy = [asyncio.ensure_future(sessions.run("", "import time; time.sleep(60)", LONG_S, "acme")) for _ in range(2)]
    await asyncio.wait(busy, timeout=0.05)
    assert (await sessions.run("", "1", 0.1, "acme")).text.startswith("[no interpreter was free")
    assert (await sessions.run("", "1", LONG_S, "other")).text == "1\n"
    for task in busy:
        task.cancel()
    await asyncio.wait(busy)


async def test_who_has_many_sessions_loses_the_first() -> None:
    sessions = Sessions(Limits(), 1000, most=3)
    for session, tenant in (("one", "other"), ("a", "acme"), ("b", "acme"), ("c", "acme")):
        await sessions.run(session, "x = 1", LONG_S, tenant)
    assert await _text(sessions, "one", "x") == "1\n"
    assert await _text(sessions, "c", "x") == "1\n"
    assert "NameError" in await _text(sessions, "a", "x")
    await sessions.close()


async def test_a_session_whose_interpreter_was_ended_begins_anew(sessions: Sessions) -> None:
    await _text(sessions, "a", "x = 1")
    assert (await sessions.run("a", "import time; time.sleep(60)", 0.2)).error
    assert "NameError" in await _text(sessions, "a", "x")


async def test_cancelled_calls_leave_room(sessions: Sessions) -> None:
    for _ in range(3):
        running = asyncio.ensure_future(sessions.run("a", "while True: pass", LONG_S))
        await asyncio.wait({running}, timeout=0.2)
        running.cancel()
        await asyncio.wait({running})
    assert await _text(sessions, "a", "1") == "1\n"


async def test_what_a_server_cancels_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    sessions = Sessions(Limits(), 1000)
    with anyio.CancelScope() as scope:  # which cancels whatever is awaited inside, again and again
        asyncio.get_running_loop().call_later(0.3, scope.cancel)
        await sessions.run("", "while True: pass", LONG_S)
    assert scope.cancelled_caught
    await sessions.close()
    assert not os.listdir(tmp_path)


async def test_idle_interpreters_end() -> None:
    sessions = Sessions(Limits(), 1000, idle_s=0.01)
    pid = int(await _text(sessions, "a", "x = 1; import os; os.getpid()"))
    async with asyncio.timeout(20):
        while os.path.exists(f"/proc/{pid}"):  # noqa: ASYNC110, ASYNC240 - a process that ends by itself
            await asyncio.sleep(0.01)
    assert "NameError" in await _text(sessions, "a", "x")
    await sessions.close()
