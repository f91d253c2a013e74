"""The parts by themselves, as pods and services run them: a replica of two ranks, a router before it, a gateway before that."""

import json
import os
import pty
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Thread

import openai
import psutil
import pytest

from cluster import processes
from tests.e2e.oracle import Oracle
from tests.e2e.processes import GatewayProcess
from tests.e2e.serving import OSSIA, free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
PROMPT = [200006, 1428, 200008, 25, 392, 7702, 81, 9, 17, 64_000, 200_007]
READ = "ossia_worker_checkpoint_read_bytes_total "


class Screen:
    """A terminal that shows what a part says on stderr."""

    def __init__(self) -> None:
        self._ours, self.stderr = pty.openpty()
        self.text = ""
        Thread(target=self._read, daemon=True).start()

    def until(self, text: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.text:
            assert time.monotonic() < deadline, self.text
            time.sleep(0.05)

    def _read(self) -> None:
        while True:
            try:
                self.text += os.read(self._ours, 1 << 16).decode(errors="replace")
            except OSError:  # nobody has the other end any more
                return


@contextmanager
def part(*command: str, stderr: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """A part that ends in order at SIGTERM, with everything below it."""
    with subprocess.Popen([str(OSSIA), *command], stdout=subprocess.PIPE, stderr=stderr, text=True) as process:
        try:
            yield process
            family = psutil.Process(process.pid).children(recursive=True)
            process.terminate()
            assert process.wait(60) == 0
            processes.wait(family, 30)
            assert not [each for each in family if processes.runs(each)]
        finally:
            process.kill()


class Parts:
    def __init__(self, url: str, screen: Screen) -> None:
        self.url = url
        self.screen = screen
        self.client = openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=60)

    def complete(self, model: str, tokens: int) -> list[int]:
        answer = self.client.completions.create(
            model=model, prompt=PROMPT, max_tokens=tokens, temperature=0, extra_body={"return_token_ids": True}
        )
        return list(getattr(answer.choices[0], "token_ids"))  # noqa: B009 (an extension the client does not type)

    def targets(self) -> list[tuple[dict[str, str], str]]:
        """Labels and address of each."""
        groups = json.loads(page(f"{self.url}/metrics/targets"))
        return [(group["labels"], address) for group in groups for address in group["targets"]]

    def ranks(self) -> list[int]:
        """Their pids."""
        return [int(labels["pid"]) for labels, _ in self.targets() if labels["part"] == "rank"]


@pytest.fixture(scope="module")
def parts(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    engine, router = (f"127.0.0.1:{free_port()}" for _ in range(2))
    screen, model = Screen(), ["replica", str(checkpoint), "--ranks=2", "--port", engine.split(":")[1]]
    with ExitStack() as stack:
        stack.enter_context(part(*model, stderr=screen.stderr))
        os.close(screen.stderr)
        screen.until("replica-0 is ready", 150)
        stack.enter_context(part("router", f"--fleet={engine}", "--port", router.split(":")[1]))
        gateway = stack.enter_context(GatewayProcess(tmp_path_factory.mktemp("parts"), router))
        yield Parts(gateway.url, screen)


def page(url: str) -> str:
    with urllib.request.urlopen(url) as answer:
        return str(answer.read().decode())


def test_greedy_tokens_equal_transformers(parts: Parts, checkpoint: Path, oracle: Oracle) -> None:
    assert parts.complete(checkpoint.name, 32) == oracle(PROMPT, 32)


def test_every_process_is_a_metrics_target(parts: Parts) -> None:
    targets = parts.targets()
    expected = ["controller", "gateway", "head", "rank", "rank", "replica", "router"]
    assert sorted(labels["part"] for labels, _ in targets) == expected
    for labels, address in targets:
        assert "process_resident_memory_bytes" in page(f"http://{address}/metrics"), labels


def test_the_terminal_showed_how_much_was_read(parts: Parts) -> None:
    """All that the ranks read is all that was said beforehand."""
    read = 0.0
    for labels, address in parts.targets():
        if labels["part"] == "rank":
            (line,) = (line for line in page(f"http://{address}/metrics").splitlines() if line.startswith(READ))
            read += float(line.removeprefix(READ))
    assert f"[{'#' * 30}] 100 % of {read / 1e6:.1f} MB read" in parts.screen.text


def test_a_killed_rank_comes_back(parts: Parts, checkpoint: Path) -> None:
    before, undisturbed = parts.ranks(), parts.complete(checkpoint.name, 32)
    os.kill(before[1], signal.SIGKILL)
    deadline = time.monotonic() + 90
    while not (after := parts.ranks()) or set(after) & set(before):
        assert time.monotonic() < deadline, parts.screen.text
        time.sleep(0.2)
    assert parts.complete(checkpoint.name, 32) == undisturbed
