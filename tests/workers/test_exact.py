"""The engine on the torch runner: what a request yields among 64 others is what it yields alone, on any number of ranks."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.workers.runner.gang import run as run_gang
from tests.workers.tiny import TINY, write
from workers.engine.errors import Refusal
from workers.engine.grammar import Allowed, Below, Mask
from workers.engine.limits import Limits
from workers.engine.plan import Plan, Runner, Sampled
from workers.engine.report import Output, TokenLogprobs
from workers.engine.sampling import Sampling
from workers.engine.stepper import Stepper
from workers.model.layout import Layout
from workers.runner.build import build
from workers.runner.runner import TorchRunner
from workers.runner.spec import RunnerSpec

COUNT, TOKENS = 64, 16
BROKEN = 4098  # a token whose embedding holds no numbers
NARROW = tuple((token, 100.0) for token in (20, 21, 22))  # output that repeats itself
LIMITS = Limits(
    vocab_size=TINY.vocab_size,
    stop_token_ids=frozenset(TINY.stop_token_ids),
    max_context=256,
    block_size=8,
    kv_blocks=34,
    sliding_blocks=80,
    window=24,
    max_sequences=16,
    token_budget=96,
    turn_token_id=7,
    draft_sequences=16,
)
ALONE = replace(LIMITS, draft_sequences=0)
Case = tuple[list[int], Sampling]
Told = tuple[list[int], list[TokenLogprobs], list[TokenLogprobs]]  # tokens, theirs and the prompt's log probabilities


class Counting:
    """Every third token is the one that the sequence of them says, every fourth has a given remainder,
    and some are below 3,000 or one other."""

    def __init__(self) -> None:
        self.length = 0
        self.masks: dict[tuple[int, int], Mask] = {}

    @property
    def slow(self) -> bool:
        return isinstance(self.mask(), np.ndarray)

    @property
    def stalled(self) -> bool:
        return False

    def renew(self) -> None:
        """Never needed."""

    def mask(self) -> Allowed:
        if self.length % 3 == 0:
            return self._ids(100 + self.length, TINY.vocab_size)
        if self.length % 4 == 0:
            return self._ids(self.length, 8)
        return Below(3000, 3001 + self.length) if self.length % 5 == 1 else None

    def accept(self, token: int) -> None:
        self.length += 1

    def rollback(self, count: int) -> None:
        self.length -= count

    def forced(self, limit: int) -> list[int]:
        return [100 + self.length][:limit] if self.length % 3 == 0 else []

    def _ids(self, start: int, step: int) -> Mask:
        if (start, step) not in self.masks:
            allowed = np.zeros(-(-TINY.vocab_size // 32) * 32, bool)
            allowed[start : TINY.vocab_size : step] = True
            self.masks[start, step] = np.packbits(allowed, bitorder="little").view(np.uint32)
        return self.masks[start, step]


def cases(greedy: bool) -> list[Case]:
    """Requests of all kinds, many of which begin alike."""
    random_ = random.Random(3)
    documents = [[random_.randrange(10, 4000) for _ in range(90)] for _ in range(4)]
    samplings = [
        Sampling(),
        Sampling(top_p=0.8, top_k=40, min_p=0.01),
        Sampling(logit_bias=NARROW),
        Sampling(temperature=0.0),
        Sampling(repetition_penalty=1.3, presence_penalty=0.5, frequency_penalty=0.5, min_tokens=4),
    ]
    made = []
    for number in range(COUNT):
        prompt = [*random_.choice(documents)[: random_.randrange(91)], random_.randrange(10, 4000)]
        sampling = replace(samplings[number % 5], seed=number, max_tokens=TOKENS, logprobs=2)
        sampling = replace(sampling, prompt_logprobs=1 if number % 9 == 0 else -1)
        made.append((prompt, replace(sampling, temperature=0.0) if greedy else sampling))
    return made


def run(
    runner: Runner,
    limits: Limits,
    requests: Sequence[Case],
    numbers: Sequence[int],
    delivered: Mapping[int, list[int]] = MappingProxyType({}),
) -> tuple[list[list[Output]], Stepper]:
    """The outputs of each of those numbers, behind what was delivered of it before, and the engine that they ran in."""
    stepper = Stepper(runner, limits)
    for number in numbers:
        grammar = Counting() if number % 4 == 0 else None
        resume = delivered.get(number, [])
        stepper.submit(limits.accept((0, number), *requests[number], resume=resume, grammar=grammar))
    outputs: dict[int, list[Output]] = {number: [] for number in numbers}
    while stepper.busy:
        for output in stepper.step().outputs:
            outputs[output.key[1]].append(output)
    return list(outputs.values()), stepper


def told(outputs: list[Output]) -> Told:
    return (
        [token for output in outputs for token in output.tokens],
        [score for output in outputs for score in output.logprobs],
        [score for output in outputs for score in output.prompt_logprobs],
    )


def together(runner: Runner, requests: list[Case]) -> list[Told]:
    """All at once beside one that fails, in a cache that they do not fit, with prefix hits and drafts, right and wrong."""
    broken = [*requests[0][0][:30], BROKEN, 9, 9, 9]
    (*outputs, last), stepper = run(runner, LIMITS, [*requests, (broken, Sampling())], range(COUNT + 1))
    assert isinstance(last[-1].end, Refusal)
    usages = [found[-1].usage for found in outputs]
    assert stepper.step().load.preemptions > 0
    assert sum(usage.cached_tokens for usage in usages if usage) > 500
    assert sum(usage.accepted_tokens for usage in usages if usage) > 20
    assert sum(usage.drafted_tokens - usage.accepted_tokens for usage in usages if usage) > 0
    return [told(found) for found in outputs]


def alone(runner: Runner, requests: list[Case], number: int) -> Told:
    (outputs,), _ = run(runner, ALONE, requests, [number])
    return told(outputs)


def spec(path: Path, layout: Layout, dtype: str, deterministic: bool = False) -> RunnerSpec:
    return RunnerSpec(str(path), layout, dtype, kv_memory=8 << 20, max_context=256, block_size=8, deterministic=deterministic)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write(tmp_path_factory.mktemp("exact"), replace(TINY, sliding_window=LIMITS.window))
    tensors = load_file(path / "model.safetensors")
    tensors["model.embed_tokens.weight"][BROKEN] = torch.nan
    save_file(tensors, path / "model.safetensors", {"format": "pt"})
    return path


@pytest.fixture(scope="module")
def runner(path: Path) -> Runner:
    runner = build(spec(path, Layout(), "float32"), 0, None)
    assert runner.kv_blocks >= LIMITS.kv_blocks
    assert runner.sliding_blocks >= LIMITS.sliding_blocks
    return runner


@pytest.fixture(scope="module")
def greedy(runner: Runner) -> list[list[int]]:
    """What each request yields alone, in float32 on one rank."""
    return [alone(runner, cases(greedy=True), number)[0] for number in range(COUNT)]


def test_greedy_in_float32(runner: Runner, greedy: list[list[int]]) -> None:
    assert [tokens for tokens, _, _ in together(runner, cases(greedy=True))] == greedy


def lead_greedy(runner: Runner, pipe: Connection) -> list[list[int]]:
    return [tokens for tokens, _, _ in together(runner, cases(greedy=True))]


@pytest.mark.parametrize(("ranks", "experts"), [(2, "ep"), (2, "tp"), (4, "ep"), (4, "tp"), (8, "ep"), (8, "tp")])
def test_greedy_in_float32_on_any_layout(ranks: int, experts: str, path: Path, greedy: list[list[int]]) -> None:
    layout = Layout(ranks, "ep" if experts == "ep" else "tp")
    assert run_gang(spec(path, layout, "float32"), lead_greedy) == greedy


@pytest.fixture(scope="module")
def deterministic(path: Path) -> Runner:
    """In the dtype that is most easily upset."""
    return build(spec(path, Layout(), "bfloat16", deterministic=True), 0, None)


@pytest.fixture(scope="module")
def seeded(deterministic: Runner) -> list[Told]:
    """What each request yields among the others, in deterministic mode."""
    return together(deterministic, cases(greedy=False))


def test_seeded_in_deterministic_mode(deterministic: Runner, seeded: list[Told]) -> None:
    """To the bit."""
    for number, found in enumerate(seeded):
        assert found == alone(deterministic, cases(greedy=False), number)


def lead_resumed(delivered: Mapping[int, list[int]], runner: Runner, pipe: Connection) -> list[Told]:
    outputs, _ = run(runner, LIMITS, cases(greedy=False), range(COUNT), delivered)
    return [told(found) for found in outputs]


def test_seeded_in_deterministic_mode_on_another_replica(path: Path, seeded: list[Told]) -> None:
    """Which goes on, in a process of its own, behind the first half of what each request has yielded here."""
    halves = {number: tokens[: len(tokens) // 2] for number, (tokens, _, _) in enumerate(seeded)}
    rest = run_gang(spec(path, Layout(), "bfloat16", deterministic=True), partial(lead_resumed, halves))
    for number, (tokens, logprobs, _) in enumerate(seeded):
        assert rest[number][:2] == (tokens[len(halves[number]) :], logprobs[len(halves[number]) :])
    assert sum(map(len, halves.values())) > 4 * COUNT, "there is much to go on behind"


def lead_seeded(runner: Runner, pipe: Connection) -> tuple[list[Told], list[Told]]:
    requests = cases(greedy=False)
    return together(runner, requests)[::5], [alone(runner, requests, number) for number in range(0, COUNT, 5)]


def test_seeded_in_deterministic_mode_on_two_ranks(path: Path) -> None:
    among_others, by_itself = run_gang(spec(path, Layout(2), "bfloat16", deterministic=True), lead_seeded)
    assert among_others == by_itself


class Watched:
    """A runner that keeps the last plan with a context of `length` tokens."""

    def __init__(self, runner: TorchRunner, length: int) -> None:
        self._runner = runner
        self._length = length
        self.plan = Plan.idle()

    def execute(self, plan: Plan) -> Sampled:
        if self._length in plan.context_lengths:
            self.plan = plan
        return self._runner.execute(plan)

    def close(self) -> None:
        """The runner goes on."""

    def cells(self) -> list[torch.Tensor]:
        """Keys and values of that context, layer after layer: all of it, or what the sliding table has of it."""
        plan, found = self.plan, []
        index = plan.context_lengths.tolist().index(self._length)
        full = plan.block_ids[plan.block_starts[index] : plan.block_starts[index + 1]]
        sliding = plan.sliding_ids[plan.sliding_starts[index] : plan.sliding_starts[index + 1]]
        first = int(plan.sliding_firsts[index]) * LIMITS.block_size
        for layer, tensors in enumerate(self._runner._cache.layers):
            slides = self._runner.config.is_sliding(layer)
            table, length = (sliding, self._length - first) if slides else (full, self._length)
            found += [tensor[:, table.tolist()].flatten(1, 2)[:, :length].clone() for tensor in tensors]
        return found


def test_a_hit_holds_what_would_be_computed(path: Path) -> None:
    """In deterministic mode, to the bit: keys and values of blocks that another computed, and of the same context computed
    anew, in other chunks beside others."""
    runner = build(spec(path, Layout(), "bfloat16", deterministic=True), 0, None)
    assert isinstance(runner, TorchRunner)
    source = random.Random(9)
    document = [source.randrange(10, 4000) for _ in range(96)]
    prompt, last = [*document[:88], 11, 12, 13, 14, 15, 16], Sampling(temperature=0.0, max_tokens=4, ignore_eos=True)
    watched = Watched(runner, len(prompt) + 3)
    stepper, cached, found = Stepper(watched, LIMITS), [], []
    stepper.submit(LIMITS.accept((0, 0), document, last))
    while stepper.busy:
        stepper.step()
    for salt, others in ((b"", 0), (b"apart", 3)):
        for rid in range(others):
            stepper.submit(LIMITS.accept((0, rid), document[rid : 30 + 9 * rid], last))
        stepper.submit(LIMITS.accept((1, 0), prompt, last, salt=salt))
        outputs = [output for _ in iter(lambda: stepper.busy, False) for output in stepper.step().outputs]
        cached += [output.usage.cached_tokens for output in outputs if output.key == (1, 0) and output.usage]
        found.append(watched.cells())
    assert cached == [88, 0]
    assert len(found[0]) == 2 * TINY.num_hidden_layers
    for hit, computed in zip(*found, strict=True):
        assert hit.abs().sum() > 0
        assert torch.equal(hit, computed)
