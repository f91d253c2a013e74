"""One replica as a router sees it: dialled, watched, left alone when it fails, tried again with a generated token."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from enum import Enum

import grpc

from ossia.v1 import fleet_pb2
from ossia.v1.engine_pb2 import Delta, DescribeResponse, Load, Sampling, Submit
from router.backoff import Backoff
from router.client import EngineClient
from router.engine import EngineError
from router.outage import Outage
from router.policy import Outstanding

logger = logging.getLogger(__name__)
REFRESH_S = 5.0  # between questions what it is
STEADY_S = 10.0  # READY for so long, a replica is tried again soon after its next trouble
PROBE = Submit(request_id="probe", prompt=[0], sampling=Sampling(temperature=0, max_tokens=1, seed=0))


class State(Enum):
    CONNECTING = "connecting"
    READY = "ready"
    EJECTED = "ejected"  # connected, but it stalled or refused as unavailable


class Replica:
    """Keeps a session to `entry.address` for as long as it runs; `changed` is called when `state` does."""

    def __init__(
        self, entry: fleet_pb2.Replica, token: str | None, stall_floor_s: float, changed: Callable[["Replica"], None]
    ) -> None:
        self.entry = entry
        self.state = State.CONNECTING
        self.card: DescribeResponse | None = None
        self.outstanding = Outstanding()
        self._token = token
        self._stall_floor_s = stall_floor_s
        self._changed = changed
        self._client: EngineClient | None = None
        self._backoff = Backoff()
        self._trouble = asyncio.Event()
        self._suspect = False
        self._outage = Outage(logger, f"replica {self.name}")
        self._task = asyncio.create_task(self._supervise())

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def load(self) -> Load:
        """The load it last told, all zero before."""
        return self._client.load if self._client else Load()

    async def close(self) -> None:
        """Lets go of the replica; what runs on it raises UNAVAILABLE."""
        self._task.cancel()
        await asyncio.wait([self._task])
        self._set(State.CONNECTING)

    def generate(self, submit: Submit) -> AsyncGenerator[Delta, None]:
        """As Engine.generate; raises EngineError at once where there is no session."""
        if self._client is None:
            raise EngineError(grpc.StatusCode.UNAVAILABLE, f"{self.name} is not connected", reason="LOST")
        return self._client.generate(submit)

    def _eject(self, error: EngineError) -> None:
        """Takes no more requests until it has proved itself; those that run on it stay."""
        self._suspect = True
        self._trouble.set()
        if self.state is State.READY:
            self._set(State.EJECTED)
        self._outage.begins(error.message)

    def _set(self, state: State) -> None:
        if state is not self.state:
            self.state = state
            self._changed(self)

    async def _supervise(self) -> None:
        while True:
            try:
                await self._connect()
            except EngineError as error:
                self._outage.begins(error.message)
            except Exception:
                logger.exception("a session to replica %s ended by our own fault; dialling again", self.name)
                if self._task.cancelling():  # the fault showed on the way out, in the place of the cancel
                    return
            await asyncio.sleep(self._backoff.next_s())

    async def _connect(self) -> None:
        """One session, from its beginning to its end."""
        client = EngineClient(self.entry.address, self._token, stall_floor_s=self._stall_floor_s, on_trouble=self._eject)
        try:
            await client.start()
            self._client = client
            self.card = client.card
            await self._attend(client)
        finally:
            self._client = None
            self._set(State.CONNECTING)
            await client.close()

    async def _attend(self, client: EngineClient) -> None:
        """Serves while the session lasts, then raises EngineError."""
        if not client.card.ready:
            raise EngineError(grpc.StatusCode.UNAVAILABLE, "it has not generated a token yet")
        while not client.lost:
            await self._prove(client)
            self._trouble.clear()
            if not client.lost:
                await self._serve(client)
        raise EngineError(grpc.StatusCode.UNAVAILABLE, "its session ended")

    async def _prove(self, client: EngineClient) -> None:
        """Returns when a suspect has generated a token, or is lost."""
        while self._suspect and not client.lost:
            try:
                async for _ in client.generate(PROBE):
                    self._suspect = False
            except EngineError as error:
                self._outage.begins(error.message)
                await asyncio.sleep(self._backoff.next_s())

    async def _serve(self, client: EngineClient) -> None:
        """Returns when there is trouble, after a pause that grows while trouble follows trouble."""
        self._outage.ends()
        self._set(State.READY)
        since = time.monotonic()
        refreshing = asyncio.create_task(self._refresh(client))
        try:
            await self._trouble.wait()
        finally:
            refreshing.cancel()
        if time.monotonic() - since > STEADY_S:
            self._backoff.reset()
        if not client.lost:
            await asyncio.sleep(self._backoff.next_s())

    async def _refresh(self, client: EngineClient) -> None:
        """Never returns: where the replica is a router, its ranks and processes change while the session lasts."""
        while True:
            await asyncio.sleep(REFRESH_S)
            with suppress(EngineError):
                self.card = await client.describe()
