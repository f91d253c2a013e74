"""Requests with grammars over a real channel: compiled elsewhere, cancelled meanwhile, refused, resumed, ended."""

import asyncio
import json
import time
from threading import Semaphore
from typing import Any

import grpc
import numpy as np
import pytest

from ossia.common import vocabulary
from ossia.v1 import engine_pb2
from tests.fakes.grammar import FakeGrammar
from tests.fakes.runner import STOP, alone, generate
from tests.workers.leader.harness import LIMITS, Client, eventually, serving
from tests.workers.leader.test_session import reason
from workers import grammar
from workers.engine.checks import invalid
from workers.engine.grammar import spelled
from workers.engine.plan import Plan, Sampled
from workers.engine.sampling import Sampling
from workers.leader import grammars


class Compiled:
    def __init__(self, seed: int) -> None:
        self._seed = seed

    def start(self) -> FakeGrammar:
        return FakeGrammar(self._seed)


class Panic(BaseException):
    """As native code raises them."""


class Compiler:
    """A grammar's text is its seed, or what goes wrong. Each waits for its turn where there is a `turn`."""

    def __init__(self, turn: Semaphore | None = None) -> None:
        self.compiled: list[str] = []
        self._turn = turn

    def __call__(self, message: engine_pb2.Grammar, vocab_size: int) -> Compiled:
        if message.harmony:
            return Compiled(0)
        self.compiled.append(message.regex)
        if self._turn is not None:
            self._turn.acquire()
        if message.regex == "panic":
            raise Panic("a library gives up")
        if message.regex == "bad":
            raise invalid("it is bad", "INVALID_GRAMMAR", "grammar.regex")
        assert vocab_size == LIMITS.vocab_size
        return Compiled(int(message.regex))


def held(seed: object) -> engine_pb2.Grammar:
    return engine_pb2.Grammar(regex=str(seed))


def expected(prompt: list[int], seed: int, max_tokens: int = 10) -> list[int]:
    return alone(prompt, Sampling(temperature=0.0, max_tokens=max_tokens), grammar=FakeGrammar(seed))


async def test_output_is_held_to_the_grammar_and_dead_ends_are_told() -> None:
    async with serving(compile=Compiler()) as server:
        client = Client(server.stub())
        for rid in range(40):
            await client.submit(rid, [5, rid], max_tokens=30, grammar=held(rid % 7))
        await client.finish(*range(40))
        dead = 0
        for rid in range(40):
            tokens = expected([5, rid], rid % 7, 30)
            assert client.tokens(rid) == tokens
            if STOP not in tokens and len(tokens) < 30:
                assert client.last(rid).finish == engine_pb2.FINISH_REASON_GRAMMAR
                dead += 1
        assert dead
        assert server.metric("requests_total", finish="grammar") == dead
        assert server.metric("grammar_seconds_count") == 40
        forced = sum(client.last(rid).usage.drafted_tokens for rid in range(40))
        assert server.metric("drafted_tokens_total") == forced > 0
        assert server.metric("accepted_tokens_total") == sum(client.last(rid).usage.accepted_tokens for rid in range(40))


async def test_one_grammar_is_compiled_once_and_holds_nobody_else_up() -> None:
    turn = Semaphore(0)
    compiler = Compiler(turn)
    async with serving(compile=compiler) as server:
        client = Client(server.stub())
        for rid in range(3):
            await client.submit(rid, [5, rid], grammar=held(4))
        await client.submit(3, [6])
        await client.finish(3)
        assert client.tokens(3) == generate([6], 10)
        turn.release(1)
        await client.finish(0, 1, 2)
        assert [client.tokens(rid) for rid in range(3)] == [expected([5, rid], 4) for rid in range(3)]
        assert compiler.compiled == ["4"]


async def test_headers_do_not_wait_for_contents() -> None:
    turn = Semaphore(0)
    compiler = Compiler(turn)
    async with serving(compile=compiler) as server:
        client = Client(server.stub())
        for rid in range(grammars.THREADS + 1):
            await client.submit(rid, [5], grammar=held(rid))
        await eventually(lambda: len(compiler.compiled) == grammars.THREADS)
        await client.submit(9, [6], grammar=engine_pb2.Grammar(harmony=True))
        await client.finish(9)
        assert client.tokens(9) == expected([6], 0)
        turn.release(grammars.THREADS + 1)
        await client.finish(*range(grammars.THREADS + 1))


async def test_a_cancel_does_not_wait_for_the_grammar() -> None:
    turn = Semaphore(0)
    async with serving(compile=Compiler(turn)) as server:
        client = Client(server.stub())
        resume = engine_pb2.Resume(tokens=generate([5], 2))
        await client.submit(1, [5], grammar=held(1), resume=resume, credit_tokens=0)
        await client.cancel(1)
        await client.finish(1)
        last = client.last(1)
        assert (last.finish, last.first_index) == (engine_pb2.FINISH_REASON_CANCELLED, 2)
        assert (last.usage.prompt_tokens, last.usage.output_tokens) == (1, 2)
        turn.release(1)
        await client.submit(1, [6])
        await client.until(lambda: len(client.tokens(1)) == 10)
        assert client.tokens(1) == generate([6], 10)
        assert server.metric("requests_total", finish="cancelled") == 1
        assert server.received == 0


