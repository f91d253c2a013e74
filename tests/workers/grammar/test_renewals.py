"""Where the library gives up on a text, as an engine meets it: with the true grammars, its threads and none of its steps."""

import threading
from queue import SimpleQueue

import pytest
from llguidance import LLParserLimits

from ossia.common.vocabulary import FIRST_SPECIAL, SIZE, encode
from ossia.v1 import engine_pb2
from tests.fakes.uniform import UniformRunner
from tests.workers.grammar.walks import start
from workers.engine.engine import Engine
from workers.engine.grammar import Below
from workers.engine.limits import Limits
from workers.engine.report import Report
from workers.engine.sampling import Sampling
from workers.grammar import content

LIMITS = Limits(
    vocab_size=SIZE,
    stop_token_ids=frozenset({FIRST_SPECIAL + 4}),
    max_context=2048,
    block_size=16,
    kv_blocks=512,
    sliding_blocks=64,
    window=128,
    max_sequences=4,
    token_budget=64,
)
MANY = "start: /(?s:.*)[ab](?s:.){14}z/"
"""An expression whose automaton has a state for each of 2 ** 15 texts."""


def run(spelled: str, requests: int, tokens: int) -> dict[int, list[int]]:
    """The outputs of so many requests with the same grammar, in an engine that beats once in a quarter of an hour."""
    reports: SimpleQueue[Report] = SimpleQueue()
    engine = Engine(UniformRunner(SIZE, Below(FIRST_SPECIAL, FIRST_SPECIAL)), LIMITS, reports.put, beat_s=1000.0)
    engine.start()
    for number in range(requests):
        sampling = Sampling(temperature=1.0, seed=number, max_tokens=tokens)
        engine.submit(LIMITS.accept((0, number), encode("x"), sampling, grammar=start(engine_pb2.Grammar(lark=spelled))))
    outputs: dict[int, list[int]] = {number: [] for number in range(requests)}
    ends = 0
    while ends < requests:
        for output in reports.get(timeout=60).outputs:
            outputs[output.key[1]] += output.tokens
            ends += output.end is not None
    engine.close()
    engine.done.result(60)
    return outputs


def test_no_step_compiles_and_what_is_written_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    compile, threads = content._matcher, []

    def noting(grammar: str) -> object:
        threads.append(threading.current_thread().name)
        return compile(grammar)

    monkeypatch.setattr(content, "_matcher", noting)
    expected = run(MANY, 2, 24)
    assert "renewal" not in threads
    monkeypatch.setattr(content, "_LIMITS", LLParserLimits(max_lexer_states=4000, verbose_errors=False))
    assert run(f"{MANY} // with lower limits", 2, 24) == expected
    assert "renewal" in threads and "steps" not in threads
