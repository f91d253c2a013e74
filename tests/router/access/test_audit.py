"""The audit log: who, what, when and how much; contents only where asked for, secrets never."""

import json
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ossia.common.errors import UserError
from router.access import layer
from router.access.audit import Audit
from router.access.config import AuditConfig
from router.access.keys import digest, make
from router.store.keys import StoredKey
from router.store.store import Store
from tests.fakes.scripted import MODEL, ScriptedEngine, answer, pairs
from tests.router.gateway.conftest import eventually

ASK: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "my secret plan"}]}
TOKENS = answer("Indeed so.", "Hm.")


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("contents", [False, True])
async def test_a_line_a_request(guarded: Any, store: Store, tmp_path: Path, stream: bool, contents: bool) -> None:
    file = tmp_path / "audit.jsonl"
    gateway = await guarded(ScriptedEngine(*pairs(TOKENS, 2)), keys=True, audit={"file": str(file), "contents": contents})
    key = make()
    await store.keys.add(StoredKey("key_1", digest(key), "acme", ""))
    headers = {"authorization": f"Bearer {key}", "x-request-id": "mine"}
    got = await gateway.http.post("/v1/chat/completions", json={**ASK, "stream": stream}, headers=headers)
    assert got.status_code == 200

    await eventually(lambda: lines(file))  # it is written when the answer has gone
    (line,) = lines(file)
    assert (line["tenant"], line["key"], line["user"], line["client"]) == ("acme", "key_1", "", "127.0.0.1")
    assert (line["method"], line["path"], line["status"]) == ("POST", "/v1/chat/completions", 200)
    assert (line["request_id"], line["model"]) == ("mine", MODEL)
    assert (line["output_tokens"], line["reasoning_tokens"]) == (len(TOKENS), 2)
    assert line["prompt_tokens"] > 10
    assert abs((datetime.now(UTC) - datetime.fromisoformat(line["time"])).total_seconds()) < 60
    if contents:
        assert json.loads(line["request"])["messages"] == ASK["messages"]
        assert line["answer"] == got.text
    text = file.read_text()
    assert ("secret plan" in text, "Indeed" in text) == (contents, contents)
    assert key not in text
    assert digest(key) not in text
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_of_long_contents_the_beginning_is_kept(guarded: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer, "MOST", 20)
    file = tmp_path / "audit.jsonl"
    gateway = await guarded(ScriptedEngine(*pairs(TOKENS, 1)), open=True, audit={"file": str(file), "contents": True})
    got = await gateway.http.post("/v1/chat/completions", json=ASK)
    await eventually(lambda: lines(file))
    (line,) = lines(file)
    assert (line["request"], line["answer"]) == (got.request.content[:20].decode(), got.text[:20])


async def test_refusals_are_written_too(guarded: Any, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "audit.jsonl"
    gateway = await guarded(ScriptedEngine(), keys=True, audit={"file": str(file)})
    caplog.set_level("DEBUG")
    await gateway.http.get("/v1/models", headers={"authorization": "Bearer sk-ossia-guessed"})
    await gateway.http.get("/health")
    await eventually(lambda: lines(file))  # it is written when the answer has gone
    (line,) = lines(file)
    assert (line["status"], line["tenant"], line["path"]) == (401, "", "/v1/models")
    assert "guessed" not in file.read_text() + caplog.text + "".join(str(vars(record)) for record in caplog.records)


def test_a_file_that_cannot_be_written_is_the_operators_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        Audit(AuditConfig(file=str(tmp_path))).open()


def test_a_full_disk_is_told(caplog: pytest.LogCaptureFixture) -> None:
    audit = Audit(AuditConfig(file="/dev/full"))
    audit.open()
    audit.write({"status": 200})
    audit.close()
    assert "lost a line" in caplog.text


async def test_background_work_has_a_line_of_its_own(guarded: Any, tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    gateway = await guarded(ScriptedEngine(*pairs(TOKENS, 2)), open=True, audit={"file": str(file)})
    ask = {"model": MODEL, "input": "my secret plan", "background": True}
    made = await gateway.http.post("/v1/responses", json=ask, headers={"x-request-id": "mine"})
    assert made.status_code == 200
    await eventually(lambda: file.exists() and len(lines(file)) == 2)
    background = next(line for line in lines(file) if line.get("background"))
    assert background["request_id"] == "mine"
    assert background["tokens"] > len(TOKENS)
    assert "secret plan" not in file.read_text()
