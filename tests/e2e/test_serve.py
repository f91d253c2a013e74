"""The main job, as its users see it: start it, talk to it with the openai client, kill parts of it, look at it."""

import json
import os
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest

from tests.e2e.serving import OSSIA, Serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
PROMPT = [200006, 1428, 200008, 25, 392, 7702, 81, 9, 17, 64_000, 200_007]


@pytest.fixture(scope="session")
def client(serving: Serving) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{serving.url}/v1", api_key="unused", max_retries=0, timeout=120)


def complete(client: openai.OpenAI, tokens: int, **fields: Any) -> list[int]:
    """Greedy token ids after PROMPT, streamed."""
    stream = client.completions.create(
        model="tiny-gpt-oss",
        prompt=PROMPT,
        max_tokens=tokens,
        temperature=0,
        stream=True,
        extra_body={"return_token_ids": True},
        **fields,
    )
    return [token for chunk in stream if chunk.choices for token in getattr(chunk.choices[0], "token_ids", None) or []]


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.2)


def all_ready(serving: Serving) -> bool:
    return all(replica["state"] == "ready" for replica in serving.status()["replicas"])


def test_it_prints_one_line_with_the_url(serving: Serving) -> None:
    assert serving.url in serving.line


def test_a_chat_completion_streams(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="tiny-gpt-oss",
            messages=[{"role": "user", "content": "How many rs are in the word 'strawberry'?"}],
            max_completion_tokens=24,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"thinking_token_budget": 4},  # random weights might reason to the end
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 24


def test_greedy_tokens_equal_transformers(client: openai.OpenAI, oracle: Callable[[list[int], int], list[int]]) -> None:
    assert complete(client, 48) == oracle(PROMPT, 48)


def test_status_shows_two_replicas_of_two_ranks(serving: Serving) -> None:
    pids = [pid for replica in serving.pids().values() for pid in replica]
    assert len(set(pids)) == 4
    assert all(psutil.pid_exists(pid) for pid in pids)
    shown = serving.run("status", f"--name={serving.name}")
    assert shown.returncode == 0
    assert all(str(pid) in shown.stdout for pid in pids)


def test_every_process_is_a_metrics_target(serving: Serving) -> None:
    with urllib.request.urlopen(f"{serving.url}/metrics/targets") as answer:
        groups = json.load(answer)
    parts = {group["labels"]["part"] for group in groups}
    assert parts == {"gateway", "controller", "head", "supervisor", "rank"}
    for address in (target for group in groups for target in group["targets"]):
        with urllib.request.urlopen(f"http://{address}/metrics") as answer:
            assert b"process_resident_memory_bytes" in answer.read(), address


def test_the_example_of_token_ids_shows_them(serving: Serving, oracle: Callable[[list[int], int], list[int]]) -> None:
    shown = serving.example("completions_tokens", "13225", "11").stdout.splitlines()
    assert shown[:2] == ["prompt: [13225, 11]", f"tokens: {oracle([13225, 11], 16)}"]


@pytest.mark.parametrize("rank", [0, 1], ids=["leader", "follower"])
def test_a_killed_rank_is_not_seen_by_the_client(serving: Serving, client: openai.OpenAI, rank: int) -> None:
    """kill -9 in mid-stream of the replica that serves: no token lost or repeated, and the replica comes back by itself."""
    undisturbed = complete(client, 150)
    wait_until(lambda: all_ready(serving), 60)
    stream = client.completions.create(
        model="tiny-gpt-oss", prompt=PROMPT, max_tokens=150, temperature=0, stream=True, extra_body={"return_token_ids": True}
    )
    tokens: list[int] = list(getattr(next(iter(stream)).choices[0], "token_ids"))  # noqa: B009 (an extension)
    busy = next(replica for replica in serving.status()["replicas"] if replica["load"]["running"])
    victim = next(each["pid"] for each in busy["ranks"] if each["rank"] == rank)
    os.kill(victim, signal.SIGKILL)
    before = len(tokens)
    for chunk in stream:
        tokens += getattr(chunk.choices[0], "token_ids", None) or []
    assert before < 150
    assert tokens == undisturbed
    wait_until(lambda: all_ready(serving) and victim not in serving.pids()[busy["name"]], 90)
    (after,) = (replica for replica in serving.status()["replicas"] if replica["name"] == busy["name"])
    assert after["restarts"] == busy["restarts"] + 1


def test_a_stopped_rank_is_replaced(serving: Serving, client: openai.OpenAI) -> None:
    """SIGSTOP: the process lives but hangs, which no exit code tells."""
    undisturbed = complete(client, 60)
    replica, pids = next(iter(serving.pids().items()))
    os.kill(pids[1], signal.SIGSTOP)
    assert complete(client, 60) == undisturbed
    wait_until(lambda: serving.pids()[replica] != pids and all_ready(serving), 120)
    assert not psutil.pid_exists(pids[1])


def test_a_client_that_leaves_frees_its_blocks(serving: Serving, client: openai.OpenAI) -> None:
    def used() -> int:
        return sum(int(replica["load"]["kv_tokens_used"]) for replica in serving.status()["replicas"])

    stream = client.completions.create(model="tiny-gpt-oss", prompt=PROMPT, max_tokens=4000, temperature=0, stream=True)
    next(iter(stream))
    assert used() > 0
    stream.close()
    wait_until(lambda: used() == 0, 60)


