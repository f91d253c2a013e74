"""Session over a real channel: step frames, credits, cancels, resumptions, refusals."""

import time
from threading import Semaphore
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc import aio

from ossia.common.wire import FRAME_TOKENS
from ossia.v1 import engine_pb2
from tests.fakes.runner import STOP, VOCAB, generate
from tests.workers.leader.harness import Client, Server, eventually, serving
from workers.engine.errors import Refusal
from workers.engine.report import Load, Output, TokenLogprobs, Usage
from workers.engine.request import Finish
from workers.leader import stream as stream_module
from workers.leader.stream import MAX_LIVE, MAX_REFUSED, MAX_UNSENT, Stream


def reason(status: status_pb2.Status) -> tuple[int, str, str]:
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return status.code, info.reason, info.metadata["field"]


async def test_an_output_that_repeats_itself_ends_and_goes_on_nowhere_else() -> None:
    sampling = engine_pb2.Sampling(
        max_tokens=50,
        logit_bias=[engine_pb2.LogitBias(id=20, bias=100)],
        repetition_detection=engine_pb2.RepetitionDetection(max_pattern_size=2, min_count=6),
    )
    async with serving() as server:
        client = Client(server.stub())
        await client.submit(1, [5], sampling=sampling)
        await client.submit(2, [5], sampling=sampling, resume=engine_pb2.Resume(tokens=[20] * 4))
        await client.submit(3, [5], sampling=sampling, resume=engine_pb2.Resume(tokens=[20] * 6))
        await client.finish(1, 2, 3)
    assert [client.tokens(rid) for rid in (1, 2, 3)] == [[20] * 6, [20] * 2, []]
    for rid in (1, 2, 3):
        last = client.last(rid)
        assert (last.finish, last.usage.output_tokens) == (engine_pb2.FINISH_REASON_REPETITION, 6)


async def load(server: Server) -> engine_pb2.Load:
    call = server.stub().WatchLoad(engine_pb2.WatchLoadRequest())
    value = await call.read()
    call.cancel()
    assert isinstance(value, engine_pb2.Load)
    return value


