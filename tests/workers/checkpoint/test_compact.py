import errno
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ossia.common.errors import UserError
from tests.workers.checkpoint.compacts import SMALL, write_compact
from tests.workers.driver import Request, allocate
from tests.workers.model.test_model import BLOCK, Alone, close
from tests.workers.tiny import logits, oracle
from workers.checkpoint import compact, open_checkpoint
from workers.checkpoint.compact import EXPANDED, digest, expand
from workers.checkpoint.contents import scan
from workers.checkpoint.names import tensors

FILES = ("config.json", "generation_config.json", "model.safetensors")


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_compact(tmp_path_factory.mktemp("shipped") / "small.safetensors", [3, 7, 8, 400])


@pytest.fixture
def folder(shipped: Path, tmp_path: Path) -> Path:
    """Expanded."""
    expand(shipped, tmp_path / "cache" / "small")
    return tmp_path / "cache" / "small"


def contents(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def left(folder: Path) -> set[str]:
    """What is beside it."""
    return {file.name for file in folder.parent.iterdir()} - {folder.name, f".{folder.name}.lock"}


@given(st.sets(st.integers(0, SMALL.vocab_size - 1), min_size=1, max_size=SMALL.vocab_size - 1), st.integers(0, 9))
def test_ids_have_their_own_rows_and_the_others_share_one(
    tmp_path_factory: pytest.TempPathFactory, chosen: set[int], seed: int
) -> None:
    root, ids = tmp_path_factory.mktemp("round"), sorted(chosen)
    file = write_compact(root / "small.safetensors", ids, seed=seed)
    rows = open_checkpoint(root / "source").read(EXPANDED[0], slice(len(ids) + 1))
    expand(file, root / "expanded")
    checkpoint = open_checkpoint(root / "expanded")
    assert checkpoint.config == SMALL
    shared = sorted(set(range(SMALL.vocab_size)) - chosen)
    for name in EXPANDED:
        matrix = checkpoint.read(name)
        assert torch.equal(matrix[ids], rows[:-1])
        assert torch.equal(matrix[shared], rows[-1].expand(len(shared), -1))


def test_all_other_tensors_are_unchanged(shipped: Path, folder: Path) -> None:
    source, expanded = open_checkpoint(shipped.parent / "source"), open_checkpoint(folder)
    for name in tensors(SMALL, packed=True).keys() - set(EXPANDED):
        assert torch.equal(expanded.read(name), source.read(name))
    for name in ("config.json", "generation_config.json"):
        assert (folder / name).read_bytes() == (shipped.parent / "source" / name).read_bytes()


def test_transformers_loads_it_and_computes_the_same(folder: Path) -> None:
    theirs = oracle(folder)
    assert torch.equal(theirs.get_parameter(EXPANDED[0]), theirs.get_parameter(EXPANDED[1]))
    tokens = [3, 7, 8, 400, 9, 3, 7, 8, 400, 100] * 3
    ours, request = Alone(folder), Request(tokens)
    allocate([request], 1, BLOCK, 512)
    close(ours.run([request], [len(tokens)])[0], logits(theirs, tokens)[-1])


def test_the_safetensors_library_reads_both_files(shipped: Path, folder: Path) -> None:
    from safetensors import safe_open

    with safe_open(shipped, framework="pt") as file:
        assert file.metadata()["name"] == "small"
        assert file.get_tensor("ids").tolist() == [3, 7, 8, 400]
        assert file.get_tensor("rows").dtype == torch.bfloat16
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        assert set(file.keys()) == set(tensors(SMALL, packed=True))


def test_what_is_whole_is_left_alone(shipped: Path, folder: Path) -> None:
    made = {file.name: file.stat().st_ino for file in folder.iterdir()}
    expand(shipped, folder)
    assert {file.name: file.stat().st_ino for file in folder.iterdir()} == made
    assert sorted(made) == list(FILES)
    assert left(folder) == set()


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def be_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "flipped": flip,
    "truncated": lambda file: os.truncate(file, file.stat().st_size // 2),
    "longer": lambda file: os.truncate(file, file.stat().st_size + 1),
    "empty": lambda file: os.truncate(file, 0),
    "missing": Path.unlink,
    "a folder": be_a_folder,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_made_again(shipped: Path, folder: Path, name: str, damage: str) -> None:
    whole = contents(folder)
    DAMAGES[damage](folder / name)
    expand(shipped, folder)
    assert contents(folder) == whole
    assert left(folder) == set()


@pytest.mark.parametrize("place", ["file", "link", "broken link"])
def test_what_stands_in_its_place_is_replaced(shipped: Path, tmp_path: Path, place: str) -> None:
    target, elsewhere = tmp_path / "small", tmp_path / "elsewhere"
    if place == "file":
        target.touch()
    else:
        target.symlink_to(elsewhere)
    if place == "link":
        elsewhere.mkdir()
        (elsewhere / "precious").touch()
    expand(shipped, target)
    scan(target)
    assert not target.is_symlink()
    assert left(target) == ({"elsewhere"} if place == "link" else set())
    assert place != "link" or (elsewhere / "precious").exists()


def test_who_has_a_damaged_file_open_keeps_it(shipped: Path, folder: Path) -> None:
    flip(folder / "model.safetensors")
    damaged = (folder / "model.safetensors").read_bytes()
    with (folder / "model.safetensors").open("rb") as stream:
        expand(shipped, folder)
        assert stream.read() == damaged


LIMITED = """
import resource, sys
from pathlib import Path
from ossia.common.errors import UserError
from workers.checkpoint.compact import expand
if len(sys.argv) > 3:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    expand(Path(sys.argv[1]), Path(sys.argv[2]))
except (OSError, UserError) as error:
    sys.exit(error.strerror if isinstance(error, OSError) else str(error))
"""


def expanding(shipped: Path, folder: Path, *limit: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", LIMITED, str(shipped), str(folder), *map(str, limit)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_where_there_is_no_room_nothing_is_left(shipped: Path, folder: Path) -> None:
    flip(folder / "model.safetensors")
    damaged = contents(folder)
    with expanding(shipped, folder, 50_000) as process:
        assert process.communicate(timeout=60)[1] == f"{os.strerror(errno.EFBIG)}\n"
    assert contents(folder) == damaged
    assert left(folder) == set()


def test_a_place_that_cannot_be_written(shipped: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        expand(shipped, tmp_path / "file" / "deep" / "small")


def test_a_whole_one_needs_no_writing(shipped: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_keywords: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(compact, "_lock", refuse)
    expand(shipped, folder)


@pytest.mark.parametrize("before", ["nothing", "damaged", "half-written"])
def test_processes_that_expand_at_once_all_find_it_whole(shipped: Path, tmp_path: Path, before: str) -> None:
    folder = tmp_path / "small"
    if before == "damaged":
        expand(shipped, folder)
        flip(folder / "model.safetensors")
    if before == "half-written":
        (tmp_path / ".small.new").mkdir()
        (tmp_path / ".small.new" / "model.safetensors").write_bytes(b"half")
        (tmp_path / ".small.old").mkdir()
    processes = [expanding(shipped, folder) for _ in range(4)]
    assert [(process.communicate(timeout=60)[1], process.returncode) for process in processes] == [("", 0)] * 4
    expand(shipped, tmp_path / "alone")
    assert contents(folder) == contents(tmp_path / "alone")
    assert left(folder) == {"alone", ".alone.lock"}


def test_one_that_is_killed_midway_leaves_nothing_in_the_way(shipped: Path, tmp_path: Path) -> None:
    folder = tmp_path / "small"
    program = f"""
import os
from pathlib import Path
from workers.checkpoint import compact
whole = compact._model
def model(contents):
    yield next(whole(contents))
    os.kill(os.getpid(), 9)
compact._model = model
compact.expand(Path({str(shipped)!r}), Path({str(folder)!r}))
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == -9
    assert left(folder) == {".small.new"}
    expand(shipped, folder)
    scan(folder)
    assert left(folder) == set()


def rewritten(shipped: Path, file: Path, change: Callable[[bytes], bytes]) -> Path:
    file.write_bytes(change(shipped.read_bytes()))
    return file


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: b"", "missing, or not a whole safetensors file"),
        (lambda data: data[:-1], "missing, or not a whole safetensors file"),
        (lambda data: b"\xff" * 100, "missing, or not a whole safetensors file"),
        (lambda data: data.replace(b'"version": "1"', b'"version": "2"'), "its format version is 2, expected 1"),
        (lambda data: data.replace(b'"ids"', b'"odd"'), "do not fit together"),
        (lambda data: data.replace(b"hidden_size", b"hidden_sise"), "do not fit together"),
        (lambda data: data.replace(b"150000.0", b"150000.1"), "its contents do not match its sha256"),
        (lambda data: data.replace(b"\x03\0\0\0\x07\0\0\0", b"\x03\0\0\0\x03\0\0\0"), "its ids do not ascend"),
        (lambda data: data.replace(b"\x03\0\0\0\x07\0\0\0", b"\x02\0\0\0\x07\0\0\0"), "do not match its sha256"),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "do not match its sha256"),
    ],
)
def test_a_damaged_compact_file_is_refused(
    shipped: Path, tmp_path: Path, change: Callable[[bytes], bytes], message: str
) -> None:
    file = rewritten(shipped, tmp_path / "small.safetensors", change)
    assert file.read_bytes() != shipped.read_bytes()
    with pytest.raises(UserError, match=rf"small.safetensors: .*{message}.*; install ossia again$"):
        expand(file, tmp_path / "cache" / "small")
    assert not (tmp_path / "cache" / "small").exists()


def test_a_missing_compact_file_is_refused(tmp_path: Path) -> None:
    for use in (digest, lambda file: expand(file, tmp_path / "small")):
        with pytest.raises(UserError, match=r"none.safetensors: .*; install ossia again"):
            use(tmp_path / "none.safetensors")


@given(st.data())
def test_any_flipped_bit_is_noticed(tmp_path_factory: pytest.TempPathFactory, shipped: Path, data: st.DataObject) -> None:
    """Or is without meaning, such as one in the name."""
    root, size = tmp_path_factory.mktemp("flipped"), shipped.stat().st_size
    header = 8 + int.from_bytes(shipped.read_bytes()[:8], "little")
    place = data.draw(st.integers(0, header - 1) | st.integers(header, size - 1))
    bit = 1 << data.draw(st.integers(0, 7))
    file = rewritten(
        shipped, root / "small.safetensors", lambda old: old[:place] + bytes([old[place] ^ bit]) + old[place + 1 :]
    )
    try:
        expand(file, root / "found")
    except UserError as error:
        assert str(file) in str(error)
        return
    expand(shipped, root / "expected")
    assert contents(root / "found") == contents(root / "expected")
    assert place < header


def test_what_is_not_the_models_tensors_is_not_written(shipped: Path, tmp_path: Path) -> None:
    contents, _ = compact._read(shipped)
    arguments: dict[str, Any] = {"ids": contents.ids, "rows": contents.rows, "tensors": contents.tensors}
    wrong: tuple[dict[str, Any], ...] = (
        {"ids": contents.ids[::-1]},
        {"ids": contents.ids + SMALL.vocab_size},
        {"rows": contents.rows[1:]},
        {"rows": contents.rows.astype(np.float32)},
        {"tensors": {}},
        {"config": replace(SMALL, hidden_size=32)},
    )
    for change in wrong:
        with pytest.raises((AssertionError, KeyError)):
            compact.write(tmp_path / "small.safetensors", **({"config": SMALL} | arguments | change))
    assert list(tmp_path.iterdir()) == []
    compact.write(tmp_path / "small.safetensors", SMALL, **arguments)
    assert (tmp_path / "small.safetensors").read_bytes() == shipped.read_bytes()


def test_expanding_needs_no_torch() -> None:
    program = "import sys, workers.checkpoint.compact; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
