"""Responses that nobody waits for: queued in the store, made by whichever gateway claims them, followed from any.

What the engine said is stored with the events that tell of it. A gateway that claims what another one began feeds that to its
own run first, which tells the same events once more, and goes on behind the last token: the engine is given the tokens that
there are, and the seed is the response's own. Whoever follows notices nothing. A tool's call that had no result yet is made
again.
"""

import asyncio
import functools
import logging
import os
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import cast

from starlette.requests import Request

from router.access.grant import FREE, Grant
from router.access.principal import Principal
from router.gateway.errors import ApiError, Json, internal, not_found
from router.gateway.generation import Usage
from router.gateway.responses.document import failed
from router.gateway.responses.journal import Journal, Journaled, ends
from router.gateway.responses.plans import Plans
from router.gateway.responses.run import Plan, Run, passing
from router.gateway.responses.schema import ResponseBody
from router.gateway.responses.view import View
from router.shares import Shares
from router.store.database import Unavailable
from router.store.responses import StoredResponse
from router.store.store import Store
from router.store.work import POLL_S, Work

logger = logging.getLogger(__name__)

KIND = "response"
ENDED = ("completed", "incomplete", "failed", "cancelled")
LEASE_S = 6.0
FLUSH_S = 0.2  # that events wait for others, so that not every token is a transaction
MOST_AT_ONCE = 256
MOST_ATTEMPTS = 5  # of processes that died or failed over it
MOST_WAIT_S = 24 * 3600.0  # for an engine that is full
Grants = Callable[[Principal, str], Grant]


class Lost(Exception):
    """The work is another gateway's by now, or nobody's: nothing more may be stored."""


