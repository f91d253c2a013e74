"""A simulated replica as a process of its own, where torch and whatever comes with it cannot be imported."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict

import pytest

from ossia.v1 import engine_pb2
from router.client import EngineClient
from tests.workers.simulated.harness import asked
from workers.shard import ShardSpec
from workers.simulated.build import spec

ABSENT = ("torch", "transformers", "ray", "safetensors", "huggingface_hub", "tqdm", "triton", "accelerate")
PROGRAM = f"""
import json, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
from workers.runner.spec import RunnerSpec
from workers.model.layout import Layout
from workers.shard import ShardSpec
from workers.simulated.shard import SimulatedShard

values = json.loads(sys.argv[1])
runner = RunnerSpec(**{{**values["runner"], "layout": Layout(**values["runner"]["layout"])}})
shard = SimulatedShard(ShardSpec(**{{**values, "runner": runner}}), 0)
print(shard.start("", [shard.prepare()]), flush=True)
sys.stdin.read()
shard.stop(1.0)
shard.wait()
assert not set(sys.modules) & set({ABSENT!r})
"""


@pytest.fixture
def program() -> Iterator["subprocess.Popen[str]"]:
    shard = ShardSpec("replica-0", 1, spec(), ("gpt-oss-20b",), "127.0.0.1", 0, None, None, 1.0)
    command = [sys.executable, "-c", PROGRAM, json.dumps(asdict(shard))]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        yield process
        process.kill()


async def test_it_serves_without_torch(program: "subprocess.Popen[str]") -> None:
    assert program.stdout
    address = program.stdout.readline().strip()
    assert address, program.communicate()[1]
    client = EngineClient(address, None)
    await client.start()
    try:
        submit = engine_pb2.Submit(prompt=asked("Hello"), sampling=engine_pb2.Sampling(max_tokens=20))
        submit.grammar.harmony = True
        deltas = [delta async for delta in client.generate(submit)]
        card = await client.describe()
    finally:
        await client.close()
    _, errors = program.communicate(timeout=60)
    assert program.returncode == 0, errors
    assert sum(len(delta.tokens) for delta in deltas) == 20
    assert deltas[-1].finish == engine_pb2.FINISH_REASON_LENGTH
    assert (card.dtype, card.kernels["attention"], card.max_context) == ("bfloat16", "simulated", 8192)
