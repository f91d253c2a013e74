"""Ranks as real processes with the torch runner: one alone, two on gloo, and what happens when one is lost."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from ossia.common import wire
from ossia.common.errors import UserError
from ossia.v1 import engine_pb2, engine_pb2_grpc
from tests.workers.leader.harness import Client
from tests.workers.tiny import write
from workers.model.config import ModelConfig
from workers.runner.spec import RunnerSpec
from workers.shard import Shard, ShardSpec

CONFIG = ModelConfig(
    num_hidden_layers=2,
    num_local_experts=4,
    hidden_size=64,
    intermediate_size=64,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    vocab_size=512,
    stop_token_ids=(500,),
)
COLLECTIVE_TIMEOUT_S = 6.0


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("checkpoint"), CONFIG)


def spec_file(folder: Path, checkpoint: Path, ranks: int, port: int = 0) -> Path:
    runner = {
        "checkpoint": str(checkpoint),
        "layout": {"ranks": ranks},
        "kv_memory": 4 << 20,
        "max_context": 512,
        "max_sequences": 8,
        "token_budget": 32,
        "collective_timeout_s": COLLECTIVE_TIMEOUT_S,
    }
    spec = {
        "replica": "replica-0",
        "epoch": 3,
        "runner": runner,
        "model_names": ["tiny"],
        "host": "127.0.0.1",
        "port": port,
        "token": None,
        "log_folder": str(folder),
        "grace_s": 5.0,
        "processes": [{"part": "head", "pid": 1, "node": "here", "metrics_address": "here:1"}],
    }
    file = folder / "spec.json"
    file.write_text(json.dumps(spec))
    return file


class Gang:
    """The ranks' processes, rank 0 first; `info` and `address` are what rank 0 printed."""

    def __init__(self, folder: Path, checkpoint: Path, ranks: int) -> None:
        self.folder = folder
        self.file = spec_file(folder, checkpoint, ranks)
        self.ranks = [self._spawn(0, "")]
        self._others = range(1, ranks)

    def start(self) -> None:
        self.info = self._line()
        self.ranks += [self._spawn(rank, self.info["rendezvous"]) for rank in self._others]
        self.address = str(self._line()["address"])

    def _spawn(self, rank: int, rendezvous: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "workers.shard", f"--spec={self.file}", f"--rank={rank}", f"--rendezvous={rendezvous}"]
        with (self.folder / f"stderr-{rank}").open("w") as errors:
            return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)

    def _line(self) -> dict[str, Any]:
        assert self.ranks[0].stdout is not None
        line = self.ranks[0].stdout.readline()
        assert line, (self.folder / "stderr-0").read_text()
        return dict(json.loads(line))

    def logs(self, rank: int) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / f"replica-0-rank-{rank}.jsonl").read_text().splitlines()]


@contextmanager
def gang(folder: Path, checkpoint: Path, ranks: int) -> Iterator[Gang]:
    started = Gang(folder, checkpoint, ranks)
    try:
        started.start()
        yield started
    finally:
        for process in started.ranks:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


async def generate(address: str, prompt: list[int], count: int) -> list[int]:
    async with wire.channel(address, None) as channel:
        client = Client(engine_pb2_grpc.EngineStub(channel))
        await client.submit(1, prompt, max_tokens=count)
        await client.finish(1)
        return client.tokens(1)


def fetch(url: str) -> str:
    with urllib.request.urlopen(url) as answer:
        return str(answer.read().decode())


async def describe(address: str) -> engine_pb2.DescribeResponse:
    async with wire.channel(address, None) as channel:
        return await engine_pb2_grpc.EngineStub(channel).Describe(engine_pb2.DescribeRequest())


