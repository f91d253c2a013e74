"""Ray on this host: one that belongs to this process, or one that is joined. Imports ray only once its environment is set."""

import asyncio
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from cluster import cores, gcs, processes, reaper
from cluster.spec import HeadSpec
from ossia.common.errors import UserError

NAMESPACE = "ossia"
WEEK_S = 7 * 24 * 3600
OBJECT_STORE_BYTES = 80 << 20  # nothing travels through it after start-up; this is near Ray's least
LONGEST_FOLDER = 36  # characters: Linux allows 107 for a socket's path, Ray adds up to 71
TOKEN_VARIABLES = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
PARTS = ("gcs_server", "raylet")


def environment(spec: HeadSpec) -> dict[str, str]:
    """What must be in the environment before Ray is imported and any process of it starts.

    Raylets and workers give up on a lost GCS only after a week. Workers run at the priority of whoever starts Ray, not 15 steps
    below, where ranks stand still beside anything else. Ray puts the host's own address in the place of a loopback
    one, and listens on every interface, unless told that there are no other hosts. A Ray of our own demands a token of its own.
    """
    values = {
        "RAY_gcs_rpc_server_reconnect_timeout_s": str(WEEK_S),
        "RAY_worker_niceness": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    token = Path(spec.ray_folder) / "auth_token"
    if spec.ray_address is None or (spec.ray_folder and token.exists()):  # ours, or that of an earlier head of ours
        values |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        if spec.node_ip.startswith("127."):
            values["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    return values


class LocalRay:
    """This process as a driver of Ray; a Ray of its own ends with it, even by SIGKILL."""

    def __init__(self, spec: HeadSpec) -> None:
        """Raises UserError. Must run in the main thread: the kernel ends Ray's processes with the thread that started them."""
        self.own = spec.ray_address is None
        if spec.ray_address is None:
            _make(Path(spec.ray_folder))
        else:
            _approach(spec.ray_address)
        import ray

        _keep_signals()
        try:
            ray.init(namespace=NAMESPACE, log_to_driver=False, configure_logging=False, **_arguments(spec))
        except Exception as error:  # Ray raises no more than that where it waits in vain for its own processes
            where = f"Ray at {spec.ray_address} cannot be joined (its token?)" if spec.ray_address else "Ray does not start"
            raise UserError(f"{where}: {(str(error).strip() or repr(error)).splitlines()[0]}") from error
        self.address: str = ray.get_runtime_context().gcs_address
        self._started = processes.below(psutil.Process()) if self.own else []
        self._reaper = reaper.start(self._started) if self.own else None

    @property
    def pids(self) -> dict[str, int]:
        """Of a Ray of our own, by part."""
        children = psutil.Process().children() if self.own else []
        return {child.name(): child.pid for child in children if child.name() in PARTS}

    def stop(self, *, gcs_alive: bool) -> None:
        """Leaves Ray. Everything that a Ray of our own has started ends."""
        import ray

        started = {*self._started, *processes.below(psutil.Process())}  # agents of a dead raylet are no longer below us
        if gcs_alive:
            ray.shutdown()
        processes.kill(started)


def _keep_signals() -> None:
    """A signal finds the handler of this process also while Ray starts.

    Ray would put one of its own in the place of SIGTERM's, which raises wherever ray.init is, and below it one in C++ that
    takes SIGTERM for a crash: it prints the stack, and aborts this process three seconds later. An environment variable
    would tell Ray the latter, but ranks would inherit it, whose crashes must leave a stack.
    """
    from ray._private import ray_constants, utils

    ray_constants.RAY_DISABLE_FAILURE_SIGNAL_HANDLER = True
    utils.set_sigterm_handler = lambda _handler: None


def _approach(address: str) -> None:
    """Raises UserError where Ray would wait: for a week where nobody answers, for long where it lacks a token."""
    if not asyncio.run(gcs.alive(address)):
        raise UserError(f"no Ray answers at {address}: start it, or give its GCS as HOST:PORT")
    if asyncio.run(gcs.demands_token(address)):
        os.environ["RAY_AUTH_MODE"] = "token"  # Ray presents what it finds only if told so
        if not any(map(os.environ.get, TOKEN_VARIABLES)) and not Path("~/.ray/auth_token").expanduser().exists():
            raise UserError(f"Ray at {address} demands a token: set RAY_AUTH_TOKEN_PATH to a file with it, or RAY_AUTH_TOKEN")


def _arguments(spec: HeadSpec) -> Mapping[str, Any]:
    if spec.ray_address:
        return {"address": spec.ray_address}
    return {
        "address": "local",
        "num_cpus": cores.available(),
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
        "_temp_dir": spec.ray_folder,
        "_node_ip_address": spec.node_ip,
    }


def _make(folder: Path) -> None:
    """The temporary folder, and the token in it."""
    if len(str(folder)) > LONGEST_FOLDER:
        raise UserError(f"the path of Ray's folder is too long for sockets: {folder}; use at most {LONGEST_FOLDER} characters")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder / "auth_token", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secrets.token_hex(32))
