"""What `ossia serve` is asked for: flags and one YAML file become one frozen object, checked here and nowhere else."""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

import yaml

from ossia.common import yamls
from ossia.common.errors import UserError

UNITS = {"": 1, "B": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "KB": 10**3, "MB": 10**6, "GB": 10**9}


TORCH_ONLY = ("experts", "placement", "dtype", "unpack_experts", "deterministic", "collective_timeout")
SIMULATED_ONLY = ("device", "costs")


@dataclass(frozen=True)
class ServeConfig:
    """Every field is a flag (`max_context` is `--max-context`) and a key of the YAML file, spelled like the flag."""

    model: str | None = None  # path, hub id, or None for the default model
    replicas: int = 2
    ranks: int = 2  # in a replica
    experts: Literal["ep", "tp"] = "ep"
    placement: Literal["strict-pack", "pack"] = "strict-pack"  # a replica on one node, or on several where it must
    engine: Literal["torch", "simulated"] = "torch"
    device: str | None = None  # that is simulated; None: workers.simulated.build.DEFAULT_DEVICE
    costs: tuple[float, ...] = ()  # of a simulated step, seconds; none: the device's
    host: str = "127.0.0.1"  # of the gateway
    port: int = 8000  # of the gateway; 0 picks a free one
    gateway_processes: int = 1  # that share the port
    name: str = "ossia"  # of this instance
    served_model_name: tuple[str, ...] = ()  # empty: the model's own names
    dtype: Literal["float32", "bfloat16"] | None = None  # None: float32 on CPU, bfloat16 on GPU
    max_context: int = 8192  # tokens
    kv_memory: int | None = None  # bytes of KV cache a rank; None: a share of the free memory
    unpack_experts: bool = False
    deterministic: bool = False
    no_drafts: bool = False
    collective_timeout: float = 30.0  # seconds that ranks wait for one another in a step
    database: str | None = None  # of the gateway; None: a file beside the instance's state
    encryption_key_file: str | None = None
    retention_days: float = 30.0  # of what is stored
    date: str = "today"  # that prompts state; or YYYY-MM-DD, or "none"
    tools: str | None = None  # a file: servers that requests may name; None: none
    access: str | None = None  # the gateway's YAML file; None: everyone is let in
    tls_cert: str | None = None  # PEM; None: plain HTTP
    tls_key: str | None = None
    tls_client_ca: str | None = None  # that clients need a certificate of; None: they need none
    ray_address: str | None = None  # a running Ray; None: one that belongs to this instance
    grace: float = 30.0  # seconds


def load(flags: Mapping[str, object], file: Path | None = None) -> ServeConfig:
    """The file's settings with the flags that were given (those not None) over them. Raises UserError."""
    settings = _read(file) if file else {}
    settings |= {name: _checked(name, value, flag(name)) for name, value in flags.items() if value is not None}
    config = ServeConfig(**settings)  # type: ignore[arg-type]  # _checked gave each value its field's type
    for name in TORCH_ONLY if config.engine == "simulated" else SIMULATED_ONLY:
        if settings.get(name, getattr(ServeConfig, name)) != getattr(ServeConfig, name):
            raise UserError(f"{flag(name)} means nothing to --engine {config.engine}: leave it out")
    return config


def flag(name: str) -> str:
    """How the command line spells a field."""
    return "MODEL" if name == "model" else "--" + name.replace("_", "-")


def parse_bytes(value: object) -> int:
    """A whole number of bytes from "4GiB", "512MiB" or a plain number. Raises ValueError."""
    match = re.fullmatch(r"(\d{1,24}(?:\.\d+)?)\s*([A-Za-z]*)", str(value).strip())
    if not match or match[2].upper() not in UNITS:
        raise ValueError("must be a size such as 512MiB or 4GiB")
    return int(float(match[1]) * UNITS[match[2].upper()])


def _read(file: Path) -> dict[str, object]:
    def parse(text: str) -> dict[str, object]:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        return {} if root is None else _settings(root, file)

    return yamls.read(file, "--config", parse)


