"""A simulated replica as a process of its own: prints its address, serves until its stdin ends.

Its steps cost what it takes to compute them here and not more: a step of no device, so that the gateway is what is measured.
"""

import os
import sys
from threading import Thread

from workers.shard import ShardSpec
from workers.simulated.build import spec
from workers.simulated.shard import SimulatedShard

MODEL = "gpt-oss-20b"
CONTEXT = 8192
COSTS = (1e-9, 0.0, 0.0, 0.0)  # all zero would mean the device's


def main() -> None:
    os.sched_setaffinity(0, [int(sys.argv[1])])
    step_s = float(sys.argv[2])
    runner = spec(MODEL, max_context=CONTEXT, step_costs=(step_s, *COSTS[1:]), max_sequences=512, token_budget=8192)
    shard = SimulatedShard(ShardSpec("replica-0", 1, runner, (MODEL,), "127.0.0.1", 0, None, None, 1.0), 0)
    info = shard.prepare()
    print(shard.start("", [info]), flush=True)

    def stop() -> None:
        sys.stdin.read()
        shard.stop(0.0)

    Thread(target=stop, daemon=True).start()
    shard.wait()


if __name__ == "__main__":
    main()
