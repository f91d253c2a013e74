"""Computes steps without a model: a script says each next token, a cost model how long the step takes."""

import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ossia.common.vocabulary import FIRST_SPECIAL
from workers.engine.plan import Float, Int, Plan, Sampled
from workers.model.config import ModelConfig
from workers.simulated.allowed import ANYTHING, Allowed
from workers.simulated.cells import Cache, terms
from workers.simulated.costs import Costs
from workers.simulated.turn import State, begin

LOGPROB, FAR, STEP = -0.05, -4.0, 0.5  # of what is said, and of the alternatives: less than the former, by so much each
NO_TOP = (np.zeros(0, np.int32), np.zeros(0, np.float32))
REMEMBERED = 1 << 14  # states of sequences; who is not among them is read anew from the cache


class SimulatedRunner:
    """A token is a function of its context and seed, and of what is allowed. The rest of sampling changes nothing.

    `timer` and `sleep` are in seconds; a virtual clock has both.
    """

    def __init__(
        self,
        config: ModelConfig,
        kv_blocks: int,
        sliding_blocks: int,
        block_size: int,
        costs: Costs,
        timer: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.config = config
        self.kv_blocks = kv_blocks
        self.sliding_blocks = sliding_blocks
        self.kernels = {"attention": "simulated", "experts": "simulated", "linear": "simulated"}
        self._cache = Cache(kv_blocks, sliding_blocks, block_size, config.window)
        self._costs = costs
        self._timer = timer
        self._sleep = sleep
        self._states: dict[tuple[int, int], State] = {}  # by context and seed, the oldest first

    def execute(self, plan: Plan) -> Sampled:
        """Takes as long as the costs say, more only where this process is slower than that."""
        if not len(plan.tokens):
            return _sampled(plan, [])
        ends = self._timer() + self._costs.step_s(plan)
        sampled = _sampled(plan, self._say(plan))
        self._sleep(max(0.0, ends - self._timer()))
        return sampled

    def close(self) -> None:
        self._states.clear()

    def follow(self) -> None:
        raise AssertionError("a simulated replica has one rank")

    def _say(self, plan: Plan) -> list[int]:
        """The token of each row."""
        sums, rows = self._cache.write(plan), plan.rows
        sequences = np.searchsorted(plan.query_starts, rows, side="right").astype(np.int32) - 1
        keys = zip(self._cache.keys(plan, sums, sequences).tolist(), _seeds(plan), strict=True)
        said: list[int] = []
        states: list[State | None] = []  # behind each of them; None where nothing goes on
        for row, (key, drafted) in enumerate(zip(keys, _drafted(plan, sequences), strict=True)):
            if plan.targets[row] >= 0:
                state, token = None, int(plan.targets[row])
            elif drafted and (states[-1] is None or plan.tokens[rows[row]] != said[-1]):
                state, token = None, 0  # behind a draft that is wrong, where nobody looks
            else:
                state = states[-1] if drafted else self._states.get(key)
                state = state or self._read(plan, row, int(sequences[row]), key[1])
                token = state.choose(self._allowed(plan, row), int(plan.output_positions[row]))
            said.append(token)
            states.append(state.after(token) if state and token >= 0 else None)
        following = sums[rows] + terms(np.maximum(said, 0), plan.positions[rows] + 1)
        self._remember(zip(following.tolist(), _seeds(plan), strict=True), states)
        return said

    def _read(self, plan: Plan, row: int, sequence: int, seed: int) -> State:
        """The state of a sequence from its tokens in the cache: prompt, then output."""
        length = int(plan.positions[plan.rows[row]]) + 1
        context = self._cache.context(plan, sequence, length)
        prompt = length - int(plan.output_positions[row])
        state = begin(context[:prompt], seed)
        for token in context[prompt:].tolist():
            state = state.after(token)
        return state

    def _allowed(self, plan: Plan, row: int) -> Allowed:
        allowed, biased = plan.allowed(row, self.config.vocab_size), slice(plan.bias_starts[row], plan.bias_starts[row + 1])
        if allowed is None and biased.start == biased.stop:
            return ANYTHING
        return Allowed(allowed, plan.bias_ids[biased][plan.bias_values[biased] == -np.inf].tolist())

    def _remember(self, keys: Iterable[tuple[int, int]], states: Sequence[State | None]) -> None:
        self._states.update((key, state) for key, state in zip(keys, states, strict=True) if state)
        while len(self._states) > REMEMBERED:
            del self._states[next(iter(self._states))]


def _seeds(plan: Plan) -> list[int]:
    """What randomness each row has: none where it is greedy."""
    seeds: list[int] = np.where(plan.temperatures > 0, plan.seeds, np.uint64(0)).tolist()
    return seeds


def _drafted(plan: Plan, sequences: Int) -> list[bool]:
    """Whether each row is behind a draft for the row before."""
    drafted = np.zeros(len(plan.rows), bool)
    drafted[1:] = (sequences[1:] == sequences[:-1]) & (plan.targets[:-1] < 0)
    result: list[bool] = drafted.tolist()
    return result


def _sampled(plan: Plan, said: Sequence[int]) -> Sampled:
    """Where log probabilities are asked for, that of the token is high, and so much lower those of others."""
    tops = [_top(token, count) if count > 0 else NO_TOP for token, count in zip(said, plan.logprobs.tolist(), strict=True)]
    logprobs = np.where(plan.logprobs >= 0, np.float32(LOGPROB), np.float32(0))
    return Sampled(np.array(said, np.int32), logprobs, [ids for ids, _ in tops], [values for _, values in tops])


def _top(token: int, count: int) -> tuple[Int, Float]:
    """The token and others, and their log probabilities."""
    places = np.arange(count)
    ids = np.where(places > 0, (token + places) % FIRST_SPECIAL, token)
    return ids.astype(np.int32), np.where(places > 0, FAR - STEP * places, LOGPROB).astype(np.float32)