async def test_many_requests_share_a_session_and_its_frames() -> None:
    async with serving() as server:
        client = Client(server.stub())
        prompts = {rid: [rid % VOCAB, rid // 7, 5] for rid in range(100)}
        for rid, prompt in prompts.items():
            await client.submit(rid, prompt, max_tokens=12)
        await client.finish(*prompts)
        for rid, prompt in prompts.items():
            expected = generate(prompt, 12)
            assert client.tokens(rid) == expected
            last = client.last(rid)
            stopped = expected[-1] == STOP
            assert last.finish == (engine_pb2.FINISH_REASON_STOP if stopped else engine_pb2.FINISH_REASON_LENGTH)
            assert (last.usage.prompt_tokens, last.usage.output_tokens) == (3, len(expected))
        steps = [frame.step for frame in client.frames]
        assert steps == sorted(steps)
        assert len(client.frames) < sum(map(len, client.deltas.values())) / 4
        assert {frame.epoch for frame in client.frames} == {7}
        assert server.metric("requests_total", finish="stop") + server.metric("requests_total", finish="length") == 100


async def test_the_step_counter_moves_while_requests_prefill_and_wait() -> None:
    gate = Semaphore(0)
    async with serving(gate, max_sequences=1, token_budget=4) as server:
        client = Client(server.stub())
        await client.submit(1, [5] * 40)
        await client.submit(2, [6])
        for _ in range(5):
            gate.release()
            frame = await client.read()
            assert not frame.deltas
        assert [frame.step for frame in client.frames] == [2, 3, 4, 5, 6]
        assert (frame.load.running, frame.load.waiting) == (1, 1)
        assert frame.load.prefill_tokens == 20


async def test_without_credit_the_engine_goes_on_and_merges() -> None:
    async with serving() as server:
        client = Client(server.stub())
        await client.submit(1, [5, 6], max_tokens=20, credit_tokens=2, sampling=None)
        await client.submit(2, [9], max_tokens=20)
        await client.finish(2)
        expected = generate([5, 6], 20)
        await client.until(lambda: client.frames[-1].load.running == 0)
        assert client.tokens(1) == expected[:2]
        await client.credit(1, 3)
        await client.until(lambda: len(client.tokens(1)) == 5)
        assert client.last(1).first_index == 2
        assert not client.last(1).WhichOneof("end")
        await client.credit(1, 100)
        await client.finish(1)
        assert client.tokens(1) == expected
        assert len(client.deltas[1]) <= 4
        assert client.last(1).finish


async def test_a_cancel_ends_within_one_step_and_does_not_wait_for_credit() -> None:
    gate = Semaphore(0)
    async with serving(gate) as server:
        client = Client(server.stub())
        await client.submit(1, [5, 6], max_tokens=400, credit_tokens=0)
        gate.release()
        await client.until(lambda: client.frames and client.frames[-1].load.running == 1)
        step = client.frames[-1].step
        await client.cancel(1)
        await eventually(lambda: server.heard)
        gate.release()
        await client.finish(1)
        assert client.last(1).finish == engine_pb2.FINISH_REASON_CANCELLED
        assert client.last(1).first_index == 0
        assert client.frames[-1].step <= step + 1
        assert client.frames[-1].load.kv_tokens_used == 0


async def test_a_cancel_after_the_end_releases_what_waits_for_credit() -> None:
    async with serving() as server:
        client = Client(server.stub())
        await client.submit(1, [5, 6], max_tokens=5, credit_tokens=1)
        await client.until(lambda: client.frames and client.frames[-1].load.running == 0)
        await client.cancel(1)
        await client.finish(1)
        assert client.last(1).finish == engine_pb2.FINISH_REASON_CANCELLED
        assert client.tokens(1) == generate([5, 6], 1)
        await client.submit(1, [7], max_tokens=1)
        await client.until(lambda: len(client.deltas[1]) == 3)
        assert client.last(1).tokens == generate([7], 1)


async def test_a_disconnect_frees_blocks_within_one_step() -> None:
    gate = Semaphore(0)
    async with serving(gate) as server:
        client = Client(server.stub())
        await client.submit(1, [5, 6], max_tokens=400)
        gate.release()
        await client.until(lambda: client.frames and client.frames[-1].load.running == 1)
        before = client.frames[-1].load
        assert before.kv_tokens_used > 0
        client.call.cancel()
        await eventually(lambda: not server.streams)
        gate.release()
        await eventually(lambda: server.metric("requests_total", finish="cancelled"))
        after = await load(server)
        assert (after.running, after.kv_tokens_used) == (0, 0)
        assert after.step <= before.step + 1


async def test_a_client_that_half_closes_gets_the_rest_whatever_its_credit() -> None:
    async with serving() as server:
        client = Client(server.stub())
        await client.submit(1, [5, 6], max_tokens=20, credit_tokens=1)
        await client.call.done_writing()
        await client.finish(1)
        assert client.tokens(1) == generate([5, 6], 20)
        assert await client.call.read() is aio.EOF
        assert await client.call.code() == grpc.StatusCode.OK


async def test_a_slow_reader_stalls_nobody_and_loses_nothing() -> None:
    async with serving(stop_token_ids=frozenset()) as server:
        slow, quick = Client(server.stub()), Client(server.stub())
        sampling = engine_pb2.Sampling(temperature=0.0, max_tokens=200, logprobs=20)
        for rid in range(16):
            await slow.submit(rid, [rid, 1], sampling=sampling)
        await quick.submit(1, [5], max_tokens=400)
        await quick.finish(1)
        assert quick.tokens(1) == generate([5], 400, stops=())
        await slow.finish(*range(16))
        assert all(slow.tokens(rid) == generate([rid, 1], 200, stops=()) for rid in range(16))


async def test_a_resumption_continues_with_indices_positions_and_usage() -> None:
    async with serving() as server:
        client = Client(server.stub())
        sampling = engine_pb2.Sampling(temperature=1.0, seed=2**64 - 1, max_tokens=30, logprobs=2)
        whole = generate([5, 6], 30, seed=2**64 - 1, temperature=1.0)
        cut = len(whole) // 2
        resume = engine_pb2.Resume(tokens=whole[:cut])
        await client.submit(1, [5, 6], sampling=sampling, resume=resume)
        await client.submit(2, [5, 6], sampling=sampling, resume=engine_pb2.Resume(tokens=whole))
        await client.finish(1, 2)
        assert client.tokens(1) == whole[cut:]
        assert client.deltas[1][0].first_index == cut
        assert client.last(1).usage.output_tokens == len(whole)
        assert all(len(delta.logprobs) == len(delta.tokens) for delta in client.deltas[1])
        assert list(client.deltas[1][0].logprobs[0].top_ids) == [0, 1]
        assert client.tokens(2) == []
        assert (client.last(2).first_index, client.last(2).usage.output_tokens) == (len(whole), len(whole))
        assert client.last(2).finish == client.last(1).finish
        assert server.metric("resumed_requests_total") == 2


async def test_deadlines_arrive_as_unix_milliseconds() -> None:
    async with serving() as server:
        client = Client(server.stub())
        await client.submit(1, [5, 6], deadline_unix_ms=int(time.time() * 1e3) - 1)
        await client.finish(1)
        assert client.last(1).finish == engine_pb2.FINISH_REASON_DEADLINE


@pytest.mark.parametrize(
    ("prompt", "sampling", "expected"),
    [
        ([], {}, ("EMPTY_PROMPT", "prompt")),
        ([VOCAB], {}, ("TOKEN_OUT_OF_RANGE", "prompt")),
        ([1] * 512, {}, ("CONTEXT_LENGTH_EXCEEDED", "prompt")),
        ([1], {"temperature": 3.0}, ("SAMPLING_OUT_OF_RANGE", "sampling.temperature")),
        ([1], {"logprobs": 21}, ("SAMPLING_OUT_OF_RANGE", "sampling.logprobs")),
        ([1], {"max_tokens": 512}, ("CONTEXT_LENGTH_EXCEEDED", "sampling.max_tokens")),
    ],
)
async def test_refusals_are_invalid_arguments(prompt: list[int], sampling: dict[str, Any], expected: tuple[str, str]) -> None:
    async with serving() as server:
        client = Client(server.stub())
        await client.submit(1, prompt, sampling=engine_pb2.Sampling(**sampling))
        await client.finish(1)
        assert reason(client.last(1).error) == (grpc.StatusCode.INVALID_ARGUMENT.value[0], *expected)


async def test_a_rid_that_lives_is_refused_a_second_time() -> None:
    gate = Semaphore(0)
    async with serving(gate) as server:
        client = Client(server.stub())
        await client.submit(1, [5], max_tokens=2)
        await client.submit(1, [6], max_tokens=2)
        await client.until(lambda: client.last(1).WhichOneof("end"))
        assert reason(client.last(1).error)[1:] == ("DUPLICATE_RID", "rid")
        gate.release(2)
        await client.until(lambda: client.last(1).WhichOneof("end") == "finish")
        assert client.tokens(1) == generate([5], 2)


async def test_a_full_queue_says_when_to_come_back() -> None:
    gate = Semaphore(0)
    async with serving(gate, max_waiting=1, max_sequences=1) as server:
        client = Client(server.stub())
        await client.submit(1, [1], max_tokens=400)
        gate.release()
        await client.until(lambda: client.tokens(1))
        await client.submit(2, [2])
        await client.submit(3, [3])
        await eventually(lambda: server.received == 3)
        gate.release(2)
        await client.finish(3)
        error = client.last(3).error
        assert error.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
        retry = error_details_pb2.RetryInfo()
        assert any(detail.Unpack(retry) for detail in error.details)
        assert retry.retry_delay.ToSeconds() == 1


async def test_steps_that_a_reader_misses_are_merged() -> None:
    stream = Stream(1, 7, Load())
    stream.open(5, 2, None)
    frames = stream.frames()
    for step in range(1, 10):
        stream.add(5, Output((1, 5), step + 1, (step,), end=Finish.LENGTH if step == 9 else None, usage=Usage(3, 11)))
        stream.note(Load(step=step))
    stream.finish()
    (frame,) = [frame async for frame in frames]
    assert (frame.step, frame.deltas[0].first_index, list(frame.deltas[0].tokens)) == (9, 2, list(range(1, 10)))
    assert frame.deltas[0].finish == engine_pb2.FINISH_REASON_LENGTH


async def test_a_client_that_takes_nothing_is_bounded() -> None:
    stream = Stream(1, 7, Load())
    for rid in range(MAX_LIVE):
        stream.check(rid)
        stream.open(rid, 0, 0)
    with pytest.raises(Refusal) as caught:
        stream.check(MAX_LIVE)
    assert caught.value.reason == "SESSION_FULL"


async def test_a_client_that_takes_no_tokens_gets_no_more_and_whole_frames() -> None:
    stream = Stream(1, 7, Load())
    for rid in range(4):
        stream.open(rid, 0, None)
        stream.add(rid, Output((1, rid), 0, (5,) * (MAX_UNSENT // 4), end=Finish.LENGTH, usage=Usage(1, MAX_UNSENT // 4)))
    with pytest.raises(Refusal) as caught:
        stream.check(4)
    assert caught.value.reason == "SESSION_FULL"
    stream.finish()
    frames = [[len(delta.tokens) for delta in frame.deltas] async for frame in stream.frames()]
    assert frames == [[MAX_UNSENT // 4]] * 4
    assert MAX_UNSENT // 4 > FRAME_TOKENS
    stream.check(4)


async def test_output_that_nobody_takes_ends_its_request_where_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "MOST_UNSENT", 100)
    stream = Stream(1, 7, Load())
    for rid in (1, 2):
        stream.open(rid, 0, 0)
    scores = (TokenLogprobs(-1.0, (), ()),) * 60
    assert stream.add(1, Output((1, 1), 0, prompt_logprobs=scores))
    assert not stream.add(2, Output((1, 2), 0, (5,) * 41))
    assert stream.add(2, Output((1, 2), 41, (5,) * 101))  # on its way to its end
    assert stream.add(1, Output((1, 1), 0, (5,) * 40))
    assert stream.unfinished == [1, 2]
    assert stream.add(2, Output((1, 2), 142, end=Finish.CANCELLED, usage=Usage(1, 142)))
    stream.finish()
    frames = stream.frames()
    first = await anext(frames)
    by_rid = {delta.rid: delta for delta in first.deltas}
    assert len(by_rid[1].prompt_logprobs) == 60  # whatever the credit
    assert reason(by_rid[2].error)[:2] == (grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], "SESSION_FULL")
    assert stream._unsent == 40
    stream.add(1, Output((1, 1), 40, end=Finish.LENGTH, usage=Usage(61, 40)))
    stream.abandon(1)
    assert stream._unsent == 0


async def test_whose_output_is_taken_does_not_pay_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "MOST_UNSENT", 100)
    stream = Stream(1, 7, Load())
    stream.open(1, 0, 10)
    stream.open(2, 0, 10)
    assert stream.add(1, Output((1, 1), 0, (5,) * 100))
    assert stream.add(2, Output((1, 2), 0, (5,) * 10))
    assert not stream.add(1, Output((1, 1), 100, (5,)))
    assert stream.add(2, Output((1, 2), 10, (5,)))


async def test_credit_makes_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a client that grants more than it reads."""
    monkeypatch.setattr(stream_module, "MOST_UNSENT", 100)
    stream = Stream(1, 7, Load())
    stream.open(1, 0, 1 << 20)
    assert stream.add(1, Output((1, 1), 0, (5,) * stream_module.SHARE_UNSENT))
    assert not stream.add(1, Output((1, 1), stream_module.SHARE_UNSENT, (5,)))
    assert stream._unsent == 0


async def test_a_request_without_room_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "MOST_UNSENT", 20)
    async with serving(stop_token_ids=frozenset()) as server:
        client = Client(server.stub())
        await client.submit(1, [5, 6], max_tokens=400, credit_tokens=0)
        await client.finish(1)
        assert reason(client.last(1).error)[1] == "SESSION_FULL"
        assert server.metric("requests_total", finish="cancelled") == 1
        await client.submit(2, [5, 6], max_tokens=10)
        await client.finish(2)
        assert len(client.tokens(2)) == 10


@pytest.mark.parametrize("bound", ["MAX_LIVE", "MAX_UNSENT"])
async def test_a_resumption_is_taken_however_full_the_session_is(monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    monkeypatch.setattr(stream_module, bound, 1)
    async with serving(stop_token_ids=frozenset()) as server:
        client = Client(server.stub())
        await client.submit(1, [5, 6], max_tokens=10, credit_tokens=0)
        await client.until(lambda: client.frames and client.frames[-1].load.running == 0)
        whole = generate([7], 10, stops=())
        await client.submit(2, [7], max_tokens=10, resume=engine_pb2.Resume(tokens=whole[:4]))
        await client.submit(3, [8], max_tokens=10)
        await client.cancel(1)
        await client.finish(1, 2, 3)
        assert client.tokens(2) == whole[4:]
        assert reason(client.last(3).error)[1] == "SESSION_FULL"


async def test_refusals_that_nobody_takes_are_bounded_and_none_is_lost() -> None:
    count = 4 * MAX_REFUSED
    async with serving() as server:
        client = Client(server.stub())
        submits = [engine_pb2.Submit(rid=rid, request_id="x" * 1000) for rid in range(count)]
        await client.call.write(engine_pb2.ClientFrame(submits=submits))
        await client.until(lambda: len(client.deltas) == count)
    assert max(len(frame.deltas) for frame in client.frames) <= MAX_REFUSED


async def test_an_absent_seed_is_drawn_anew() -> None:
    async with serving() as server:
        client = Client(server.stub())
        for rid in (1, 2):
            await client.submit(rid, [5], sampling=engine_pb2.Sampling(max_tokens=1))
        await client.finish(1, 2)
        seeds = {int(seed) for plan in server.runner.plans for seed in plan.seeds if plan.temperatures.any()}
        assert len(seeds) == 2


async def test_the_prompts_log_probabilities_come_before_any_token_and_once() -> None:
    async with serving(token_budget=32) as server:
        client = Client(server.stub())
        prompt = [10 + n for n in range(50)]
        sampling = engine_pb2.Sampling(temperature=0.0, max_tokens=5, prompt_logprobs=2)
        await client.submit(1, prompt, sampling=sampling, credit_tokens=0)
        await client.until(lambda: sum(len(delta.prompt_logprobs) for delta in client.deltas.get(1, [])) == 49)
        await client.submit(2, prompt, sampling=sampling, resume=engine_pb2.Resume(prompt_logprobs=20))
        await client.submit(
            3, prompt, sampling=sampling, resume=engine_pb2.Resume(tokens=generate(prompt, 2), prompt_logprobs=49)
        )
        sampling.max_tokens = 0
        await client.submit(4, prompt, sampling=sampling)
        await client.finish(2, 3, 4)
        for rid, told in ((1, 0), (2, 20), (3, 49), (4, 0)):
            deltas = client.deltas[rid]
            expected = told
            for delta in deltas:
                assert delta.first_prompt_logprob == expected
                expected += len(delta.prompt_logprobs)
            scores = [score for delta in deltas for score in delta.prompt_logprobs]
            assert [score.logprob for score in scores] == [-token / 8 for token in prompt[1 + told :]]
            assert all(list(score.top_ids) == [0, 1] for score in scores)
        assert (client.tokens(1), client.tokens(4)) == ([], [])
        assert client.last(4).finish == engine_pb2.FINISH_REASON_LENGTH
        assert client.tokens(2) == generate(prompt, 5)
        await client.credit(1, 5)
        await client.finish(1)
        assert client.tokens(1) == generate(prompt, 5)


async def test_usage_tells_what_was_cached() -> None:
    async with serving(stop_token_ids=frozenset()) as server:
        client = Client(server.stub())
        prompt = list(range(20, 41))
        for rid, salt in ((1, b""), (2, b""), (3, b"other")):
            await client.submit(rid, prompt, max_tokens=2, cache_salt=salt)
            await client.finish(rid)
        assert [client.last(rid).usage.cached_tokens for rid in (1, 2, 3)] == [0, 20, 0]
        assert server.metric("cached_tokens_total") == 20
