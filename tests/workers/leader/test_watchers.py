"""WatchKv over a real channel: a snapshot, then every change, under names that anyone can compute."""

import asyncio
import struct
from collections.abc import Sequence
from hashlib import blake2b

import grpc
import pytest
from grpc import aio

from ossia.v1 import engine_pb2
from tests.workers.leader.harness import Client, Server, serving
from workers.engine.errors import Refusal
from workers.engine.report import KvEvents
from workers.leader import watchers
from workers.leader.watchers import KvWatcher


def names(tokens: Sequence[int], salt: bytes = b"", size: int = 4) -> list[bytes]:
    """The published algorithm."""
    name, result = blake2b(salt, digest_size=16).digest(), []
    for start in range(0, len(tokens) // size * size, size):
        name = blake2b(name + struct.pack(f"<{size}I", *tokens[start : start + size]), digest_size=16).digest()
        result.append(name)
    return result


class Watch:
    """What a watcher knows is cached."""

    def __init__(self, server: Server) -> None:
        self._call = server.stub().WatchKv(engine_pb2.WatchKvRequest())
        self.full: set[bytes] = set()
        self.sliding: set[bytes] = set()
        self.sequence = -1

    async def read(self) -> engine_pb2.KvEvents:
        async with asyncio.timeout(20):
            events = await self._call.read()
        assert isinstance(events, engine_pb2.KvEvents)
        assert (events.epoch, events.block_size) == (7, 4)
        if self.sequence < 0:
            assert events.snapshot
        else:
            assert events.sequence == self.sequence + 1
            assert not events.snapshot
        self.sequence = events.sequence
        for known, removed, stored in (
            (self.full, events.full_removed, events.full_stored),
            (self.sliding, events.sliding_removed, events.sliding_stored),
        ):
            assert known.issuperset(removed)
            known.difference_update(removed)
            assert known.isdisjoint(stored)
            known.update(stored)
        return events

    async def until(self, sequence: int) -> None:
        while self.sequence < sequence:
            await self.read()

    def leave(self) -> None:
        self._call.cancel()


async def test_watchers_see_what_is_stored_under_the_published_names() -> None:
    async with serving(stop_token_ids=frozenset()) as server:
        watch = Watch(server)
        await watch.read()
        client = Client(server.stub())
        await client.submit(1, list(range(20, 31)), max_tokens=3, cache_salt=b"mine")
        await client.finish(1)
        whole = [*range(20, 31), *client.tokens(1)]
        expected = set(names(whole[:-1], b"mine"))
        while not watch.full >= expected:
            await watch.read()
        assert watch.full == expected
        assert watch.sliding <= watch.full
        watch.leave()


async def test_every_watcher_comes_to_the_same_whenever_it_began() -> None:
    async with serving(kv_blocks=32, sliding_blocks=64, max_sequences=4, stop_token_ids=frozenset()) as server:
        client, watches = Client(server.stub()), [Watch(server)]
        for rid in range(60):
            await client.submit(rid, [rid % 5, rid % 7, *range(20, 30 + rid % 3)], max_tokens=12)
            if rid % 10 == 0:
                await client.finish(rid)
                watches.append(Watch(server))
        await client.finish(*range(60))
        last = Watch(server)
        await last.read()
        for watch in watches:
            await watch.until(last.sequence)
            assert (watch.full, watch.sliding) == (last.full, last.sliding)
        assert last.full
        for watch in (*watches, last):
            watch.leave()


async def test_a_watcher_hears_of_the_engines_end() -> None:
    async with serving(fail_at=3) as server:
        watch = Watch(server)
        await watch.read()
        client = Client(server.stub())
        await client.submit(1, [5], max_tokens=400)
        await client.finish(1)
        with pytest.raises(aio.AioRpcError, match="this replica has ended"):
            await watch.until(1000)
        assert await server.stub().WatchKv(engine_pb2.WatchKvRequest()).code() == grpc.StatusCode.UNAVAILABLE


def stored(sequence: int, count: int = 1) -> KvEvents:
    return KvEvents(sequence, False, (), tuple(b"%d" % n for n in range(count)), (), ())


def snapshot(sequence: int) -> KvEvents:
    return KvEvents(sequence, True, (), (b"a",) * 100, (), ())


async def test_what_the_snapshot_holds_is_not_told_again() -> None:
    watcher = KvWatcher()
    for sequence in (3, 4, 5):
        watcher.add(stored(sequence))
    watcher.begin(snapshot(4))
    watcher.add(stored(6))
    assert [(await watcher.take()).sequence for _ in range(3)] == [4, 5, 6]


async def test_a_watcher_that_does_not_keep_up_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchers, "MAX_BEHIND", 10)
    watcher = KvWatcher()
    watcher.begin(snapshot(0))
    for sequence in range(1, 50):
        watcher.add(stored(sequence))
        await watcher.take()
    for sequence in range(50, 62):
        watcher.add(stored(sequence))
    with pytest.raises(Refusal) as caught:
        await watcher.take()
    assert caught.value.reason == "WATCHER_BEHIND"


async def test_what_came_before_the_snapshot_counts_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchers, "MAX_BEHIND", 10)
    watcher = KvWatcher()
    watcher.add(stored(1, 9))
    watcher.begin(snapshot(1))
    watcher.add(stored(2, 9))
    assert [(await watcher.take()).sequence for _ in range(2)] == [1, 2]
