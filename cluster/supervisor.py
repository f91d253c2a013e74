"""What `ossia serve` is while it runs: keeps a head and a gateway alive, says what happens, and removes everything at the end.

Knows neither torch nor Ray: those live in the head, so that this process survives whatever happens to them.
"""

import asyncio
import logging
import shutil
import signal
import sys
import time
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from prometheus_client import Counter

from cluster import identity, probe, watch
from cluster.backoff import Backoff
from cluster.child import Child
from cluster.heads import Heads
from cluster.loading import Loading
from cluster.progress import Progress
from cluster.spec import HeadSpec
from cluster.state import Instance, Record
from ossia.common.errors import UserError
from ossia.common.race import first

READY_POLL_S = 0.1
EXTRA_S = 15.0  # beyond the grace, for a process to end by itself
UNREADY_S = 10.0  # the same where nobody was told the URL yet
KILLED = 130  # exit code after a second Ctrl-C, as shells report SIGINT

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Modules:
    """What is run as head and as gateway: a module's name and its first arguments."""

    head: Sequence[str] = ("cluster.head",)
    gateway: Sequence[str] = ("cluster.cli", "gateway")


class Supervisor:
    """Runs one instance.

    `gateway` are the gateway's arguments, `environment` variables for it, `folder` holds temporary files and is removed at the
    end, `restarts` has one label, the part that was started again. `replica_bytes` is what a replica reads of its checkpoint.
    """

    def __init__(
        self,
        spec: HeadSpec,
        gateway: Sequence[str],
        record: Record,
        folder: Path,
        restarts: Counter,
        *,
        replica_bytes: int = 0,
        environment: Mapping[str, str] | None = None,
        modules: Modules | None = None,
        out: TextIO = sys.stdout,
        err: TextIO = sys.stderr,
    ) -> None:
        modules = modules or Modules()
        self._spec = spec
        self._record = record
        self._folder = folder
        self._restarts = restarts
        self._out = Progress(out)
        self._progress = Progress(err)
        self._loading = Loading(replica_bytes, self._progress)
        self._heads = Heads(spec, modules.head, folder, record, self._progress.say, restarts)
        self._environment = {**(environment or {}), **({"OSSIA_TOKEN": spec.token} if spec.token else {})}
        self._gateway_module = (*modules.gateway, *gateway)
        self._gateway: Child | None = None
        self._ready = asyncio.Event()  # and announced
        self._stop = asyncio.Event()
        self._now = asyncio.Event()

    async def run(self) -> int:
        """Serves until SIGINT, SIGTERM or, but under nohup, SIGHUP. Returns the exit code; raises UserError: cannot start."""
        loop = asyncio.get_running_loop()
        loud = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN
        for number in (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if loud else [])):
            loop.add_signal_handler(number, self._on_signal)
        try:
            await first(self._stop.wait(), self._serve())
        finally:
            await self._end_all()
        return KILLED if self._now.is_set() else 0

    def _on_signal(self) -> None:
        if self._stop.is_set():
            self._now.set()
        else:
            self._progress.say(f"stopping; requests in progress have {self._spec.grace_s:g} s (Ctrl-C again: stop now)")
        self._stop.set()

    async def _serve(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for part in (self._heads.run(), self._keep_gateway(), self._watch_fleet(), self._announce()):
                    group.create_task(part)
                group.create_task(self._loading.follow())
                group.create_task(self._loading.reassure(self._ready, " (details: ossia logs -f)"))
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def _keep_gateway(self) -> None:
        backoff = Backoff()
        while True:
            began = time.monotonic()
            reason = await self._run_gateway()
            if not self._ready.is_set():
                raise UserError(reason)
            self._restarts.labels("gateway").inc()
            self._progress.say(f"{reason}; starting it again")
            await asyncio.sleep(backoff.after(time.monotonic() - began))

    async def _run_gateway(self) -> str:
        """Returns why it ended."""
        try:
            self._gateway = gateway = Child.start("gateway", self._gateway_module, self._environment)
        except OSError as error:
            return f"gateway cannot be started ({error.strerror})"
        self._record.track({"gateway": gateway.pid})
        async for line in gateway.lines():
            logger.info("gateway: %s", line)
        await gateway.wait()
        return gateway.complaint

    async def _watch_fleet(self) -> None:
        async for state in watch.states(self._record.instance.controller, self._spec.token):
            self._loading.fleet(state)
            self._progress.fleet(state)
            await self._heads.fleet(state)

    async def _announce(self) -> None:
        """The one line on stdout."""
        instance = self._record.instance
        self._progress.say(f"placing {_shape(instance)} of {instance.model_names[0]}")
        await self._heads.ready.wait()
        while not await asyncio.to_thread(probe.answers, f"{instance.url}/ready"):  # noqa: ASYNC110 - HTTP tells no event
            await asyncio.sleep(READY_POLL_S)
        self._ready.set()
        self._record.update(phase="ready")
        self._out.write(f"ossia is ready: {instance.url}/v1  (model {instance.model_names[0]}, {_shape(instance)})")

    async def _end_all(self) -> None:
        self._record.update(phase="stopping")
        for child in (self._gateway, self._heads.head):
            if child:
                await self._end(child)
        await asyncio.to_thread(identity.kill, self._record.instance.processes)
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _end(self, child: Child) -> None:
        child.terminate()
        await _bounded(
            first(child.wait(), self._now.wait()), self._spec.grace_s + EXTRA_S if self._ready.is_set() else UNREADY_S
        )
        if self._spec.ray_address and not child.ended:  # what a killed head leaves in somebody else's Ray stays there
            child.hurry()
            await _bounded(child.wait(), UNREADY_S)
        if not child.ended and not self._now.is_set():
            self._progress.say(f"{child.part} is killed: it has not ended by itself")
        await asyncio.to_thread(child.kill)
        await child.wait()


async def _bounded(coroutine: Coroutine[Any, Any, object], timeout_s: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(coroutine, timeout_s)


def _shape(instance: Instance) -> str:
    return f"{instance.replicas} replica{'s' * (instance.replicas > 1)} × {instance.ranks} rank{'s' * (instance.ranks > 1)}"
