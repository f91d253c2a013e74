"""A batch in the store, for whoever has it: its status, and the lines that are left. Knows neither engine nor HTTP."""

import functools
from collections.abc import AsyncGenerator

from router.gateway.batches import document
from router.gateway.batches.lines import Line, parse, split
from router.gateway.errors import ApiError, Json
from router.gateway.intake import Intake
from router.store.store import Store
from router.store.work import Work


class Progress:
    """`intake` bounds lines, and reads long ones aside."""

    def __init__(self, store: Store, intake: Intake) -> None:
        self.store = store
        self.intake = intake

    async def left(self, id_: str, batch: Json) -> AsyncGenerator[Line, None]:
        """The lines without a result."""
        done = await self.store.batches.lines(id_)
        content = self.store.files.content(str(batch["input_file_id"]))
        async for number, raw in split(content, self.intake.settings.max_body_bytes):
            if number in done:
                continue
            try:
                line = await self.intake.prepare(len(raw), functools.partial(parse, number, raw, str(batch["endpoint"])))
            except ApiError:  # half a line: all were right once, so the file was deleted meanwhile
                return
            yield line

    async def move(self, held: Work, from_: str | None, to: str, **changes: object) -> Json | None:
        """Puts the batch into another status, unless it is not in `from_` any more; returns it as it is then."""

        def change(batch: Json) -> Json:
            return document.moved(batch, to, **changes) if from_ in (None, batch["status"]) else batch

        return await self.store.batches.update(held.tenant, held.id, change)