class Background:
    """The queue of responses, and this gateway's part in making them."""

    def __init__(self, plans: Plans, store: Store, grants: Grants | None) -> None:
        self._plans = plans
        self._state = plans.state
        self._store = store
        self._grants = grants or (lambda principal, request_id: FREE)
        self._owner = f"{os.getpid()}/{secrets.token_hex(8)}"

    async def queue(self, plan: Plan, raw: bytes, request: Request) -> None:
        """Stores the response, to be made."""
        state = request.state
        payload: Json = {
            "body": raw.decode(),
            "principal": state.principal.stored(),
            "request_id": state.request_id,
            "traceparent": state.traceparent,
            "history": [item["id"] for item in plan.prompt.history],
            "tools": plan.offer.known(),
        }
        told = [
            {"type": f"response.{kind}", "sequence_number": number, "response": plan.document}
            for number, kind in enumerate(("created", "queued"))
        ]
        tenant, body = state.principal.tenant, plan.body
        async with self._store.transaction():
            await self._state.put(tenant, plan.document, plan.prompt.items, body)
            await self._store.events.append(plan.id, told)
            await self._store.work.add(KIND, plan.id, tenant, payload, priority=state.principal.ranked(body.urgency))

    async def run(self) -> None:
        """Makes what is queued, until cancelled; what was begun by then is given back."""
        slots, shares = asyncio.Semaphore(MOST_AT_ONCE), Shares(MOST_AT_ONCE)

        def left(work: Work) -> None:
            slots.release()
            shares.leave(work.tenant)
            self._store.work.wake(KIND)

        async with asyncio.TaskGroup() as group:
            while True:
                await slots.acquire()
                work = await self._store.work.next(KIND, self._owner, LEASE_S, shares)
                group.create_task(self._work(work)).add_done_callback(lambda _, work=work: left(work))  # type: ignore[misc]

    async def follow(self, tenant: str, id_: str, view: View, after: int) -> AsyncGenerator[list[Json], None]:
        """The events of a response with a greater number, as they come, whoever makes it."""
        with self._store.events.listening(id_) as heard:
            while True:
                heard.clear()
                stored = await self._store.responses.get(tenant, id_)
                if stored is None:
                    raise not_found("response", id_)
                events = await self._store.events.read(id_, after)
                if events:
                    after = int(str(events[-1]["sequence_number"]))
                    yield [view.event(event) for event in events]
                if stored.response["status"] in ENDED:
                    return
                with suppress(TimeoutError):
                    await asyncio.wait_for(heard.wait(), POLL_S)

    async def cancel(self, tenant: str, id_: str) -> Json:
        """Ends it wherever it is made; the response as it is then. Raises ApiError."""
        stored = await self._state.response(tenant, id_)
        if not stored.response["background"]:
            raise ApiError(400, "only a response with 'background': true can be cancelled", code="invalid_value")
        async with self._store.transaction():
            if not await self._store.work.cancel(tenant, KIND, id_):
                return (await self._state.response(tenant, id_)).response
            events = await self._store.events.read(id_)
            output = [event["item"] for event in events if event["type"] == "response.output_item.done"]
            response = {**stored.response, "status": "cancelled", "output": output}
            number = int(str(events[-1]["sequence_number"])) + 1
            # OpenAI's API has no event of this name: clients know three that end a stream
            ending = {"type": "response.incomplete", "sequence_number": number, "response": response}
            await self._store.responses.put(
                tenant, response, stored.items, conversation=stored.conversation, previous=stored.previous
            )
            await self._store.events.append(id_, [ending])
        return response

    async def delete(self, tenant: str, id_: str) -> None:
        """Deletes it, made or not. Raises ApiError."""
        async with self._store.transaction():
            await self._store.work.cancel(tenant, KIND, id_)
            if not await self._store.responses.delete(tenant, id_):
                raise not_found("response", id_)

    async def _work(self, work: Work) -> None:
        """One claim, from its beginning to its end. Raises nothing but the gateway's own end."""
        try:
            await self._store.work.hold(work, LEASE_S, self._make(work))
        except Lost:
            logger.info("a background response is not this gateway's any more", extra={"response": work.id})
        except Exception:
            logger.exception("a background response failed", extra={"response": work.id})
            with suppress(Unavailable):  # then its lease ends by itself
                await self._store.work.release(work, after_s=float(work.attempt))

    async def _make(self, work: Work) -> None:
        """Raises Lost."""
        stored = await self._store.responses.get(work.tenant, work.id)
        if stored is None:  # retention was faster
            await self._store.work.finish(work)
            return None
        raw = str(work.payload["body"]).encode()
        body = await self._plans.intake.prepare(len(raw), lambda: ResponseBody.parse(raw))
        if work.attempt > MOST_ATTEMPTS:
            return await self._fail(work, body, internal())
        created = int(str(stored.response["created_at"]))
        await self._begin(work, stored, body)
        while True:
            try:
                return await self._attempt(work, stored, body)
            except ApiError as error:
                if not passing(error) or time.time() > created + MOST_WAIT_S:
                    return await self._fail(work, body, error)
                await asyncio.sleep(min(60.0, max(1.0, error.retry_after_s or 0.0)))

    async def _begin(self, work: Work, stored: StoredResponse, body: ResponseBody) -> None:
        async with self._store.transaction():
            if not await self._store.work.renew(work, LEASE_S):
                raise Lost
            await self._state.put(work.tenant, {**stored.response, "status": "in_progress"}, stored.items, body)

    async def _attempt(self, work: Work, stored: StoredResponse, body: ResponseBody) -> None:
        """Makes the response, from where it is. Raises ApiError, Lost."""
        principal = Principal.of(cast(Json, work.payload["principal"]))
        journal = Journal(await self._store.events.read(work.id))
        size = len(str(work.payload["body"]))
        # an older version queued it without these
        history, known = cast(list[str] | None, work.payload.get("history")), work.payload.get("tools", {})
        plan = await self._plans.again(body, principal, size, stored, history, known, journal.results)
        request_id = str(work.payload["request_id"])
        async with self._grants(principal, request_id) as grant:
            intake = self._plans.intake
            source = intake.source_of(request_id, str(work.payload["traceparent"]), principal, grant)
            journaled = Journaled(**vars(source), journal=journal, ends=ends(plan.card))
            run = Run(intake, journaled, self._plans.tools, plan)
            writer = _Writer(self._store, work, functools.partial(self._keep, work, stored, body, run))
            await self._told(run, journal, writer)
            grant.settle(run.usage.prompt + run.usage.output)
            await self._end(work, run.document, stored, body, [*writer.waiting, *journal.write([run.ending()])])

    async def _keep(self, work: Work, stored: StoredResponse, body: ResponseBody, run: Run) -> None:
        """Stores what there is of it, for those who poll."""
        response = {**stored.response, "status": "in_progress", "output": run.items}
        await self._state.put(work.tenant, response, stored.items, body)

    async def _told(self, run: Run, journal: Journal, writer: "_Writer") -> None:
        """Runs it; its events are stored as they come, but for the last ones."""
        writing = asyncio.create_task(writer.run())
        try:
            async with aclosing(run.events()) as batches:
                async for batch in batches:
                    writer.add(journal.write(batch))
                    if writing.done():
                        break
            writer.close()
            await writing
        except ApiError:  # it goes on later, behind what there is
            writer.close()
            await writing
            await writer.flush()
            raise
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    async def _end(self, work: Work, response: Json, stored: StoredResponse, body: ResponseBody, events: list[Json]) -> None:
        async with self._store.transaction():
            if not await self._store.work.finish(work):
                raise Lost
            await self._store.events.append(work.id, events or [await self._ending(response)])
            await self._state.keep(work.tenant, response, stored.items, body)

    async def _fail(self, work: Work, body: ResponseBody, error: ApiError) -> None:
        """Ends a response that no run ended, with what there is of it. Raises Lost."""
        if stored := await self._store.responses.get(work.tenant, work.id):
            output = cast(list[Json], stored.response["output"])
            await self._end(work, failed(stored.response, output, Usage(0), error), stored, body, [])
        else:  # deleted
            await self._store.work.finish(work)

    async def _ending(self, response: Json) -> Json:
        """The last event of a response that no run ended."""
        id_ = str(response["id"])
        last = (await self._store.events.read(id_))[-1]["sequence_number"]
        return {"type": "response.failed", "sequence_number": int(str(last)) + 1, "response": response}


class _Writer:
    """Stores events soon after they are added, many at a time, and with those that end an item the response so far, by `keep`.
    Raises Lost.
    """

    def __init__(self, store: Store, work: Work, keep: Callable[[], Awaitable[None]]) -> None:
        self._store = store
        self._work = work
        self._keep = keep
        self._some = asyncio.Event()
        self._closed = asyncio.Event()
        self.waiting: list[Json] = []

    def add(self, events: list[Json]) -> None:
        self.waiting += events
        if events:
            self._some.set()

    def close(self) -> None:
        """No event follows; what is waiting is the caller's to store."""
        self._closed.set()
        self._some.set()

    async def run(self) -> None:
        """Until it is closed."""
        await self._some.wait()
        while not self._closed.is_set():
            self._some.clear()
            try:
                await self.flush()
            except Unavailable:  # once more, for as long as the lease is held
                self._some.set()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), FLUSH_S)
            await self._some.wait()

    async def flush(self) -> None:
        """Stores what is waiting."""
        events = list(self.waiting)
        async with self._store.transaction():
            if not await self._store.work.renew(self._work, LEASE_S):
                raise Lost
            await self._store.events.append(self._work.id, events)
            if any(event["type"] == "response.output_item.done" for event in events):
                await self._keep()
        del self.waiting[: len(events)]
