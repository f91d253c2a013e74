"""One life of a replica: a placement group and a Ray actor a rank. They live and die together, for collectives cannot heal."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from cluster import processes
from cluster.placement import place
from cluster.ray_local import NAMESPACE
from cluster.spec import HeadSpec
from ossia.common.errors import UserError
from workers.actor import RankActor, RankStatus
from workers.shard import RankInfo, ShardSpec

EXTRA_S = 5.0  # beyond the grace, for ranks to end by themselves
PATIENCE = 6  # ping timeouts allowed to a rank that starts: imports and loading can hold Python's lock for long
REMOTE_KILL_S = 15.0

logger = logging.getLogger(__name__)


class GangError(Exception):
    """The gang did not come up."""


class Gang:
    """Found again by names: INSTANCE/REPLICA/epoch-E is the placement group's, INSTANCE/REPLICA/rank-R/epoch-E a rank's."""

    def __init__(self, spec: HeadSpec, replica: str, epoch: int) -> None:
        self.epoch = epoch
        self.address = ""  # the leader's host:port, once started
        self._spec = spec
        self._replica = replica
        self._group: Any = None
        self._actors: list[Any] = []
        self._statuses: list[RankStatus] = []

    @property
    def ranks(self) -> list[RankInfo]:
        """Empty until prepared."""
        return [status.info for status in self._statuses]

    async def build(self, prepared: Callable[[], None]) -> None:
        """Returns once every rank serves; calls `prepared` when `ranks` are known. After an error the caller calls kill().

        Raises UserError (a rank refuses its spec), PlacementError or GangError.
        """
        self._group = await place(self._spec, self._replica, group_name(self._spec, self._replica, self.epoch))
        self._actors = await asyncio.to_thread(self._create)
        starting = asyncio.create_task(self._start(prepared))
        hung = asyncio.create_task(self.failure(PATIENCE * self._spec.ping_timeout_s))
        try:
            async with asyncio.timeout(self._spec.start_timeout_s):
                await asyncio.wait((starting, hung), return_when=asyncio.FIRST_COMPLETED)
                if not starting.done():
                    await asyncio.wait((starting,), timeout=1.0)  # the call that failed tells more than the death of its actor
            if not starting.done():
                raise GangError(hung.result())
            self.address = starting.result()
        except TimeoutError:
            raise GangError(f"not started within {self._spec.start_timeout_s:g} s") from None
        finally:
            starting.cancel()
            hung.cancel()

    async def adopt(self) -> bool:
        """Takes over what an earlier controller built. False where it is not whole or does not serve: then it is for kill()."""
        try:
            await asyncio.to_thread(self._find)
        except ValueError as error:
            logger.warning("%s: epoch %d cannot be adopted: %s", self._replica, self.epoch, error)
            return False
        answers = await asyncio.gather(*(self._ask(actor) for actor in self._actors))
        self._statuses = [status for status in answers if status]
        if len(self._statuses) < len(self._actors) or any(status.address is None for status in self._statuses):
            return False
        self.address = self._statuses[0].address or ""
        return True

    async def failure(self, ping_timeout_s: float) -> str:
        """Returns, saying why, as soon as a rank has died or has not answered a ping for so long."""
        watches = [watch for pair in enumerate(self._actors) for watch in (_death(*pair), _hang(*pair, ping_timeout_s))]
        tasks = [asyncio.create_task(watch) for watch in watches]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for task in tasks:
                task.cancel()

    async def stop(self, grace_s: float) -> None:
        """Asks ranks that serve to end; running requests have `grace_s` seconds to finish. kill() must follow."""
        if not self.address:
            return
        try:
            async with asyncio.timeout(grace_s + EXTRA_S):
                await asyncio.gather(*(_call(actor.stop.remote(grace_s)) for actor in self._actors))
        except (GangError, TimeoutError):
            logger.warning("%s: not all ranks ended by themselves", self._replica, exc_info=True)

    async def kill_processes(self) -> None:
        """SIGKILL to the ranks, stopped ones included, on whichever node they are. Needs no GCS for those of this node."""
        here = ray.get_runtime_context().get_node_id()
        for node_id in {status.node_id for status in self._statuses}:
            pids = [status.info.pid for status in self._statuses if status.node_id == node_id]
            if node_id == here:
                await asyncio.to_thread(processes.kill_actors, pids)
            else:
                await _kill_remotely(node_id, pids)

    async def kill(self) -> None:
        """Kills the ranks and gives their bundles back."""
        for actor in self._actors:
            ray.kill(actor)
        await self.kill_processes()
        if self._group is not None:
            await asyncio.to_thread(ray.util.remove_placement_group, self._group)

    async def _start(self, prepared: Callable[[], None]) -> str:
        """Returns the leader's address."""
        self._statuses = await asyncio.gather(*(_call(actor.prepare.remote()) for actor in self._actors))
        prepared()
        rendezvous = self.ranks[0].rendezvous
        addresses = await asyncio.gather(*(_call(actor.start.remote(rendezvous, self.ranks)) for actor in self._actors))
        return str(addresses[0])

    async def _ask(self, actor: Any) -> RankStatus | None:
        try:
            async with asyncio.timeout(self._spec.ping_timeout_s):
                status: RankStatus | None = await _call(actor.ping.remote())
                return status
        except (GangError, TimeoutError) as error:
            logger.warning("%s: a rank of epoch %d does not answer: %r", self._replica, self.epoch, error)
            return None

    def _create(self) -> list[Any]:
        spec = self._spec
        shard = ShardSpec(
            replica=self._replica,
            epoch=self.epoch,
            runner=spec.runner,
            model_names=spec.model_names,
            host=spec.leader_host,
            port=spec.leader_port,
            token=spec.token,
            log_folder=spec.log_folder,
            grace_s=spec.grace_s,
            processes=spec.processes,
        )
        return [self._options(rank).remote(shard, rank, spec.shard) for rank in range(spec.runner.layout.ranks)]

    def _options(self, rank: int) -> Any:
        return RankActor.options(
            name=self._rank_name(rank),
            namespace=NAMESPACE,
            lifetime="detached",
            num_cpus=self._spec.cpus_per_rank,
            num_gpus=self._spec.gpus_per_rank,
            scheduling_strategy=PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=rank),
        )

    def _find(self) -> None:
        """Raises ValueError where the placement group or a rank is gone."""
        self._group = ray.util.get_placement_group(group_name(self._spec, self._replica, self.epoch))
        for rank in range(self._spec.runner.layout.ranks):
            self._actors.append(ray.get_actor(self._rank_name(rank), NAMESPACE))

    def _rank_name(self, rank: int) -> str:
        return f"{self._spec.instance}/{self._replica}/rank-{rank}/epoch-{self.epoch}"


