"""10,000 requests that are cancelled, out of time, cut off or refused: nothing is left of them, and nobody else waits."""

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from ossia.v1 import engine_pb2
from tests.fakes.grammar import FakeGrammar
from tests.fakes.runner import STOP, VOCAB
from tests.workers.engine.harness import audit_pool
from tests.workers.leader.harness import Client, Server, eventually, serving
from tests.workers.leader.test_session import reason
from tests.workers.leader.test_watchers import Watch
from workers.engine.errors import Cause, Refusal
from workers.engine.grammar import Allowed, spelled
from workers.engine.plan import Plan, Sampled

REQUESTS = 10_000
SESSIONS = 8  # at a time
GAP_S = 5.0  # between two frames of a session whose request runs: far more than any step takes


class QuickRunner:
    """The next token is a function of the last one and its position; of those that the mask allows, the first from there on."""

    def execute(self, plan: Plan) -> Sampled:
        wanted = _next(plan.tokens[plan.rows].astype(np.int64), plan.positions[plan.rows].astype(np.int64)).astype(np.int32)
        for row in range(len(wanted)):
            wanted[row] = _allowed(int(wanted[row]), plan.allowed(row, VOCAB))
        none, numbers = np.zeros(0, np.int32), np.zeros(0, np.float32)
        return Sampled(wanted, np.zeros(len(wanted), np.float32), [none] * len(wanted), [numbers] * len(wanted))

    def close(self) -> None:
        """There is nothing to free."""


def _next(token: NDArray[np.int64], position: NDArray[np.int64]) -> NDArray[np.int64]:
    return (token * 31 + position * 17 + 11) % VOCAB


def _allowed(token: int, allowed: Allowed) -> int:
    if allowed is None:
        return token
    ids = np.flatnonzero(spelled(allowed, VOCAB))
    return int(ids[np.searchsorted(ids, token) % len(ids)]) if len(ids) else -2


def undisturbed(submit: engine_pb2.Submit) -> list[int]:
    """The whole output of a request that nothing happens to."""
    sequence = list(submit.prompt)
    grammar = FakeGrammar(int(submit.grammar.regex)) if submit.HasField("grammar") else None
    while len(sequence) < len(submit.prompt) + submit.sampling.max_tokens:
        token = (sequence[-1] * 31 + (len(sequence) - 1) * 17 + 11) % VOCAB
        if grammar is not None:
            token = _allowed(token, grammar.mask())
        if token < 0:
            break
        sequence.append(token)
        if token == STOP:
            break
        if grammar is not None:
            grammar.accept(token)
    return sequence[len(submit.prompt) :]


@dataclass
class Compiled:
    seed: int

    def start(self) -> FakeGrammar:
        return FakeGrammar(self.seed)


def compile(message: engine_pb2.Grammar, vocab_size: int) -> Compiled:
    if int(message.regex) % 5 == 0:
        raise Refusal(Cause.INVALID, "it cannot be held", reason="INVALID_GRAMMAR", field="grammar.regex")
    time.sleep(0.002)  # it works without the interpreter's lock
    return Compiled(int(message.regex))


