"""Runs a module in a process that must not outlive its parent: `python -m cluster.lifeline MODULE [ARGUMENT...]`.

The parent keeps the write end of a pipe that is the child's stdin. However the parent ends, SIGKILL included, the kernel
closes that end; the child reads end-of-file and gives itself SIGTERM, which it handles as any other: an orderly stop. A
child that is still there two minutes later is killed.
Unlike Linux' PR_SET_PDEATHSIG this does not fire when the thread that started the child ends.
"""

import os
import runpy
import signal
import sys
import threading
import time

STDIN, STDOUT, STDERR = 0, 1, 2
LAST_S = 120.0


def main() -> None:
    watch(LAST_S)
    module, sys.argv[:] = sys.argv[1], [sys.argv[1], *sys.argv[2:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def watch(last_s: float) -> None:
    """Moves the pipe out of the way of code that reads stdin; a daemon thread waits for its end, then `last_s` seconds."""
    pipe = os.dup(STDIN)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, STDIN)

    def wait() -> None:
        while os.read(pipe, 1024):
            pass
        for stream in (STDOUT, STDERR):  # nobody reads them any more: a write must not fail in the middle of the clean-up
            os.dup2(nothing, stream)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(last_s)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()


if __name__ == "__main__":
    main()
