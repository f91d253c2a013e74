"""A token whose keys and values are no numbers spoils what sees it and nothing else, whatever is left of it in the cache."""

from pathlib import Path

import pytest
import torch

from tests.workers.driver import Request
from tests.workers.model.test_model import Alone, prompt
from tests.workers.tiny import write

BROKEN = 77  # a token


@pytest.fixture(params=["plain", "deterministic"])
def ours(request: pytest.FixtureRequest, tmp_path: Path) -> Alone:
    alone = Alone(write(tmp_path), deterministic=request.param == "deterministic")
    alone.model.embedding.weight[BROKEN] = torch.nan
    assert BROKEN not in prompt(150) + prompt(150, seed=1) + prompt(150, seed=2)
    return alone


def every(ours: Alone, tokens: list[int], blocks: list[int]) -> torch.Tensor:
    request = Request(tokens, blocks=blocks, ring=blocks)
    return ours.every([request], [len(tokens)])[0]


def test_what_comes_before_it_in_a_step_is_as_it_is_without(ours: Alone) -> None:
    """As a token is, behind which a draft is verified."""
    tokens = [*prompt(40), BROKEN, *prompt(5, seed=1)]
    expected = every(ours, tokens[:40], [1, 2, 3])
    found = every(ours, tokens, [4, 5, 6])
    torch.testing.assert_close(found[:40], expected, rtol=0, atol=1e-4)
    assert found[40:].isnan().all()


def test_blocks_that_held_it_are_as_good_as_others(ours: Alone) -> None:
    """Read in part by a prompt that ends within one, and by a decode: what is behind the context is left of another."""
    assert every(ours, [BROKEN] * 64, [1, 2, 3, 4]).isnan().all()
    tokens, fresh = prompt(41), [5, 6, 7]
    expected = every(ours, tokens, fresh)
    request = Request(tokens, blocks=[1, 2, 3], ring=[1, 2, 3])
    other = Request(prompt(150, seed=2), blocks=list(range(10, 20)), ring=list(range(10, 20)))
    found = [ours.every([request, other], counts)[0] for counts in ([20, 60], [20, 1], [1, 60])]
    torch.testing.assert_close(torch.cat(found), expected, rtol=0, atol=1e-4)
