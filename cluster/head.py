"""`python -m cluster.head --spec FILE`: owns an instance's Ray, or joins one, and has the controller run in it.

Says what happens as JSON lines on stdout: `controller` (its address, Ray's, their pids), `ready` (every replica is),
`gcs_lost`, `gcs_returned`, `error`. A UserError is one line on stderr and exit code 2. SIGTERM and SIGINT stop the replicas
with grace and remove everything. SIGKILL takes a Ray of its own along.
"""

import argparse
import asyncio
import contextlib
import io
import json
import logging
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from prometheus_client import Gauge

from cluster import gcs, probe, processes
from cluster.ray_local import NAMESPACE, LocalRay, environment
from cluster.spec import HeadSpec
from ossia.common import logs, metrics, wire
from ossia.common.errors import UserError
from ossia.common.metrics import Endpoint
from ossia.common.race import first

POLL_S = 1.0
EXTRA_S = 15.0  # beyond the grace, for the controller to stop everything

logger = logging.getLogger(__name__)


class RayLost(Exception):
    """A Ray of our own ended, and all replicas with it."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m cluster.head")
    parser.add_argument("--spec", type=Path, required=True, help="a HeadSpec as JSON")
    spec = HeadSpec.parse(parser.parse_args().spec.read_text(encoding="utf-8"))
    logs.configure("head", Path(spec.log_folder))
    processes.adopt_orphans()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    code = 0
    try:
        with contextlib.redirect_stdout(sys.stderr):  # where Ray prints what befalls its workers
            _run(spec)
    except UserError as error:
        print(f"ossia: {error}", file=sys.stderr, flush=True)
        code = 2
    except RayLost as error:
        _say("error", message=str(error))
        code = 1
    finally:
        processes.kill_below()
    os._exit(code)  # what Ray registered to do at exit would wait for a GCS that may be gone


def _run(spec: HeadSpec) -> None:
    os.environ.update(environment(spec))
    local = LocalRay(spec)
    own = Endpoint("head", os.getpid(), spec.node_ip, wire.outward(metrics.serve(spec.metrics_host)))
    spec = replace(
        spec,
        controller_port=spec.controller_port or probe.free_port(spec.node_ip),
        controller_metrics_port=probe.free_port(spec.metrics_host),
        processes=(own, *spec.processes),
    )
    asyncio.run(Head(spec, local).run())


class Head:
    """Stateless: what is desired is in the controller, what there is in Ray."""

    def __init__(self, spec: HeadSpec, local: LocalRay) -> None:
        self._spec = spec
        self._local = local
        self._controller: Any = None
        self._controller_pid = 0
        self._gcs_up = Gauge("ossia_head_gcs_up", "1 while Ray's GCS answers.")
        self._stop = asyncio.Event()
        self._now = asyncio.Event()  # without grace

    async def run(self) -> None:
        """Returns after SIGTERM or SIGINT, with nothing left running. Raises UserError or RayLost."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal)
        try:
            await first(self._stop.wait(), self._serve())
        finally:
            with contextlib.redirect_stdout(io.StringIO()):  # Ray prints whom it misses, and now it is we who kill them
                await self._end()

    def _on_signal(self) -> None:
        if self._stop.is_set():
            self._now.set()
        self._stop.set()

    async def _serve(self) -> None:
        await self._find_controller()
        await first(self._tell_ready(), self._watch_gcs(), self._watch_raylet())

    async def _find_controller(self) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        from cluster.controller import ControllerActor
        from cluster.placement import preflight

        self._spec = preflight(self._spec)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._controller = ControllerActor.options(
            name=f"{self._spec.instance}/controller",
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            scheduling_strategy=here,
        ).remote(self._spec)
        card = await _call(self._controller.card.remote(self._spec.processes))
        self._controller_pid = card.pid
        pids = self._local.pids | {"controller": card.pid}
        _say("controller", address=card.address, ray_address=self._local.address, pids=pids)

    async def _tell_ready(self) -> NoReturn:
        await _call(self._controller.wait_ready.remote())
        _say("ready")
        await _forever()

    async def _watch_gcs(self) -> NoReturn:
        while True:
            self._gcs_up.set(1)
            await gcs.lost(self._local.address)
            self._gcs_up.set(0)
            _say("gcs_lost")
            await gcs.returned(self._local.address)
            _say("gcs_returned")

    async def _watch_raylet(self) -> NoReturn:
        """A raylet takes the ranks of its node along; that of somebody else's Ray is theirs to mind."""
        raylet = self._local.pids.get("raylet")
        while raylet is None or processes.alive(raylet):  # noqa: ASYNC110 - another process
            await asyncio.sleep(POLL_S)
        raise RayLost("the raylet died, and every rank with it")

    async def _end(self) -> None:
        """A second signal ends the wait for the replicas."""
        gcs_alive = await gcs.alive(self._local.address)
        if self._controller and (gcs_alive or processes.alive(self._controller_pid)):  # else nobody starts it again to answer
            if self._controller_pid or not self._local.own:  # one that Ray has only begun to start has no replicas
                await first(self._stop_replicas(), self._now.wait())
            if gcs_alive:
                await asyncio.to_thread(self._sweep)
            processes.kill_actors([self._controller_pid])
        self._local.stop(gcs_alive=gcs_alive)

    async def _stop_replicas(self) -> None:
        from ray.exceptions import RayError

        try:
            async with asyncio.timeout(self._spec.grace_s + EXTRA_S):
                await self._controller.stop.remote(self._spec.grace_s)
        except (RayError, TimeoutError):
            logger.warning("the controller did not stop the replicas", exc_info=True)

    def _sweep(self) -> None:
        """Nothing of the instance is left in Ray."""
        import ray

        from cluster.gang import sweep

        ray.kill(self._controller)
        sweep(self._spec)


async def _call(reference: Any) -> Any:
    """What the controller answers; raises its UserError as it is."""
    from ray.exceptions import RayTaskError

    try:
        return await reference
    except RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise


async def _forever() -> NoReturn:
    await asyncio.Event().wait()
    raise AssertionError("nobody sets it")


def _say(event: str, **values: object) -> None:
    print(json.dumps({"event": event, **values}), flush=True, file=sys.__stdout__)


def _leave(_number: int, _frame: object) -> NoReturn:
    """Until the event loop runs. An exception would have to find its way through Ray's start, which may swallow it."""
    processes.kill_below()
    os._exit(0)


if __name__ == "__main__":
    main()
