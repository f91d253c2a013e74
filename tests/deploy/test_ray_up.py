"""The `ray up` file, held against Ray's own schema and its own preparation of on-premise clusters."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import cli as ray_cli

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy" / "ray" / "cluster.yaml"


def load() -> dict[str, Any]:
    config = yaml.safe_load(FILE.read_text())
    assert isinstance(config, dict)
    return config


def test_ray_accepts_it_before_and_after_preparation() -> None:
    validate_config(prepare_config(load()))
    validate_config(load() | {"cluster_synced_files": []})


def test_ray_would_refuse_a_typo() -> None:
    with pytest.raises(ValidationError, match="setup_comands"):
        validate_config(prepare_config(load() | {"setup_comands": []}))


def test_every_host_becomes_a_node() -> None:
    config = prepare_config(load())
    (node_type,) = config["available_node_types"].values()
    assert node_type["min_workers"] == node_type["max_workers"] == len(load()["provider"]["worker_ips"])


EVERYWHERE = {"RAY_AUTH_MODE": "token", "RAY_gcs_rpc_server_reconnect_timeout_s": "604800", "RAY_worker_niceness": "0"}
SETTINGS = {"head": EVERYWHERE | {"RAY_enable_autoscaler_v2": "0"}, "worker": EVERYWHERE}


@pytest.mark.parametrize("role", SETTINGS)
def test_start_commands_are_commands_of_this_ray(role: str) -> None:
    *_, start = load()[f"{role}_start_ray_commands"]
    words = shlex.split(start)
    settings = dict(word.split("=", 1) for word in words if word.startswith("RAY_"))
    assert settings == SETTINGS[role]
    binary, name, *arguments = words[len(settings) :]
    assert (binary, name) == ("~/ossia/.venv/bin/ray", "start")
    ray_cli.commands[name].make_context(name, arguments).close()


def test_what_it_copies_and_calls_exists() -> None:
    assert (ROOT / load()["file_mounts"]["~/ossia"] / "Makefile").read_text().count("\nvenv:") == 1


def test_nothing_is_copied_that_is_not_in_the_repository() -> None:
    ignored = {line.rstrip("/") for line in (ROOT / ".gitignore").read_text().split()}
    assert set(load()["rsync_exclude"]) == ignored | {".git"}
