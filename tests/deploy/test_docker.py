"""The Dockerfiles: no engine builds them here, so what they copy, install and start is held against the repository."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from cluster.cli import cli

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FILES = sorted((ROOT / "deploy" / "docker").glob("*.Dockerfile"))


def instructions(file: Path, name: str) -> list[str]:
    joined = file.read_text().replace("\\\n", " ")
    return [line.removeprefix(name).strip() for line in joined.splitlines() if line.startswith(f"{name} ")]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_it_copies_exists_and_holds_every_package(file: Path) -> None:
    copied = [source for line in instructions(file, "COPY") if not line.startswith("--from") for source in line.split()[:-1]]
    assert [source for source in copied if not (ROOT / source).exists()] == []
    packages = {package.split("/")[0] for package in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]}
    assert packages <= set(copied)


@pytest.mark.parametrize(("file", "extra"), [("gateway", "gateway"), ("worker", "cluster")])
def test_it_installs_the_extra_of_its_part(file: str, extra: str) -> None:
    runs = " ".join(instructions(ROOT / "deploy" / "docker" / f"{file}.Dockerfile", "RUN"))
    assert re.findall(r"'\.\[(\w+)\]'", runs) == [extra]
    assert extra in PROJECT["project"]["optional-dependencies"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_starts_a_command_that_exists_as_an_ordinary_user(file: Path) -> None:
    (entrypoint,), (command,) = instructions(file, "ENTRYPOINT"), instructions(file, "CMD")
    assert json.loads(entrypoint)[0] in PROJECT["project"]["scripts"]
    assert json.loads(command)[0] in cli.commands
    assert instructions(file, "USER") == ["10001"]
