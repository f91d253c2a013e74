"""Ranks as real processes on gloo, forked from a server that has torch imported already. No Ray."""

import multiprocessing
import os
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from workers import rendezvous
from workers.runner.spec import RunnerSpec

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torch", "workers.runner.build"])

Lead = Callable[[Any, Connection], object]  # what rank 0 does: with its runner, and a pipe to the test


class Gang:
    """A replica's ranks. Rank 0 runs `lead(runner, pipe)` and closes, the others follow; each reports how it ended."""

    def __init__(self, spec: RunnerSpec, lead: Lead) -> None:
        ranks = spec.layout.ranks
        self.store, address = rendezvous.serve("127.0.0.1", ranks)
        self.pipes: list[Connection] = []
        self.processes = []
        for rank in range(ranks):
            ours, theirs = CONTEXT.Pipe()
            process = CONTEXT.Process(target=_rank, args=(spec, rank, address, lead, theirs), daemon=True)
            process.start()
            theirs.close()
            self.pipes.append(ours)
            self.processes.append(process)

    def __enter__(self) -> "Gang":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
            process.join()

    def receive(self, rank: int, timeout_s: float = 60) -> Any:
        """What the rank sent next: what `lead` sends, then ("left", its result) or ("raised", the message)."""
        assert self.pipes[rank].poll(timeout_s), f"rank {rank} says nothing"
        return self.pipes[rank].recv()


def _rank(spec: RunnerSpec, rank: int, address: str, lead: Lead, pipe: Connection) -> None:
    from workers.runner.build import build

    store = rendezvous.join(address, spec.layout.ranks)
    try:
        runner = build(spec, rank, store)
        if rank == 0:
            result = lead(runner, pipe)
            runner.close()
        else:
            result = None
            runner.follow()
        pipe.send(("left", result))
    except RuntimeError as error:
        pipe.send(("raised", str(error)))
    finally:
        with suppress(BrokenPipeError):
            pipe.close()
        os._exit(0)


def run(spec: RunnerSpec, lead: Lead) -> Any:
    """The result of `lead` on rank 0; every other rank must have left because the leader closed."""
    with Gang(spec, lead) as gang:
        outcomes = [gang.receive(rank, 180) for rank in range(spec.layout.ranks)]
    assert [kind for kind, _ in outcomes] == ["left"] * len(outcomes), outcomes
    return outcomes[0][1]