@pytest.mark.parametrize("left_ms", [-1000, 50])
async def test_a_deadline_does_not_wait_for_the_grammar(left_ms: int) -> None:
    turn = Semaphore(0)
    async with serving(compile=Compiler(turn)) as server:
        client = Client(server.stub())
        await client.submit(1, [5], grammar=held(1), deadline_unix_ms=int(time.time() * 1e3) + left_ms)
        await client.finish(1)
        assert client.last(1).finish == engine_pb2.FINISH_REASON_DEADLINE
        turn.release(1)
        assert server.metric("requests_total", finish="deadline") == 1


async def test_a_disconnect_forgets_what_is_being_compiled() -> None:
    turn = Semaphore(0)
    compiler = Compiler(turn)
    async with serving(compile=compiler) as server:
        client = Client(server.stub())
        await client.submit(1, [5], grammar=held(1))
        await eventually(lambda: compiler.compiled)
        client.call.cancel()
        await eventually(lambda: not server.streams)
        turn.release(1)
        other = Client(server.stub())
        await other.submit(1, [6])
        await other.finish(1)
        assert server.received == 0
        assert server.metric("requests_total", finish="cancelled") == 1


async def test_a_rid_is_taken_while_its_grammar_is_compiled() -> None:
    turn = Semaphore(0)
    async with serving(compile=Compiler(turn)) as server:
        client = Client(server.stub())
        await client.submit(1, [5], grammar=held(1))
        await client.submit(1, [6])
        await client.finish(1)
        assert reason(client.last(1).error)[1:] == ("DUPLICATE_RID", "rid")
        turn.release(1)
        await client.until(lambda: client.last(1).finish)
        assert client.tokens(1) == expected([5], 1)


async def test_refusals_answer_the_submit() -> None:
    async with serving(compile=Compiler()) as server:
        client = Client(server.stub())
        await client.submit(1, [5], grammar=held("bad"))
        await client.submit(2, [], grammar=held(1))
        await client.submit(3, [5], grammar=held("no number"))
        await client.submit(4, [5], grammar=held(1), resume=engine_pb2.Resume(tokens=forbidden(1)))
        await client.submit(5, [5], grammar=held("panic"))
        await client.finish(1, 2, 3, 4, 5)
        invalid_argument = grpc.StatusCode.INVALID_ARGUMENT.value[0]
        assert reason(client.last(1).error) == (invalid_argument, "INVALID_GRAMMAR", "grammar.regex")
        assert reason(client.last(2).error) == (invalid_argument, "EMPTY_PROMPT", "prompt")
        for rid in (3, 5):
            assert reason(client.last(rid).error) == (grpc.StatusCode.INTERNAL.value[0], "GRAMMAR_FAILED", "grammar")
        assert reason(client.last(4).error) == (invalid_argument, "RESUME_MISMATCH", "resume.tokens")
        assert server.metric("refused_requests_total", reason="INVALID_GRAMMAR") == 1
        assert server.received == 0


async def test_what_the_replica_cannot_hold_is_refused_before_anything_is_compiled() -> None:
    compiler = Compiler(Semaphore(0))  # which never gets on
    async with serving(compile=compiler) as server:
        client = Client(server.stub())
        await client.submit(1, [], grammar=held(1))
        await client.submit(2, [5], max_tokens=LIMITS.max_context, grammar=held(2))
        await client.submit(3, [5], grammar=held(3), sampling=engine_pb2.Sampling(ignore_eos=True))
        await client.finish(1, 2, 3)
        assert [reason(client.last(rid).error)[1:] for rid in (1, 2, 3)] == [
            ("EMPTY_PROMPT", "prompt"),
            ("CONTEXT_LENGTH_EXCEEDED", "sampling.max_tokens"),
            ("SAMPLING_CONTRADICTORY", "sampling.ignore_eos"),
        ]
        assert compiler.compiled == []


def forbidden(seed: int) -> list[int]:
    """A beginning that ends with what the grammar forbids there."""
    state: list[int] = []
    fake = FakeGrammar(seed)
    while (mask := fake.mask()) is None:
        state.append(10)
        fake.accept(10)
    return [*state, int(np.flatnonzero(~spelled(mask, LIMITS.vocab_size))[-1])]


async def test_a_resumption_replays_the_grammar() -> None:
    async with serving(compile=Compiler()) as server:
        client = Client(server.stub())
        whole = max((expected([5, n], 3, 30) for n in range(20)), key=len)
        prompt = next([5, n] for n in range(20) if expected([5, n], 3, 30) == whole)
        for cut in range(len(whole)):
            resume = engine_pb2.Resume(tokens=whole[:cut])
            await client.submit(cut, prompt, max_tokens=30, grammar=held(3), resume=resume)
        await client.finish(*range(len(whole)))
        assert [client.tokens(cut) for cut in range(len(whole))] == [whole[cut:] for cut in range(len(whole))]


