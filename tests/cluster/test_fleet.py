"""What the controller tells those who watch the fleet."""

import asyncio

from cluster.fleet import Fleet
from ossia.common.metrics import Endpoint
from ossia.v1 import fleet_pb2


async def test_watchers_hear_nothing_before_every_replica_is_known() -> None:
    fleet = Fleet(["replica-0", "replica-1"], [])
    first: asyncio.Future[fleet_pb2.FleetState] = asyncio.ensure_future(anext(fleet.Watch(fleet_pb2.WatchRequest(), None)))
    fleet.update(fleet_pb2.Replica(name="replica-0", state=fleet_pb2.REPLICA_STATE_READY, address="127.0.0.1:1"))
    await asyncio.sleep(0)
    assert not first.done()
    fleet.update(fleet_pb2.Replica(name="replica-1", state=fleet_pb2.REPLICA_STATE_STARTING))
    state = await asyncio.wait_for(first, 5)
    assert [replica.state for replica in state.replicas] == [fleet_pb2.REPLICA_STATE_READY, fleet_pb2.REPLICA_STATE_STARTING]


async def test_changes_that_pile_up_are_merged() -> None:
    fleet = Fleet(["replica-0"], [])
    states = fleet.states()
    before = await anext(states)
    for epoch in (1, 2, 3):
        fleet.update(fleet_pb2.Replica(name="replica-0", epoch=epoch, state=fleet_pb2.REPLICA_STATE_STARTING))
    after = await asyncio.wait_for(anext(states), 5)
    assert after.version == before.version + 3
    assert after.replicas[0].epoch == 3


async def test_the_processes_of_a_new_head_take_the_place_of_the_last_ones() -> None:
    controller, old, new = (Endpoint("any", pid, "here", f"here:{pid}") for pid in (1, 2, 3))
    fleet = Fleet([], [controller, old])
    states = fleet.states()
    assert [process.pid for process in (await anext(states)).processes] == [1, 2]
    fleet.meet([new])
    assert [process.pid for process in (await asyncio.wait_for(anext(states), 5)).processes] == [1, 3]
