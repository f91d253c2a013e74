"""Models by folder, from the hub cache and from a hub on loopback. Its settings are read at import, hence the processes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ossia.common.errors import UserError
from tests.fakes import hub
from workers.checkpoint.resolve import resolve

MODEL = "somebody/tiny-gpt-oss"
PROGRAM = """
import json, sys
from ossia.common.errors import UserError
from workers.checkpoint.resolve import resolve
try:
    model = resolve(sys.argv[1])
    print(json.dumps([str(model.path), *model.names]))
except UserError as error:
    print(error)
assert "torch" not in sys.modules
"""


def _resolve(model: str, home: Path, endpoint: str = "http://127.0.0.1:9") -> str:
    settings = {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, model],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_a_folder(checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkpoints["packed"].parent)
    for given in (str(checkpoints["packed"]), "packed", "./packed", "packed/"):
        model = resolve(given)
        assert (model.path, model.names) == (checkpoints["packed"].resolve(), ("packed",))


def test_a_folder_of_the_hub_cache_has_its_models_name(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoints["packed"], tmp_path / "models--openai--gpt-oss-20b" / "snapshots" / hub.COMMIT)
    assert resolve(str(folder)).names == ("gpt-oss-20b", "openai/gpt-oss-20b")


def test_a_folder_that_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no config\.json"):
        resolve(str(tmp_path))


def test_a_file(checkpoints: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="is a file: MODEL is the folder of a checkpoint"):
        resolve(str(checkpoints["packed"] / "model.safetensors"))


@pytest.mark.parametrize("model", ["/no/such/folder", "./nothing", "gpt-oss-20b", "a/b/c", "../x"])
def test_neither_a_folder_nor_a_hub_id(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no such folder; MODEL is the folder of a checkpoint or a hub id such as"):
        resolve(model)


def test_download_once_then_the_cache(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    published = shutil.copytree(checkpoints["sharded"], tmp_path / "published")
    shutil.copytree(checkpoints["original"], published / "original")
    (published / "metal").mkdir()
    (published / "metal" / "model.bin").write_bytes(b"metal")
    (published / "pytorch_model.bin").write_bytes(b"pickle")
    with hub.serve(MODEL, published) as server:
        path, *names = json.loads(_resolve(MODEL, tmp_path / "home", server.address))
        assert names == ["tiny-gpt-oss", MODEL]
        assert sorted(server.downloaded) == sorted(file.name for file in checkpoints["sharded"].iterdir())
    assert json.loads(_resolve(MODEL, tmp_path / "home"))[0] == path  # the hub is gone

    next(Path(path).glob("*.safetensors")).unlink()
    message = _resolve(MODEL, tmp_path / "home")
    assert message.startswith(f"{MODEL}: neither a folder here nor complete in the local hub cache, and the download failed (")


def test_no_network(tmp_path: Path) -> None:
    message = _resolve("openai/gpt-oss-20b", tmp_path)
    assert "the download failed (" in message
    assert message.endswith("where there is no network, copy the checkpoint here and pass its folder")
    assert "\n" not in message


def test_not_on_the_hub(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    with hub.serve(MODEL, checkpoints["packed"]) as server:
        message = _resolve("somebody/else", tmp_path, server.address)
    assert "the download failed (404 Client Error" in message
