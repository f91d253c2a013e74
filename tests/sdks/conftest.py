"""The servers that clients are tried against, one after the other: ossia-tiny and the simulated engine."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.e2e.serving import Serving

ENGINES = {
    "ossia-tiny": ("ossia-tiny", ["--ranks=1", "--max-context=2048"]),
    "simulated": ("gpt-oss-20b", ["--ranks=1", "--engine=simulated", "--costs=0.002,0,0,0", "--kv-memory=1GiB"]),
}


@dataclass(frozen=True)
class Served:
    """`url` is what clients take as their base. Only a model that was trained understands what it is asked."""

    url: str
    model: str
    trained: bool


@pytest.fixture(scope="package", params=list(ENGINES))
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    model, arguments = ENGINES[request.param]
    serving = Serving(tmp_path_factory.mktemp("sdks"), None, "--replicas=1", *arguments, name="sdks")
    yield Served(f"{serving.start().url}/v1", model, model == "ossia-tiny")
    assert serving.stop() == 0
