"""A load on a simulated replica, on a virtual clock: what users would see of it, and how long the simulation itself takes.

Requests arrive at random (a Poisson process). Half of their prompts begin with one of 16 common prefixes; prompts and outputs
have lengths around the given means. Equal arguments print equal figures, the simulation's own `cpu_s` apart. The times that
steps take are those of a data sheet (`workers/simulated/costs.py`): an optimist's. Prints one JSON object.
Run: python -m benchmarks.simulated --model gpt-oss-120b --device B200 --rate 50
"""

import argparse
import json
import random
import time
from collections.abc import Sequence

from workers.engine.request import Finish
from workers.engine.sampling import Sampling
from workers.simulated.build import DEFAULT_DEVICE, spec
from workers.simulated.costs import DEVICES
from workers.simulated.models import DEFAULT, MODELS
from workers.simulated.simulation import Arrival, Served, simulate

PREFIXES, PREFIX_TOKENS = 16, 256
IDS = range(1000, 150_000)  # ordinary tokens


def load(requests: int, rate: float, prompt_tokens: int, output_tokens: int, seed: int) -> list[Arrival]:
    source, at, arrivals = random.Random(seed), 0.0, []

    def ids(count: int) -> list[int]:
        return [source.choice(IDS) for _ in range(count)]

    prefixes = [ids(PREFIX_TOKENS) for _ in range(PREFIXES)]
    for number in range(requests):
        at += source.expovariate(rate)
        begun = source.choice(prefixes) if source.random() < 0.5 else []
        prompt = [*begun, *ids(1 + min(int(source.expovariate(1 / prompt_tokens)), 8 * prompt_tokens))]
        count = 1 + min(int(source.expovariate(1 / output_tokens)), 8 * output_tokens)
        arrivals.append(Arrival(at, prompt, Sampling(seed=number, max_tokens=count, ignore_eos=True)))
    return arrivals


def summary(served: Sequence[Served]) -> dict[str, float]:
    """Seconds, and tokens a second, of the requests that ended as asked for."""
    done = [each for each in served if each.end is Finish.LENGTH and each.usage]
    first = sorted((each.first_token_s or 0.0) - each.arrived_s for each in done)
    gaps = sorted(
        (each.ended_s - (each.first_token_s or 0.0)) / (len(each.tokens) - 1) for each in done if len(each.tokens) > 1
    )
    prompts, cached = (sum(getattr(each.usage, name) for each in done) for name in ("prompt_tokens", "cached_tokens"))
    return {
        "requests": len(served),
        "refused": len(served) - len(done),
        "simulated_s": round(max(each.ended_s for each in served), 3),
        "output_tokens_per_s": round(sum(len(each.tokens) for each in done) / max(each.ended_s for each in served), 1),
        "first_token_p50_s": _at(first, 0.5),
        "first_token_p99_s": _at(first, 0.99),
        "token_p50_s": _at(gaps, 0.5),
        "token_p99_s": _at(gaps, 0.99),
        "cached_share": round(cached / prompts, 4) if prompts else 0.0,
    }


def _at(ordered: Sequence[float], share: float) -> float:
    return round(ordered[int(share * (len(ordered) - 1))], 6) if ordered else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default=DEFAULT)
    parser.add_argument("--device", choices=DEVICES, default=DEFAULT_DEVICE)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second")
    parser.add_argument("--prompt-tokens", type=int, default=64, help="mean, the common prefix apart")
    parser.add_argument("--output-tokens", type=int, default=24, help="mean")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    arrivals = load(asked.requests, asked.rate, asked.prompt_tokens, asked.output_tokens, asked.seed)
    replica = spec(asked.model, asked.device, asked.devices)
    began = time.process_time()
    served = simulate(arrivals, replica)
    print(json.dumps({**summary(served), "cpu_s": round(time.process_time() - began, 1)}))


if __name__ == "__main__":
    main()
