"""What a step costs beside the model: scheduling, the plan, taking in what was sampled, and the frame that the client gets.

As many requests as given decode at once, all told in one stream, each behind a context of its own. The runner answers at once.
Prints one JSON object a batch, milliseconds a step. Run: python -m benchmarks.engine.steps [--batch 1 16 64]
"""

import argparse
import asyncio
import json
import statistics
import time

import numpy as np

from workers.engine.limits import Limits
from workers.engine.plan import Plan, Sampled
from workers.engine.report import Load
from workers.engine.sampling import Sampling
from workers.engine.stepper import Stepper
from workers.leader.stream import Stream

VOCABULARY = 201_088
BLOCK = 16
BUDGET = 4096  # tokens of a step
KINDS = {
    "greedy": Sampling(temperature=0.0),
    "seeded": Sampling(top_p=0.9),
    "logprobs": Sampling(logprobs=5),
    "penalties": Sampling(frequency_penalty=0.5),
}


class Instant:
    """Every token is another one; log probabilities come where they are asked for."""

    def execute(self, plan: Plan) -> Sampled:
        count = len(plan.rows)
        alternatives = [np.arange(most, dtype=np.int32) for most in np.maximum(plan.logprobs, 0)]
        tokens = (plan.positions[plan.rows] * 7919 + plan.tokens[plan.rows]) % 199_000
        return Sampled(
            tokens, np.zeros(count, np.float32), alternatives, [np.zeros(len(ids), np.float32) for ids in alternatives]
        )

    def close(self) -> None:
        """Holds nothing."""


def limits(batch: int, context: int, tokens: int) -> Limits:
    blocks = batch * (-(-(context + tokens) // BLOCK) + 1)
    return Limits(
        vocab_size=VOCABULARY,
        stop_token_ids=frozenset({200_002}),
        max_context=context + tokens,
        block_size=BLOCK,
        kv_blocks=blocks,
        sliding_blocks=blocks + 9 * batch,
        window=128,
        max_sequences=batch,
        token_budget=BUDGET,
        draft_sequences=0,
    )


async def measure(batch: int, context: int, steps: int, sampling: Sampling) -> list[float]:
    """Milliseconds of each of `steps` steps in which all requests decode."""
    bounds = limits(batch, context, steps + 8 + batch * context // BUDGET)  # the first to decode go on meanwhile
    stepper, stream = Stepper(Instant(), bounds), Stream(1, 1, Load())
    source, frames = np.random.default_rng(0), stream.frames()
    for rid in range(batch):
        stepper.submit(bounds.accept((1, rid), source.integers(1000, 150_000, context).tolist(), sampling))
        stream.open(rid, 0, None)
    while (load := stepper.step().load).prefill_tokens or load.running < batch:
        pass
    times = []
    for _ in range(steps):
        started = time.perf_counter()
        report = stepper.step()
        for output in report.outputs:
            stream.add(output.key[1], output)
        stream.note(report.load)
        frame = await anext(frames)
        frame.SerializeToString()
        times.append(1000 * (time.perf_counter() - started))
        assert sum(len(delta.tokens) for delta in frame.deltas) == batch, "every request decodes in every step"
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--context", type=int, default=1000, help="tokens")
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    for batch in options.batch:
        for kind, sampling in KINDS.items():
            times = asyncio.run(measure(batch, options.context, options.steps, sampling))
            p50, p99 = statistics.median(times), float(np.percentile(times, 99))
            print(json.dumps({"batch": batch, "kind": kind, "ms_p50": round(p50, 3), "ms_p99": round(p99, 3)}), flush=True)


if __name__ == "__main__":
    main()
