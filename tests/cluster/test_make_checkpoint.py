import errno
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.make_checkpoint import default_checkpoint, make_checkpoint
from ossia.common.errors import UserError
from workers.checkpoint.compact import SHIPPED
from workers.checkpoint.contents import scan
from workers.checkpoint.resolve import resolve
from workers.model.config import ModelConfig
from workers.model.layout import RANKS, Layout, refusal

SMALL = ModelConfig(1, 8, hidden_size=32, intermediate_size=256, num_attention_heads=16, vocab_size=300)


def test_it_is_readable_and_named_after_its_folder(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "mine", SMALL, seed=1)
    assert resolve(str(tmp_path / "mine")).names == ("mine",)


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    make_checkpoint(tmp_path / "mine", SMALL, seed=1)
    resolve(str(tmp_path / "mine"))


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_exists_is_not_touched(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "mine"
    if kind == "folder":
        target.mkdir()
        (target / "precious").touch()
    else:
        target.touch()
    with pytest.raises(UserError, match="mine exists and is not an empty folder: name another"):
        make_checkpoint(target, SMALL, seed=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 100}, "--hidden 100: must be a multiple of 32"),
        ({"intermediate_size": 33}, "--intermediate 33: must be a multiple of 32"),
        ({"hidden_size": 0}, "--hidden 0: must be at least 1"),
        ({"num_hidden_layers": 0}, "--layers 0: must be at least 1"),
        ({"vocab_size": -5}, "--vocab -5: must be at least 1"),
        ({"num_attention_heads": 12}, "--heads 12: must be a multiple of the 8 of --kv-heads"),
        ({"num_key_value_heads": 0}, "--kv-heads 0: must be at least 1"),
        ({"num_local_experts": 3}, "--experts 3: a token is routed to 4 of them"),
    ],
)
def test_sizes_that_cannot_be(tmp_path: Path, changes: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_checkpoint(tmp_path / "mine", replace(SMALL, layer_types=(), **changes), seed=1)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written: File exists"):
        make_checkpoint(tmp_path / "file" / "mine", SMALL, seed=1)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def ossia(*arguments: str) -> tuple[int, str]:
    """Exit code and stderr."""
    done = subprocess.run([sys.executable, "-m", "cluster.cli", *arguments], capture_output=True, text=True, timeout=120)
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_the_default_is_expanded_once_and_made_again_when_damaged(cache: Path) -> None:
    folder = default_checkpoint()
    assert folder.is_relative_to(cache / "ossia" / "checkpoints")
    assert resolve(str(folder)).names == ("ossia-tiny",)
    made = (folder / "model.safetensors").stat()
    assert default_checkpoint() == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == made.st_mtime_ns
    os.truncate(folder / "model.safetensors", made.st_size - 1)
    assert default_checkpoint() == folder
    assert (folder / "model.safetensors").stat().st_size == made.st_size


def test_the_default_speaks_harmony_in_1_2_and_4_ranks_but_not_8(cache: Path) -> None:
    config = scan(default_checkpoint()).config
    assert config.vocab_size == ModelConfig(1, 1).vocab_size
    fit = [refusal(config, Layout(ranks, split)) is None for ranks in RANKS for split in ("ep", "tp")]
    assert fit == [ranks < 8 for ranks in RANKS for _ in ("ep", "tp")]
    message = "ossia: layout 8 x ep: 4 key-value heads do not divide by 8 ranks"
    for command in ("serve", "replica"):
        code, stderr = ossia(command, "--ranks", "8", "--port", "0")
        assert code == 2
        assert stderr.splitlines()[-1].startswith(message)


def test_the_default_is_small() -> None:
    assert SHIPPED.stat().st_size <= 12_000_000


def test_a_cache_that_cannot_be_written(cache: Path) -> None:
    cache.touch()
    code, stderr = ossia("layouts")
    assert code == 2
    assert stderr.startswith(f"ossia: {cache}/ossia/checkpoints/")
    assert stderr.endswith("make room there, or set XDG_CACHE_HOME to a folder of yours\n")
    assert stderr.count("\n") == 1


def test_a_cache_without_room(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("workers.checkpoint.compact._write_file", full)
    with pytest.raises(UserError, match=f"{cache}/.*/ossia-tiny: cannot be written .No space left on device.; make room"):
        default_checkpoint()


def test_a_damaged_installation(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = tmp_path / "ossia-tiny.safetensors"
    monkeypatch.setattr("workers.checkpoint.compact.SHIPPED", damaged)
    with pytest.raises(UserError, match=f"{damaged}: No such file or directory; install ossia again"):
        default_checkpoint()
    damaged.write_bytes(SHIPPED.read_bytes()[:-1])
    with pytest.raises(UserError, match=f"{damaged}: .*; install ossia again"):
        default_checkpoint()
