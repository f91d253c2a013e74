"""Properties: whatever a stream loses, repeats, merges or breaks, the consumer gets the undisturbed output, once."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from ossia.v1.engine_pb2 import FINISH_REASON_LENGTH, Delta, Sampling, Submit, TokenLogprobs
from router.deltas import cut, ended, merge, unseen
from router.fleet_static import StaticFleet
from router.mailbox import Mailbox
from router.router import Router, RouterOptions
from tests.fakes.engine import FakeEngine, undisturbed

LENGTH = 24


def whole(length: int) -> Delta:
    """A finished output of that many tokens in one delta."""
    logprobs = [TokenLogprobs(logprob=-float(n)) for n in range(length)]
    return Delta(
        tokens=range(100, 100 + length), logprobs=logprobs, prompt_logprobs=scores(length), finish=FINISH_REASON_LENGTH
    )


def scores(count: int) -> list[TokenLogprobs]:
    return [TokenLogprobs(logprob=-n / 4) for n in range(count)]


@given(length=st.integers(0, 12), at=st.integers(0, 12))
def test_cut_and_merge_are_inverse(length: int, at: int) -> None:
    first, rest = cut(whole(length), min(at, length))
    assert not ended(first) and ended(rest)
    merge(first, rest)
    assert first == whole(length)


@given(length=st.integers(0, 12), have=st.integers(0, 15), told=st.integers(0, 15))
def test_unseen_is_what_is_missing(length: int, have: int, told: int) -> None:
    delta, _ = cut(whole(length), length)
    new = unseen(delta, have, told)
    assert list(new.tokens if new else []) == list(delta.tokens)[have:]
    assert list(new.prompt_logprobs if new else []) == list(delta.prompt_logprobs)[told:]
    assert new is None or not told or new.first_prompt_logprob == min(told, length)
    assert (new is None) == (have > 0 and have >= length and told >= length)


@given(st.lists(st.tuples(st.integers(0, LENGTH), st.integers(0, LENGTH), st.booleans()), max_size=30))
def test_mailbox_takes_each_token_once(windows: list[tuple[int, int, bool]]) -> None:
    """Windows of the output arrive, overlapping and repeated; those beyond a hole are refused; the consumer comes at times."""

    async def scenario() -> None:
        output, got, mailbox = whole(LENGTH), Delta(), Mailbox([])
        output.ClearField("prompt_logprobs")
        for start, length, consume in [*windows, (0, LENGTH, True)]:
            stop = min(start + length, LENGTH)
            _, window = cut(cut(output, stop)[0], start)
            if stop == LENGTH:
                window.finish = output.finish
            hole = start > len(mailbox.output)
            assert mailbox.put(window) is not hole
            if consume and len(mailbox.output) > len(got.tokens):
                merge(got, await mailbox.take())
            if ended(got) or len(mailbox.output) == LENGTH:
                break
        if not ended(got):
            merge(got, await mailbox.take())
        assert got == output

    asyncio.run(scenario())


@dataclass
class Trouble:
    """What happens to the streams of one engine, a move for each delta that it sends, then nothing more."""

    moves: Iterator[str]
    engine: FakeEngine
    held: dict[tuple[int, int], list[Delta]] = field(default_factory=dict)

    def __call__(self, delta: Delta) -> list[Delta]:
        request = (delta.rid, sum(submit.rid == delta.rid for submit in self.engine.submits))  # sessions count from 1 each
        held = self.held.pop(request, [])
        match next(self.moves, "send"):
            case "drop":
                return []
            case "repeat":
                return [*held, delta, delta]
            case "backwards":
                return [delta, *held, delta]
            case "hold" if not ended(delta):
                self.held[request] = [*held, delta]
                return []
            case "merge":
                joined = Delta()
                joined.CopyFrom(held[0] if held else delta)
                for later in [*held[1:], delta] if held else []:
                    merge(joined, later)
                return [joined]
            case "break":
                self.engine.break_sessions()
                return []
            case "break after":
                self.engine.break_sessions()
                return [*held, delta]
            case "stall":
                self.engine.stall()
                return [*held, delta]
        return [*held, delta]


MOVES = ["send"] * 6 + ["drop", "repeat", "backwards", "hold", "merge", "break", "break after", "stall"]


@settings(max_examples=50, deadline=None)
@given(
    scripts=st.lists(st.lists(st.sampled_from(MOVES), max_size=40), min_size=2, max_size=2),
    requests=st.integers(1, 4),
    pauses=st.lists(st.booleans(), max_size=20),
)
def test_router_delivers_exactly_once(scripts: list[list[str]], requests: int, pauses: list[bool]) -> None:
    async def consume(router: Router, submit: Submit) -> None:
        got, pausing = Delta(), iter(pauses)
        async for delta in router.generate(submit):
            assert delta.first_index == len(got.tokens)
            assert delta.first_prompt_logprob == len(got.prompt_logprobs)
            assert delta.tokens or delta.prompt_logprobs or ended(delta)
            merge(got, delta)
            if next(pausing, False):
                await asyncio.sleep(0.003)  # a slow consumer: deltas merge, or the stream breaks, before it takes them
        assert list(got.tokens) == undisturbed(submit)
        assert [p.logprob for p in got.logprobs] == [-token / 8 for token in got.tokens]
        assert [p.logprob for p in got.prompt_logprobs] == [-token / 8 for token in submit.prompt[1:]]
        assert got.finish == FINISH_REASON_LENGTH
        assert got.usage.output_tokens == LENGTH

    async def nurse(engine: FakeEngine) -> None:
        while True:  # a stalled engine recovers once its requests have been taken from it
            await engine.until(lambda: engine.stalled and engine.running == 0)
            engine.resume()

    async def scenario() -> None:
        engines = [FakeEngine(), FakeEngine()]
        for engine, script in zip(engines, scripts, strict=True):
            await engine.start()
            engine.mangle = Trouble(iter(script), engine)
        options = RouterOptions(stall_floor_s=0.05, max_resumptions=1000)
        router = Router(StaticFleet([engine.address for engine in engines]), options=options)
        await router.start()
        nurses = [asyncio.create_task(nurse(engine)) for engine in engines]
        try:
            async with asyncio.timeout(30):
                submits = [
                    Submit(
                        prompt=range(n + 1, n + 8),
                        sampling=Sampling(seed=n, max_tokens=LENGTH, logprobs=0, prompt_logprobs=0),
                    )
                    for n in range(requests)
                ]
                await asyncio.gather(*(consume(router, submit) for submit in submits))
                for engine in engines:
                    await engine.until(lambda engine=engine: engine.running == 0)  # type: ignore[misc]
        finally:
            await router.close()
            for each in nurses:
                each.cancel()
            for engine in engines:
                await engine.kill()

    asyncio.run(scenario())
