"""A replica on a virtual clock, in this process: what becomes of a list of requests, the same at every run."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from workers.engine.errors import Refusal
from workers.engine.grammar import Grammar
from workers.engine.report import Output, Usage
from workers.engine.request import Finish
from workers.engine.sampling import Sampling
from workers.engine.stepper import Stepper
from workers.runner.built import limits
from workers.runner.spec import RunnerSpec
from workers.simulated.build import build


class Held(Protocol):
    """What a request's output is held to, as `workers.grammar.compile` makes it: begun anew by each request."""

    def start(self) -> Grammar: ...


@dataclass(frozen=True)
class Arrival:
    """A request, and when it comes. Times are in seconds of the virtual clock, which begins at 0."""

    at_s: float
    prompt: Sequence[int]
    sampling: Sampling = field(default_factory=Sampling)
    grammar: Held | None = None
    priority: int = 0
    deadline_s: float | None = None
    salt: bytes = b""


@dataclass
class Served:
    """What became of a request."""

    arrived_s: float
    tokens: list[int] = field(default_factory=list)
    first_token_s: float | None = None
    ended_s: float = 0.0
    end: Finish | Refusal | None = None
    usage: Usage | None = None  # with a Finish


@dataclass
class Clock:
    """Stands still but for what is slept."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def simulate(arrivals: Iterable[Arrival], spec: RunnerSpec) -> list[Served]:
    """What becomes of each request, in their order; `workers.simulated.build.spec` makes a spec."""
    clock = Clock()
    simulation = _Simulation(spec, clock)
    coming = deque(sorted(enumerate(arrivals), key=lambda pair: pair[1].at_s))
    simulation.served = [Served(arrival.at_s) for _, arrival in sorted(coming, key=lambda pair: pair[0])]
    while coming or simulation.stepper.busy:
        if not simulation.stepper.busy:
            clock.now = max(clock.now, coming[0][1].at_s)
        while coming and coming[0][1].at_s <= clock.now:
            simulation.submit(*coming.popleft())
        for output in simulation.stepper.step().outputs:
            simulation.take(output)
    return simulation.served


class _Simulation:
    def __init__(self, spec: RunnerSpec, clock: Clock) -> None:
        runner = build(spec, clock, clock.sleep)
        self.served: list[Served] = []
        self._clock = clock
        self._limits = limits(spec, runner)
        self.stepper = Stepper(runner, self._limits, clock, clock)

    def submit(self, number: int, arrival: Arrival) -> None:
        try:
            request = self._limits.accept(
                (0, number),
                arrival.prompt,
                arrival.sampling,
                priority=arrival.priority,
                deadline_s=arrival.deadline_s,
                salt=arrival.salt,
                grammar=None if arrival.grammar is None else arrival.grammar.start(),
            )
        except Refusal as refusal:
            self.take(Output((0, number), 0, end=refusal))
        else:
            self.stepper.submit(request)

    def take(self, output: Output) -> None:
        """Notes what is told of a request, at this time."""
        served = self.served[output.key[1]]
        served.tokens += output.tokens
        if output.tokens and served.first_token_s is None:
            served.first_token_s = self._clock.now
        if output.end is not None:
            served.ended_s, served.end, served.usage = self._clock.now, output.end, output.usage
