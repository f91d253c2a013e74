"""The committed stubs are what proto/generate.py makes of the .proto files."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import google.rpc.status_pb2
import pytest
from google.protobuf import descriptor_pb2

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


def test_every_field_is_documented(tmp_path: Path) -> None:
    assert list(_silent(_described(tmp_path / "descriptors"))) == []


def _described(out: Path) -> list[descriptor_pb2.FileDescriptorProto]:
    """Our sources with their comments."""
    status = Path(google.rpc.status_pb2.__file__).parents[2]
    sources = sorted(str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto"))
    options = [f"-I{PROTO}", f"-I{status}", "--include_source_info", f"-o{out}"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *options, *sources], check=True)
    return list(descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file)


def _silent(files: list[descriptor_pb2.FileDescriptorProto]) -> Iterator[str]:
    """Fields and values of enums with no comment before them."""
    for file in files:
        said = {tuple(place.path) for place in file.source_code_info.location if place.leading_comments}
        for number, message in enumerate(file.message_type):
            yield from (f"{message.name}.{f.name}" for n, f in enumerate(message.field) if (4, number, 2, n) not in said)
        for number, enum in enumerate(file.enum_type):
            yield from (value.name for n, value in enumerate(enum.value) if (5, number, 2, n) not in said)