@dataclass
class Troublemaker:
    """Opens one session after the other, with requests that it lets end, cancels, gives no time, or leaves alone."""

    server: Server
    random: random.Random
    ends: Counter[str] = field(default_factory=Counter)

    async def run(self, requests: int) -> None:
        while requests > 0:
            count = min(requests, self.random.randrange(1, 120))
            requests -= count
            await self._session([self._submit(rid) for rid in range(count)])

    def _submit(self, rid: int) -> engine_pb2.Submit:
        dice = self.random
        submit = engine_pb2.Submit(
            rid=rid,
            prompt=[dice.randrange(4, 7) for _ in range(dice.choice((1, 3, 9, 40)))],
            sampling=engine_pb2.Sampling(temperature=0.0, max_tokens=dice.choice((1, 2, 10, 30))),
            priority=dice.randrange(-1, 2),
            cache_salt=dice.choice((b"", b"", b"salt")),
        )
        if dice.random() < 0.2:
            submit.deadline_unix_ms = int(time.time() * 1e3) + dice.randrange(-1, 60)
        if dice.random() < 0.2:
            submit.grammar.regex = str(dice.randrange(12))
        if dice.random() < 0.2:
            submit.credit_tokens = dice.randrange(3)
        if dice.random() < 0.1:
            submit.resume.tokens[:] = undisturbed(submit)[: dice.randrange(4)]
        return submit

    async def _session(self, submits: Sequence[engine_pb2.Submit]) -> None:
        client, dice = Client(self.server.stub()), self.random
        await client.call.write(engine_pb2.ClientFrame(submits=submits))
        leaves = dice.random() < 0.3
        for _ in range(dice.randrange(6)):
            if dice.random() < 0.5:
                await client.read()
            victims = dice.sample(range(len(submits)), dice.randrange(1 + len(submits) // 4))
            await client.call.write(engine_pb2.ClientFrame(cancels=[engine_pb2.Cancel(rid=rid) for rid in victims]))
            if all(client.last(rid).WhichOneof("end") for rid in range(len(submits))):
                break
        if leaves:
            client.call.cancel()
            self.ends["left alone"] += sum(not client.last(rid).WhichOneof("end") for rid in range(len(submits)))
        else:
            await client.call.done_writing()
            await client.finish(*range(len(submits)))
        for submit in submits:
            self._check(client, submit)

    def _check(self, client: Client, submit: engine_pb2.Submit) -> None:
        whole, last = undisturbed(submit), client.last(submit.rid)
        tokens = [*submit.resume.tokens, *client.tokens(submit.rid)]
        assert tokens == whole[: len(tokens)]
        if last.WhichOneof("end") == "finish":
            self.ends[engine_pb2.FinishReason.Name(last.finish)] += 1
            if last.finish not in (engine_pb2.FINISH_REASON_CANCELLED, engine_pb2.FINISH_REASON_DEADLINE):
                assert tokens == whole
                assert last.usage.output_tokens == len(whole)
        elif last.WhichOneof("end") == "error":
            code, held = last.error.code, submit.HasField("grammar")
            assert code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0] or held and int(submit.grammar.regex) % 5 == 0
            self.ends["refused"] += 1


async def witness(server: Server, over: asyncio.Event) -> int:
    """One request after the other, each of which must get a frame within GAP_S; returns how many the queue had room for."""
    client, served = Client(server.stub()), 0
    for rid in itertools.count(1):
        if over.is_set():
            break
        submit = engine_pb2.Submit(rid=rid, prompt=[rid % VOCAB], priority=9)
        submit.sampling.temperature, submit.sampling.max_tokens = 0.0, 40
        await client.call.write(engine_pb2.ClientFrame(submits=[submit]))
        while not client.last(rid).WhichOneof("end"):
            async with asyncio.timeout(GAP_S):
                await client.read()
        if client.last(rid).WhichOneof("end") == "error":
            assert reason(client.last(rid).error)[1] == "QUEUE_FULL"
        else:
            assert client.tokens(rid) == undisturbed(submit)
            served += 1
    return served


async def test_ten_thousand_troubled_requests_leave_nothing_behind() -> None:
    sizes: dict[str, Any] = {"kv_blocks": 160, "sliding_blocks": 160, "max_context": 128, "max_sequences": 32}
    async with serving(runner=QuickRunner(), compile=compile, max_waiting=200, **sizes) as server:
        over, watch = asyncio.Event(), Watch(server)
        await watch.read()
        watching = asyncio.create_task(witness(server, over))
        troublemakers = [Troublemaker(server, random.Random(seed)) for seed in range(SESSIONS)]
        await asyncio.gather(*(each.run(REQUESTS // SESSIONS) for each in troublemakers))
        over.set()
        assert await watching > 10
        await eventually(lambda: server.received == 0)
        scheduler = server.leader.engine._stepper._scheduler
        await eventually(lambda: not scheduler.busy)
        for pool in (scheduler.cache.full, scheduler.cache.sliding):
            audit_pool(pool, Counter())
        late = Watch(server)
        await late.read()
        await watch.until(late.sequence)
        assert (watch.full, watch.sliding) == (late.full, late.sliding)
        assert watch.full == set(scheduler.cache.full.names)
        for each in (watch, late):
            each.leave()
        ends = sum((each.ends for each in troublemakers), Counter())
        assert sum(ends.values()) == REQUESTS
        assert min(ends[name] for name in ENDS) > 50
        assert scheduler.preemptions
        assert server.metric("kv_used_tokens") == server.metric("running_requests") == server.metric("waiting_requests") == 0


ENDS = ("left alone", "refused", *(f"FINISH_REASON_{name}" for name in ("STOP", "LENGTH", "CANCELLED", "DEADLINE", "GRAMMAR")))
