"""The state file of an instance, by which `ossia status`, `stop`, `logs` and `chat` find what `ossia serve` runs.

One folder per name: state.json (mode 0600, it holds the token), a lock held for the life of the supervisor, and the logs.
"""

import fcntl
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TextIO

from cluster.identity import ProcessId
from ossia.common import folders
from ossia.common.errors import UserError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Instance:
    """What is written down about a running `ossia serve`."""

    name: str
    supervisor: ProcessId
    url: str  # of the gateway, without /v1
    model: str
    model_names: tuple[str, ...]
    replicas: int
    ranks: int  # in a replica
    experts: str
    controller: str  # host:port
    folder: str  # temporary files, Ray's among them
    grace: float  # seconds
    phase: str = "starting"  # then "ready", "recovering" (Ray's GCS is lost) or "stopping"
    token: str | None = None
    ray_address: str = ""
    processes: tuple[ProcessId, ...] = ()  # all on this host that must not outlive the instance, the supervisor apart
    fleet: dict[str, Any] = field(default_factory=dict)  # the last FleetState, as protobuf's JSON

    def process(self, part: str) -> ProcessId | None:
        return next((process for process in self.processes if process.part == part), None)


class Folder:
    """Where an instance keeps its state file, lock and logs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = folders.state() / name
        self.logs = self.path / "logs"
        self._file = self.path / "state.json"

    @property
    def database(self) -> str:
        """The URL of what the gateway keeps, unless another one is asked for."""
        return f"sqlite:///{self.path}/gateway.db"

    def read(self) -> Instance | None:
        """None where no instance of this name runs or was left behind. Raises UserError: cut short, or another version's."""
        try:
            values = json.loads(self._file.read_text(encoding="utf-8"))
            values["supervisor"] = _process(values["supervisor"])
            values["processes"] = tuple(map(_process, values["processes"]))
            values["model_names"] = tuple(values["model_names"])
            return Instance(**values)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self._file}: cannot be read ({error!r}); end what it names, and remove it") from error

    def require(self) -> Instance:
        """As `read`; raises UserError where there is none."""
        instance = self.read()
        if instance is None:
            raise UserError(f"no instance '{self.name}' is running{_others(self.name)}")
        return instance

    def write(self, instance: Instance) -> None:
        """Replaces the file in one step: a reader sees the old state or the new one. Raises UserError where it cannot."""
        temporary = self._file.with_suffix(".tmp")
        with self._writing():
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
                json.dump(asdict(instance), file, indent=2)
            temporary.replace(self._file)

    def remove(self) -> None:
        for file in (self._file, self._file.with_suffix(".tmp")):  # the latter of a supervisor that was killed as it wrote
            file.unlink(missing_ok=True)

    def rotate_logs(self) -> None:
        """Starts an empty log folder; those of the run before stay beside it as logs.previous. Raises UserError."""
        previous = self.path / "logs.previous"
        with self._writing():
            if self.logs.exists():
                shutil.rmtree(previous, ignore_errors=True)
                self.logs.rename(previous)
            self.logs.mkdir(parents=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Held by the supervisor for life; the kernel drops it when the process ends.

        Raises UserError when another has it, or the folder cannot be written.
        """
        with self._lockable() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                hint = f"stop it (`ossia stop --name {self.name}`) or choose another --name and --port"
                raise UserError(f"instance '{self.name}' is already running: {hint}") from error
            with self._writing():
                file.truncate(0)
                os.write(file.fileno(), json.dumps(asdict(ProcessId.me("supervisor"))).encode())  # no buffer fails to close
            yield

    def holder(self) -> ProcessId | None:
        """Who has the lock, where somebody has."""
        try:
            with (self.path / "lock").open() as file:
                with suppress(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    return None
                return _process(json.load(file))
        except (OSError, ValueError, KeyError, TypeError):  # there is none; or it has only just taken it
            return None

    def make(self) -> None:
        """Makes the folder, unless it is there. Raises UserError."""
        with self._writing():
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _lockable(self) -> TextIO:
        self.make()
        with self._writing():
            return (self.path / "lock").open("a")  # what its holder wrote stays

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot be written ({error.strerror}); set XDG_STATE_HOME to a folder of yours"
            ) from error


class Record:
    """The state file as its one writer holds it: every change is written at once, or with the next where there is no room."""

    def __init__(self, folder: Folder, instance: Instance) -> None:
        self.instance = instance
        self._folder = folder
        self._written = instance
        folder.write(instance)

    def update(self, **changes: Any) -> None:
        """Writes the fields of Instance that changed."""
        self.instance = replace(self.instance, **changes)
        if self.instance != self._written:
            try:
                self._folder.write(self.instance)
                self._written = self.instance
            except UserError:  # a full disk must not end what serves
                logger.exception("the state is not written down")

    def track(self, pids: Mapping[str, int]) -> None:
        """Adds processes by part; a part that has a new pid loses the old one."""
        known = {(process.part, process.pid) for process in self.instance.processes}
        added = [ProcessId.of(part, pid) for part, pid in pids.items() if (part, pid) not in known]
        if any(added):
            kept = [p for p in self.instance.processes if pids.get(p.part, p.pid) == p.pid]
            self.update(processes=(*kept, *(process for process in added if process)))


def _process(values: Any) -> ProcessId:
    """Raises KeyError or TypeError where another version wrote it: taken for dead, what runs would be removed."""
    if not isinstance(values["created"], str):
        raise TypeError(f"created: {values['created']!r}")
    return ProcessId(**values)


def names() -> list[str]:
    """Instances that have a state file."""
    return sorted(file.parent.name for file in folders.state().glob("*/state.json"))


def _others(name: str) -> str:
    others = [other for other in names() if other != name]
    return f"; running: {', '.join(others)} (choose with --name)" if others else "; start one with `ossia serve`"