async def test_too_many_grammars_are_refused_until_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammars, "MAX_COMPILING", 2)
    turn = Semaphore(0)
    async with serving(compile=Compiler(turn)) as server:
        client = Client(server.stub())
        for rid in range(3):
            await client.submit(rid, [5], grammar=held(rid))
        await client.finish(2)
        assert reason(client.last(2).error) == (grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], "GRAMMARS_BUSY", "")
        begun = expected([5], 4)
        await client.submit(4, [5], grammar=held(4), resume=engine_pb2.Resume(tokens=begun[:1]))
        turn.release(4)
        await client.finish(0, 1, 4)
        assert client.tokens(4) == begun[1:]
        await client.submit(3, [5], grammar=held(2))
        await client.finish(3)
        assert client.tokens(3) == expected([5], 2)


async def test_a_grammar_that_takes_too_long_is_refused_and_compiled_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammars, "PATIENCE_S", 0.05)
    turn = Semaphore(0)
    async with serving(compile=Compiler(turn)) as server:
        client = Client(server.stub())
        begun = expected([5], 4)
        resume = engine_pb2.Resume(tokens=begun[:1])
        await client.submit(2, [5], grammar=held(4), resume=resume)
        await client.submit(1, [5], grammar=held(1))
        await client.finish(1, 2)
        assert reason(client.last(1).error)[:2] == (grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], "GRAMMARS_BUSY")
        assert reason(client.last(2).error)[:2] == (grpc.StatusCode.INTERNAL.value[0], "GRAMMARS_BUSY")  # it moves on
        monkeypatch.setattr(grammars, "PATIENCE_S", 5.0)
        turn.release(2)
        await client.submit(3, [5], grammar=held(4), resume=resume)
        turn.release(1)
        await client.finish(3)
        assert client.tokens(3) == begun[1:]


async def test_a_stop_refuses_what_is_being_compiled() -> None:
    turn = Semaphore(0)
    async with serving(compile=Compiler(turn)) as server:
        client = Client(server.stub())
        await client.submit(1, [5], grammar=held(1))
        await client.submit(2, [6], max_tokens=1)
        await client.finish(2)
        stopping = asyncio.create_task(server.leader.stop(30.0))
        await client.finish(1)
        assert reason(client.last(1).error)[:2] == (grpc.StatusCode.UNAVAILABLE.value[0], "STOPPING")
        await asyncio.wait_for(stopping, 10)
        turn.release(1)


class Obedient:
    """A runner over the real vocabulary that draws any token of those that the mask allows; without one, the stop token."""

    def __init__(self, stop: int) -> None:
        self._stop = stop

    def execute(self, plan: Plan) -> Sampled:
        tokens = [self._draw(plan, row) for row in range(len(plan.rows))]
        nothing = [np.zeros(0, np.int32)] * len(tokens)
        return Sampled(
            np.array(tokens, np.int32), np.zeros(len(tokens), np.float32), nothing, [np.zeros(0, np.float32)] * len(tokens)
        )

    def _draw(self, plan: Plan, row: int) -> int:
        language = plan.allowed(row, vocabulary.SIZE)
        if language is None:
            return self._stop
        allowed = np.flatnonzero(spelled(language, vocabulary.SIZE))
        generator = np.random.default_rng([int(plan.seeds[row]), int(plan.output_positions[row])])
        return int(generator.choice(allowed)) if len(allowed) else -2

    def close(self) -> None:
        """There is nothing to free."""


async def test_the_real_grammar_behind_the_real_protocol() -> None:
    schema = json.dumps(
        {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": False}
    )
    limits: dict[str, Any] = {"vocab_size": vocabulary.SIZE, "stop_token_ids": frozenset({vocabulary.RETURN})}
    async with serving(runner=Obedient(vocabulary.RETURN), compile=grammar.compile, **limits) as server:
        client = Client(server.stub())
        sampling = engine_pb2.Sampling(max_tokens=200, seed=1)
        await client.submit(1, [5], sampling=sampling, grammar=engine_pb2.Grammar(json_schema=schema))
        await client.submit(2, [5], sampling=sampling, grammar=engine_pb2.Grammar(json_schema="{"))
        await client.finish(1, 2)
        assert client.last(1).finish == engine_pb2.FINISH_REASON_STOP
        table = vocabulary.load().table
        assert json.loads(b"".join(table[token] for token in client.tokens(1)[:-1])) in ({"n": 1}, {"n": 2})
        code, _, field = reason(client.last(2).error)
        assert (code, field) == (grpc.StatusCode.INVALID_ARGUMENT.value[0], "grammar.json_schema")


async def test_another_vocabulary_has_no_grammars() -> None:
    async with serving() as server:
        client = Client(server.stub())
        await client.submit(1, [5], grammar=engine_pb2.Grammar(regex="a"))
        await client.finish(1)
        assert reason(client.last(1).error)[1:] == ("NO_GRAMMARS", "grammar")
