"""`ossia gateway` with keys, limits, TLS, an audit log and tools, as a process in front of a real gRPC engine."""

import asyncio
import json
import signal
import sys
from pathlib import Path

import httpx

from cluster import keys
from router.store.config import StoreConfig
from tests.fakes.engine import FakeEngine
from tests.router.gateway.test_tls import Files

ACCESS = """
keys: true
limits: {requests-per-minute: 600, tokens-per-day: 100000, concurrent-requests: 8}
audit: {file: AUDIT}
"""


async def test_keys_limits_tls_and_the_audit_log(tmp_path: Path) -> None:
    files, audit, database = Files(tmp_path), tmp_path / "audit.jsonl", f"sqlite:///{tmp_path}/gateway.db"
    (tmp_path / "access.yaml").write_text(ACCESS.replace("AUDIT", str(audit)))
    key, stored = await asyncio.to_thread(keys.create, StoreConfig(database), "acme", "", keys.Limited())
    async with FakeEngine(step_s=0.001, generate=lambda prompt, seed, position: 100 + position) as engine:
        options = {"--fleet": engine.address, "--port": "0", "--processes": "2", "--database": database, "--date": "2025-06-28"}
        options |= {"--access": f"{tmp_path}/access.yaml", "--tls-cert": str(files.cert), "--tls-key": str(files.key)}
        arguments = [part for option in options.items() for part in option]
        command = [sys.executable, "-m", "cluster.cli", "gateway", *arguments, "--log-folder", str(tmp_path)]
        gateway = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        assert gateway.stdout is not None
        url = (await gateway.stdout.readline()).decode().split()[-1]
        assert url.startswith("https://")
        async with httpx.AsyncClient(base_url=url, verify=files.client(presents=False)) as http, asyncio.timeout(60):
            while (await http.get("/ready")).status_code != 200:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)
            assert (await http.get("/v1/models")).status_code == 401
            own = (await http.get("/metrics/targets")).json()[0]
            assert (own["targets"], own["labels"]["__scheme__"]) == ([url.removeprefix("https://")], "https")
            http.headers["authorization"] = f"Bearer {key}"
            ask = {"model": "fake", "prompt": [1, 2], "max_tokens": 5}
            answered = await http.post("/v1/completions", json=ask)
            assert (answered.status_code, answered.json()["usage"]["completion_tokens"]) == (200, 5)
            assert answered.headers["x-ratelimit-limit-requests"] == "600"
            chat = {"model": "fake", "messages": [{"role": "user", "content": "Hi"}]}
            assert "Current date: 2025-06-28" in (await http.post("/v1/render", json=chat)).json()["prompt"]
            refused = await http.post("/v1/completions", json={**ask, "max_tokens": 100_000})
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "insufficient_quota")
        gateway.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(gateway.wait(), 60) == 0
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    assert [(line["status"], line["key"]) for line in lines] == [
        (401, ""),
        (200, stored.id),
        (200, stored.id),
        (429, stored.id),
    ]
    assert (lines[1]["prompt_tokens"], lines[1]["output_tokens"], lines[1]["model"]) == (2, 5, "fake")
    logs = "".join(file.read_text() for file in (audit, tmp_path / "gateway.jsonl"))
    assert key not in logs


async def test_tool_servers_are_those_of_the_file(tmp_path: Path) -> None:
    server = [sys.executable, "-m", "tests.fakes.tools", "echo"]
    (tmp_path / "tools.yaml").write_text(json.dumps({"servers": {"mine": {"command": server}}}))
    async with FakeEngine(step_s=0.001) as engine:
        options = ("--fleet", engine.address, "--port", "0", "--database", f"sqlite:///{tmp_path}/gateway.db")
        command = [sys.executable, "-m", "cluster.cli", "gateway", *options, "--tools", f"{tmp_path}/tools.yaml"]
        gateway = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        assert gateway.stdout is not None
        url = (await gateway.stdout.readline()).decode().split()[-1]
        async with httpx.AsyncClient(base_url=url, timeout=60) as http, asyncio.timeout(60):
            while (await http.get("/ready")).status_code != 200:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)
            counts = {}
            for label in ("", "mine", "others"):
                tools = [{"type": "mcp", "server_label": label}] if label else []
                counted = await http.post("/v1/responses/input_tokens", json={"model": "fake", "input": "Hi", "tools": tools})
                counts[label] = counted.json().get("input_tokens")
        assert counts["mine"] > counts[""] > 0
        assert counts["others"] is None
        gateway.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(gateway.wait(), 60) == 0


async def test_a_mistake_in_the_file_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    file = tmp_path / "access.yaml"
    file.write_text("key: true")
    command = [sys.executable, "-m", "cluster.cli", "gateway", "--fleet", "127.0.0.1:1", "--port", "0", "--access", str(file)]
    gateway = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    _, said = await gateway.communicate()
    assert gateway.returncode == 2
    assert said.decode().count("\n") == 1
    assert "access.yaml: key: Extra inputs are not permitted" in said.decode()