def test_logs_are_merged_and_carry_the_request_id(serving: Serving) -> None:
    with httpx.Client(base_url=serving.url, timeout=60) as http:
        body = {"model": "tiny-gpt-oss", "prompt": PROMPT, "max_tokens": 3}
        http.post("/v1/completions", json=body, headers={"x-request-id": "find-me-in-the-logs"}).raise_for_status()
    lines = serving.run("logs", f"--name={serving.name}").stdout.splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["time"] for record in records] == sorted(record["time"] for record in records)
    parts = {record["part"].split("/")[0] for record in records if record.get("request_id") == "find-me-in-the-logs"}
    assert "gateway" in parts
    assert any(part.startswith("replica-") for part in parts)


def test_chat_talks_to_it_and_can_be_interrupted(serving: Serving) -> None:
    pipe = subprocess.PIPE
    command = [str(OSSIA), "chat", f"--url={serving.url}"]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=serving.environment) as chat:
        assert chat.stdin is not None
        assert chat.stdout is not None
        chat.stdin.write(b"hello\n")
        chat.stdin.flush()
        assert chat.stdout.read(1)  # the first byte of an endless answer of random weights
        chat.send_signal(signal.SIGINT)
        _, errors = chat.communicate(b"/exit\n", timeout=30)
    assert (chat.returncode, errors) == (0, b"")


def test_bad_requests_are_named(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.completions.create(model="other", prompt="x")
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as long:
        client.completions.create(model="tiny-gpt-oss", prompt=[1] * 9000)
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError) as field:
        client.completions.create(model="tiny-gpt-oss", prompt="x", extra_body={"temprature": 1})
    assert (field.value.code, field.value.param) == ("unknown_parameter", "temprature")


def test_the_controller_is_adopted_after_its_death(serving: Serving, client: openai.OpenAI) -> None:
    wait_until(lambda: all_ready(serving), 60)
    before = serving.status()
    controller = next(process["pid"] for process in before["processes"] if process["part"] == "controller")
    os.kill(controller, signal.SIGKILL)
    assert len(complete(client, 20)) == 20

    def adopted() -> bool:
        pids = [process["pid"] for process in serving.status()["processes"] if process["part"] == "controller"]
        return bool(pids) and pids != [controller] and all_ready(serving)

    wait_until(adopted, 60)
    assert serving.pids() == {replica["name"]: [rank["pid"] for rank in replica["ranks"]] for replica in before["replicas"]}


def test_a_lost_gcs_is_told_survived_and_replaced(serving: Serving, client: openai.OpenAI) -> None:
    """Replicas go on serving, status says so with exit code 1, and serve rebuilds on a Ray of its own without a gap."""
    wait_until(lambda: all_ready(serving), 60)
    before = serving.pids()
    errors: list[Exception] = []
    done = threading.Event()

    def talk() -> None:
        while not done.is_set():
            try:
                assert len(complete(client, 20)) == 20
            except Exception as error:
                errors.append(error)

    talker = threading.Thread(target=talk)
    talker.start()
    (gcs,) = (
        child
        for child in psutil.Process(serving.process.pid if serving.process else 0).children(recursive=True)
        if child.name() == "gcs_server"
    )
    gcs.kill()
    result = serving.run("status", f"--name={serving.name}")
    assert result.returncode == 1, result.stdout
    assert "GCS" in result.stdout + result.stderr
    wait_until(
        lambda: (
            serving.run("status", f"--name={serving.name}").returncode == 0
            and all(serving.pids()[name] != pids for name, pids in before.items())
        ),
        150,
    )
    done.set()
    talker.join()
    assert errors == []
    assert not [pid for pids in before.values() for pid in pids if psutil.pid_exists(pid)]


@pytest.fixture
def other(serving: Serving, checkpoint: Path, tmp_path: Path) -> Iterator[Serving]:
    """A second instance beside the first; stopped at the end where the test did not."""
    running = Serving(tmp_path, checkpoint, "--replicas=1", "--ranks=1", name="second")
    running.environment = serving.environment
    yield running.start()
    if running.process and running.process.poll() is None:
        running.stop()


def test_two_instances_run_side_by_side_and_a_stop_lets_requests_finish(serving: Serving, other: Serving) -> None:
    clients = [openai.OpenAI(base_url=f"{one.url}/v1", api_key="unused", max_retries=0) for one in (serving, other)]
    undisturbed = [complete(client, 200) for client in clients]
    assert undisturbed[0] == undisturbed[1]
    assert len(other.pids()) == 1
    stream = clients[1].completions.create(
        model="tiny-gpt-oss", prompt=PROMPT, max_tokens=200, temperature=0, stream=True, extra_body={"return_token_ids": True}
    )
    chunks = iter(stream)
    tokens: list[int] = list(getattr(next(chunks).choices[0], "token_ids"))  # noqa: B009 (an extension)
    with subprocess.Popen([str(OSSIA), "stop", "--name=second"], env=other.environment) as stop:
        tokens += [token for chunk in chunks for token in getattr(chunk.choices[0], "token_ids", None) or []]
        assert tokens == undisturbed[1]
    assert stop.returncode == 0
    assert other.process is not None
    other.process.communicate(timeout=30)
    assert other.process.returncode == 0
    assert all_ready(serving)
