"""A PostgreSQL of the tests' own, on a free port of loopback; not safe from power cuts, and gone at the end."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.serving import free_port

_FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


def installed() -> Path | None:
    """The folder of the server's programs, where Debian puts them or on the path."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = str(debian[-1]) if debian else shutil.which("initdb")
    return Path(found).parent if found else None


@contextmanager
def postgres_server() -> Iterator[str]:
    """Starts a server and yields its URL, whose path is missing: any database can be made there."""
    programs = installed()
    assert programs is not None, "these tests need PostgreSQL: apt-get install postgresql"
    folder = Path(tempfile.mkdtemp(prefix="ossia-postgres-"))
    try:
        as_owner = _owner(folder)
        data, port = folder / "data", free_port()
        run = {"check": True, "cwd": folder, "stdout": subprocess.DEVNULL, **as_owner}
        subprocess.run([f"{programs}/initdb", "-D", str(data), "-U", "ossia", "-A", "trust", "--no-sync"], **run)
        command = [f"{programs}/postgres", "-D", str(data), "-p", str(port), "-k", str(folder), "-h", "127.0.0.1"]
        settings = [part for setting in _FAST for part in ("-c", setting)]
        with (folder / "log").open("w") as log:
            server = subprocess.Popen([*command, *settings], cwd=folder, stderr=log, **as_owner)
        try:
            ready = [f"{programs}/pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
            while subprocess.run(ready, check=False).returncode:
                assert server.poll() is None, (folder / "log").read_text()
            yield f"postgresql://ossia@127.0.0.1:{port}"
        finally:
            server.send_signal(signal.SIGQUIT)  # its immediate end, whoever is connected
            server.wait(30)
    finally:
        shutil.rmtree(folder)


def _owner(folder: Path) -> dict[str, Any]:
    """PostgreSQL refuses to run as root: then somebody else does, who owns the folder."""
    if os.geteuid():
        return {}
    user = next(entry for name in ("postgres", "nobody") for entry in pwd.getpwall() if entry.pw_name == name)
    os.chown(folder, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
