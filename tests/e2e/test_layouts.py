"""Every layout answers, over HTTP, with the greedy token ids of transformers, cached or not: real ranks on gloo, no Ray."""

from collections.abc import Callable
from pathlib import Path

import openai
import pytest

from tests.e2e.processes import GatewayProcess, ShardGang
from workers.model.layout import Layout

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
PROMPT = [200006, 1428, 200008, 25, 392, 7702, 81, 9, 17, 64_000, 200_007] * 15
LAYOUTS = [Layout(ranks, experts) for ranks in (1, 2, 4, 8) for experts in ("ep", "tp") if (ranks, experts) != (1, "tp")]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: f"{layout.ranks}-{layout.experts}")
def test_greedy_tokens_equal_transformers(
    layout: Layout, checkpoint: Path, oracle: Callable[[list[int], int], list[int]], tmp_path: Path
) -> None:
    with ShardGang(tmp_path, checkpoint, layout) as gang, GatewayProcess(tmp_path, gang.address) as gateway:
        client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="unused")
        answers = [
            client.completions.create(
                model=checkpoint.name, prompt=PROMPT, max_tokens=24, temperature=0, extra_body={"return_token_ids": True}
            )
            for _ in range(2)
        ]
        for answer in answers:
            token_ids = getattr(answer.choices[0], "token_ids")  # noqa: B009 (an extension the client does not type)
            assert token_ids == oracle(PROMPT, 24)
        assert answer.usage and answer.usage.prompt_tokens_details
        assert answer.usage.prompt_tokens_details.cached_tokens == (len(PROMPT) - 1) // 16 * 16
