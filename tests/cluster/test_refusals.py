"""What a user can mend ends the head with one line on stderr and exit code 2, with nothing left running."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cluster import processes
from tests.cluster import heads
from workers.model.layout import Layout
from workers.runner.spec import RunnerSpec

pytestmark = pytest.mark.slow


CORES = os.cpu_count() or 1


@pytest.fixture(scope="module")
def lines() -> Iterator[dict[str, str]]:
    """The last line that each of these heads wrote before it ended with exit code 2. They run side by side."""
    with socket.create_server(("127.0.0.1", 0)) as taken, ExitStack() as stack:
        port = taken.getsockname()[1]
        folders = {name: stack.enter_context(heads.folder()) for name in ("bundle", "rank", "port", "ray", "deep")}
        specs = {
            "bundle": heads.spec(cpus_per_rank=CORES),
            "rank": heads.spec(runner=RunnerSpec("refuse", Layout(2))),
            "port": heads.spec(controller_port=port, runner=RunnerSpec("hang", Layout(2))),
            "ray": heads.spec(ray_address="127.0.0.1:1"),
            "deep": heads.spec(ray_folder=str(folders["deep"] / ("deep" * 10))),
        }
        running = {name: stack.enter_context(heads.running(spec, folders[name])) for name, spec in specs.items()}
        yield {name: _refusal(head, folders[name]) for name, head in running.items()} | {"taken": str(port)}


def _refusal(head: heads.Head, folder: Path) -> str:
    assert head.process.wait(60) == 2, head.stderr
    head.reader.join()
    assert processes.of_ray(folder) == []
    return head.stderr.splitlines()[-1]


def test_a_bundle_that_no_node_holds(lines: dict[str, str]) -> None:
    asked = f"ossia: replica-0 cannot be placed: the bundle of its rank 1 asks for CPU {CORES} on one node"
    assert lines["bundle"].startswith(asked)
    assert f"127.0.0.1 offers CPU {CORES}; lower" in lines["bundle"]


def test_a_rank_that_refuses_its_spec(lines: dict[str, str]) -> None:
    assert lines["rank"].startswith("ossia: rank ")
    assert lines["rank"].endswith(" on 127.0.0.1: the checkpoint is not gpt-oss: give one that is")


def test_a_port_in_use(lines: dict[str, str]) -> None:
    assert lines["port"].startswith(f"ossia: cannot listen on 127.0.0.1:{lines['taken']}: it is in use")


def test_a_ray_that_is_not_there(lines: dict[str, str]) -> None:
    assert lines["ray"] == "ossia: no Ray answers at 127.0.0.1:1: start it, or give its GCS as HOST:PORT"


def test_a_folder_too_deep_for_sockets(lines: dict[str, str]) -> None:
    assert "is too long for sockets" in lines["deep"]
