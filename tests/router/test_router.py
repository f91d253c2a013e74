"""Router over fake engines behind real gRPC: whatever happens to replicas, the consumer sees each token once."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import grpc
import pytest
from prometheus_client import CollectorRegistry

from ossia.common import wire
from ossia.v1.engine_pb2 import FINISH_REASON_DEADLINE, Delta, Resume, Sampling, Submit
from ossia.v1.fleet_pb2 import REPLICA_STATE_FAILED, Replica
from router import replica
from router.client import EngineClient
from router.engine import EngineError
from router.fleet import FleetSource
from router.fleet_static import StaticFleet
from router.router import REFUSALS, Router, RouterOptions
from tests.fakes.engine import FakeEngine, undisturbed
from tests.fakes.fleet import FakeFleet, entry

LENGTH = 40


def submit(seed: int = 7, max_tokens: int = LENGTH, **fields: object) -> Submit:
    return Submit(prompt=[1, 2, 3], sampling=Sampling(seed=seed, max_tokens=max_tokens), **fields)  # type: ignore[arg-type]


def tokens(deltas: list[Delta]) -> list[int]:
    return [token for delta in deltas for token in delta.tokens]


async def collect(deltas: AsyncIterator[Delta]) -> list[Delta]:
    """All deltas, checked to be contiguous."""
    result: list[Delta] = []
    async for delta in deltas:
        assert delta.first_index == sum(len(earlier.tokens) for earlier in result)
        result.append(delta)
    assert result[-1].WhichOneof("end") == "finish"
    return result


@asynccontextmanager
async def routed(
    *engines: FakeEngine, source: FleetSource | None = None, wait: bool = True, **options: float
) -> AsyncIterator[Router]:
    """A router over started engines; everything is closed at the end."""
    for engine in engines:
        await engine.start()
    fleet = source or StaticFleet([engine.address for engine in engines])
    router = Router(fleet, options=RouterOptions(**options), registry=CollectorRegistry())  # type: ignore[arg-type]
    await router.start()
    try:
        if wait:
            async with asyncio.timeout(10):
                await router.wait_ready()
                await asyncio.gather(*(engine.until(lambda engine=engine: engine.sessions == 1) for engine in engines))  # type: ignore[misc]
        yield router
    finally:
        await router.close()
        for engine in engines:
            await engine.kill()


def busy(*engines: FakeEngine) -> FakeEngine:
    """The engine that has the request."""
    (engine,) = [engine for engine in engines if engine.running]
    return engine


async def test_spreads_by_outstanding_tokens() -> None:
    engines = [FakeEngine(step_s=None), FakeEngine(step_s=None)]
    async with routed(*engines) as router:
        running = [asyncio.create_task(collect(router.generate(submit(n)))) for n in range(8)]
        for engine in engines:
            await engine.until(lambda engine=engine: engine.running == 4)  # type: ignore[misc]
            engine.step_s = 0.001
            engine.resume()
        assert [tokens(result) for result in await asyncio.gather(*running)] == [undisturbed(submit(n)) for n in range(8)]


async def test_a_large_prompt_weighs_more() -> None:
    engines = [FakeEngine(step_s=None), FakeEngine(step_s=None)]
    async with routed(*engines) as router:
        large = asyncio.create_task(collect(router.generate(Submit(prompt=range(900), sampling=Sampling(max_tokens=1)))))
        await asyncio.wait([large], timeout=0)
        small = [asyncio.create_task(collect(router.generate(submit(n)))) for n in range(5)]
        await asyncio.wait([asyncio.create_task(engine.until(lambda e=engine: e.running > 0)) for engine in engines])  # type: ignore[misc]
        for engine in engines:
            engine.step_s = 0.001
            engine.resume()
        await asyncio.gather(large, *small)
        assert sorted(len(engine.submits) for engine in engines) == [1, 5]


@pytest.mark.parametrize("trouble", ["kill", "break", "stall"])
async def test_moves_on_when_a_replica_fails(trouble: str) -> None:
    engines = [FakeEngine(), FakeEngine()]
    async with routed(*engines, stall_floor_s=0.3) as router:
        deltas = router.generate(submit(max_tokens=300))
        got = [await anext(deltas)]
        victim = busy(*engines)
        await victim.until(lambda: victim.generated > 20)
        if trouble == "kill":
            await victim.kill()
        elif trouble == "break":
            victim.break_sessions()
        else:
            victim.stall()
        async for delta in deltas:
            assert delta.first_index == len(tokens(got))
            got.append(delta)
        assert tokens(got) == undisturbed(submit(max_tokens=300))
        (other,) = [engine for engine in engines if engine is not victim]
        resumed = list(other.submits[0].resume.tokens)
        assert resumed
        assert resumed == undisturbed(submit(max_tokens=300))[: len(resumed)]
        assert got[-1].usage.output_tokens == 300


async def test_seed_is_set_once_and_kept() -> None:
    engines = [FakeEngine(), FakeEngine()]
    async with routed(*engines) as router:
        deltas = router.generate(Submit(prompt=[5], sampling=Sampling(max_tokens=200)))
        await anext(deltas)
        victim = busy(*engines)
        victim.break_sessions()
        await collect_rest(deltas)
        seeds = {s.sampling.seed for engine in engines for s in engine.asked}
        assert len(seeds) == 1 and seeds.pop() > 0


async def collect_rest(deltas: AsyncIterator[Delta]) -> list[int]:
    return [token async for delta in deltas for token in delta.tokens]


@pytest.mark.parametrize("change", ["vanish", "epoch", "failed"])
async def test_moves_on_when_the_fleet_changes(change: str) -> None:
    first, second = FakeEngine(), FakeEngine()
    await first.start()
    await second.start()
    fleet = FakeFleet(entry(first, "a"))
    async with routed(source=fleet) as router:
        deltas = router.generate(submit(max_tokens=300))
        got = list((await anext(deltas)).tokens)
        after = {
            "vanish": [entry(second, "b")],
            "epoch": [entry(second, "a", epoch=2)],
            "failed": [Replica(name="a", epoch=1, state=REPLICA_STATE_FAILED), entry(second, "b")],
        }
        fleet.push(*after[change])
        got += await collect_rest(deltas)
        assert got == undisturbed(submit(max_tokens=300))
        assert second.submits[0].resume.tokens == got[: len(second.submits[0].resume.tokens)]
        await first.until(lambda: first.sessions == 0 and first.running == 0)
    await first.kill()
    await second.kill()


async def test_same_replica_at_a_new_epoch_is_dialled_anew() -> None:
    engine = FakeEngine()
    await engine.start()
    fleet = FakeFleet(entry(engine, "a"))
    async with routed(source=fleet) as router:
        deltas = router.generate(submit(max_tokens=300))
        got = list((await anext(deltas)).tokens)
        fleet.push(entry(engine, "a", epoch=2))
        got += await collect_rest(deltas)
        assert got == undisturbed(submit(max_tokens=300))
        assert len(engine.submits) == 2
    await engine.kill()


async def test_replica_that_accepts_but_never_steps() -> None:
    dead, alive = FakeEngine(), FakeEngine()
    dead.stall()
    async with routed(dead, alive, stall_floor_s=0.2) as router:
        results = await asyncio.gather(*(collect(router.generate(submit(n))) for n in range(6)))
        assert [tokens(result) for result in results] == [undisturbed(submit(n)) for n in range(6)]
        assert len(dead.asked) >= 3  # it was believed until it stalled
        believed = len(dead.asked)
        await asyncio.gather(*(collect(router.generate(submit(n))) for n in range(6)))
        assert len(dead.asked) == believed  # and left alone since
        dead.resume()
        await dead.until(lambda: dead.generated > 0)  # the probe
        async with asyncio.timeout(10):
            while len(dead.asked) == believed:
                await asyncio.gather(*(collect(router.generate(submit(n))) for n in range(2)))


async def test_replica_comes_back_at_its_address() -> None:
    engine = FakeEngine()
    async with routed(engine) as router:
        await engine.kill()
        await router.wait_ready(False)
        request = asyncio.create_task(collect(router.generate(submit())))
        again = FakeEngine()
        await again.start(int(engine.address.rpartition(":")[2]))
        assert tokens(await request) == undisturbed(submit())
        await again.kill()


async def test_engine_that_has_not_generated_gets_nothing() -> None:
    engine = FakeEngine()
    engine.ready = False
    async with routed(engine, wait=False) as router:
        request = asyncio.create_task(collect(router.generate(submit())))
        await asyncio.sleep(0.3)  # a few attempts
        assert not router.ready and not engine.submits
        engine.ready = True
        await request
        assert router.ready


async def test_queue_deadline() -> None:
    async with routed(source=FakeFleet(), wait=False, queue_wait_s=0.1) as router:
        with pytest.raises(EngineError) as caught:
            await collect(router.generate(submit()))
        assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, "NO_REPLICA")
        assert caught.value.retry_after_s


async def test_the_requests_own_deadline_ends_its_wait() -> None:
    async with routed(source=FakeFleet(), wait=False) as router:
        begun = time.monotonic()
        (last,) = await collect(router.generate(submit(deadline_unix_ms=int(time.time() * 1000) + 100)))
        assert (last.finish, last.usage.prompt_tokens, last.usage.output_tokens) == (FINISH_REASON_DEADLINE, 3, 0)
        assert time.monotonic() - begun < 5


async def test_the_deadline_passes_while_a_stream_looks_for_a_replica() -> None:
    engine = FakeEngine()
    async with routed(engine) as router:
        deltas = router.generate(submit(max_tokens=100_000, deadline_unix_ms=int(time.time() * 1000) + 1000))
        got = [await anext(deltas)]
        await engine.kill()
        got += [delta async for delta in deltas]
        assert got[-1].finish == FINISH_REASON_DEADLINE
        assert got[-1].first_index == got[-1].usage.output_tokens == len(tokens(got))


async def test_queue_bound() -> None:
    fleet = FakeFleet()
    async with FakeEngine() as engine, routed(source=fleet, wait=False, queue_bound=2) as router:
        waiting = [asyncio.create_task(collect(router.generate(submit(n)))) for n in range(2)]
        await asyncio.wait(waiting, timeout=0.01)
        with pytest.raises(EngineError) as caught:
            await collect(router.generate(submit()))
        assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, "QUEUE_FULL")
        assert caught.value.retry_after_s
        assert router.load().waiting == 2
        fleet.push(entry(engine))
        assert [tokens(result) for result in await asyncio.gather(*waiting)] == [undisturbed(submit(n)) for n in range(2)]


async def test_what_another_router_had_begun_waits_as_what_lost_its_replica_here() -> None:
    fleet = FakeFleet()
    begun = submit(2, resume=Resume(tokens=undisturbed(submit(2))[:5]))
    async with FakeEngine() as engine, routed(source=fleet, wait=False, queue_bound=1) as router:
        newcomer = asyncio.create_task(collect(router.generate(submit(1))))
        resumed = asyncio.create_task(collect_rest(router.generate(begun)))
        await asyncio.wait([newcomer, resumed], timeout=0.01)
        fleet.push(entry(engine))
        assert await resumed == undisturbed(submit(2))[5:]
        await newcomer
        assert [s.sampling.seed for s in engine.submits] == [2, 1]


async def test_queue_goes_by_priority() -> None:
    fleet = FakeFleet()
    async with FakeEngine() as engine, routed(source=fleet, wait=False) as router:
        waiting = [asyncio.create_task(collect(router.generate(submit(n, priority=n)))) for n in (1, 3, 2)]
        await asyncio.wait(waiting, timeout=0.01)
        fleet.push(entry(engine))
        await asyncio.gather(*waiting)
        assert [s.priority for s in engine.submits] == [3, 2, 1]


async def test_stream_survives_a_time_without_replicas() -> None:
    first, second = FakeEngine(), FakeEngine()
    await second.start()
    await first.start()
    fleet = FakeFleet(entry(first))
    async with routed(source=fleet) as router:
        deltas = router.generate(submit(max_tokens=200))
        got = list((await anext(deltas)).tokens)
        rest = asyncio.create_task(collect_rest(deltas))
        await first.kill()
        await router.wait_ready(False)
        fleet.push(entry(second))
        assert got + await rest == undisturbed(submit(max_tokens=200))
    await second.kill()


async def test_a_request_that_had_a_replica_for_long_waits_for_the_next_one() -> None:
    engine = FakeEngine(step_s=None)
    async with routed(engine, queue_wait_s=2) as router:
        request = asyncio.create_task(collect(router.generate(submit())))
        await engine.until(lambda: engine.running == 1)
        await asyncio.sleep(2.2)  # a long prefill, as far as the router knows
        await engine.kill()
        await router.wait_ready(False)
        again = FakeEngine()
        await again.start(int(engine.address.rpartition(":")[2]))
        assert tokens(await request) == undisturbed(submit())
        await again.kill()


@pytest.mark.parametrize("death", ["break", "tell"])
async def test_poison_request_is_given_up(death: str) -> None:
    engines = [FakeEngine(), FakeEngine()]
    last_words = wire.status(grpc.StatusCode.UNAVAILABLE, "this replica has ended", reason="ENGINE_ENDED")

    def die(engine: FakeEngine, delta: Delta) -> list[Delta]:
        if next(s for s in reversed(engine.submits) if s.rid == delta.rid).request_id == "probe":
            return [delta]
        if death == "tell":
            return [Delta(rid=delta.rid, tokens=delta.tokens), Delta(rid=delta.rid, first_index=1, error=last_words)]
        engine.break_sessions()
        return []

    for engine in engines:
        engine.mangle = partial(die, engine)
    async with routed(*engines, max_resumptions=3) as router:
        with pytest.raises(EngineError) as caught:
            async for _ in router.generate(submit()):
                pass
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE
        assert sum(len(engine.asked) for engine in engines) == 4


async def test_full_replica_sends_to_others() -> None:
    full, free = FakeEngine(), FakeEngine()
    full.refusal = wire.status(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", reason="QUEUE_FULL", retry_after_s=3)
    async with routed(full, free) as router:
        for n in range(4):
            assert tokens(await collect(router.generate(submit(n)))) == undisturbed(submit(n))
        free.refusal = full.refusal
        with pytest.raises(EngineError) as caught:
            await collect(router.generate(submit()))
        assert (caught.value.code, caught.value.retry_after_s) == (grpc.StatusCode.RESOURCE_EXHAUSTED, 3)


async def test_bad_request_is_not_retried() -> None:
    engines = [FakeEngine(), FakeEngine()]
    for engine in engines:
        engine.refusal = wire.status(grpc.StatusCode.INVALID_ARGUMENT, "no", field="prompt")
    async with routed(*engines) as router:
        with pytest.raises(EngineError) as caught:
            await collect(router.generate(submit()))
        assert (caught.value.code, caught.value.field) == (grpc.StatusCode.INVALID_ARGUMENT, "prompt")
        assert sum(len(engine.submits) for engine in engines) == 1


async def test_unavailable_replica_is_left_alone_until_it_generates() -> None:
    draining, other = FakeEngine(), FakeEngine()
    draining.refusal = wire.status(grpc.StatusCode.UNAVAILABLE, "draining", reason="STOPPING")
    async with routed(draining, other) as router:
        results = await asyncio.gather(*(collect(router.generate(submit(n))) for n in range(10)))
        assert [tokens(result) for result in results] == [undisturbed(submit(n)) for n in range(10)]
        draining.refusal = None
        await draining.until(lambda: draining.generated > 0)


@pytest.mark.parametrize("reason", sorted(REFUSALS))
async def test_refusals_do_not_count_as_resumptions(reason: str) -> None:
    engines = [FakeEngine() for _ in range(5)]
    for engine in engines[1:]:
        engine.refusal = wire.status(grpc.StatusCode.UNAVAILABLE, "not now", reason=reason)
    async with routed(*engines, max_resumptions=1) as router:
        results = await asyncio.gather(*(collect(router.generate(submit(n))) for n in range(10)))
        assert [tokens(result) for result in results] == [undisturbed(submit(n)) for n in range(10)]


async def test_replica_that_only_refuses_is_given_up_in_time() -> None:
    engine = FakeEngine()
    engine.refusal = wire.status(grpc.StatusCode.UNAVAILABLE, "draining", reason="STOPPING")
    async with routed(engine, queue_wait_s=0.5) as router:
        with pytest.raises(EngineError) as caught:
            await collect(router.generate(submit()))
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE


async def test_our_own_failure_does_not_keep_a_router_from_closing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_: EngineClient) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(EngineClient, "_follow_load", broken)
    async with routed(FakeEngine()) as router:
        async with asyncio.timeout(5):
            await router.close()


@pytest.mark.parametrize("running", [True, False])
async def test_closing_the_router_ends_its_requests(running: bool) -> None:
    engine = FakeEngine()
    async with routed(engine) as router:
        if not running:
            await engine.kill()
            await router.wait_ready(False)
        request = asyncio.create_task(collect(router.generate(submit(max_tokens=100_000))))
        await (engine.until(lambda: engine.running == 1) if running else asyncio.wait([request], timeout=0.01))
        await router.close()
        for ended in (request, asyncio.create_task(collect(router.generate(submit())))):
            with pytest.raises(EngineError) as caught:
                await asyncio.wait_for(ended, 1)
            assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, "STOPPING")


async def test_a_slow_consumers_old_error_does_not_harm_a_replica_that_is_back() -> None:
    engine = FakeEngine()
    async with routed(engine) as router:
        slow = router.generate(submit(max_tokens=100_000))
        await anext(slow)
        engine.break_sessions()
        await router.wait_ready(False)
        await router.wait_ready()
        rest = asyncio.create_task(collect_some(slow, 100))  # begins with the error of the session that broke
        assert tokens(await collect(router.generate(submit()))) == undisturbed(submit())
        await rest
        assert len([s for s in engine.submits if s.request_id == "probe"]) == 1
        await slow.aclose()


async def collect_some(deltas: AsyncIterator[Delta], least: int) -> None:
    async for delta in deltas:
        if delta.first_index > least:
            return


async def test_a_replica_that_describes_itself_but_takes_no_session_gets_nothing() -> None:
    leaving, other = FakeEngine(), FakeEngine()
    async with routed(leaving, other, max_resumptions=0) as router:
        leaving.closed = True
        leaving.break_sessions()
        while len(router._roster.ready()) > 1:  # the router learns of it
            router._roster._changed.clear()
            await router._roster._changed.wait()
        for n in range(20):
            assert tokens(await collect(router.generate(submit(n)))) == undisturbed(submit(n))
            await asyncio.sleep(0.02)  # it is dialled again meanwhile
        assert not leaving.asked
        leaving.closed = False
        await leaving.until(lambda: leaving.generated > 0)


async def test_an_outage_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "router")
    engine = FakeEngine()
    async with routed(engine) as router:
        await engine.kill()
        await router.wait_ready(False)
        await asyncio.sleep(0.6)  # a few attempts
        again = FakeEngine()
        await again.start(int(engine.address.rpartition(":")[2]))
        await router.wait_ready()
        await again.kill()
    told = [(r.levelname, r.getMessage()) for r in caplog.records if r.name == "router.replica"]
    assert [level for level, _ in told] == ["WARNING", "INFO", "WARNING"][: len(told)] and len(told) >= 2
    assert "is out of service" in told[0][1] and "is back in service" in told[1][1]


async def test_closing_frees_the_replica() -> None:
    engine = FakeEngine()
    async with routed(engine) as router:
        deltas = router.generate(submit(max_tokens=100_000))
        await anext(deltas)
        await deltas.aclose()
        await engine.until(lambda: engine.running == 0 and len(engine.cancels) == 1)
        assert all(replica.outstanding.tokens == 0 for replica in router._roster.ready())


async def test_cancelled_while_queued_leaves_the_queue() -> None:
    async with routed(source=FakeFleet(), wait=False) as router:
        request = asyncio.create_task(collect(router.generate(submit())))
        await asyncio.wait([request], timeout=0.01)
        assert router.load().waiting == 1
        request.cancel()
        await asyncio.wait([request])
        assert router.load().waiting == 0


async def test_logprobs_survive_a_resumption() -> None:
    engines = [FakeEngine(), FakeEngine()]
    async with routed(*engines) as router:
        request = submit(max_tokens=200)
        request.sampling.logprobs = 1
        deltas = router.generate(request)
        got = [await anext(deltas)]
        busy(*engines).break_sessions()
        got += [delta async for delta in deltas]
        assert [p.logprob for d in got for p in d.logprobs] == [-t / 8 for t in undisturbed(request)]


async def test_slow_consumer_gets_merged_deltas() -> None:
    engine = FakeEngine()
    async with routed(engine) as router:
        deltas = router.generate(submit(max_tokens=100))
        got = [await anext(deltas)]
        await engine.until(lambda: engine.generated == 100)
        await collect(router.generate(submit(max_tokens=1)))  # comes behind them in the one stream: they have arrived
        got += [delta async for delta in deltas]
        assert tokens(got) == undisturbed(submit(max_tokens=100))
        assert len(got) == 2


async def test_describe_and_views() -> None:
    engines = [FakeEngine(), FakeEngine()]
    async with routed(*engines) as router:
        card = await router.describe()
        assert card.ready and card.model_names == ["fake"]
        assert card.epoch not in {engine.epoch for engine in engines}
        assert len(card.ranks) == 2
        assert [len(replica.ranks) for replica in router.replicas()] == [1, 1]
        assert router.processes() == []


async def test_ranks_that_change_during_a_session_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """As behind a router, where a replica is rebuilt."""
    monkeypatch.setattr(replica, "REFRESH_S", 0.01)
    engine = FakeEngine()
    async with routed(engine) as router:
        engine.ranks[0].pid += 1
        async with asyncio.timeout(10):
            while router.replicas()[0].ranks != engine.ranks:  # noqa: ASYNC110 - nobody is told
                await asyncio.sleep(0.01)
        assert engine.sessions == 1


async def test_describe_before_any_answer() -> None:
    async with routed(source=FakeFleet(), wait=False) as router:
        with pytest.raises(EngineError) as caught:
            await router.describe()
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE


async def test_metrics() -> None:
    registry = CollectorRegistry()
    async with FakeEngine() as engine, FakeEngine() as other:
        router = Router(StaticFleet([engine.address, other.address]), registry=registry)
        await router.start()
        await router.wait_ready()
        deltas = router.generate(submit(max_tokens=200))
        await anext(deltas)
        value: Callable[..., float | None] = registry.get_sample_value
        victim = busy(engine, other)
        assert 0 < (value("ossia_router_replica_outstanding_tokens", {"replica": victim.address}) or 0) <= 199
        victim.break_sessions()
        await collect_rest(deltas)
        assert value("ossia_router_requests_total", {"outcome": "length"}) == 1
        assert value("ossia_router_prompt_tokens_total") == 3
        assert value("ossia_router_output_tokens_total") == 200
        assert value("ossia_router_resumed_requests_total") == 1
        assert value("ossia_router_time_to_first_token_seconds_count") == 1
        assert value("ossia_router_replica_outstanding_tokens", {"replica": engine.address}) == 0
        await router.close()
        assert value("ossia_router_replica_state", {"replica": engine.address, "state": "ready"}) is None