async def test_one_rank_serves_is_measured_logs_and_stops(tmp_path: Path, checkpoint: Path) -> None:
    with gang(tmp_path, checkpoint, ranks=1) as alone:
        card = await describe(alone.address)
        assert (card.ready, card.epoch, list(card.model_names)) == (True, 3, ["tiny"])
        assert (card.vocab_size, card.max_context, list(card.stop_token_ids)) == (512, 512, [500])
        assert (card.dtype, card.layout.ranks, card.ranks[0].pid) == ("float32", 1, alone.ranks[0].pid)
        assert [(process.part, process.metrics_address) for process in card.processes] == [("head", "here:1")]
        assert set(card.kernels) == {"attention", "experts", "linear"}
        tokens = await generate(alone.address, [5, 6, 7], 12)
        assert len(tokens) == 12 or tokens[-1] == 500
        page = await asyncio.to_thread(fetch, f"http://{alone.info['metrics_address']}/metrics")
        assert f"ossia_worker_output_tokens_total {len(tokens)}.0" in page
        assert "ossia_worker_checkpoint_read_bytes_total 0.0" not in page
        assert "process_resident_memory_bytes" in page
        alone.ranks[0].terminate()
        assert alone.ranks[0].wait(30) == 0
        messages = [line["message"] for line in alone.logs(0)]
        assert "serving" in messages
        assert "request finished" in messages


async def test_two_ranks_generate_what_one_does_and_stop_together(tmp_path: Path, checkpoint: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    prompt = list(range(100, 140))
    with gang(tmp_path / "one", checkpoint, ranks=1) as alone:
        expected = await generate(alone.address, prompt, 20)
    with gang(tmp_path / "two", checkpoint, ranks=2) as pair:
        assert await generate(pair.address, prompt, 20) == expected
        await asyncio.sleep(COLLECTIVE_TIMEOUT_S * 1.2)  # beats keep an idle gang together
        assert await generate(pair.address, prompt, 20) == expected
        for process in pair.ranks:
            process.terminate()
        assert [process.wait(30) for process in pair.ranks] == [0, 0]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_lost_follower_ends_the_leader_and_its_requests(tmp_path: Path, checkpoint: Path, number: int) -> None:
    with gang(tmp_path, checkpoint, ranks=2) as pair:
        async with wire.channel(pair.address, None) as channel:
            client = Client(engine_pb2_grpc.EngineStub(channel))
            await client.submit(1, [5, 6], max_tokens=400)
            await client.until(lambda: client.tokens(1))
            started = time.monotonic()
            os.kill(pair.ranks[1].pid, number)
            with contextlib.suppress(AssertionError, grpc.aio.AioRpcError):  # the stream may end with the process
                await client.finish(1)
            assert client.last(1).error.code in (0, grpc.StatusCode.UNAVAILABLE.value[0])
            assert len(client.tokens(1)) < 400
        assert pair.ranks[0].wait(30) == 1
        assert time.monotonic() - started < COLLECTIVE_TIMEOUT_S + 10
        assert any(line["message"] == "the shard failed" for line in pair.logs(0))


async def test_a_lost_leader_ends_the_follower(tmp_path: Path, checkpoint: Path) -> None:
    with gang(tmp_path, checkpoint, ranks=2) as pair:
        pair.ranks[0].kill()
        assert pair.ranks[1].wait(COLLECTIVE_TIMEOUT_S + 20) == 1


def test_what_the_user_can_mend_is_one_line_and_exit_code_2(tmp_path: Path, checkpoint: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        file = spec_file(tmp_path, checkpoint, ranks=1, port=taken.getsockname()[1])
        command = [sys.executable, "-m", "workers.shard", f"--spec={file}"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 2
    assert "is in use" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_specs_that_cannot_work_are_refused_at_once() -> None:
    with pytest.raises(UserError, match="token budget of 4"):
        RunnerSpec("nowhere", max_sequences=8, token_budget=4)
    open_to_all = ShardSpec("replica-0", 1, RunnerSpec("nowhere"), (), "0.0.0.0", 0, None, None, 1.0)
    with pytest.raises(UserError, match="token"):
        Shard(open_to_all, 0)


def test_importing_a_shard_is_cheap() -> None:
    code = "import sys, workers.shard; assert not {'torch', 'transformers', 'ray'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
