"""Answers batches, one line like a request of its own, and goes on where another gateway left off. Knows no endpoint.

The result of a line is stored as it comes; a line whose result was not is asked again.
"""

import asyncio
import functools
import hashlib
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress

from router.access.principal import Principal
from router.gateway.batches import document
from router.gateway.batches.lines import Line, check, parse, split
from router.gateway.errors import Json, dumps
from router.gateway.files import described
from router.gateway.inside import Inside
from router.gateway.intake import Intake
from router.store.store import Store
from router.store.work import POLL_S, Work

KIND = "batch"
LEASE_S = 15.0
AT_ONCE = 32  # lines
PRIORITY = -(1 << 31)  # behind everybody who waits for an answer
MOST_ATTEMPTS = 100  # claims, after which a batch is what fails
_MANY = 100  # results in a transaction


class Runner:
    """Runs one batch at a time; a gateway has several."""

    def __init__(self, store: Store, inside: Inside, intake: Intake) -> None:
        self._store = store
        self._inside = inside
        self._intake = intake
        self._owner = secrets.token_hex(8)

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            held = await self._store.work.next(KIND, self._owner, LEASE_S)
            await self._store.work.hold(held, LEASE_S, self._advance(held))

    async def _advance(self, held: Work) -> None:
        """Brings a batch to its end from wherever it is."""
        batch = await self._store.batches.get(held.tenant, held.id)
        if batch is not None and held.attempt > MOST_ATTEMPTS:
            batch = await self._fail(held, "internal_error", "the batch could not be run; the log tells more")
        elif batch is not None and batch["status"] == "validating":
            batch = await self._validate(held, batch)
        if batch is not None and batch["status"] == "in_progress":
            await self._answer_until_over(held, batch)
        await self._end(held)

    async def _validate(self, held: Work, batch: Json) -> Json | None:
        content = self._store.files.content(str(batch["input_file_id"]))
        checked = await check(content, str(batch["endpoint"]), self._intake)
        if checked.mistakes:
            return await self._move(held, "validating", "failed", errors=_errors(checked.mistakes))
        counts = document.counts(checked.total, 0, 0)
        return await self._move(held, "validating", "in_progress", request_counts=counts)

    # ------------------------------------------------------------ lines

    async def _answer_until_over(self, held: Work, batch: Json) -> None:
        """Answers its lines, until it is cancelled or expires."""
        expires = batch["expires_at"]
        assert isinstance(expires, int)
        tasks = [asyncio.ensure_future(work) for work in (self._answer(held, batch), self._cancelling(held))]
        try:
            done, _ = await asyncio.wait(tasks, timeout=max(0, expires - time.time()), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, held: Work, batch: Json) -> None:
        slots = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as group, aclosing(self._left(held.id, batch)) as lines:
            async for line in lines:
                await slots.acquire()
                task = group.create_task(self._ask(held, str(batch["endpoint"]), line))
                task.add_done_callback(lambda _: slots.release())

    async def _left(self, id_: str, batch: Json) -> AsyncGenerator[Line, None]:
        """The lines without a result."""
        done = await self._store.batches.lines(id_)
        content = self._store.files.content(str(batch["input_file_id"]))
        async for number, raw in split(content, self._intake.settings.max_body_bytes):
            if number not in done:
                yield await self._intake.prepare(len(raw), functools.partial(parse, number, raw, str(batch["endpoint"])))

    async def _ask(self, held: Work, endpoint: str, line: Line) -> None:
        id_, principal = f"batch_req_{secrets.token_hex(16)}", Principal.of(held.payload)
        while True:
            reply = await self._inside.post(endpoint, line.body, principal, id_, PRIORITY)
            if reply.retry_after_s is None:
                break
            await asyncio.sleep(reply.retry_after_s)
        response: Json = {"status_code": reply.status, "request_id": id_, "body": reply.body}
        result = _result(id_, line, response, None)
        await self._store.batches.add_result(held.id, line.number, result, failed=reply.status >= 400)

    async def _cancelling(self, held: Work) -> None:
        """Returns once somebody wants the batch to end."""
        with self._store.batches.listening(held.id) as heard:
            while True:
                heard.clear()
                batch = await self._store.batches.get(held.tenant, held.id)
                if batch is None or batch["status"] != "in_progress":
                    return
                with suppress(TimeoutError):
                    await asyncio.wait_for(heard.wait(), POLL_S)

    # ------------------------------------------------------------ its end

    async def _end(self, held: Work) -> None:
        """Writes what came of its lines into files, and tells so."""
        batch = await self._move(held, "in_progress", "finalizing")
        if batch is None or batch["status"] == "failed":
            await self._store.work.finish(held)
            return
        status = await self._outcome(held, batch)
        if status in ("expired", "cancelled") and _total(batch):  # else nobody has looked at its lines
            await self._give_up(held, batch, status)
        usage = document.Usage()
        files = {
            "output_file_id": await self._write(held, batch, usage, failed=False),
            "error_file_id": await self._write(held, batch, usage, failed=True),
        }
        completed, failed = await self._store.batches.counts(held.id)
        counts = document.counts(_total(batch) or completed + failed, completed, failed)
        errors = _errors([_GONE]) if status == "failed" else None
        async with self._store.transaction():
            if await self._store.work.finish(held):
                await self._move(
                    held, str(batch["status"]), status, **files, request_counts=counts, usage=usage.body(), errors=errors
                )
                await self._store.batches.forget_results(held.id)

    async def _outcome(self, held: Work, batch: Json) -> str:
        """How it ends."""
        if batch["status"] == "cancelling":
            return "cancelled"
        if sum(await self._store.batches.counts(held.id)) == _total(batch):
            return "completed"
        expires = batch["expires_at"]
        assert isinstance(expires, int)
        return "expired" if time.time() >= expires else "failed"

    async def _give_up(self, held: Work, batch: Json, status: str) -> None:
        """The lines without a result have one that says why."""
        error: Json = {"code": f"batch_{status}", "message": f"the batch was {status} before this request was answered"}
        waiting: list[Line] = []
        async with aclosing(self._left(held.id, batch)) as lines:
            async for line in lines:
                waiting.append(line)
                if len(waiting) == _MANY:
                    await self._refuse(held, waiting, error)
                    waiting.clear()
        await self._refuse(held, waiting, error)

    async def _refuse(self, held: Work, lines: list[Line], error: Json) -> None:
        async with self._store.transaction():
            for line in lines:
                result = _result(f"batch_req_{secrets.token_hex(16)}", line, None, error)
                await self._store.batches.add_result(held.id, line.number, result, failed=True)

    async def _write(self, held: Work, batch: Json, usage: document.Usage, *, failed: bool) -> str | None:
        """The file of the results of one kind, where there are any. The same batch writes the same file again."""
        if not (await self._store.batches.counts(held.id))[failed]:
            return None
        kind = "error" if failed else "output"
        id_ = f"file-{hashlib.sha256(f'{held.id}/{kind}'.encode()).hexdigest()[:32]}"
        expiry = batch["output_expires_after"]
        lifetime_s = expiry["seconds"] if isinstance(expiry, dict) else self._intake.settings.retention_s
        name = f"{held.id}_{kind}.jsonl"
        content = self._jsonl(held.id, usage, failed=failed)
        await self._store.files.put(
            held.tenant, id_, content, lambda size: described(id_, name, "batch_output", size, lifetime_s)
        )
        return id_

    async def _jsonl(self, id_: str, usage: document.Usage, *, failed: bool) -> AsyncIterator[bytes]:
        async for result in self._store.batches.results(id_, failed=failed):
            match result:
                case {"response": {"body": dict(body)}}:
                    usage.add(body)
            yield dumps(result).encode("utf-8", "surrogatepass") + b"\n"

    async def _fail(self, held: Work, code: str, message: str) -> Json | None:
        mistake: Json = {"code": code, "message": message, "line": None, "param": None}
        return await self._move(held, None, "failed", errors=_errors([mistake]))

    async def _move(self, held: Work, from_: str | None, to: str, **changes: object) -> Json | None:
        """Puts the batch into another status, unless it is not in `from_` any more; returns it as it is then."""

        def change(batch: Json) -> Json:
            return document.moved(batch, to, **changes) if from_ in (None, batch["status"]) else batch

        return await self._store.batches.update(held.tenant, held.id, change)


_GONE: Json = {"code": "input_file_gone", "message": "the input file was deleted", "line": None, "param": "input_file_id"}


def _result(id_: str, line: Line, response: Json | None, error: Json | None) -> Json:
    return {"id": id_, "custom_id": line.custom_id, "response": response, "error": error}


def _errors(mistakes: list[Json]) -> Json:
    return {"object": "list", "data": mistakes}


def _total(batch: Json) -> int:
    counts = batch["request_counts"]
    assert isinstance(counts, dict)
    total: int = counts["total"]
    return total
