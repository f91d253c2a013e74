import re
import subprocess
import sys
from dataclasses import replace

import pytest

from cluster.planner import GIB, PROCESS_BYTES, Demand, Device, Plan, Refusal, layouts, plan, weight_bytes
from ossia.common.errors import UserError
from workers.model.config import ModelConfig
from workers.model.layout import Layout, Shard

TWENTY = ModelConfig(num_hidden_layers=24, num_local_experts=32)
HUNDRED_TWENTY = ModelConfig(num_hidden_layers=36, num_local_experts=128)
BFLOAT16 = Demand(dtype="bfloat16")
PREFILL = 512 + 9 * 16  # tokens in sliding layers of one request: those of a step, the window and the block that it writes


def _whole(config: ModelConfig) -> Shard:
    return Shard(config, Layout(), 0)


@pytest.mark.parametrize(("config", "gigabytes", "kv_bytes"), [(TWENTY, 13.76, 24_576), (HUNDRED_TWENTY, 65.25, 36_864)])
def test_figures_of_the_released_models(config: ModelConfig, gigabytes: float, kv_bytes: int) -> None:
    assert round(weight_bytes(_whole(config), True, "bfloat16") / 1e9, 2) == gigabytes
    assert _whole(config).block_bytes(1, 2) == (kv_bytes, kv_bytes)  # of a token, in either group
    assert Shard(config, Layout(8), 0).block_bytes(16, 4) == (kv_bytes * 4, kv_bytes * 4)


def test_unpacked_experts_take_four_times_the_blocks() -> None:
    unpacked = weight_bytes(_whole(HUNDRED_TWENTY), True, "bfloat16", unpack_experts=True)
    assert unpacked == weight_bytes(_whole(HUNDRED_TWENTY), False, "bfloat16")
    assert round(unpacked / 1e9) == 234


def test_float32_widens_all_but_the_experts() -> None:
    dense = 2 * TWENTY.vocab_size * TWENTY.hidden_size
    growth = weight_bytes(_whole(TWENTY), True, "float32") - weight_bytes(_whole(TWENTY), True, "bfloat16")
    assert dense * 2 < growth < dense * 2 * 1.6


def test_weights_are_those_of_the_ranks() -> None:
    for layout in (Layout(4, "ep"), Layout(4, "tp")):
        result = plan(TWENTY, True, layout, Device(80 * GIB), BFLOAT16)
        assert result.weights == tuple(weight_bytes(Shard(TWENTY, layout, rank), True, "bfloat16") for rank in range(4))
        assert max(result.weights) < 13.76e9 / 4 * 1.03


