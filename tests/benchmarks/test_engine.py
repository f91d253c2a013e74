"""The engine's benchmarks run, and count what they say they count."""

import asyncio
import json
from pathlib import Path

import httpx
import pytest

from benchmarks.engine import __main__ as throughput
from benchmarks.engine import drafts, hits
from benchmarks.engine.steps import KINDS, measure


@pytest.mark.parametrize("kind", KINDS)
def test_every_request_decodes_in_every_step_that_is_measured(kind: str) -> None:
    times = asyncio.run(measure(5, 40, 20, KINDS[kind]))
    assert len(times) == 20 and min(times) > 0


def test_servers_take_turns_with_the_same_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, list[object]] = {"http://one": [], "http://two": []}

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json={"data": [{"id": "model"}]})
        asked[f"http://{request.url.host}"].append(request.content)
        return httpx.Response(200, json={"usage": {"completion_tokens": 3}})

    client = httpx.AsyncClient
    monkeypatch.setattr(
        "httpx.AsyncClient", lambda **settings: client(**{**settings, "transport": httpx.MockTransport(answer)})
    )
    servers = [throughput.Server("ossia", "http://one"), throughput.peer("other=http://two")]
    rows = asyncio.run(throughput.compare(servers, [1, 4], rounds=3, prompt_tokens=7, tokens=3, settle_s=0))
    assert [(row["server"], row["concurrency"]) for row in rows] == [("ossia", 1), ("other", 1), ("ossia", 4), ("other", 4)]
    assert sorted(asked["http://one"], key=repr) == sorted(asked["http://two"], key=repr)
    assert len(asked["http://one"]) == 1 + 3 * (2 + 8)
    with pytest.raises(ValueError, match="ossia yields 3 tokens, not 4"):
        asyncio.run(throughput.compare(servers, [1], rounds=1, prompt_tokens=7, tokens=4, settle_s=0))


def rows(capsys: pytest.CaptureFixture[str]) -> list[dict[str, float]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_drafts_come_where_texts_repeat_themselves_and_are_asked_for(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--model", str(small), "--drafts", "0", "4", "--concurrency", "2", "--prompt-tokens", "36", "--tokens", "24"]
    monkeypatch.setattr("sys.argv", ["drafts", *arguments])
    drafts.main()
    found = {(row["repeats"], row["draft_sequences"]): row for row in rows(capsys)}
    assert [*found] == [(True, 0), (True, 4), (False, 0), (False, 4)]
    assert all(row["output_tokens_s"] > 0 for row in found.values())
    assert [found[repeats, 0]["drafted"] for repeats in (True, False)] == [0, 0]
    assert found[True, 4]["drafted"] >= found[True, 4]["accepted"] > 0


def test_a_prompt_that_comes_again_is_cached_but_for_its_last_block(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["hits", "--model", str(small), "--prompt-tokens", "33", "800", "--prompts", "5"])
    hits.main()
    short, long = rows(capsys)
    assert [(row["prompt_tokens"], row["cached_tokens"]) for row in (short, long)] == [(33, 32), (800, 784)]
    assert long["again_ms"] < long["first_ms"]
    assert long["saved"] == pytest.approx(1 - long["again_ms"] / long["first_ms"], abs=0.01)
