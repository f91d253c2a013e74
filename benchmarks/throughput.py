"""Time to ready, peak memory of the ranks and output tokens/s of `ossia serve`, beside transformers on the same checkpoint.

Each request is a prompt of random ids and generates the same number of tokens, greedily; at concurrency C, C clients send
one after another. transformers generates the same prompts as one batch of C. Prints one JSON object a line.
Run: python -m benchmarks.throughput
"""

import argparse
import asyncio
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.e2e.serving import Serving


def prompts(count: int, tokens: int, concurrency: int) -> list[list[int]]:
    """The same for every system, others for every concurrency: nothing is in a cache."""
    source = random.Random(concurrency)
    return [[source.randrange(1000, 150_000) for _ in range(tokens)] for _ in range(count)]


async def ossia_rate(url: str, model: str, concurrency: int, requests: list[list[int]], tokens: int) -> float:
    """Output tokens a second over all `requests`, `concurrency` of them at a time."""
    queue = iter(requests)

    async def client(http: httpx.AsyncClient) -> int:
        total = 0
        for prompt in queue:
            body = {"model": model, "prompt": prompt, "max_tokens": tokens, "temperature": 0}
            answer = await http.post("/v1/completions", json=body)
            answer.raise_for_status()
            total += answer.json()["usage"]["completion_tokens"]
        return total

    limits = httpx.Limits(max_connections=concurrency)
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits) as http:
        started = time.perf_counter()
        totals = await asyncio.gather(*(client(http) for _ in range(concurrency)))
        return sum(totals) / (time.perf_counter() - started)


def transformers_rates(checkpoint: Path, concurrencies: list[int], prompt_tokens: int, tokens: int) -> dict[int, float]:
    """Output tokens a second of `generate` on batches of each size, float32, eager, both cores."""
    import torch
    from transformers import GptOssForCausalLM

    model: Any = GptOssForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation="eager").float().eval()
    rates = {}
    with torch.inference_mode():
        for size in concurrencies:
            batch = torch.tensor(prompts(size, prompt_tokens, size))
            started = time.perf_counter()
            output = model.generate(
                batch, attention_mask=torch.ones_like(batch), max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False
            )
            rates[size] = (output.numel() - batch.numel()) / (time.perf_counter() - started)
    return rates


def peak_memory(serving: Serving) -> list[float]:
    """Peak resident memory of every rank, MiB, from the kernel's VmHWM."""
    pids = [pid for ranks in serving.pids().values() for pid in ranks]
    lines = [Path(f"/proc/{pid}/status").read_text().split("VmHWM:")[1] for pid in pids]
    return [round(int(line.split()[0]) / 1024, 1) for line in lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", type=Path, help="folder; default: ossia-tiny")
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--prompt-tokens", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 16, 64])
    options = parser.parse_args()
    from cluster.make_checkpoint import default_checkpoint

    checkpoint = options.model or default_checkpoint()
    layout = [f"--replicas={options.replicas}", f"--ranks={options.ranks}"]
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        serving = Serving(Path(folder), checkpoint, *layout, name="benchmark").start()
        print(json.dumps({"layout": layout, "ready_s": round(time.perf_counter() - started, 1)}), flush=True)
        try:
            for concurrency in options.concurrency:
                requests = prompts(max(4, 2 * concurrency), options.prompt_tokens, concurrency)
                rate = asyncio.run(ossia_rate(serving.url, checkpoint.name, concurrency, requests, options.tokens))
                print(
                    json.dumps({"system": "ossia", "concurrency": concurrency, "output_tokens_s": round(rate, 1)}), flush=True
                )
            print(json.dumps({"peak_rank_mib": peak_memory(serving)}), flush=True)
        finally:
            serving.stop()
    assert not psutil.pid_exists(serving.process.pid if serving.process else 0)
    for size, rate in transformers_rates(checkpoint, options.concurrency, options.prompt_tokens, options.tokens).items():
        print(json.dumps({"system": "transformers", "concurrency": size, "output_tokens_s": round(rate, 1)}), flush=True)


if __name__ == "__main__":
    main()
