"""Masks that are computed while a step runs."""

import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor

from tests.workers.tiny import write
from workers.engine.grammar import Allowed, Mask
from workers.engine.sampling import Sampling
from workers.engine.stepper import Stepper
from workers.model.batch import Batch
from workers.model.cache import Cache
from workers.model.model import Model
from workers.runner.build import build
from workers.runner.built import limits
from workers.runner.collective import FIRST, HEADER, Alone
from workers.runner.spec import RunnerSpec

TIMEOUT_S = 30


class Patient:
    """Allows one id more at each place; its masks wait for the model."""

    def __init__(self, words: int, model: threading.Event) -> None:
        self._words, self._model = words, model
        self.length = 0
        self.threads: set[str] = set()

    @property
    def slow(self) -> bool:
        return True

    @property
    def stalled(self) -> bool:
        return False

    def renew(self) -> None:
        """Never needed."""

    def mask(self) -> Allowed:
        self.threads.add(threading.current_thread().name)
        assert self._model.wait(TIMEOUT_S), "the model waits for the mask"
        mask = np.zeros(self._words, np.uint32)
        mask[3] = 1 << self.length
        return mask

    def accept(self, token: int) -> None:
        self.length += 1

    def rollback(self, count: int) -> None:
        self.length -= count

    def forced(self, limit: int) -> list[int]:
        return []


class Noting(Alone):
    """Notes the messages of a step."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def send(self, plan: NDArray[np.uint8]) -> None:
        assert len(plan) <= FIRST - HEADER, "a plan takes one broadcast, whatever its rows are held to"
        self.messages.append("plan")

    def share(self, masks: Mask) -> Mask:
        self.messages.append("masks")
        return masks


class Telling:
    """The model; tells when it has run."""

    def __init__(self, model: Model, ran: threading.Event) -> None:
        self._model, self._ran = model, ran
        self.head = model.head

    def __call__(self, batch: Batch, cache: Cache) -> Tensor:
        hidden = self._model(batch, cache)
        self._ran.set()
        return hidden


def test_masks_are_waited_for_once_the_model_has_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And told to other ranks in a message of their own, in the steps that have any."""
    spec = RunnerSpec(str(write(tmp_path)), kv_memory=4 << 20, max_context=64, max_sequences=4, token_budget=64)
    runner, ran, noting = build(spec, 0, None), threading.Event(), Noting()
    bounds = limits(spec, runner)
    stepper, grammar = Stepper(runner, bounds), Patient(-(-bounds.vocab_size // 32), ran)
    ran.set()  # for what may come first, which is asked for as the request is made
    stepper.submit(bounds.accept((0, 0), [9, 10], Sampling(max_tokens=4), grammar=grammar))
    stepper.submit(bounds.accept((0, 1), [9, 11], Sampling(max_tokens=6, ignore_eos=True)))
    monkeypatch.setattr(runner, "_collective", noting)
    monkeypatch.setattr(runner, "_model", Telling(runner._model, ran))
    tokens: list[int] = []
    while stepper.busy:
        ran.clear()
        tokens += [token for output in stepper.step().outputs if output.key == (0, 0) for token in output.tokens]
    assert tokens == [96, 97, 98, 99]
    assert noting.messages == ["plan", "masks"] * 4 + ["plan"] * 2
    assert "MainThread" in grammar.threads and all(name.startswith("masks") for name in grammar.threads - {"MainThread"})
    assert len(grammar.threads) > 1
