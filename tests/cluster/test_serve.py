"""`ossia serve` from its flags to a running instance, over fake heads and gateways; bad input through the real one."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from cluster import cores, devices, serve
from cluster.config import ServeConfig
from cluster.identity import ProcessId
from cluster.state import Folder
from cluster.stop import stop
from ossia.common import wire
from ossia.common.errors import UserError
from workers.checkpoint.resolve import resolve


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Folders of this test alone; no temporary folder and no state file may be left at its end."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("OSSIA_TOKEN", raising=False)
    yield tmp_path
    assert list((tmp_path / "state").glob("ossia/*/state.json")) == []
    assert [folder for folder in Path("/tmp").glob("ossia-*") if told(folder, tmp_path)] == []


def told(folder: Path, home: Path) -> bool:
    """It is of an instance whose logs are there: others may run beside these tests."""
    with suppress(OSError):
        return str(home) in (folder / "head-0.json").read_text()
    return False


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(model: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: str, **environment: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "tests.fakes.serve", "serve", str(model), "--port", "0", *arguments]
        env = {**os.environ, **environment}
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env))
        return started[-1]

    yield run
    for process in started:
        process.terminate()
        process.communicate(timeout=60)


def ready(process: "subprocess.Popen[str]") -> str:
    """The URL it prints."""
    assert process.stdout
    line = process.stdout.readline()
    assert line.startswith("ossia is ready: http://127.0.0.1:"), process.communicate()[1]
    return line.split()[3].removesuffix("/v1")


def refused(*arguments: str, command: str = "serve") -> str:
    words = [sys.executable, "-m", "cluster.cli", command, *arguments]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_a_port_in_use(model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused(str(model), "--port", str(port))
    assert line == f"ossia: port {port} on 127.0.0.1 is in use; choose another with --port, or 0 for a free one\n"


def test_a_folder_that_is_no_model(home: Path) -> None:
    assert "no config.json" in refused(str(home))


Change = Callable[[dict[str, torch.Tensor], dict[str, Any]], object]  # of the tensors and of config.json
BAD: dict[str, tuple[Change, str]] = {
    "another model": (
        lambda _, config: config.update(model_type="llama"),
        'not a gpt-oss checkpoint: model_type is "llama"',
    ),
    "a tensor missing": (
        lambda tensors, _: tensors.pop("model.norm.weight"),
        "tensor model.norm.weight is missing, which config.json calls for; is the checkpoint complete?",
    ),
    "a wrong shape": (
        lambda tensors, _: tensors.update({"model.norm.weight": torch.zeros(31, dtype=torch.bfloat16)}),
        "tensor model.norm.weight has shape [31], expected [32] from config.json",
    ),
}


@pytest.mark.parametrize("mistake", BAD)
@pytest.mark.parametrize("command", ["serve", "replica"])
def test_a_checkpoint_that_cannot_be_served(command: str, mistake: str, model: Path, home: Path) -> None:
    change, message = BAD[mistake]
    (weights,) = model.glob("*.safetensors")
    tensors, config = load_file(weights), json.loads((model / "config.json").read_text())
    change(tensors, config)
    save_file(tensors, home / "model.safetensors")
    (home / "config.json").write_text(json.dumps(config))
    line = refused(str(home), "--port", "0", command=command)
    assert line.startswith(f"ossia: {home}")
    assert message in line
    mine = str(home / "state")
    assert not [process for process in psutil.process_iter() if variables(process).get("XDG_STATE_HOME") == mine]


def variables(process: psutil.Process) -> dict[str, str]:
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return process.environ()
    return {}


def test_a_layout_that_cannot_be(model: Path) -> None:
    assert "2 key-value heads do not divide by 4 ranks" in refused(str(model), "--ranks", "4")


def test_too_little_memory(model: Path) -> None:
    line = refused(str(model), "--kv-memory", "9000GiB")
    assert "rank 0 lacks" in line
    assert "is free for each of the 4 ranks on this host" in line


def test_a_typo_in_the_file(home: Path) -> None:
    (home / "ossia.yaml").write_text("replicas: 1\nrank: 2\n")
    line = refused("--config", str(home / "ossia.yaml"))
    assert line.endswith("ossia.yaml line 2: unknown key 'rank'; did you mean 'ranks'?\n")


def test_what_is_asked_for_reaches_head_and_gateway(start: Start, model: Path) -> None:
    stored = ("--encryption-key-file", "keys", "--retention-days", "7", "--tools", "tools.yaml", "--access", "who.yaml")
    process = start(
        *("--replicas", "3", "--ranks", "1", "--grace", "7", "--served-model-name", "a", "--served-model-name", "b"),
        *("--placement", "pack", "--collective-timeout", "90"),
        *stored,
    )
    url = ready(process)
    instance = Folder("ossia").require()
    spec = json.loads((Path(instance.folder) / "head-0.json").read_text())
    assert spec["replicas"] == 3
    assert spec["runner"]["layout"] == {"ranks": 1, "experts": "ep"}
    assert spec["runner"]["checkpoint"] == str(model)
    assert spec["model_names"] == ["a", "b"]
    assert spec["grace_s"] == 7
    assert (spec["strategy"], spec["runner"]["collective_timeout_s"]) == ("PACK", 90)
    assert spec["token"] is None
    assert spec["processes"][0]["part"] == "supervisor"
    metrics = urllib.request.urlopen(f"http://{spec['processes'][0]['metrics_address']}/metrics").read().decode()
    assert "ossia_supervisor_restarts_total" in metrics
    arguments = urllib.request.urlopen(url).read().decode()
    assert f"--fleet controller:127.0.0.1:{spec['controller_port']}" in arguments
    assert "--grace 7.0" in arguments
    assert "--retention-days 7.0" in arguments
    assert "--encryption-key-file keys --access who.yaml --tools tools.yaml" in arguments
    assert arguments.endswith(f"sqlite:///{Folder('ossia').path}/gateway.db")
    assert "--served-model-name a --served-model-name b" in arguments


def test_two_names_run_side_by_side_and_one_name_once(start: Start, model: Path) -> None:
    first, second = start(), start("--name", "other")
    assert ready(first) != ready(second)
    assert "instance 'other' is already running" in refused(str(model), "--port", "0", "--name", "other")
    stop("other")
    assert second.wait(60) == 0
    assert Folder("ossia").require().supervisor.find()


def test_what_a_killed_supervisor_left_is_cleaned_by_the_next(start: Start) -> None:
    first = start()
    ready(first)
    first.send_signal(signal.SIGKILL)
    first.wait()
    left = Folder("ossia").require()
    second = start()
    ready(second)
    assert not Path(left.folder).exists()
    assert not any(process.find() for process in left.processes)
    process = ProcessId.of("supervisor", second.pid)
    assert process and Folder("ossia").require().supervisor == process


def test_a_state_that_was_cut_short_holds_up_no_start(start: Start) -> None:
    folder = Folder("ossia")
    with folder.lock():
        (folder.path / "state.json").touch()
    ready(start())
    assert folder.require().phase == "ready"


def test_beyond_loopback_there_is_a_token_in_no_argument(start: Start) -> None:
    process = start("--host", "0.0.0.0")
    url = ready(process)
    instance = Folder("ossia").require()
    assert instance.token and len(instance.token) == 32
    assert instance.token not in urllib.request.urlopen(url).read().decode()
    spec = json.loads((Path(instance.folder) / "head-0.json").read_text())
    assert spec["token"] == instance.token


def test_what_the_head_is_told(model: Path) -> None:
    config = ServeConfig(model=str(model), replicas=3, ranks=1)
    found = resolve(str(model))
    runner, _ = serve.plan_runner(config, found, [])
    spec = serve.head_spec(config, found, runner, [], Path("/logs"))
    assert spec.cpus_per_rank == 0, "the head divides what Ray has"
    assert wire.is_loopback(spec.node_ip)
    assert spec.model_names == ("tiny",)
    assert (spec.strategy, spec.runner.collective_timeout_s) == ("STRICT_PACK", 30)
    remote = serve.head_spec(replace(config, ray_address="127.0.0.1:6379"), found, runner, [], Path("/logs"))
    assert remote.ray_address == "127.0.0.1:6379"
    assert remote.token


def test_a_rank_has_a_gpu_of_its_own_where_there_are_any(model: Path) -> None:
    config, found = ServeConfig(model=str(model), replicas=1), resolve(str(model))
    runner, _ = serve.plan_runner(config, found, [8 << 30, 9 << 30])
    assert (runner.dtype, runner.deterministic) == ("bfloat16", False)
    assert serve.plan_runner(replace(config, deterministic=True, ranks=1), found, [])[0].deterministic
    assert runner.drafts and not serve.plan_runner(replace(config, no_drafts=True, ranks=1), found, [])[0].drafts
    assert serve.head_spec(config, found, runner, [8 << 30], Path("/logs")).gpus_per_rank == 1
    with pytest.raises(UserError, match="1 x 2 ranks need a GPU each, this host has 1: use fewer"):
        serve.plan_runner(config, found, [8 << 30])
    with pytest.raises(UserError, match="rank 0 lacks"):
        serve.plan_runner(config, found, [1 << 20, 1 << 40])


def test_gpus_by_what_their_drivers_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    device = tmp_path / "card0" / "device"
    device.mkdir(parents=True)
    (device / "mem_info_vram_total").write_text("1000\n")
    (device / "mem_info_vram_used").write_text("100\n")
    assert devices.gpus(tmp_path) == []
    (tmp_path / "rocminfo").touch(0o755)
    assert devices.gpus(tmp_path) == [900]
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 81000\necho 40000\n")
    tool.chmod(0o755)
    assert devices.gpus(tmp_path) == [81000 << 20, 40000 << 20]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert devices.gpus(tmp_path) == []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    tool.write_text("#!/bin/sh\nexit 9\n")
    with pytest.raises(UserError, match="nvidia-smi does not tell"):
        devices.gpus(tmp_path)


def test_cores_of_a_container(tmp_path: Path) -> None:
    everything = cores.available(tmp_path)
    for text, expected in [
        ("max 100000", everything),
        ("150000 100000", 1),
        ("50000 100000", 1),
        ("99900000 100000", everything),
    ]:
        (tmp_path / "cpu.max").write_text(text)
        assert cores.available(tmp_path) == expected
