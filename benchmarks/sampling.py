"""What sampling costs a step over the vocabulary of gpt-oss, beside `logits.argmax`, by batch and by what requests ask for.

Logits are normal with a deviation of 2.5 but for 50 ids that stand out by 20, as in a trained model; "flat" heats them until a
nucleus is most of the vocabulary. Prints one JSON object a line: the median milliseconds, and their ratio to the yardstick.
Run: python -m benchmarks.sampling [--threads 2]
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from workers.engine.plan import DTYPES, Plan
from workers.runner.collective import Alone
from workers.runner.sampler import Sampler

VOCABULARY = 201_088
WORDS = VOCABULARY // 32
KINDS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "temperature": {"temperatures": 1.0},
    "top_p": {"temperatures": 1.0, "top_ps": 0.9},
    "top_k": {"temperatures": 1.0, "top_ks": 50},
    "min_p": {"temperatures": 1.0, "min_ps": 0.05},
    "flat top_p": {"temperatures": 10.0, "top_ps": 0.9},
    "penalties": {"seen": 500},
    "mask": {"masked": True},
    "logprobs": {"logprobs": 20},
}


def plan_of(
    batch: int,
    *,
    temperatures: float = 0.0,
    top_ps: float = 1.0,
    top_ks: int = 0,
    min_ps: float = 0.0,
    seen: int = 0,
    masked: bool = False,
    logprobs: int = -1,
) -> Plan:
    """A plan as the sampler sees it: `batch` rows of one kind, with `seen` ids penalized and biased in each."""
    source = np.random.default_rng(0)
    ids = np.concatenate([source.choice(VOCABULARY, seen, replace=False) for _ in range(batch)])
    columns: dict[str, Any] = {
        "rows": np.arange(batch),
        "targets": np.full(batch, -1),
        "temperatures": np.full(batch, temperatures),
        "top_ps": np.full(batch, top_ps),
        "top_ks": np.full(batch, top_ks),
        "min_ps": np.full(batch, min_ps),
        "seeds": np.arange(batch),
        "output_positions": np.zeros(batch),
        "logprobs": np.full(batch, logprobs),
        "repetitions": np.full(batch, 1.1 if seen else 1.0),
        "below": np.full(batch, -1),
        "ends": np.full(batch, -1),
        "mask_rows": np.arange(batch) if masked else np.full(batch, -1),
        "masks": source.integers(0, 2**32, batch * WORDS) if masked else np.zeros(0),
    }
    for name in ("seen", "bias"):
        columns |= {f"{name}_ids": ids, f"{name}_starts": seen * np.arange(batch + 1)}
    columns["bias_values"] = np.full(len(ids), -0.5)
    return replace(Plan.idle(), **{name: np.asarray(column, DTYPES.get(name, np.int32)) for name, column in columns.items()})


def logits_of(batch: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(batch, VOCABULARY, generator=generator) * 2.5
    outstanding = torch.randint(0, VOCABULARY, (batch, 50), generator=generator)
    return logits.scatter_add_(1, outstanding, torch.full(outstanding.shape, 20.0))


def milliseconds(prepare: Callable[[], torch.Tensor], run: Callable[[torch.Tensor], object], rounds: int) -> float:
    times = []
    for _ in range(rounds + 1):
        logits = prepare()
        started = time.perf_counter()
        run(logits)
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sampler = Sampler(VOCABULARY, Alone())
    with torch.inference_mode():
        for batch in options.batch:
            logits = logits_of(batch)
            yardstick = milliseconds(logits.clone, lambda values: values.argmax(-1), options.rounds)
            print(json.dumps({"batch": batch, "kind": "logits.argmax", "ms": round(yardstick, 3)}), flush=True)
            for kind, settings in KINDS.items():
                plan = plan_of(batch, **settings)
                taken = milliseconds(logits.clone, lambda values, plan=plan: sampler(values, plan), options.rounds)  # type: ignore[misc]
                row = {"batch": batch, "kind": kind, "ms": round(taken, 3), "of_argmax": round(taken / yardstick, 2)}
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
