import json
import shutil
from pathlib import Path

import pytest
import safetensors
import torch
from hypothesis import given
from hypothesis import strategies as st

from ossia.common.errors import UserError
from tests.workers.checkpoint.conftest import TINY
from workers.checkpoint import checkpoint as module
from workers.checkpoint import open_checkpoint
from workers.checkpoint.contents import rank_bytes
from workers.checkpoint.names import tensors
from workers.checkpoint.progress import loading
from workers.model.layout import RANKS, Layout, Shard
from workers.model.slices import rank_slice

LAYOUTS = [Layout(ranks, experts) for ranks in RANKS for experts in ("ep", "tp")]


@st.composite
def _slices(draw: st.DrawFn) -> tuple[str, tuple[slice, ...]]:
    name, shape = draw(st.sampled_from(sorted(tensors(TINY, packed=True).items())))
    index = []
    for size in shape[: draw(st.integers(0, len(shape)))]:
        start = draw(st.integers(0, size))
        index.append(slice(start, draw(st.integers(start, size))))
    return name, tuple(index)


@given(_slices())
def test_every_layout_gives_the_same_slices(checkpoints: dict[str, Path], what: tuple[str, tuple[slice, ...]]) -> None:
    name, index = what
    expected = open_checkpoint(checkpoints["packed"]).read(name)[index]
    for form in ("packed", "original", "sharded"):
        got = open_checkpoint(checkpoints[form]).read(name, *index)
        assert got.dtype == expected.dtype
        assert torch.equal(got, expected), form


def test_layouts_agree_on_the_config(checkpoints: dict[str, Path]) -> None:
    opened = {form: open_checkpoint(path) for form, path in checkpoints.items()}
    assert all(checkpoint.config == TINY for checkpoint in opened.values())
    assert {form: checkpoint.packed for form, checkpoint in opened.items()} == {
        "packed": True,
        "original": True,
        "sharded": True,
        "bf16": False,
    }


def test_bf16_experts_are_input_by_output(checkpoints: dict[str, Path]) -> None:
    checkpoint = open_checkpoint(checkpoints["bf16"])
    assert checkpoint.read("model.layers.1.mlp.experts.gate_up_proj", slice(2, 4)).shape == (2, 64, 640)
    assert checkpoint.read("model.layers.1.mlp.experts.down_proj", slice(2, 4), slice(0, 32)).shape == (2, 32, 64)


def test_what_is_read_is_owned_and_read_in_pieces(checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE_BYTES", 1000)
    reads: list[int] = []
    checkpoint = open_checkpoint(checkpoints["packed"], reads.append)
    embedding = checkpoint.read("model.embed_tokens.weight", slice(10, 110))
    assert max(reads) <= 1000
    assert sum(reads) == embedding.nbytes == embedding.untyped_storage().nbytes()
    assert torch.equal(embedding, open_checkpoint(checkpoints["packed"]).read("model.embed_tokens.weight")[10:110])


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("form", ["packed", "bf16", "original"])
def test_ranks_read_their_own_bytes_only(checkpoints: dict[str, Path], form: str, layout: Layout) -> None:
    reads: list[int] = []
    checkpoint = open_checkpoint(checkpoints[form], reads.append)
    total = rank_bytes(checkpoint.contents, Shard(TINY, Layout(), 0))
    for rank in range(layout.ranks):
        shard, before = Shard(TINY, layout, rank), sum(reads)
        for name in checkpoint.contents.places:
            if (index := rank_slice(shard, name)) is not None:
                checkpoint.read(name, *index)
        mine = sum(reads) - before
        assert mine == rank_bytes(checkpoint.contents, shard)
        assert mine < total / layout.ranks * 1.6 + 4096  # two of ten blocks; norms and routers are everywhere
    assert total <= sum(reads) < total * 1.1 + 4096 * layout.ranks


def test_the_library_is_asked_for_no_more_than_the_slice(checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, tuple[slice, ...]]] = []

    class Spy:
        def __init__(self, file: Path, framework: str) -> None:
            self.real = safetensors.safe_open(file, framework=framework)

        def __enter__(self) -> "Spy":
            return self

        def __exit__(self, *_error: object) -> None:
            pass

        def get_slice(self, key: str) -> "SliceSpy":
            return SliceSpy(self.real.get_slice(key), key)

    class SliceSpy:
        def __init__(self, real: object, key: str) -> None:
            self.real, self.key = real, key

        def __getitem__(self, index: tuple[slice, ...]) -> torch.Tensor:
            asked.append((self.key, index))
            return self.real[index]  # type: ignore[index, no-any-return]

    monkeypatch.setattr(module, "safe_open", Spy)
    checkpoint = open_checkpoint(checkpoints["original"])
    shard = Shard(TINY, Layout(4), 1)
    for name in ("model.layers.0.mlp.experts.gate_up_proj_blocks", "model.layers.0.self_attn.v_proj.weight"):
        checkpoint.read(name, *(rank_slice(shard, name) or ()))
    experts, values = asked
    assert experts[1][:2] == (slice(2, 4), slice(0, 640))
    first = (16 + 8 + 2) * 64  # all query heads, all keys, the first rank's values
    assert values == ("block.0.attn.qkv.weight", (slice(first, first + 128), slice(0, 64)))


def test_a_header_that_lies_about_sizes_is_a_user_error(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoints["packed"], tmp_path / "lying")
    content = (folder / "model.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    header["lm_head.weight"]["data_offsets"][0] += 2
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + content)
    with pytest.raises(UserError, match=r"model\.safetensors: tensor model\.norm\.weight cannot be read \("):
        open_checkpoint(folder).read("model.norm.weight")


def test_a_progress_bar_ends_full(checkpoints: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    with loading(checkpoints["packed"], Layout(), 0) as advance:
        checkpoint = open_checkpoint(checkpoints["packed"], advance)
        for name in checkpoint.contents.places:
            checkpoint.read(name)
    assert "rank 0 reads packed: 100%" in capsys.readouterr().err