def group_name(spec: HeadSpec, replica: str, epoch: int) -> str:
    return f"{spec.instance}/{replica}/epoch-{epoch}"


def sweep(spec: HeadSpec) -> None:
    """Gives back every placement group of the instance, whichever life it was made in; ranks in it die."""
    for group in ray.util.placement_group_table().values():
        if group["name"].startswith(f"{spec.instance}/") and group["state"] != "REMOVED":
            ray.util.remove_placement_group(ray.util.get_placement_group(group["name"]))


def epochs(spec: HeadSpec, replica: str) -> dict[int, bool]:
    """Epochs of a replica that Ray has heard of, and whether each still holds its placement group."""
    prefix = group_name(spec, replica, 0).removesuffix("0")
    groups = [group for group in ray.util.placement_group_table().values() if group["name"].startswith(prefix)]
    return {int(group["name"].removeprefix(prefix)): group["state"] != "REMOVED" for group in groups}


async def _call(reference: Awaitable[Any]) -> Any:
    """What a rank answers; raises its UserError as it is, everything else as GangError."""
    try:
        return await reference
    except RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise GangError(f"{type(error.cause).__name__}: {error.cause}") from error
    except RayError as error:
        raise GangError(_first_line(error)) from error


async def _death(rank: int, actor: Any) -> str:
    while True:
        try:
            await actor.wait.remote()
            return f"rank {rank} ended"
        except ActorUnavailableError:  # a connection broke, perhaps no more than that: a death shows at the next try
            await asyncio.sleep(1.0)
        except RayError as error:
            return f"rank {rank} died: {_first_line(error)}"


async def _hang(rank: int, actor: Any, timeout_s: float) -> str:
    answered = asyncio.get_running_loop().time()
    while asyncio.get_running_loop().time() < answered + timeout_s:
        await asyncio.sleep(timeout_s / 8)
        with suppress(TimeoutError, GangError):  # a connection may break without a death: only silence counts
            async with asyncio.timeout_at(answered + timeout_s):
                await _call(actor.ping.remote())
                answered = asyncio.get_running_loop().time()
    return f"rank {rank} hangs: no answer to a ping for {timeout_s:g} s"


async def _kill_remotely(node_id: str, pids: list[int]) -> None:
    strategy = NodeAffinitySchedulingStrategy(node_id, soft=False)
    kill = ray.remote(num_cpus=0, max_retries=0)(processes.kill_actors).options(scheduling_strategy=strategy)
    try:
        async with asyncio.timeout(REMOTE_KILL_S):
            await kill.remote(pids)
    except (RayError, TimeoutError):  # the node itself may be what died
        logger.warning("cannot kill processes %s on node %s", pids, node_id, exc_info=True)


def _first_line(error: RayError) -> str:
    return str(error).strip().splitlines()[0]
