from collections import Counter
from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.checkpoint.names import is_packed, tensors
from workers.model.config import ModelConfig
from workers.model.layout import RANKS, Layout, Shard, refusal, share
from workers.model.slices import elements, rank_slice

TWENTY = ModelConfig(num_hidden_layers=24, num_local_experts=32)


@st.composite
def _cuts(draw: st.DrawFn) -> tuple[ModelConfig, Layout]:
    """Models and layouts that are not refused."""
    ranks = draw(st.sampled_from(RANKS))
    kv_heads = ranks * draw(st.integers(1, 3))
    config = ModelConfig(
        num_hidden_layers=1,
        num_local_experts=ranks * draw(st.integers(1, 4)),
        hidden_size=32,
        intermediate_size=32 * draw(st.integers(ranks, 3 * ranks)),
        num_attention_heads=kv_heads * draw(st.integers(1, 3)),
        num_key_value_heads=kv_heads,
        vocab_size=draw(st.integers(ranks, 100)),
    )
    return config, Layout(ranks, draw(st.sampled_from(("ep", "tp"))))


@given(st.integers(0, 1000), st.integers(1, 64))
def test_shares_are_in_order_without_gap_and_even(total: int, ranks: int) -> None:
    shares = [share(total, ranks, rank) for rank in range(ranks)]
    assert [index for part in shares for index in part] == list(range(total))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(_cuts())
def test_every_row_is_held_exactly_once(cut: tuple[ModelConfig, Layout]) -> None:
    config, layout = cut
    assert refusal(config, layout) is None
    shards = [Shard(config, layout, rank) for rank in range(layout.ranks)]
    assert _held(shard.vocabulary for shard in shards) == _once(config.vocab_size)
    assert _held(shard.kv_heads for shard in shards) == _once(config.num_key_value_heads)
    assert _held(shard.heads for shard in shards) == _once(config.num_attention_heads)
    experts = Counter((expert, column) for shard in shards for expert in shard.experts for column in shard.intermediate)
    assert experts == Counter(
        (expert, column) for expert in range(config.num_local_experts) for column in range(config.intermediate_size)
    )
    group = config.num_attention_heads // config.num_key_value_heads
    for shard in shards:
        assert {head // group for head in shard.heads} == set(shard.kv_heads)
        assert shard.intermediate.start % 32 == shard.intermediate.stop % 32 == 0


@given(_cuts(), st.booleans())
def test_slices_of_the_ranks_make_up_every_tensor(cut: tuple[ModelConfig, Layout], packed: bool) -> None:
    config, layout = cut
    whole_everywhere = ("layernorm.weight", "model.norm.weight", "router.weight", "router.bias")
    for name, shape in tensors(config, packed).items():
        held = [elements(shape, rank_slice(Shard(config, layout, rank), name)) for rank in range(layout.ranks)]
        copies = layout.ranks if name.endswith(whole_everywhere) else 1
        assert sum(held) == copies * elements(shape, ()), name


def _held(parts: object) -> Counter:
    return Counter(index for part in parts for index in part)  # type: ignore[attr-defined]


def _once(total: int) -> Counter:
    return Counter(range(total))


def test_released_models_can_be_cut_in_every_way() -> None:
    for experts in (32, 128):
        config = ModelConfig(num_hidden_layers=36, num_local_experts=experts)
        assert [refusal(config, Layout(ranks, split)) for ranks in RANKS for split in ("ep", "tp")] == [None] * 8


def test_block_bytes_are_those_of_the_released_models() -> None:
    """36,864 bytes a token in the full layers of the 120b in bfloat16, and as many in the sliding ones: 4.7 MB a window."""
    config = ModelConfig(num_hidden_layers=36, num_local_experts=128)
    full, sliding = Shard(config, Layout(), 0).block_bytes(16, 2)
    assert full == sliding == 16 * 36_864
    assert Shard(config, Layout(8), 7).block_bytes(16, 4) == (full // 4, sliding // 4)
    uneven = replace(config, num_hidden_layers=3, layer_types=())
    assert Shard(uneven, Layout(), 0).block_bytes(16, 2) == (full // 18, 2 * full // 18)


def test_ninety_blocks_over_eight_ranks() -> None:
    sizes = [len(Shard(TWENTY, Layout(8, "tp"), rank).intermediate) // 32 for rank in range(8)]
    assert sizes == [12, 12, 11, 11, 11, 11, 11, 11]


@pytest.mark.parametrize(
    ("ranks", "experts", "changes", "reason"),
    [
        (3, "ep", {}, "3 ranks: a replica has 1, 2, 4 or 8"),
        (0, "ep", {}, "0 ranks: a replica has 1, 2, 4 or 8"),
        (16, "ep", {}, "16 ranks: a replica has 1, 2, 4 or 8"),
        (8, "ep", {"num_key_value_heads": 4}, "4 key-value heads do not divide by 8 ranks"),
        (4, "ep", {"num_local_experts": 6}, "6 experts do not divide by 4 ranks"),
        (2, "tp", {"intermediate_size": 100}, "intermediate_size 100 does not divide into blocks of 32"),
        (4, "tp", {"intermediate_size": 96}, "intermediate_size 96 has 3 blocks of 32, fewer than 4 ranks"),
        (4, "tp", {"num_local_experts": 6}, None),
        (1, "tp", {"intermediate_size": 100}, None),
        (4, "ep", {"intermediate_size": 100}, None),
    ],
)
def test_refusals(ranks: int, experts: Literal["ep", "tp"], changes: dict[str, int], reason: str | None) -> None:
    numbers = {"num_hidden_layers": 2, "num_local_experts": 32} | changes
    assert refusal(ModelConfig(**numbers), Layout(ranks, experts)) == reason  # type: ignore[arg-type]


def test_packed_tensors_are_known_by_name() -> None:
    assert {name.rsplit("_", 1)[1] for name in tensors(TWENTY, packed=True) if is_packed(name)} == {"blocks", "scales"}
    assert not any(is_packed(name) for name in tensors(TWENTY, packed=False))
