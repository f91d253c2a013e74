"""Costs from data sheets, and which specs they make."""

from dataclasses import replace

import pytest

from ossia.common.errors import UserError
from tests.workers.simulated.harness import Harness, asked
from workers.engine.batch import assemble
from workers.engine.sampling import Sampling
from workers.engine.scheduler import Scheduler
from workers.simulated.build import build, spec
from workers.simulated.costs import DEVICES, Costs, Device, costs, weights
from workers.simulated.models import MODELS


def test_weights_are_those_of_the_released_checkpoints() -> None:
    """Sizes of the safetensors files, and active parameters as the model card counts them (3.6 and 5.1 billion)."""
    small, large = (weights(MODELS[name]) for name in ("gpt-oss-20b", "gpt-oss-120b"))
    assert small.total_bytes == pytest.approx(13.76e9, rel=0.001)
    assert large.total_bytes == pytest.approx(65.25e9, rel=0.001)
    assert (round(small.active / 1e9, 1), round(large.active / 1e9, 1)) == (3.6, 5.2)


def test_a_full_batch_reads_what_its_tokens_are_routed_to() -> None:
    """With one expert of which each token takes one, every step reads everything once."""
    model = replace(MODELS["gpt-oss-20b"], num_local_experts=1, num_experts_per_tok=1)
    slow = Device(bandwidth=1.0, flops=1e30, memory=1e30)
    held, found = weights(model), costs(model, slow, 1, 64, 512)
    everything = held.dense_bytes + held.expert_bytes
    assert found.step + 64 * found.decode == pytest.approx(everything)
    assert found.step + 512 * found.prefill == pytest.approx(everything)
    assert found.context == 2 * 12 * 8 * 64 * 2


def test_twice_the_devices_take_half_the_time() -> None:
    one, two = (costs(MODELS["gpt-oss-120b"], DEVICES["H100"], count, 64, 512) for count in (1, 2))
    assert two.step == one.step / 2
    assert (two.prefill, two.decode, two.context) == pytest.approx((one.prefill / 2, one.decode / 2, one.context / 2))


def test_a_step_costs_what_it_computes() -> None:
    """A prompt of n tokens is n - 1 prefilled and one decoded, which read n; then each token of output reads one more."""
    harness, prompt = Harness(), asked("Hello")
    scheduler = Scheduler(harness.limits)
    scheduler.submit(harness.limits.accept((0, 0), prompt, Sampling(max_tokens=4)))
    counted, length = Costs(1000.0, 1.0, 100.0, 0.001), len(prompt)
    chunks = scheduler.schedule(0.0)
    plan = assemble(chunks, harness.limits)
    assert counted.step_s(plan) == pytest.approx(1000 + (length - 1) + 100 + 0.001 * length)
    scheduler.update(chunks, harness.runner.execute(plan))
    plan = assemble(scheduler.schedule(0.0), harness.limits)
    assert counted.step_s(plan) == pytest.approx(1000 + 100 + 0.001 * (length + 1))


def test_a_spec_has_the_memory_that_weights_leave() -> None:
    small = spec("gpt-oss-20b", "h100", 2)
    assert small.kv_memory == pytest.approx(0.9 * (160e9 - 13.76e9), rel=0.001)
    assert build(small).kv_blocks * 16 > 4_000_000
    assert spec("openai/gpt-oss-120b", "B200", kv_memory=1 << 30).kv_memory == 1 << 30
    assert spec(step_costs=(1.0, 2.0, 3.0, 4.0)).costs == (1.0, 2.0, 3.0, 4.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gpt-oss-20b", "H101"), "no device H101 is known: use one of A100, B200, H100"),
        (("gpt-oss-7b",), "gpt-oss-7b: simulated are gpt-oss-20b, gpt-oss-120b, or"),
        (("gpt-oss-120b", "L40S"), "takes 65 GB, more than 1 x L40S of 48 GB"),
        (("gpt-oss-20b", "H100", 1, 200_000), "max context 200000: the model has 131072 positions"),
    ],
)
def test_what_cannot_be_simulated_is_refused(arguments: tuple[str, str, int, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        spec(*arguments)


def test_a_cache_too_small_for_one_request_is_refused() -> None:
    with pytest.raises(UserError, match="cannot hold one request of 8192 tokens"):
        build(spec(kv_memory=1 << 20))
