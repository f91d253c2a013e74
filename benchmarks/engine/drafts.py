"""What tokens that are drafted by look-up bring: output tokens/s of one rank by how many decodes of a step may have some.

Greedy requests on the shape of `benchmarks.engine`, C at once, behind a text that repeats itself and behind one that does not.
A bias keeps the former's output to a few tokens, so that it repeats itself as well. Prints one JSON object a line.
Run: python -m benchmarks.engine.drafts [--model DIR] [--drafts 0 4 16] [--concurrency 1 4 16]
"""

import argparse
import json
import random
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.engine.__main__ import MID
from workers.checkpoint.random import write_random
from workers.engine.limits import Limits
from workers.engine.plan import Runner
from workers.engine.report import Usage
from workers.engine.sampling import Sampling
from workers.engine.stepper import Stepper
from workers.runner.build import build
from workers.runner.built import limits
from workers.runner.spec import RunnerSpec

PHRASE = 12  # tokens, over and over in a text that repeats itself
FEW = tuple((token, 100.0) for token in (1000, 1001, 1002))


def texts(repeats: bool, count: int, tokens: int, seed: int) -> list[list[int]]:
    source = random.Random(seed)
    period = PHRASE if repeats else tokens
    return [([source.randrange(1000, 150_000) for _ in range(period)] * (tokens // period + 1))[:tokens] for _ in range(count)]


def rate(runner: Runner, bounds: Limits, prompts: list[list[int]], sampling: Sampling) -> tuple[float, list[Usage]]:
    """Output tokens a second of all prompts at once, from the first token of the last one on, and what each request used."""
    stepper, tokens, usages = Stepper(runner, bounds), 0, []
    for rid, prompt in enumerate(prompts):
        stepper.submit(bounds.accept((0, rid), prompt, sampling))
    while stepper.step().load.prefill_tokens:
        pass
    started = time.perf_counter()
    while stepper.busy:
        for output in stepper.step().outputs:
            tokens += len(output.tokens)
            usages += [output.usage] if output.usage else []
    return tokens / (time.perf_counter() - started), usages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", type=Path, help="folder; default: a random checkpoint of the shape above")
    parser.add_argument("--drafts", type=int, nargs="+", default=[0, 4, 16], help="decodes of a step that may have drafts")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--packed", action="store_true", help="hold experts in MXFP4, not as bfloat16")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        model = options.model or Path(name) / "mid"
        if options.model is None:
            write_random(model, MID, 0)
        context = options.prompt_tokens + options.tokens + 1
        spec = RunnerSpec(
            str(model), dtype=options.dtype, kv_memory=1 << 30, max_context=context, unpack_experts=not options.packed
        )
        runner = build(spec, 0, None)
        bounds = limits(spec, runner)
        for repeats in (True, False):
            sampling = Sampling(temperature=0.0, max_tokens=options.tokens, ignore_eos=True, logit_bias=FEW if repeats else ())
            for concurrency in options.concurrency:
                prompts = texts(repeats, concurrency, options.prompt_tokens, concurrency)
                for drafts in options.drafts:
                    speed, usages = rate(runner, replace(bounds, draft_sequences=drafts), prompts, sampling)
                    drafted, accepted = (
                        sum(getattr(usage, f"{kind}_tokens") for usage in usages) for kind in ("drafted", "accepted")
                    )
                    row = {"repeats": repeats, "concurrency": concurrency, "draft_sequences": drafts}
                    row |= {"output_tokens_s": round(speed, 1), "drafted": drafted, "accepted": accepted}
                    print(json.dumps(row), flush=True)
        runner.close()


if __name__ == "__main__":
    main()
