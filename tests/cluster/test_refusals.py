"""What a user can mend ends the head with one line on stderr and exit code 2, with nothing left running."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import processes
from cluster.spec import HeadSpec
from tests.cluster import heads
from workers.model.layout import Layout
from workers.runner.spec import RunnerSpec

pytestmark = pytest.mark.slow


@pytest.fixture
def folder() -> Iterator[Path]:
    with heads.folder() as path:
        yield path


def refuse(spec: HeadSpec, folder: Path) -> str:
    """The last line that a head wrote before it ended with exit code 2."""
    with heads.running(spec, folder) as head:
        assert head.process.wait(60) == 2, head.stderr
        head.reader.join()
        assert processes.of_ray(folder) == []
        return head.stderr.splitlines()[-1]


def test_a_bundle_that_no_node_holds(folder: Path) -> None:
    cores = os.cpu_count() or 1
    line = refuse(heads.spec(cpus_per_rank=cores), folder)
    assert line.startswith(f"ossia: replica-0 cannot be placed: the bundle of its rank 1 asks for CPU {cores} on one node")
    assert f"127.0.0.1 offers CPU {cores}; lower" in line


def test_a_rank_that_refuses_its_spec(folder: Path) -> None:
    line = refuse(heads.spec(runner=RunnerSpec("refuse", Layout(2))), folder)
    assert line == "ossia: the checkpoint is not gpt-oss: give one that is"


def test_a_port_in_use(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refuse(heads.spec(controller_port=port, runner=RunnerSpec("hang", Layout(2))), folder)
    assert line == f"ossia: port {port} on 127.0.0.1 is in use: free it or use another"


def test_a_ray_that_is_not_there(folder: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        line = refuse(heads.spec(ray_address=address), folder)
    assert line == f"ossia: no Ray answers at {address}: start it, or give its GCS as HOST:PORT"


def test_a_folder_too_deep_for_sockets(folder: Path) -> None:
    line = refuse(heads.spec(ray_folder=str(folder / ("deep" * 10))), folder)
    assert "is too long for sockets" in line
