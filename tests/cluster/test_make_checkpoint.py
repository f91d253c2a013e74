from dataclasses import replace
from pathlib import Path

import pytest

from cluster import make_checkpoint as module
from cluster.make_checkpoint import DEFAULT, default_checkpoint, make_checkpoint
from ossia.common.errors import UserError
from workers.checkpoint.resolve import resolve
from workers.model.config import ModelConfig
from workers.model.layout import RANKS, Layout, refusal

SMALL = replace(DEFAULT, num_hidden_layers=1, layer_types=(), hidden_size=32, vocab_size=300)


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


def test_the_default_is_made_once_and_every_layout_divides_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(module, "DEFAULT", replace(DEFAULT, vocab_size=1000))
    folder = default_checkpoint()
    made = (folder / "config.json").stat().st_mtime_ns
    assert default_checkpoint() == folder
    assert (folder / "config.json").stat().st_mtime_ns == made
    assert resolve(str(folder)).names == ("ossia-random",)
    assert [refusal(DEFAULT, Layout(ranks, split)) for ranks in RANKS for split in ("ep", "tp")] == [None] * 8
    assert ModelConfig(1, 1).vocab_size == DEFAULT.vocab_size  # harmony's tokens are all there


def test_the_default_that_another_process_makes_meanwhile_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def lose(folder: Path, config: ModelConfig, seed: int) -> None:
        folder.mkdir(parents=True)
        raise UserError("exists")

    monkeypatch.setattr(module, "make_checkpoint", lose)
    assert default_checkpoint().is_dir()
