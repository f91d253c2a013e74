"""What is said where nobody listens."""

import os
import sys
from threading import Thread

import pytest

from cluster import progress
from cluster.progress import Progress


def test_without_a_stderr_nothing_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """As Python starts where file descriptor 2 is closed."""
    monkeypatch.setattr(sys, "stderr", None)
    quiet = Progress()
    quiet.say("placing")
    quiet.bar(0.5, "read")
    quiet.end_bar()
    assert capsys.readouterr().out == ""


def test_what_comes_after_a_reader_stood_still_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PATIENCE_S", 0.0)
    ours, theirs = os.pipe()
    with open(ours, "rb", buffering=0) as screen, open(theirs, "w") as pipe:
        told = Progress(pipe)
        os.set_blocking(theirs, False)
        filled = 0
        while True:
            try:
                filled += os.write(theirs, bytes(1 << 12))
            except BlockingIOError:
                break
        os.set_blocking(theirs, True)
        told.write("lost" * 2000)
        while filled:
            filled -= len(screen.read(1 << 16))
        told.write("told" * 2000)
        assert screen.read(1 << 16) == b"told" * 2000 + b"\n"


def test_a_terminal_that_stands_still_holds_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of a connection that hangs: it has some room left, and too little for a line."""
    monkeypatch.setattr(progress, "PATIENCE_S", 0.0)
    unread, theirs = os.openpty()
    with open(theirs, "w") as screen:
        told = Progress(screen)
        thread = Thread(target=lambda: told.say("replica-0 is starting and some more text\n" * 600))
        thread.start()
        thread.join(30)
        stands = thread.is_alive()
        os.close(unread)  # ends what waits for it
        thread.join()
    assert not stands
