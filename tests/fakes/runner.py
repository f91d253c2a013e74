"""A runner without a model: the next token is a pure function of the tokens that the plan makes visible.

Logits are made of a hash of the context, so a token computed from a wrong cell of the cache is a wrong token.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from threading import Semaphore
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.engine.grammar import Allowed, Grammar, spelled
from workers.engine.plan import Plan, Sampled
from workers.engine.sampling import RepetitionDetection, Sampling

VOCAB = 97
STOP = 3

GAMMA = 0x9E3779B97F4A7C15
WORD = (1 << 64) - 1
IDS = np.arange(VOCAB, dtype=np.uint64)
Words = NDArray[np.uint64]


def mix(value: Any) -> Any:
    """SplitMix64's finalizer, of an int or of an array of uint64."""
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & WORD
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & WORD
    return value ^ (value >> 31)


def link(chain: Any, token: Any) -> Any:
    """The hash of a context that ends with `token`, from that of the context before it."""
    return mix(chain * 3 + (token + 1) * GAMMA & WORD)


def digest(tokens: Sequence[int], chain: int = 0) -> int:
    """The hash of a context; of one that goes on behind another by `tokens`, where that one's is given."""
    for token in tokens:
        chain = link(chain, token)
    return chain


def spread(word: int, position: int) -> NDArray[np.float64]:
    """[VOCAB] numbers from 0 to 8, by the two alone."""
    numbers: NDArray[np.float64] = mix(IDS * GAMMA + link(word, position)) / 2.0**61
    return numbers


def choose(
    context: int,
    sampling: Sampling,
    position: int,
    seen: Sequence[int] = (),
    bias: Sequence[tuple[int, float]] = (),
    mask: Allowed = None,
) -> int:
    """The token after a context of that hash; randomness is hash(seed, position) alone."""
    logits = spread(context, 0) - 4
    repetition = float(np.float32(sampling.repetition_penalty))
    for token in seen:
        logits[token] *= repetition if logits[token] < 0 else 1 / repetition
    for token, value in bias:
        logits[token] += value
    logits[~spelled(mask, VOCAB)] = -np.inf
    if sampling.temperature:
        logits += float(np.float32(sampling.temperature)) * spread(sampling.seed, position)
    best = int(logits.argmax())
    return best if logits[best] > -np.inf else -2


def next_token(sequence: Sequence[int], seed: int = 0, output_position: int = 0, temperature: float = 0.0) -> int:
    return choose(digest(sequence), Sampling(temperature=temperature, seed=seed), output_position)


def generate(
    prompt: Sequence[int], count: int, seed: int = 0, temperature: float = 0.0, stops: Sequence[int] = (STOP,)
) -> list[int]:
    """What an undisturbed run yields: `count` tokens, fewer where one is a stop."""
    return alone(prompt, Sampling(temperature=temperature, seed=seed, max_tokens=count), stops)


def alone(
    prompt: Sequence[int],
    sampling: Sampling,
    stops: Sequence[int] = (STOP,),
    grammar: Grammar | None = None,
    memory: int | None = None,
) -> list[int]:
    """What the request's output must be, from its definition: everything is computed anew for each token."""
    output: list[int] = []
    chain = digest(prompt)
    while len(output) < (sampling.max_tokens or 0):
        everything = [*prompt, *output]
        seen = sorted(set(everything)) if sampling.repetition_penalty != 1 else []
        bias = {token: -np.inf if value == -100 else value for token, value in sampling.logit_bias}
        for token in set(output):
            penalty = sampling.presence_penalty + sampling.frequency_penalty * output.count(token)
            bias[token] = float(np.float32(bias.get(token, 0.0)) - np.float32(penalty))
        if len(output) < sampling.min_tokens:
            bias.update(dict.fromkeys(stops, -np.inf))
        context = chain if memory is None else digest(everything[-memory:])
        mask = grammar.mask() if grammar is not None else None
        token = choose(context, sampling, len(output), seen, list(bias.items()), mask)
        if token < 0:
            break
        output.append(token)
        chain = link(chain, token)
        if token in stops or (len(output) >= sampling.min_tokens and repeats(output, sampling.repetition_detection)):
            break
        if grammar is not None:
            grammar.accept(token)
    return output


def repeats(output: Sequence[int], wanted: RepetitionDetection | None) -> bool:
    """Whether the output ends in a pattern over and over, by the definition."""
    if wanted is None or not output:
        return False
    sizes = range(wanted.min_pattern_size, wanted.max_pattern_size + 1)
    tails = ((output[-size:], output[-size * wanted.min_count :]) for size in sizes)
    return any(list(tail) == [*pattern] * wanted.min_count for pattern, tail in tails)


class Cells:
    """One group of the paged cache: what each slot holds is a token, its position, and the hash of the context up to it."""

    def __init__(self, slots: int) -> None:
        self.tokens = np.full(slots, -1, np.int64)
        self.positions = np.full(slots, -1, np.int64)
        self.chains = np.zeros(slots, np.uint64)

    def write(self, slots: Any, tokens: Any, positions: Any, chains: Any) -> None:
        self.tokens[slots], self.positions[slots], self.chains[slots] = tokens, positions, chains


