"""A router in front of leaders with fake runners: what a request asks for holds across the loss of its replica."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from ossia.v1.engine_pb2 import (
    FINISH_REASON_GRAMMAR,
    FINISH_REASON_LENGTH,
    FINISH_REASON_STOP,
    Delta,
    Grammar,
    LogitBias,
    Sampling,
    Submit,
)
from router.deltas import ended, merge
from router.fleet_static import StaticFleet
from router.router import Router
from tests.fakes.grammar import FakeGrammar
from tests.fakes.runner import STOP, alone, generate
from tests.workers.leader.harness import Server, eventually, serving
from workers.engine import sampling as settings

PROMPT = [5, 6, *range(20, 60)]


class Compiled:
    def __init__(self, seed: int) -> None:
        self._seed = seed

    def start(self) -> FakeGrammar:
        return FakeGrammar(self._seed)


@asynccontextmanager
async def routed(*failures: int | None, **changes: Any) -> AsyncIterator[tuple[Router, list[Server]]]:
    """A router over leaders, each of which is lost after so many steps, the last one picked when the others are."""
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(
                serving(fail_at=steps, compile=lambda message, _: Compiled(int(message.regex)), **changes)
            )
            for steps in failures
        ]
        router = Router(StaticFleet([server.address for server in servers]), registry=CollectorRegistry())
        await router.start()
        stack.push_async_callback(router.close)
        await eventually(lambda: len(router._roster.ready()) == len(servers))
        for replica in router._roster.ready():
            if replica.entry.address == servers[-1].address:
                replica.outstanding.tokens = 1 << 30  # so it comes last
        yield router, servers


async def collect(router: Router, submit: Submit) -> Delta:
    """Everything in one delta, checked to be contiguous."""
    got = Delta()
    async for delta in router.generate(submit):
        assert delta.first_index == len(got.tokens)
        assert delta.first_prompt_logprob == len(got.prompt_logprobs)
        merge(got, delta)
    assert ended(got)
    return got


@pytest.mark.parametrize("steps", [2, 3, 6, 10])
async def test_everything_asked_for_survives_the_loss_of_replicas(steps: int) -> None:
    """Four replicas are lost one after the other, some while the prompt is being scored."""
    async with routed(*[steps] * 4, None, token_budget=32) as (router, servers):
        asked = settings.Sampling(
            temperature=0.75,
            seed=11,
            max_tokens=40,
            min_tokens=30,
            repetition_penalty=1.25,
            frequency_penalty=0.5,
            presence_penalty=-0.25,
            logit_bias=((7, 3.0), (9, -100.0)),
            stop_token_ids=(8,),
            ignore_eos=True,
        )
        sampling = Sampling(
            temperature=0.75,
            seed=11,
            max_tokens=40,
            min_tokens=30,
            repetition_penalty=1.25,
            frequency_penalty=0.5,
            presence_penalty=-0.25,
            logit_bias=[LogitBias(id=7, bias=3.0), LogitBias(id=9, bias=-100.0)],
            stop_token_ids=[8],
            ignore_eos=True,
            logprobs=1,
            prompt_logprobs=1,
        )
        got = await collect(router, Submit(prompt=PROMPT, sampling=sampling))
        whole = alone(PROMPT, asked, stops=(8,))
        assert list(got.tokens) == whole
        assert [each.logprob for each in got.logprobs] == [-token / 8 for token in whole]
        assert [each.logprob for each in got.prompt_logprobs] == [-token / 8 for token in PROMPT[1:]]
        assert (got.usage.prompt_tokens, got.usage.output_tokens) == (len(PROMPT), len(whole))
        assert sum(server.leader.engine.done.done() for server in servers) == 4


async def test_a_grammar_goes_on_where_it_was() -> None:
    lost = 0
    for seed in range(6):
        async with routed(4, 5, None) as (router, servers):
            submit = Submit(prompt=PROMPT, sampling=Sampling(temperature=0.0, max_tokens=60))
            submit.grammar.CopyFrom(Grammar(regex=str(seed)))
            got = await collect(router, submit)
            lost += sum(server.leader.engine.done.done() for server in servers)
            expected = settings.Sampling(temperature=0.0, max_tokens=60)
            whole = alone(PROMPT, expected, stops=(STOP,), grammar=FakeGrammar(seed))
            assert list(got.tokens) == whole
            stopped = FINISH_REASON_STOP if whole[-1] == STOP else FINISH_REASON_GRAMMAR
            assert got.finish == (FINISH_REASON_LENGTH if len(whole) == 60 else stopped)
    assert lost > 6


async def test_usage_and_salt_pass_through() -> None:
    async with routed(None) as (router, _):
        submit = Submit(prompt=PROMPT, sampling=Sampling(temperature=0.0, max_tokens=4), cache_salt=b"salt")
        first, second = await collect(router, submit), await collect(router, submit)
        submit.cache_salt = b""
        third = await collect(router, submit)
        assert [each.usage.cached_tokens for each in (first, second, third)] == [0, 40, 0]
        submit.sampling.max_tokens = 30
        submit.grammar.regex = "3"
        held = await collect(router, submit)
        assert 0 < held.usage.accepted_tokens <= held.usage.drafted_tokens
        assert list(third.tokens) == generate(PROMPT, 4)
        assert STOP not in third.tokens
