"""What a prompt that is cached saves: time to the first token of a long one, the first time and when it comes again.

Prompts of random ids, one after the other, each sent twice to one rank. Prints one JSON object a length: medians, milliseconds.
Run: python -m benchmarks.engine.hits [--model DIR] [--prompt-tokens 512 2048 8192]
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from workers.engine.limits import Limits
from workers.engine.plan import Runner
from workers.engine.sampling import Sampling
from workers.engine.stepper import Stepper

ONE = Sampling(temperature=0.0, max_tokens=1)


def ask(stepper: Stepper, limits: Limits, number: int, prompt: Sequence[int]) -> tuple[float, int]:
    """Milliseconds to the first token, and how many of the prompt's were cached."""
    started = time.perf_counter()
    stepper.submit(limits.accept((0, number), prompt, ONE))
    cached = 0
    while stepper.busy:
        cached += sum(output.usage.cached_tokens for output in stepper.step().outputs if output.usage)
    return 1000 * (time.perf_counter() - started), cached


def measure(runner: Runner, limits: Limits, tokens: int, prompts: int) -> dict[str, object]:
    source, stepper = random.Random(tokens), Stepper(runner, limits)
    first: list[tuple[float, int]] = []
    again: list[tuple[float, int]] = []
    for number in range(prompts + 1):  # the first one is a warm-up
        prompt = [source.randrange(1000, 150_000) for _ in range(tokens)]
        first.append(ask(stepper, limits, 2 * number, prompt))
        again.append(ask(stepper, limits, 2 * number + 1, prompt))
    expected = (tokens - 1) // limits.block_size * limits.block_size
    assert all(cached == 0 for _, cached in first) and all(cached == expected for _, cached in again)
    before, after = (statistics.median(taken for taken, _ in times[1:]) for times in (first, again))
    return {
        "prompt_tokens": tokens,
        "cached_tokens": expected,
        "first_ms": round(before, 2),
        "again_ms": round(after, 2),
        "saved": round(1 - after / before, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", type=Path, help="folder; default: ossia-tiny")
    parser.add_argument("--prompt-tokens", type=int, nargs="+", default=[512, 2048, 8192])
    parser.add_argument("--prompts", type=int, default=5, help="of each length")
    options = parser.parse_args()
    from cluster.make_checkpoint import default_checkpoint
    from workers.runner.build import build
    from workers.runner.built import limits
    from workers.runner.spec import RunnerSpec

    longest = max(options.prompt_tokens)
    spec = RunnerSpec(str(options.model or default_checkpoint()), kv_memory=1 << 30, max_context=longest + 1)
    runner = build(spec, 0, None)
    for tokens in options.prompt_tokens:
        print(json.dumps(measure(runner, limits(spec, runner), tokens, options.prompts)), flush=True)
    runner.close()


if __name__ == "__main__":
    main()
