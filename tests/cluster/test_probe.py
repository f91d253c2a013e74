"""Questions about ports, asked of real ones."""

import socket
from collections.abc import Callable
from threading import Thread

import pytest

from cluster import probe


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::"])
def test_a_free_port_of_any_address(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, 0), family=family).close()
    except OSError:
        pytest.skip("this host has no such address")
    with socket.create_server((host, probe.free_port(host)), family=family):
        pass


@pytest.mark.parametrize(
    ("answer", "page"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nread 1.0\n", "read 1.0\n"),
        (b"HTTP/1.1 200 OK\r\n\r\n\xff", "\ufffd"),
        (b"HTTP/1.1 500 Oh\r\n\r\nread 1.0\n", ""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nread", ""),
        (b"220 mail\r\n", ""),
        (b"", ""),
    ],
)
def test_whoever_answers_at_the_port_of_a_rank_that_died_is_bent_to_text(answer: bytes, page: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = Thread(target=_answer, args=(server.accept, answer))
        thread.start()
        assert probe.fetch(f"http://127.0.0.1:{server.getsockname()[1]}/metrics") == page
        thread.join()


def test_whoever_else_has_the_port_is_not_ready() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = Thread(target=_answer, args=(server.accept, b"220 mail\r\n"))
        thread.start()
        assert not probe.answers(f"http://127.0.0.1:{server.getsockname()[1]}/ready")
        thread.join()


def test_who_says_nothing_is_left_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "TIMEOUT_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert probe.fetch(f"http://127.0.0.1:{server.getsockname()[1]}/metrics") == ""


def _answer(accept: Callable[[], tuple[socket.socket, object]], answer: bytes) -> None:
    connection, _ = accept()
    with connection:
        connection.recv(1 << 16)
        connection.sendall(answer)