def _settings(root: yaml.Node, file: Path) -> dict[str, object]:
    if not isinstance(root, yaml.MappingNode):
        raise UserError(f"{file} line {root.start_mark.line + 1}: must hold `key: value` lines, such as `replicas: 2`")
    settings: dict[str, object] = {}
    for key_node, value_node in root.value:
        where = f"{file} line {key_node.start_mark.line + 1}"
        if not isinstance(key_node, yaml.ScalarNode):
            raise UserError(f"{where}: a key must be a word, such as `replicas`")
        key = str(key_node.value)
        name = key.replace("-", "_")
        if name not in CHECKS or "_" in key:
            raise UserError(f"{where}: unknown key '{key}'{_suggestion(key)}")
        if name in settings:
            raise UserError(f"{where}: '{key}' is there twice; keep one")
        try:
            value = yaml.SafeLoader("").construct_object(value_node, deep=True)
        except (ValueError, LookupError, AttributeError) as error:  # it claims to be a date or a number, and is none
            raise UserError(f"{where}: {key}: {error}; put the value in quotes or mend it") from error
        settings[name] = _checked(name, value, f"{where}: {key}")
    return settings


def _suggestion(key: str) -> str:
    known = [name.replace("_", "-") for name in CHECKS]
    near = difflib.get_close_matches(key.lower().replace("_", "-"), known, n=1)
    return f"; did you mean '{near[0]}'?" if near else f"; known keys: {', '.join(known)}"


def _checked(name: str, value: object, where: str) -> object:
    try:
        return CHECKS[name](value)
    except (ValueError, OverflowError) as error:
        raise UserError(f"{where} {error}, not {value!r}") from error


def _integer(low: int, high: int | None = None) -> Callable[[object], int]:
    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
            raise ValueError(f"must be a whole number {f'from {low} to {high}' if high is not None else f'of at least {low}'}")
        return value

    return check


def _choice(*choices: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        if value not in choices:
            raise ValueError(f"must be {' or '.join(choices)}")
        return str(value)

    return check


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError("must be a non-empty text")
    return value


def _texts(value: object) -> tuple[str, ...]:
    return tuple(_text(item) for item in (value if isinstance(value, list | tuple) else [value]))


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _path(value: object) -> str:
    return _text(str(value) if isinstance(value, Path) else value)


def _above_zero(unit: str) -> Callable[[object], float]:
    def check(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise ValueError(f"must be a number of {unit} above 0")
        return float(value)

    return check


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise ValueError("must be a number of seconds, 0 or more")
    return float(value)


def _instance_name(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,39}", value):
        raise ValueError("must be up to 40 small letters, digits and dashes")
    return value


def _address(value: object) -> str:
    text = _text(value)
    match = re.fullmatch(r"[^\s:/]+:(\d{1,5})", text)
    if not match or not 0 < int(match[1]) <= 65535:
        raise ValueError("must be HOST:PORT of a running Ray")
    return text


def _kv_memory(value: object) -> int:
    size = parse_bytes(value)
    if size <= 0:
        raise ValueError("must be more than 0")
    return size


def _date(value: object) -> str:
    text = str(value)  # YAML knows dates
    try:
        if text not in ("today", "none"):
            date.fromisoformat(text)
    except ValueError:
        raise ValueError("must be today, none or a date such as 2025-06-28") from None
    return text


def _costs(value: object) -> tuple[float, ...]:
    try:
        numbers = tuple(float(str(number)) for number in (value if isinstance(value, list) else str(value).split(",")))
    except ValueError:
        numbers = ()
    if len(numbers) != 4 or not all(0 <= number < float("inf") for number in numbers) or not any(numbers):
        raise ValueError("must be four numbers of seconds, such as 1e-3,2e-5,5e-5,1e-8, not all of them 0")
    return numbers


CHECKS: Mapping[str, Callable[[object], object]] = {
    "model": _text,
    "replicas": _integer(1),
    "ranks": _integer(1),
    "experts": _choice("ep", "tp"),
    "placement": _choice("strict-pack", "pack"),
    "host": _text,
    "port": _integer(0, 65535),
    "gateway_processes": _integer(1),
    "name": _instance_name,
    "served_model_name": _texts,
    "dtype": _choice("float32", "bfloat16"),
    "max_context": _integer(1),
    "kv_memory": _kv_memory,
    "unpack_experts": _boolean,
    "deterministic": _boolean,
    "no_drafts": _boolean,
    "collective_timeout": _above_zero("seconds"),
    "engine": _choice("torch", "simulated"),
    "device": _text,
    "costs": _costs,
    "database": _text,
    "encryption_key_file": _path,
    "retention_days": _above_zero("days"),
    "date": _date,
    "tools": _path,
    "access": _path,
    "tls_cert": _path,
    "tls_key": _path,
    "tls_client_ca": _path,
    "ray_address": _address,
    "grace": _seconds,
}
