"""The operator's list of tool servers, from one YAML file. Knows what may stand in it, and connects to none."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from ossia.common import yamls
from ossia.common.errors import UserError
from router.tools.types import BUILT_IN

_Label = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
_Url = Annotated[str, StringConstraints(pattern=r"^https?://[^\s]+$")]
_MIB = 1 << 20


@dataclass(frozen=True)
class ServerConfig:
    """Either `url` (streamable HTTP) or `command` (stdio) is given. Seconds and bytes."""

    label: str
    url: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # may hold secrets
    token_file: Path | None = None  # its content is the bearer token, read at each connection
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)  # so may these
    allowed_tools: frozenset[str] | None = None  # None: all
    timeout_s: float = 120.0  # of a call, waiting for its turn included
    max_output: int = 64 << 10
    max_concurrent: int = 16  # calls
    relist_s: float = 60.0  # between looks at its list of tools, which tell a dead connection, too


@dataclass(frozen=True)
class ToolsConfig:
    """`max_calls`: of tools in one response, whatever a request asks for."""

    servers: tuple[ServerConfig, ...] = ()
    max_calls: int = 64


def read(file: Path) -> ToolsConfig:
    """Reads the list. Raises UserError that names the key at fault."""
    try:
        asked = _File.model_validate(yamls.read(file, "--tools"))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = "".join(f"{step}." for step in first["loc"] if step != "[key]")[:-1]
        reason = first["msg"].removeprefix("Value error, ")
        raise UserError(f"{file}: {place}{': ' if place else ''}{reason}") from error
    servers = tuple(entry.config(label, file.parent) for label, entry in asked.servers.items())
    return ToolsConfig(servers, asked.max_calls)


class _Keys(BaseModel):
    """Keys are spelled with dashes, as in all of ossia's files."""

    model_config = ConfigDict(strict=True, extra="forbid", alias_generator=lambda name: name.replace("_", "-"))


class _Entry(_Keys):
    url: _Url | None = None
    headers: dict[str, str] = {}
    token_file: str | None = None
    command: Annotated[list[str], Field(min_length=1)] | None = None
    env: dict[str, str] = {}
    allowed_tools: list[str] | None = None
    timeout: Annotated[float, Field(gt=0, le=3600)] = ServerConfig.timeout_s
    max_output: Annotated[int, Field(ge=1024, le=_MIB)] = ServerConfig.max_output
    max_concurrent: Annotated[int, Field(ge=1, le=1024)] = ServerConfig.max_concurrent
    memory_mib: Annotated[int, Field(ge=64)] | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.url and self.command:
            raise ValueError("url and command exclude each other")
        if not self.url and (self.headers or self.token_file):
            raise ValueError("headers and token-file are for a url")
        if not self.command and self.env:
            raise ValueError("env is for a command")
        return self

    def config(self, label: str, folder: Path) -> ServerConfig:
        return ServerConfig(
            label=label,
            url=self.url,
            headers=self.headers,
            token_file=folder / self.token_file if self.token_file else None,
            command=tuple(self.command or (() if self.url else self._shipped())),
            env=self.env,
            allowed_tools=None if self.allowed_tools is None else frozenset(self.allowed_tools),
            timeout_s=self.timeout,
            max_output=self.max_output,
            max_concurrent=self.max_concurrent,
        )

    def _shipped(self) -> tuple[str, ...]:
        memory = (self.memory_mib or 512) * _MIB
        return (sys.executable, "-I", "-m", "router.tools.python", str(memory), str(self.timeout), str(self.max_output))


class _File(_Keys):
    servers: dict[_Label, _Entry]
    max_calls: Annotated[int, Field(ge=1, le=10_000)] = ToolsConfig.max_calls

    @model_validator(mode="before")
    @classmethod
    def _empty_entries(cls, value: Any) -> Any:
        """`python:` with nothing behind it is an entry."""
        servers = value.get("servers") if isinstance(value, dict) else None
        if not isinstance(servers, dict):
            return value
        return {**value, "servers": {label: {} if entry is None else entry for label, entry in servers.items()}}

    @model_validator(mode="after")
    def _servers_are_somewhere(self) -> Self:
        for label, entry in self.servers.items():
            shipped = label == BUILT_IN[1] and not (entry.url or entry.command)
            if not (entry.url or entry.command or shipped):
                raise ValueError(f"servers.{label}: url or command is missing")
            if entry.memory_mib and not shipped:
                raise ValueError(f"servers.{label}: memory-mib is for the python that comes with ossia")
        return self
