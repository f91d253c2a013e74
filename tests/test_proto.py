"""The committed stubs are what proto/generate.py makes of the .proto files."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROTO = ROOT / "proto"


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stubs")
    subprocess.run([sys.executable, PROTO / "generate.py", out], check=True)
    return out


def stubs(root: Path) -> dict[str, str]:
    patterns = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")
    return {str(path.relative_to(root)): path.read_text() for pattern in patterns for path in root.rglob(pattern)}


def test_stubs_are_fresh(generated: Path) -> None:
    fresh, committed = stubs(generated), stubs(PROTO)
    assert fresh.keys() == committed.keys()
    stale = [name for name, text in fresh.items() if text != committed[name]]
    assert not stale, f"run `make proto`: {stale}"


def test_every_source_has_stubs(generated: Path) -> None:
    sources = [path.relative_to(PROTO) for path in PROTO.rglob("*.proto")]
    assert sources
    assert {str(source.with_suffix("")) + "_pb2.py" for source in sources} <= stubs(generated).keys()
