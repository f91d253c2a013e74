"""The command line itself: what it imports, and what a mistake looks like."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

WITHOUT = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise ImportError(f"{{name}} is blocked")

sys.meta_path.insert(0, Blocker())
sys.argv[:] = ["ossia", *{arguments}]
from cluster.cli import main
main()
"""
HEAVY = {"torch", "ray", "transformers", "safetensors", "huggingface_hub"}


def ossia(*arguments: str, blocked: set[str] | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    script = WITHOUT.format(blocked=repr(blocked or set()), arguments=list(arguments))
    env = {**os.environ, **environment}
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, env=env)


@pytest.mark.parametrize(
    "command", ["serve", "status", "stop", "logs", "chat", "gateway", "router", "replica", "layouts", "python-tool"]
)
def test_help_needs_neither_torch_nor_ray(command: str) -> None:
    done = ossia(command, "--help", blocked=HEAVY | {"starlette", "uvicorn"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Usage: ossia {command}")


def test_the_gateway_starts_without_torch_and_ray() -> None:
    done = ossia("gateway", "--fleet", "nonsense", blocked=HEAVY)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("ossia: --fleet: 'nonsense' is not HOST:PORT")


def test_the_router_starts_without_torch_and_ray() -> None:
    assert ossia("router", "--fleet", "nonsense", blocked=HEAVY).stderr.startswith("ossia: --fleet: 'nonsense'")


def test_a_router_that_others_reach_demands_a_token(tmp_path: Path) -> None:
    done = ossia("router", "--fleet", "127.0.0.1:1", "--host", "0.0.0.0", OSSIA_TOKEN="")
    assert done.returncode == 2
    assert done.stderr.startswith("ossia: listening on 0.0.0.0 needs the cluster's token: set OSSIA_TOKEN or --token-file")
    missing = ossia("router", "--fleet", "127.0.0.1:1", "--token-file", str(tmp_path / "none"))
    assert "the token cannot be read" in missing.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sreve"], "No such command 'sreve'"),
        (["serve", "--replicas", "two"], "'two' is not a valid integer"),
        (["serve", "--replicas", "0"], "--replicas must be a whole number of at least 1"),
        (["serve", "--experts", "dp"], "'dp' is not one of 'ep', 'tp'"),
        (["serve", "--nonsense"], "No such option"),
        (["serve", "/no/such/model"], "/no/such/model: no such folder"),
        (["status", "--name", "nobody"], "no instance 'nobody' is running"),
        (["stop", "--name", "nobody"], "no instance 'nobody' is running"),
        (["logs", "--name", "nobody"], "there are no logs of an instance 'nobody'"),
        (["gateway"], "Missing option '--fleet'"),
        (
            ["gateway", "--fleet", "127.0.0.1:1", "--port", "0", "--database", "mysql://x/y"],
            "--database: mysql is not supported",
        ),
        (["gateway", "--fleet", "127.0.0.1:1", "--processes", "2", "--database", "x"], "--database must be a URL such as"),
        (["gateway", "--fleet", "127.0.0.1:1", "--retention-days", "0"], "--retention-days must be a number of days above 0"),
        (["gateway", "--fleet", "127.0.0.1:1", "--tools", "/no/such/file"], "/no/such/file: cannot be read"),
        (["python-tool", "--host", "0.0.0.0"], "needs a token of the tool's own"),
        (["make-checkpoint", "/proc/none", "--hidden", "100"], "--hidden 100: must be a multiple of 32"),
        (["serve", "--ray-address", "no-such-host.invalid:6379"], "no-such-host.invalid:6379 cannot be reached ("),
        (["layouts", "--device-memory", "much"], "--device-memory must be a size such as"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = ossia(*arguments, XDG_STATE_HOME=str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("ossia: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_layouts_lists_what_fits_and_why_the_others_do_not(model: Path) -> None:
    done = ossia("layouts", str(model), "--device-memory", "80GiB")
    assert (done.returncode, done.stderr) == (0, "")
    rows = {row[5:12].strip(): row for row in done.stdout.splitlines()}
    assert list(rows) == ["1 x ep", "2 x ep", "2 x tp", "4 x ep", "4 x tp", "8 x ep", "8 x tp"]
    assert [name for name, row in rows.items() if row.startswith("yes")] == ["1 x ep", "2 x ep"]
    assert "GiB of weights and" in rows["2 x ep"]
    assert rows["4 x ep"].startswith("no   4 x ep  ") and rows["4 x ep"].endswith("2 key-value heads do not divide by 4 ranks")
    short = ossia("layouts", str(model), "--device-memory", "512MiB")
    assert short.returncode == 0
    assert all(row.startswith("no ") for row in short.stdout.splitlines())
    assert "rank 0 lacks" in short.stdout


def test_without_a_home_it_says_which_variable_to_set(tmp_path: Path) -> None:
    command = "from cluster.cli import main; main()"
    alone = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
    nobody = "import os, pwd; pwd.getpwuid = lambda uid: {}[uid]; os.environ.pop('HOME', None); " + command
    done = subprocess.run([sys.executable, "-c", nobody], capture_output=True, text=True, env=alone)
    assert done.returncode == 0
    done = subprocess.run([sys.executable, "-c", nobody, "status"], capture_output=True, text=True, env=alone)
    assert done.returncode == 2
    assert done.stderr == "ossia: this user has no home folder: set XDG_STATE_HOME to a folder to write to\n"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "ossia").touch()
    done = ossia("serve", XDG_STATE_HOME=str(tmp_path))
    assert done.returncode == 2
    assert (
        done.stderr
        == f"ossia: {tmp_path}/ossia/ossia: cannot be written (Not a directory); set XDG_STATE_HOME to a folder of yours\n"
    )


def test_keys_without_a_folder_to_write_to(tmp_path: Path) -> None:
    (tmp_path / "ossia").touch()
    done = ossia("keys", "create", XDG_STATE_HOME=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith(f"ossia: {tmp_path}/ossia/ossia: cannot be written (Not a directory); set XDG_STATE_HOME")


def test_without_room_for_temporary_files(model: Path, tmp_path: Path) -> None:
    nowhere = "import tempfile; tempfile.tempdir = '/none'; from cluster.cli import main; main()"
    command = [sys.executable, "-c", nowhere, "serve", str(model), "--port", "0"]
    env = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode == 2
    line = "ossia: there is no folder for temporary files (No such file or directory); make room, or set TMPDIR to one"
    assert done.stderr.splitlines()[-1] == line


def test_a_bug_of_ours_is_one_line_and_its_traceback_a_file(tmp_path: Path) -> None:
    done = ossia("status", blocked={"grpc"}, XDG_STATE_HOME=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("ossia: ImportError: grpc is blocked (a bug of ossia; traceback in ")
    assert done.stderr.count("\n") == 1
    (crash,) = (tmp_path / "ossia").glob("crash-*.log")
    assert "Traceback" in crash.read_text()


def test_a_bug_of_ours_is_told_where_there_is_no_folder_for_its_traceback(tmp_path: Path) -> None:
    (tmp_path / "ossia").touch()
    done = ossia("status", blocked={"grpc"}, XDG_STATE_HOME=str(tmp_path), TMPDIR=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"traceback in {tmp_path}/ossia-crash-" in done.stderr


def test_without_a_command_it_explains_itself() -> None:
    done = ossia()
    assert done.returncode == 0
    assert "Commands:" in done.stdout
    assert ossia("--version").stdout.startswith("ossia ")
