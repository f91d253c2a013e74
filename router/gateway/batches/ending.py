"""The end of a batch: what came of its lines goes into files. Knows no endpoint."""

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import aclosing

from router.gateway.batches import document
from router.gateway.batches.lines import Line
from router.gateway.batches.progress import Progress
from router.gateway.errors import Json, dumps
from router.gateway.files import described
from router.store.work import Work

_MANY = 100  # results in a transaction


class Ending:
    """Ends batches, from wherever they are."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._store = progress.store
        self._lifetime_s = progress.intake.settings.retention_s

    async def end(self, held: Work) -> None:
        """Writes what came of its lines into files, and tells so."""
        batch = await self._progress.move(held, "in_progress", "finalizing")
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
        ids = {name: file["id"] if file else None for name, file in files.items()}
        completed, failed = await self._store.batches.counts(held.id)
        counts = document.counts(_total(batch) or completed + failed, completed, failed)
        errors = document.errors([_GONE]) if status == "failed" else None
        async with self._store.transaction():
            if await self._store.work.finish(held):
                for file in filter(None, files.values()):
                    await self._store.files.show(held.tenant, file)
                await self._progress.move(
                    held, str(batch["status"]), status, **ids, request_counts=counts, usage=usage.body(), errors=errors
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
        # the time may be over before the clock says so, which somebody has set back
        there = await self._store.files.get(held.tenant, str(batch["input_file_id"]))
        return "expired" if there or time.time() >= expires else "failed"

    async def _give_up(self, held: Work, batch: Json, status: str) -> None:
        """The lines without a result have one that says why."""
        error: Json = {"code": f"batch_{status}", "message": f"the batch was {status} before this request was answered"}
        waiting: list[Line] = []
        async with aclosing(self._progress.left(held.id, batch)) as lines:
            async for line in lines:
                waiting.append(line)
                if len(waiting) == _MANY:
                    await self._refuse(held, waiting, error)
                    waiting.clear()
        await self._refuse(held, waiting, error)

    async def _refuse(self, held: Work, lines: list[Line], error: Json) -> None:
        async with self._store.transaction():
            for line in lines:
                result = document.result(f"batch_req_{secrets.token_hex(16)}", line.custom_id, None, error)
                await self._store.batches.add_result(held.id, line.number, result, failed=True)

    async def _write(self, held: Work, batch: Json, usage: document.Usage, *, failed: bool) -> Json | None:
        """The file of the results of one kind, where there are any. Nobody sees it yet: who lost the batch may write, too."""
        if not (await self._store.batches.counts(held.id))[failed]:
            return None
        kind = "error" if failed else "output"
        id_ = f"file-{secrets.token_hex(16)}"
        expiry = batch["output_expires_after"]
        lifetime_s = expiry["seconds"] if isinstance(expiry, dict) else self._lifetime_s
        name = f"{held.id}_{kind}.jsonl"
        content = self._jsonl(held.id, usage, failed=failed)
        return await self._store.files.write(
            held.tenant, id_, content, lambda size: described(id_, name, "batch_output", size, lifetime_s)
        )

    async def _jsonl(self, id_: str, usage: document.Usage, *, failed: bool) -> AsyncIterator[bytes]:
        async for result in self._store.batches.results(id_, failed=failed):
            match result:
                case {"response": {"body": dict(body)}}:
                    usage.add(body)
            yield dumps(result).encode("utf-8", "surrogatepass") + b"\n"


_GONE: Json = {"code": "input_file_gone", "message": "the input file was deleted", "line": None, "param": "input_file_id"}


def _total(batch: Json) -> int:
    counts = batch["request_counts"]
    assert isinstance(counts, dict)
    total: int = counts["total"]
    return total
