"""The operator's list: what it says is what is connected to, and mistakes name the key."""

import sys
from pathlib import Path

import pytest

from ossia.common.errors import UserError
from router.tools.config import ServerConfig, ToolsConfig, read


def _file(folder: Path, text: str) -> Path:
    file = folder / "tools.yaml"
    file.write_text(text)
    return file


def test_every_kind_of_server_is_read(tmp_path: Path) -> None:
    config = read(
        _file(
            tmp_path,
            """
            max-calls: 8
            servers:
              python:
              browser: {url: "http://10.0.0.7:8001/mcp"}
              issues: {url: "https://mcp.example.com/", token-file: token, headers: {x-team: a}, allowed-tools: [search]}
              docs: {command: [npx, server, /srv], env: {A: b}, timeout: 5, max-output: 2048, max-concurrent: 2}
            """,
        )
    )
    python, *others = config.servers
    assert python.command == (sys.executable, "-I", "-m", "router.tools.python", str(512 << 20), "120.0", str(64 << 10))
    assert ToolsConfig(tuple(others), config.max_calls) == ToolsConfig(
        (
            ServerConfig("browser", "http://10.0.0.7:8001/mcp"),
            ServerConfig(
                "issues",
                "https://mcp.example.com/",
                {"x-team": "a"},
                tmp_path / "token",
                allowed_tools=frozenset({"search"}),
            ),
            ServerConfig(
                "docs",
                command=("npx", "server", "/srv"),
                env={"A": "b"},
                timeout_s=5.0,
                max_output=2048,
                max_concurrent=2,
            ),
        ),
        8,
    )


def test_the_memory_of_the_python_that_comes_with_ossia_can_be_chosen(tmp_path: Path) -> None:
    config = read(_file(tmp_path, "servers: {python: {memory-mib: 1024, timeout: 10, max-output: 4096}}"))
    assert config.servers[0].command[-3:] == (str(1 << 30), "10.0", "4096")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("servers: {a: {url: 'http://x', comand: [y]}}", "servers.a.comand: Extra inputs are not permitted"),
        ("servers: {a: {url: 'http://x', command: [y]}}", "url and command exclude each other"),
        ("servers: {a: {url: 'http://x', max_output: 2048}}", "servers.a.max_output: Extra inputs are not permitted"),
        ("servers: {a: {url: 'ftp://x'}}", "servers.a.url: String should match"),
        ("servers: {a: {}}", "servers.a: url or command is missing"),
        ("servers: {browser: }", "servers.browser: url or command is missing"),
        ("servers: {a b: {url: 'http://x'}}", "String should match"),
        ("servers: {a: {command: [x], headers: {a: b}}}", "headers and token-file are for a url"),
        ("servers: {a: {url: 'http://x', env: {a: b}}}", "env is for a command"),
        ("servers: {python: {url: 'http://x', memory-mib: 512}}", "memory-mib is for the python that comes with ossia"),
        ("servers: {a: {url: 'http://x', timeout: 0}}", "servers.a.timeout: Input should be greater than 0"),
        ("max-calls: 3", "servers: Field required"),
        ("- a", "tools.yaml: Input should be"),
        ("servers: [", "line 1: not YAML"),
        ("servers: {a: {headers: {x: 2026-13-45}}}", "not YAML (month must be"),
        ("servers:\n  a: {authorization: 'hush}", "not YAML (found unexpected end of stream)"),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(UserError) as caught:
        read(_file(tmp_path, text))
    assert complaint in str(caught.value)
    assert "tools.yaml" in str(caught.value)
    assert not any(word in str(caught.value) for word in ("hush", "\n"))


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        read(tmp_path / "none.yaml")
