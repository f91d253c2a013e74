"""Runs a Supervisor over the fake head and gateway: python -m tests.fakes.supervise NAME PORT CONTROLLER_PORT [GRACE]."""

import asyncio
import os
import sys
import tempfile
from pathlib import Path

from prometheus_client import Counter

from cluster.identity import ProcessId
from cluster.spec import HeadSpec
from cluster.state import Folder, Instance, Record
from cluster.supervisor import Modules, Supervisor
from ossia.common import logs
from ossia.common.errors import UserError
from ossia.common.metrics import Endpoint
from workers.model.layout import Layout
from workers.runner.spec import RunnerSpec


async def main(name: str, port: int, controller_port: int, grace: float = 5.0) -> int:
    folder = Folder(name)
    temporary = Path(tempfile.mkdtemp(prefix="ossia-"))
    with folder.lock():
        folder.rotate_logs()
        logs.configure("supervisor", folder.logs)
        supervisor = ProcessId.of("supervisor", os.getpid())
        assert supervisor
        instance = Instance(
            name=name,
            supervisor=supervisor,
            url=f"http://127.0.0.1:{port}",
            model="fake",
            model_names=("fake",),
            replicas=2,
            ranks=2,
            experts="ep",
            controller=f"127.0.0.1:{controller_port}",
            folder=str(temporary),
            grace=grace,
        )
        spec = HeadSpec(
            instance=name,
            replicas=2,
            runner=RunnerSpec("none", layout=Layout(2, "ep")),
            model_names=("fake",),
            log_folder=str(folder.logs),
            controller_port=controller_port,
            grace_s=grace,
            processes=(Endpoint("supervisor", os.getpid(), "127.0.0.1", "127.0.0.1:1"),),
        )
        restarts = Counter("ossia_supervisor_restarts", "Restarts.", ["part"])
        modules = Modules(head=["tests.fakes.head"], gateway=["tests.fakes.gateway"])
        gateway = ["--host", "127.0.0.1", "--port", str(port)]
        try:
            return await Supervisor(
                spec, gateway, Record(folder, instance), temporary, restarts, replica_bytes=1_000_000_000, modules=modules
            ).run()
        except UserError as error:
            print(f"ossia: {error}", file=sys.stderr)
            return 2
        finally:
            folder.remove()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1], *map(int, sys.argv[2:4]), *map(float, sys.argv[4:]))))
