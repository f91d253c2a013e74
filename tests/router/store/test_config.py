"""What an operator says about the store, and how long it keeps things."""

import asyncio
import base64
import time
from pathlib import Path

import pytest

from ossia.common.errors import UserError
from router.store import retention
from router.store.config import StoreConfig, opened, own_url, read_keys
from router.store.store import Store


def lines(*keys: bytes) -> str:
    return "".join(base64.b64encode(key).decode() + "\n" for key in keys)


def test_keys_are_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(lines(bytes(32), bytes(range(32))))
    assert read_keys(tmp_path / "keys") == [bytes(32), bytes(range(32))]


@pytest.mark.parametrize("text", ["", "\n", "no key", "ключ", lines(bytes(16)), lines(bytes(32)) + "x"])
def test_files_without_keys_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys").write_text(text)
    with pytest.raises(UserError, match="openssl rand -base64 32"):
        read_keys(tmp_path / "keys")


async def test_a_store_has_its_keys(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(lines(bytes(32)))
    config = StoreConfig(f"sqlite:///{tmp_path}/x.db", tmp_path / "keys")
    async with opened(config, 8000) as store:
        await store.responses.put("a", {"id": "resp_1", "text": "a secret"}, [], conversation=None, previous=None)
    assert b"a secret" not in (tmp_path / "x.db").read_bytes()
    with pytest.raises(UserError, match="No such file"):
        async with opened(StoreConfig("sqlite://", tmp_path / "none"), 8000):
            pass


async def test_a_missing_key_is_told_at_the_start(tmp_path: Path) -> None:
    async def starts(*keys: bytes) -> bytes:
        (tmp_path / "keys").write_text(lines(*keys))
        async with opened(StoreConfig(f"sqlite:///{tmp_path}/x.db", tmp_path / "keys" if keys else None), 8000) as store:
            await store.secrets.check()
            return await store.secrets.get("shared")

    old, new = bytes(32), bytes(range(32))
    shared = await starts()
    assert await starts(old) == shared
    assert await starts(new, old) == shared, "contents outlive their key's replacement"
    assert await starts(new) == shared, "what all gateways share was not sealed with the new key"
    for keys in ((old,), ()):
        with pytest.raises(UserError, match="--encryption-key-file"):
            await starts(*keys)


@pytest.mark.parametrize("days", [0, -1, float("inf"), float("nan")])
def test_things_are_kept_for_some_time(days: float) -> None:
    with pytest.raises(UserError, match="--retention-days"):
        StoreConfig(retention_days=days)


def test_every_gateway_of_a_user_has_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert own_url(8000) == f"sqlite:///{tmp_path}/ossia/gateway-8000.db"
    assert (tmp_path / "ossia").stat().st_mode & 0o777 == 0o700
    assert own_url(0) == "sqlite://"
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/none")
    with pytest.raises(UserError, match="--database"):
        own_url(8000)


async def test_what_is_too_old_goes_every_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "EVERY_S", 0.01)
    store = Store("sqlite://")
    task = asyncio.create_task(retention.expire(store, 0.5))
    await store.responses.put("a", {"id": "resp_1"}, [], conversation=None, previous=None)
    began = time.monotonic()
    while await store.responses.get("a", "resp_1"):  # noqa: ASYNC110 - another task's work
        await asyncio.sleep(0.01)
    assert 0.4 < time.monotonic() - began < 10
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await store.close()
