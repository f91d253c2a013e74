"""Generates the stubs of every .proto under proto/ossia beside its source, or into the folder named by the first argument."""

import sys
from pathlib import Path

import google.rpc.status_pb2
import grpc_tools
from grpc_tools import protoc

SOURCE = Path(__file__).parent


def generate(out: Path) -> None:
    """Writes *_pb2.py, *_pb2.pyi, *_pb2_grpc.py and *_pb2_grpc.pyi under `out`; raises SystemExit when protoc fails."""
    includes = [SOURCE, Path(google.rpc.status_pb2.__file__).parents[2], Path(grpc_tools.__file__).parent / "_proto"]
    outputs = ("python_out", "grpc_python_out", "mypy_out", "mypy_grpc_out")
    files = sorted(str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.proto"))
    plugins = [f"--plugin={Path(sys.executable).parent / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")]
    arguments = ["protoc", *plugins, *(f"-I{path}" for path in includes), *(f"--{name}={out}" for name in outputs), *files]
    if code := protoc.main(arguments):
        raise SystemExit(code)


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else SOURCE)
