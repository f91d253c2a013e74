"""`ossia stop`: asks the supervisor to stop and waits for it; where it is dead, ends what it left behind."""

import shutil
from pathlib import Path

from cluster import identity, processes
from cluster.state import Folder, Instance

HEAD_EXTRA_S = 20.0  # beyond the grace, for a head to end by itself


def stop(name: str) -> None:
    """Returns when nothing of the instance runs. Raises UserError where there is no such instance."""
    folder = Folder(name)
    preparing = folder.holder() if folder.read() is None else None
    if preparing and (process := preparing.find()):  # it has started nothing yet
        process.terminate()
        processes.wait([process])
        if folder.read() is None:
            return
    instance = folder.require()
    supervisor = instance.supervisor.find()
    if supervisor is not None:
        if instance.phase != "stopping":  # a second signal would mean: at once
            supervisor.terminate()
        processes.wait([supervisor])  # it ends by itself within twice the grace
    if left := _left(folder, instance):
        clean(folder, left)


def clean(folder: Folder, instance: Instance) -> None:
    """Ends and removes what a supervisor left behind that could not do it itself.

    Its head notices the supervisor's end by itself and stops in order, which alone frees what it has in somebody else's Ray.
    """
    head = instance.process("head")
    processes.wait([process] if head and (process := head.find()) else [], instance.grace + HEAD_EXTRA_S)
    identity.kill([instance.supervisor, *instance.processes])
    shutil.rmtree(Path(instance.folder), ignore_errors=True)
    if _left(folder, instance):
        folder.remove()


def _left(folder: Folder, instance: Instance) -> Instance | None:
    """What the supervisor wrote down last; None where it has removed that, or another one was started meanwhile."""
    state = folder.read()
    return state if state and state.supervisor == instance.supervisor else None