@pytest.mark.parametrize(
    ("ranks", "free", "cache"),
    [(1, GIB, GIB // 2), (1, 50 * GIB, GIB), (None, GIB, int(0.9 * GIB)), (None, 50 * GIB, 45 * GIB)],
    ids=["host", "large host", "GPU", "large GPU"],
)
def test_the_cache_takes_a_share_of_what_is_free_on_a_host_up_to_a_cap(ranks: int | None, free: int, cache: int) -> None:
    weights = weight_bytes(_whole(TWENTY), True, "bfloat16")
    device = Device(weights + PROCESS_BYTES + free, ranks)
    assert plan(TWENTY, True, Layout(), device, BFLOAT16).kv_memory == cache


def test_the_cache_holds_the_longest_sequence_whatever_the_cap() -> None:
    result = plan(TWENTY, True, Layout(), Device(80 * GIB, 1), Demand("bfloat16", 131_072))
    assert result.kv_memory == (131_072 + PREFILL) * 24_576 > GIB
    assert (result.kv_tokens, result.sliding_tokens) == (131_072, PREFILL)


def test_one_sequence_fits_whatever_the_share() -> None:
    sequence = (8192 + PREFILL) * 24_576
    weights = weight_bytes(_whole(TWENTY), True, "bfloat16")
    result = plan(TWENTY, True, Layout(), Device(weights + PROCESS_BYTES + sequence), BFLOAT16)
    assert (result.kv_memory, result.kv_tokens) == (sequence, 8192)
    assert result.cache == f"8192 tokens in full layers and {PREFILL} in sliding ones"
    with pytest.raises(UserError, match="rank 0 lacks"):
        plan(TWENTY, True, Layout(), Device(weights + PROCESS_BYTES + sequence - 1), BFLOAT16)


def test_a_model_without_sliding_layers_keeps_no_windows() -> None:
    config = replace(TWENTY, layer_types=("full_attention",) * 24)
    result = plan(config, True, Layout(), Device(80 * GIB), Demand("bfloat16", kv_memory=GIB))
    assert (result.kv_tokens, result.sliding_tokens) == (GIB // 49_152 // 16 * 16, 0)
    assert result.cache == f"{result.kv_tokens} tokens in full layers"


def test_ranks_that_share_a_host_share_its_memory() -> None:
    layout = Layout(2)
    alone = plan(TWENTY, True, layout, Device(9 * GIB, ranks=1), BFLOAT16)
    assert plan(TWENTY, True, layout, Device(4 * 9 * GIB, ranks=4), BFLOAT16) == alone
    with pytest.raises(UserError, match=r"9\.00 GiB is free for each of the 4 ranks on this host.*fewer replicas"):
        plan(HUNDRED_TWENTY, True, layout, Device(4 * 9 * GIB, ranks=4), BFLOAT16)


@pytest.mark.parametrize(
    ("device", "demand", "remedies"),
    [
        (Device(GIB), BFLOAT16, "use more ranks or a lower --max-context"),
        (Device(GIB, ranks=2), Demand(), "use --dtype bfloat16 or a lower --max-context"),
        (Device(GIB, ranks=4), Demand("bfloat16", kv_memory=GIB), "use fewer replicas or a lower --kv-memory"),
    ],
)
def test_the_refusal_says_what_would_help(device: Device, demand: Demand, remedies: str) -> None:
    with pytest.raises(UserError, match=re.escape(remedies) + "$"):
        plan(TWENTY, True, Layout(2), device, demand)


def test_the_refusal_names_the_rank_and_what_it_lacks() -> None:
    with pytest.raises(UserError) as caught:
        plan(HUNDRED_TWENTY, True, Layout(2, "tp"), Device(24 * GIB), BFLOAT16)
    needed = weight_bytes(Shard(HUNDRED_TWENTY, Layout(2, "tp"), 0), True, "bfloat16") + PROCESS_BYTES
    needed += (8192 + PREFILL) * 18_432
    match = re.search(
        r"layout 2 x tp: rank 0 lacks ([\d.]+) GiB: it needs 30\.41 GiB of weights, 0\.15 GiB of", str(caught.value)
    )
    assert match is not None, str(caught.value)
    assert float(match[1]) == pytest.approx(needed / GIB - 24, abs=0.01)


@pytest.mark.parametrize(
    ("layout", "demand", "reason"),
    [
        (Layout(3), BFLOAT16, "layout 3 x ep: 3 ranks: a replica has 1, 2, 4 or 8"),
        (Layout(1), Demand(max_context=200_000), "max context 200000: the model has 131072 positions"),
        (
            Layout(1),
            Demand(kv_memory=GIB // 4),
            "--kv-memory 0.25 GiB cannot hold one request of --max-context 8192 tokens, which takes 0.41 GiB a rank",
        ),
        (Layout(1), Demand(kv_memory=70 * GIB), "rank 0 lacks"),
    ],
)
def test_what_cannot_be_is_refused(layout: Layout, demand: Demand, reason: str) -> None:
    with pytest.raises(UserError, match=re.escape(reason)):
        plan(TWENTY, True, layout, Device(80 * GIB), demand)


def test_listing_plans_what_fits_and_says_why_not() -> None:
    config = ModelConfig(
        2, 4, hidden_size=64, intermediate_size=64, num_attention_heads=8, num_key_value_heads=4, vocab_size=999
    )
    listed = layouts(config, True, 8 * GIB, None, Demand())
    assert [(each.layout.ranks, each.layout.experts) for each in listed] == [
        *((1, "ep"), (2, "ep"), (2, "tp"), (4, "ep"), (4, "tp"), (8, "ep"), (8, "tp"))
    ]
    assert [isinstance(each, Plan) for each in listed] == [True, True, True, True, False, False, False]
    reasons = [each.reason for each in listed if isinstance(each, Refusal)]
    assert reasons[0] == "layout 4 x tp: intermediate_size 64 has 2 blocks of 32, fewer than 4 ranks"
    assert reasons[1] == "layout 8 x ep: 4 key-value heads do not divide by 8 ranks"


def test_listing_for_a_shared_host_counts_every_replica() -> None:
    listed = layouts(TWENTY, True, 16 * GIB, 1, BFLOAT16)
    assert isinstance(listed[0], Plan)
    assert isinstance(layouts(TWENTY, True, 16 * GIB, 2, BFLOAT16)[0], Refusal)


def test_planning_needs_no_torch() -> None:
    modules = "cluster.planner, cluster.make_checkpoint, workers.checkpoint.resolve"
    program = f"import sys, {modules}; assert not {{'torch', 'ray', 'transformers'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
