"""A gateway that is killed in the midst of a batch, and the next one on its database."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import openai

from tests.fakes.engine import FakeEngine

LINES = 50
PROGRAM = """
import sys
from pathlib import Path
from router.gateway.batches import runner
from router.gateway.server import GatewayConfig, run
from router.store.config import StoreConfig
runner.LEASE_S = 1.0
run(GatewayConfig(sys.argv[1], port=0, grace_s=0, log_folder=Path(sys.argv[2]), store=StoreConfig(sys.argv[3])))
"""


@asynccontextmanager
async def gateway(engine: FakeEngine, folder: Path) -> AsyncIterator[openai.AsyncOpenAI]:
    """Killed at the end."""
    arguments = (f"static:{engine.address}", str(folder), f"sqlite:///{folder}/store.db")
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM, *arguments, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    try:
        async with openai.AsyncOpenAI(base_url=f"{line.split()[-1]}/v1", api_key="any") as client:
            yield client
    finally:
        process.kill()
        await process.wait()


async def counted(client: openai.AsyncOpenAI, batch: str, least: int) -> int:
    """Once so many lines have been answered."""
    while True:
        found = await client.batches.retrieve(batch)
        assert found.request_counts is not None
        assert found.status in ("validating", "in_progress", "finalizing", "completed")
        if found.request_counts.completed >= least:
            return found.request_counts.completed
        await asyncio.sleep(0.02)


async def test_a_killed_batch_is_gone_on_with(tmp_path: Path) -> None:
    body = {"model": "fake", "prompt": [1, 2], "max_tokens": 4, "seed": 1}
    lines = [{"custom_id": str(n), "method": "POST", "url": "/v1/completions", "body": body} for n in range(LINES)]
    async with asyncio.timeout(60), FakeEngine(step_s=0.02, generate=lambda prompt, seed, position: 100 + position) as engine:
        async with gateway(engine, tmp_path) as client:
            data = "\n".join(map(json.dumps, lines)).encode()
            file = await client.files.create(file=("in.jsonl", data), purpose="batch")
            batch = await client.batches.create(input_file_id=file.id, endpoint="/v1/completions", completion_window="24h")
            before = await counted(client, batch.id, 5)
        assert before < LINES, "it was too quick to be killed"
        async with gateway(engine, tmp_path) as client:
            assert await counted(client, batch.id, 5) >= before
            await counted(client, batch.id, LINES)
            while (batch := await client.batches.retrieve(batch.id)).status != "completed":  # noqa: ASYNC110 - as clients do
                await asyncio.sleep(0.02)
            assert batch.output_file_id is not None
            output = (await client.files.content(batch.output_file_id)).text.splitlines()
    assert [json.loads(line)["custom_id"] for line in output] == [str(n) for n in range(LINES)]
    texts = {json.loads(line)["response"]["body"]["choices"][0]["text"] for line in output}
    assert len(texts) == 1
