"""Work that outlives the call that starts it."""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread


def run_in_thread(name: str, function: Callable[[], None], done: Future[None]) -> None:
    """Runs `function` in a daemon thread, which never holds up the end of the process; `done` takes its outcome."""

    def run() -> None:
        try:
            function()
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    Thread(target=run, name=name, daemon=True).start()