class FakeRunner:
    """Keeps its own paged cache, written through slots and read back through block tables, and checks all that plans show.

    `plans` records every plan. With `gate`, each step that computes something takes one permit first.
    `fail_at` is the index of such a step that raises. Sequences with a token of `broken` have no finite logits.
    With `memory`, only so many last tokens decide what comes next, which makes outputs repeat themselves.
    """

    broken: frozenset[int] = frozenset()

    def __init__(
        self,
        blocks: int,
        block_size: int,
        gate: Semaphore | None = None,
        fail_at: int | None = None,
        *,
        sliding_blocks: int | None = None,
        window: int = 128,
        memory: int | None = None,
    ) -> None:
        self.plans: list[Plan] = []
        self.closed = False
        self._block_size = block_size
        self._window = window
        self._memory = memory
        self._full = Cells(blocks * block_size)
        self._sliding = Cells((blocks if sliding_blocks is None else sliding_blocks) * block_size)
        self._gate = gate
        self._fail_at = fail_at
        self._steps = 0

    def execute(self, plan: Plan) -> Sampled:
        plan = replace(Plan.unpack(plan.pack()), masks=plan.filled())
        self.plans.append(plan)
        if len(plan.tokens):
            self._step()
        for slots in (plan.slots, plan.sliding_slots):
            assert len(set(slots.tolist())) == len(plan.tokens), "two tokens are written to one slot"
        chains = [self._chains(plan, index) for index in range(len(plan.context_lengths))]
        for index, chain in enumerate(chains):
            self._write(plan, index, chain)
        contexts = [self._context(plan, index) for index in range(len(plan.context_lengths))]
        tokens = [self._sample(plan, row, contexts) for row in range(len(plan.rows))]
        counts = np.maximum(plan.logprobs, 0)
        return Sampled(
            np.array(tokens, np.int32),
            np.array([-token / 8 for token in tokens], np.float32),
            [np.arange(count, dtype=np.int32) for count in counts],
            [-np.arange(count, dtype=np.float32) for count in counts],
        )

    def close(self) -> None:
        self.closed = True

    def _step(self) -> None:
        if self._gate is not None:
            self._gate.acquire()
        self._steps += 1
        if self._fail_at is not None and self._steps > self._fail_at:
            raise RuntimeError("a rank is lost")

    def _slots(self, ids: Any, starts: Any, index: int, positions: Any, first: int = 0) -> Any:
        table = ids[starts[index] : starts[index + 1]]
        numbers = positions // self._block_size - first
        assert (numbers >= 0).all(), "a block before the table's first is needed"
        return table[numbers].astype(np.int64) * self._block_size + positions % self._block_size

    def _chains(self, plan: Plan, index: int) -> list[int]:
        """The hashes of the sequence's new tokens, from what the cache held before this step."""
        new = slice(plan.query_starts[index], plan.query_starts[index + 1])
        first, chain = int(plan.positions[new][0]), 0
        if first:
            slot = self._slots(plan.block_ids, plan.block_starts, index, np.array([first - 1]))
            chain = int(self._full.chains[slot][0])
        return list(accumulate(plan.tokens[new].tolist(), link, initial=chain))[1:]

    def _write(self, plan: Plan, index: int, chains: list[int]) -> None:
        new = slice(plan.query_starts[index], plan.query_starts[index + 1])
        cells = plan.tokens[new], plan.positions[new], np.array(chains, np.uint64)
        self._full.write(plan.slots[new], *cells)
        self._sliding.write(plan.sliding_slots[new], *cells)

    def _context(self, plan: Plan, index: int) -> tuple[list[int], Words]:
        """The sequence's context and its hashes, read back through its tables once everything is written."""
        new = slice(plan.query_starts[index], plan.query_starts[index + 1])
        length, start = int(plan.context_lengths[index]), int(plan.positions[new][0])
        positions = np.arange(length)
        assert (plan.positions[new] == positions[start:]).all(), "the new tokens are not the context's last"
        slots = self._slots(plan.block_ids, plan.block_starts, index, positions)
        tokens, chains = self._full.tokens[slots], self._full.chains[slots]
        assert (self._full.positions[slots] == positions).all(), "a full cell holds another position"
        before = np.concatenate([np.zeros(1, np.uint64), chains[:-1]])
        assert (chains == link(before, tokens.astype(np.uint64))).all(), "a full cell holds another context"
        assert (plan.slots[new] == slots[start:]).all(), "a token's slot is not in its full table"
        seen = positions[max(0, start - self._window + 1) :]
        sliding = self._slots(plan.sliding_ids, plan.sliding_starts, index, seen, int(plan.sliding_firsts[index]))
        assert (self._sliding.positions[sliding] == seen).all(), "a sliding cell holds another position"
        assert (self._sliding.chains[sliding] == chains[seen]).all(), "a sliding cell holds another context"
        assert (plan.sliding_slots[new] == sliding[len(sliding) - (length - start) :]).all(), (
            "a slot is not in its sliding table"
        )
        return tokens.tolist(), chains

    def _sample(self, plan: Plan, row: int, contexts: list[tuple[list[int], Words]]) -> int:
        at = int(plan.rows[row])
        tokens, chains = contexts[int(np.searchsorted(plan.query_starts, at, side="right")) - 1]
        context = tokens[: int(plan.positions[at]) + 1]
        if self.broken.intersection(context):
            return -1
        if plan.targets[row] >= 0:
            return int(plan.targets[row])
        seen = plan.seen_ids[plan.seen_starts[row] : plan.seen_starts[row + 1]].tolist()
        biased = slice(plan.bias_starts[row], plan.bias_starts[row + 1])
        bias = list(zip(plan.bias_ids[biased].tolist(), plan.bias_values[biased].tolist(), strict=True))
        assert len({token for token, _ in bias}) == len(bias), "an id's logit is changed twice"
        sampling = Sampling(
            temperature=float(plan.temperatures[row]),
            seed=int(plan.seeds[row]),
            repetition_penalty=float(plan.repetitions[row]),
        )
        word = int(chains[len(context) - 1]) if self._memory is None else digest(context[-self._memory :])
        return choose(word, sampling, int(plan.output_positions[row]), seen, bias, plan.allowed(row, VOCAB))
