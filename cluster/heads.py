"""Keeps a head running, and with it a Ray: when either is lost, starts the next one while the old replicas go on serving."""

import asyncio
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict
from prometheus_client import Counter

from cluster import identity
from cluster.backoff import Backoff
from cluster.child import Child
from cluster.spec import HeadSpec, Survivor
from cluster.state import Record
from ossia.common.errors import UserError
from ossia.v1 import fleet_pb2

logger = logging.getLogger(__name__)


class Heads:
    """The current head and its Ray, and an earlier Ray for as long as it carries replicas."""

    def __init__(
        self, spec: HeadSpec, module: Sequence[str], folder: Path, record: Record, say: Callable[[str], None], restarts: Counter
    ) -> None:
        self.ready = asyncio.Event()  # set for good once every replica is READY: from then on, heads that end are started again
        self.head: Child | None = None
        self._spec = spec
        self._module = module
        self._folder = folder
        self._record = record
        self._say = say
        self._restarts = restarts.labels("head")
        self._life = 0
        self._error = ""
        self._recovering = False
        self._head_ready = False  # the current one
        self._state = fleet_pb2.FleetState()  # the last one
        self._replicas: dict[str, Survivor] = {}  # each as it was when last READY
        self._survivors: tuple[Survivor, ...] = ()  # those that the current head was told to replace
        self._lost_folders: list[Path] = []  # of Rays that are lost and still carry replicas

    async def run(self) -> None:
        """Never returns. Raises UserError when the first head ends before everything was ready."""
        spec, backoff = self._in_new_folder(self._spec), Backoff()
        while True:
            began = time.monotonic()
            reason = await self._live(spec)
            if not self.ready.is_set():
                raise UserError(reason)
            self._record.update(phase="recovering")
            self._recovering, self._head_ready = True, False
            self._life += 1
            self._restarts.inc()
            self._say(f"{reason}; starting a new head")
            await asyncio.sleep(backoff.after(time.monotonic() - began))
            spec = await self._successor(spec)

    async def _live(self, spec: HeadSpec) -> str:
        """Returns why that head ended, or is of no more use."""
        self._error = ""
        try:
            self.head = self._start(spec)
        except OSError as error:
            return f"head cannot be started ({error.strerror})"
        if await self._follow(self.head):
            return "Ray lost its GCS; replicas go on serving" if self.ready.is_set() else "Ray lost its GCS while starting"
        return self._error or self.head.complaint

    async def fleet(self, state: fleet_pb2.FleetState) -> None:
        """Takes note of what the controller says; ends a lost Ray once none of its replicas is left."""
        for replica in state.replicas:
            if replica.state == fleet_pb2.REPLICA_STATE_READY:
                pids = tuple(rank.pid for rank in sorted(replica.ranks, key=lambda rank: rank.rank))
                self._replicas[replica.name] = Survivor(replica.name, replica.address, pids, replica.epoch)
        if self._spec.ray_address is None:  # or they may be on other hosts
            self._record.track({process.part: process.pid for process in state.processes if process.pid != os.getpid()})
            self._record.track(
                {f"{replica.name}/rank-{rank.rank}": rank.pid for replica in state.replicas for rank in replica.ranks}
            )
        self._record.update(fleet=MessageToDict(state, preserving_proto_field_name=True))
        self._state = state
        await self._settle()

    async def _settle(self) -> None:
        """Ends what is lost once the current head is ready and nothing that the lost Ray carried is left."""
        if not self._recovering or not self._head_ready or not self._replaced():
            return
        self._recovering = False
        await self._end_lost()
        self._say("every replica is ready again")
        self._record.update(phase="ready")

    def _replaced(self) -> bool:
        survivors = {pid for survivor in self._survivors for pid in survivor.pids}
        ready = [replica for replica in self._state.replicas if replica.state == fleet_pb2.REPLICA_STATE_READY]
        return len(ready) >= self._spec.replicas and not any(
            rank.pid in survivors for replica in ready for rank in replica.ranks
        )

    def _start(self, spec: HeadSpec) -> Child:
        file = self._folder / f"head-{self._life}.json"
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
            json.dump(asdict(spec), stream)
        head = Child.start("head", [*self._module, "--spec", str(file)], {})
        self._record.track({"head": head.pid})
        return head

    async def _follow(self, head: Child) -> bool:
        """Returns when the head ended (False) or says that its own Ray's GCS is lost (True)."""
        async for line in head.lines():
            event = _event(line)
            logger.info("head: %s", line)
            match event.get("event"):
                case "controller":
                    self._record.update(ray_address=event.get("ray_address") or "")
                    self._record.track({_part(name): pid for name, pid in event.get("pids", {}).items()})
                case "ready":
                    self._head_ready = True
                    self.ready.set()
                    await self._settle()
                case "error":
                    self._error = str(event["message"])
                case "gcs_lost" if self._spec.ray_address is None:
                    return True
                case "gcs_lost":
                    self._say(f"the GCS of Ray at {self._spec.ray_address} is lost; replicas go on serving, restart Ray's head")
        await head.wait()
        return False

    async def _successor(self, spec: HeadSpec) -> HeadSpec:
        """What the next head is told: to join the same Ray, or to start one of its own and replace the old one's replicas."""
        if self._spec.ray_address is not None:
            return self._spec
        self._lost_folders.append(Path(spec.ray_folder))
        self._survivors = tuple(replica for replica in self._replicas.values() if _alive(replica.pids))
        await self._retire()
        return self._in_new_folder(replace(self._spec, survivors=self._survivors))

    async def _retire(self) -> None:
        """Frees the controller's port and what ranks hold that do not serve; marks what ends once the others are replaced."""
        processes, serving = self._record.instance.processes, {pid for survivor in self._survivors for pid in survivor.pids}
        idle = [process for process in processes if "/rank-" in process.part and process.pid not in serving]
        controllers = [process for process in processes if process.part == "controller"]
        await asyncio.to_thread(identity.kill, [*controllers, *idle])
        self._record.update(
            processes=tuple(
                replace(process, part=f"lost/{process.part}")
                if process.part == "head" or process.part.startswith("ray/")
                else process
                for process in processes
            )
        )

    async def _end_lost(self) -> None:
        lost = [process for process in self._record.instance.processes if process.part.startswith("lost/")]
        await asyncio.to_thread(identity.kill, lost)
        self._record.update(processes=tuple(process for process in self._record.instance.processes if process not in lost))
        for folder in self._lost_folders:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        self._lost_folders.clear()

    def _in_new_folder(self, spec: HeadSpec) -> HeadSpec:
        return spec if spec.ray_address else replace(spec, ray_folder=str(self._folder / f"ray-{self._life}"))


def _part(name: str) -> str:
    return name if name == "controller" else f"ray/{name}"


def _event(line: str) -> dict[str, Any]:
    """An empty event for what is not one: a library may print to the head's stdout."""
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def _alive(pids: tuple[int, ...]) -> bool:
    return all(identity.ProcessId.of("rank", pid) for pid in pids)
