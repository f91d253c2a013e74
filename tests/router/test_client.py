"""EngineClient over real gRPC: merging, credits, gaps, repeats, cancels, stalls and broken streams."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from ossia.common import wire
from ossia.v1.engine_pb2 import FINISH_REASON_LENGTH, FINISH_REASON_STOP, Delta, Sampling, Submit
from router.client import MAX_GAPS, WINDOW, EngineClient
from router.engine import EngineError
from tests.fakes.engine import STOP_TOKEN, FakeEngine, undisturbed


def submit(max_tokens: int = 16, **fields: object) -> Submit:
    return Submit(prompt=[1, 2, 3], sampling=Sampling(seed=7, max_tokens=max_tokens), **fields)  # type: ignore[arg-type]


async def collect(deltas: AsyncIterator[Delta]) -> list[Delta]:
    return [delta async for delta in deltas]


def tokens(deltas: list[Delta]) -> list[int]:
    return [token for delta in deltas for token in delta.tokens]


def check_contiguous(deltas: list[Delta], start: int = 0) -> None:
    for delta in deltas:
        assert delta.first_index == start
        start += len(delta.tokens)


class Connected:
    """A client of an engine, both closed at the end."""

    def __init__(self, engine: FakeEngine, **options: float) -> None:
        self.engine = engine
        self.options = options
        self.trouble: list[EngineError] = []

    async def __aenter__(self) -> EngineClient:
        await self.engine.start()
        self.client = EngineClient(
            self.engine.address, self.engine.cluster_token, on_trouble=self.trouble.append, **self.options
        )
        try:
            await self.client.start()
        except EngineError:
            await self.engine.kill()  # its server must end with the loop that it runs on
            raise
        return self.client

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()
        await self.engine.kill()


async def test_many_requests_share_one_session() -> None:
    engine = FakeEngine()
    async with Connected(engine) as client:
        requests = [Submit(prompt=[n + 1], sampling=Sampling(seed=n, max_tokens=5 + n)) for n in range(20)]
        results = await asyncio.gather(*(collect(client.generate(request)) for request in requests))
        assert [tokens(deltas) for deltas in results] == [undisturbed(request) for request in requests]
        assert engine.sessions == 1
        for deltas in results:
            check_contiguous(deltas)
            assert deltas[-1].finish == FINISH_REASON_LENGTH


async def test_pass_through_and_usage() -> None:
    engine = FakeEngine()
    async with Connected(engine) as client:
        request = submit(tenant="t", priority=3, traceparent="00-1-2-3", request_id="r1", deadline_unix_ms=1 << 50)
        deltas = await collect(client.generate(request))
        seen = engine.submits[0]
        assert (seen.tenant, seen.priority, seen.traceparent, seen.request_id) == ("t", 3, "00-1-2-3", "r1")
        assert seen.deadline_unix_ms == 1 << 50
        assert (deltas[-1].usage.prompt_tokens, deltas[-1].usage.output_tokens) == (3, 16)


async def test_stop_token_and_logprobs() -> None:
    engine = FakeEngine(generate=lambda prompt, seed, position: STOP_TOKEN if position == 4 else position)
    async with Connected(engine) as client:
        request = Submit(prompt=[1], sampling=Sampling(seed=1, max_tokens=50, logprobs=2))
        deltas = await collect(client.generate(request))
        assert tokens(deltas) == [0, 1, 2, 3, STOP_TOKEN]
        assert deltas[-1].finish == FINISH_REASON_STOP
        assert [p.logprob for d in deltas for p in d.logprobs] == [-t / 8 for t in tokens(deltas)]


async def test_slow_consumer_gets_merged_deltas_and_bounds_what_the_engine_sends() -> None:
    engine = FakeEngine(step_s=None)
    length = 4 * WINDOW
    async with Connected(engine) as client:
        request = submit(length)
        deltas = client.generate(request)
        first = asyncio.create_task(anext(deltas))
        await engine.until(lambda: engine.running == 1)
        for _ in range(length):
            engine.step()
        got = [await first]
        assert engine.generated == length  # it did not pause
        while sum(len(delta.tokens) for delta in got) < WINDOW:
            got.append(await anext(deltas))
        assert len(tokens(got)) == WINDOW  # and sent no more than the credit
        rest = asyncio.create_task(collect(deltas))
        while not rest.done():
            engine.step()
            await asyncio.sleep(0)
        got += rest.result()
        assert tokens(got) == undisturbed(request)
        check_contiguous(got)
        assert len(got) < 20


async def test_first_tokens_are_delivered_before_others_of_their_frame() -> None:
    engine = FakeEngine(step_s=None)
    async with Connected(engine) as client:
        order: list[str] = []

        async def consume(name: str, deltas: AsyncIterator[Delta]) -> None:
            await anext(deltas)
            order.append(name)

        old, new = client.generate(submit()), client.generate(Submit(prompt=[9], sampling=Sampling(seed=1, max_tokens=16)))
        first = asyncio.create_task(consume("old", old))
        await engine.until(lambda: engine.running == 1)
        engine.step()
        await first
        both = [asyncio.create_task(consume("old", old)), asyncio.create_task(consume("new", new))]
        await engine.until(lambda: engine.running == 2)
        engine.step()
        await asyncio.gather(*both)
        assert order == ["old", "new", "old"]
        await old.aclose()
        await new.aclose()


async def test_engine_that_rests_without_credit_is_not_stalled() -> None:
    engine = FakeEngine()
    async with Connected(engine, stall_floor_s=0.5) as client:
        request = submit(WINDOW + 40)
        deltas = client.generate(request)
        got = [await anext(deltas)]
        await engine.until(lambda: engine.generated == WINDOW + 40)
        await asyncio.sleep(1.1)  # time itself is what is tested
        got += await collect(deltas)
        assert tokens(got) == undisturbed(request)


@pytest.mark.parametrize("where", [0, 1, 5, 15])
async def test_gap_is_asked_for_again(where: int) -> None:
    engine = FakeEngine()
    dropped: list[Delta] = []

    def drop(delta: Delta) -> list[Delta]:
        if not dropped and delta.first_index == where:
            dropped.append(delta)
            return []
        return [delta]

    engine.mangle = drop
    async with Connected(engine) as client:
        deltas = client.generate(submit(17))
        got = await collect(deltas)
        assert tokens(got) == undisturbed(submit(17))
        check_contiguous(got)
        assert [list(s.resume.tokens) for s in engine.submits] == [[], undisturbed(submit(17))[:where]]
        await engine.until(lambda: engine.cancels == [engine.submits[0].rid])


async def test_engine_that_always_skips_is_given_up() -> None:
    engine = FakeEngine()
    engine.mangle = lambda delta: [] if delta.first_index % 2 == 0 else [delta]
    async with Connected(engine) as client:
        with pytest.raises(EngineError) as caught:
            await collect(client.generate(submit()))
        assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, "GAP")
        assert len(engine.submits) == MAX_GAPS + 1


async def test_repeats_are_dropped() -> None:
    engine = FakeEngine()
    history: list[int] = []

    def repeat(delta: Delta) -> list[Delta]:
        history.extend(delta.tokens)
        overlapping = Delta(rid=delta.rid, tokens=history)  # everything so far, again
        return [delta, overlapping] if delta.HasField("finish") else [overlapping, delta]

    engine.mangle = repeat
    async with Connected(engine) as client:
        got = await collect(client.generate(submit()))
        assert tokens(got) == undisturbed(submit())
        check_contiguous(got)


async def test_resume_continues() -> None:
    async with Connected(FakeEngine()) as client:
        whole = undisturbed(submit())
        request = submit()
        request.resume.tokens[:] = whole[:6]
        got = await collect(client.generate(request))
        assert tokens(got) == whole[6:]
        check_contiguous(got, 6)


async def test_closing_cancels() -> None:
    engine = FakeEngine()
    async with Connected(engine) as client:
        deltas = client.generate(submit(100_000))
        await anext(deltas)
        await deltas.aclose()
        await engine.until(lambda: engine.cancels == [engine.submits[0].rid] and engine.running == 0)


async def test_whoever_closes_may_be_cancelled() -> None:
    async with Connected(FakeEngine()) as client:
        let_go, cancelled = asyncio.Event(), asyncio.Event()

        async def last_words() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
                await let_go.wait()

        client._tasks.append(asyncio.create_task(last_words()))
        await asyncio.sleep(0)
        closing = asyncio.create_task(client.close())
        await cancelled.wait()
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        let_go.set()


async def test_what_comes_at_once_need_not_fit_one_message() -> None:
    """As when a replica with many long prompts is lost, or a queue of them finds one."""
    engine = FakeEngine()
    connected = Connected(engine)
    async with connected as client:
        large = [submit(rid, cache_salt=bytes(wire.MAX_MESSAGE_BYTES // 7)) for rid in range(1, 9)]
        results = await asyncio.gather(*(collect(client.generate(each)) for each in large))
        assert [tokens(deltas) for deltas in results] == [undisturbed(each) for each in large]
        assert not connected.trouble and len(engine.submits) == 8


async def test_refusal_is_passed_on() -> None:
    engine = FakeEngine()
    engine.refusal = wire.status(
        grpc.StatusCode.INVALID_ARGUMENT, "too long", reason="CONTEXT", field="prompt", retry_after_s=2.5
    )
    async with Connected(engine) as client:
        with pytest.raises(EngineError) as caught:
            await collect(client.generate(submit()))
        error = caught.value
        assert (error.code, error.reason, error.field) == (grpc.StatusCode.INVALID_ARGUMENT, "CONTEXT", "prompt")
        assert error.retry_after_s == 2.5


async def test_what_arrived_is_delivered_before_the_break() -> None:
    engine = FakeEngine(step_s=None)
    connected = Connected(engine)
    async with connected as client:
        deltas = client.generate(submit(50))
        first = asyncio.create_task(anext(deltas))
        await engine.until(lambda: engine.running == 1)
        engine.step()
        got = [await first]
        for _ in range(5):
            engine.step()
            await asyncio.sleep(0.01)  # each in a frame of its own
        engine.break_sessions()
        await engine.until(lambda: engine.sessions == 0)
        with pytest.raises(EngineError) as caught:
            async for delta in deltas:
                got.append(delta)
        assert tokens(got) == undisturbed(submit(50))[:6]
        assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, "LOST")
        assert client.lost and [error.reason for error in connected.trouble] == ["LOST"]
        with pytest.raises(EngineError):
            await anext(client.generate(submit()))


async def test_stall_is_noticed_though_the_port_answers() -> None:
    engine = FakeEngine()
    connected = Connected(engine, stall_floor_s=1)
    async with connected as client:
        deltas = client.generate(submit(100_000))
        await anext(deltas)
        engine.stall()
        with pytest.raises(EngineError) as caught:
            await collect(deltas)
        assert caught.value.reason == "STALLED"
        assert [error.reason for error in connected.trouble] == ["STALLED"]
        assert (await client.describe()).ready  # it answers, and proves nothing
        engine.resume()
        assert tokens(await collect(client.generate(submit()))) == undisturbed(submit())


async def test_idle_time_is_no_stall() -> None:
    engine = FakeEngine()
    connected = Connected(engine, stall_floor_s=0.5)
    async with connected as client:
        for _ in range(2):
            await collect(client.generate(submit(3)))
            await asyncio.sleep(0.6)  # time itself is what is tested
        assert not connected.trouble


async def test_another_epoch_breaks_the_session() -> None:
    engine = FakeEngine()
    async with Connected(engine) as client:
        deltas = client.generate(submit(100_000))
        await anext(deltas)
        engine.epoch += 1000
        with pytest.raises(EngineError, match="another process"):
            await collect(deltas)


async def test_token_of_the_cluster() -> None:
    async with Connected(FakeEngine(cluster_token="secret")) as client:
        assert tokens(await collect(client.generate(submit()))) == undisturbed(submit())


@pytest.mark.parametrize("token", [None, "wrong"])
async def test_wrong_token(token: str | None) -> None:
    async with FakeEngine(cluster_token="secret") as engine:
        client = EngineClient(engine.address, token)
        with pytest.raises(EngineError) as caught:
            await client.start()
        assert caught.value.code is grpc.StatusCode.UNAUTHENTICATED
        await client.close()


async def test_nobody_there() -> None:
    async with FakeEngine() as engine:
        address = engine.address
    client = EngineClient(address)
    with pytest.raises(EngineError) as caught:
        await client.start()
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    await client.close()
