"""Peak memory of each rank while it loads: at most its own weights + 25 % + an empty process, which imports the same modules.

Every rank of the layout is a fresh process that reads its own slices of MODEL, or of a random checkpoint of half a gigabyte.
Prints one JSON object a rank, sizes in MiB; exits with 1 where a rank takes more. Linux alone (VmHWM).
Run: python -m benchmarks.memory [MODEL] [--ranks 2] [--experts ep] [--dtype float32]
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
from dataclasses import replace
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import get_args

from cluster.make_checkpoint import make_checkpoint
from cluster.planner import weight_bytes
from workers.checkpoint.contents import scan
from workers.checkpoint.resolve import resolve
from workers.model.config import ModelConfig
from workers.model.layout import RANKS, ExpertSplit, Layout, Shard
from workers.runner.spec import ITEM_BYTES, RunnerSpec

MIB = 1 << 20
SLACK = 1.25
CONFIG = ModelConfig(8, 32, hidden_size=512, intermediate_size=512, num_attention_heads=16)
CONTEXT = 128  # tokens: what is measured is the weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", help="folder or hub id; default: a random checkpoint")
    parser.add_argument("--ranks", type=int, choices=RANKS, default=2)
    parser.add_argument("--experts", choices=get_args(ExpertSplit), default="ep")
    parser.add_argument("--dtype", choices=sorted(ITEM_BYTES), default="float32")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = resolve(arguments.model).path if arguments.model else Path(folder, "random")
        if not arguments.model:
            make_checkpoint(path, CONFIG, seed=0)
        rows = measure(path, Layout(arguments.ranks, arguments.experts), arguments.dtype)
    for row in rows:
        print(json.dumps(row))
    sys.exit(not all(row["within"] for row in rows))


def measure(path: Path, layout: Layout, dtype: str) -> list[dict[str, object]]:
    """One row a rank."""
    contents = scan(path)
    spec = RunnerSpec(str(path), layout, dtype, max_context=CONTEXT)
    spec = replace(spec, kv_memory=spec.least_memory(contents.config))
    empty, *peaks = _peaks(spec)
    rows: list[dict[str, object]] = []
    for rank, peak in enumerate(peaks):
        weights = weight_bytes(Shard(contents.config, layout, rank), contents.packed, dtype)
        limit = SLACK * weights + empty
        sizes = {"weights": weights, "empty": empty, "peak": peak, "limit": limit}
        over = (peak - empty) / weights - 1
        rows.append(
            {"model": path.name, "ranks": layout.ranks, "experts": layout.experts, "dtype": dtype, "rank": rank}
            | {f"{name}_mib": round(size / MIB, 1) for name, size in sizes.items()}
            | {"over_weights": f"{over:+.1%}", "within": peak <= limit}
        )
    return rows


def _peaks(spec: RunnerSpec) -> list[int]:
    """Bytes: of an empty process, then of each rank."""
    context = multiprocessing.get_context("spawn")
    answers: SimpleQueue[tuple[int, int]] = context.SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        meeting = f"{folder}/store"
        ranks = [context.Process(target=_rank, args=(spec, rank, meeting, answers)) for rank in range(spec.layout.ranks)]
        for group in ([context.Process(target=_empty, args=(answers,))], ranks):
            for process in group:
                process.start()
            for process in group:
                process.join()
                if process.exitcode:
                    raise SystemExit(f"a rank failed with exit code {process.exitcode}")
    return [peak for _, peak in sorted(answers.get() for _ in range(1 + spec.layout.ranks))]


def _empty(answers: "SimpleQueue[tuple[int, int]]") -> None:
    import workers.runner.build  # noqa: F401

    answers.put((-1, _peak()))


def _rank(spec: RunnerSpec, rank: int, meeting: str, answers: "SimpleQueue[tuple[int, int]]") -> None:
    from torch._C._distributed_c10d import FileStore

    from workers.runner.build import build

    ranks = spec.layout.ranks
    runner = build(spec, rank, FileStore(meeting, ranks) if ranks > 1 else None)
    answers.put((rank, _peak()))
    if rank == 0:
        runner.close()
    else:
        runner.follow()


def _peak() -> int:
    """The most bytes of memory that this process ever held."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


if __name__ == "__main__":
    main()
