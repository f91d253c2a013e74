"""`ossia keys` on the command line, and what it leaves in the database."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cluster import keys
from cluster.cli import cli
from ossia.common.errors import UserError
from router.access.keys import KeyRing, digest
from router.access.principal import Principal
from router.store.store import Store


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/keys.db"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["keys", *arguments], catch_exceptions=False, standalone_mode=False)


def listed(url: str) -> list[dict[str, Any]]:
    return list(json.loads(run("list", "--json", "--database", url).stdout))


def test_a_key_is_printed_once_and_only_its_digest_is_kept(url: str, tmp_path: Path) -> None:
    made = run("create", "--database", url, "--tenant", "acme", "--label", "ci", "--model", "a", "--requests-per-minute", "5")
    key = made.stdout.strip()
    assert key.startswith("sk-ossia-")
    assert len(key) > 50
    (shown,) = listed(url)
    assert (shown["tenant"], shown["name"], shown["models"], shown["state"]) == ("acme", "ci", ["a"], "valid")
    assert shown["limits"] == {"requests_per_minute": 5}
    assert "digest" not in shown
    kept = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert digest(key).encode() in kept
    assert key.encode() not in kept
    assert "acme" in run("list", "--database", url).stdout
    assert "acme" not in run("list", "--database", url, "--tenant", "other").stdout


def test_what_a_key_may_besides(url: str) -> None:
    run("create", "--database", url)
    run("create", "--database", url, "--highest-priority", "-5", "--reasoning", "reasoning_content")
    assert [(key["highest_priority"], key["reasoning"]) for key in listed(url)] == [(None, "both"), (-5, "reasoning_content")]
    assert "highest-priority -5" in run("list", "--database", url).stdout


def test_a_revoked_key_stays_in_the_list(url: str) -> None:
    run("create", "--database", url)
    (shown,) = listed(url)
    run("revoke", shown["id"], "--database", url)
    assert listed(url)[0]["state"].startswith("revoked")
    with pytest.raises(UserError, match="there is no key 'nope'"):
        run("revoke", "nope", "--database", url)


def test_a_key_of_some_days_expires(url: str) -> None:
    run("create", "--database", url, "--days", "0.0000001")
    run("create", "--database", url, "--days", "2")
    assert [shown["state"].split()[0] for shown in listed(url)] == ["expired", "valid"]


@pytest.mark.parametrize("tenant", ["", "user:ada", "a b", "x" * 65])
def test_a_tenant_cannot_be_taken_for_somebody_elses(url: str, tenant: str) -> None:
    with pytest.raises(UserError, match="--tenant"):
        run("create", "--database", url, "--tenant", tenant)


async def test_what_is_made_opens(url: str) -> None:
    made = await asyncio.to_thread(run, "create", "--database", url, "--tenant", "acme", "--model", "a", "--model", "b")
    store = Store(url)
    ring = KeyRing(store.keys)
    got = await ring.principal(made.stdout.strip())
    assert got is not None
    assert got == Principal("acme", got.key, frozenset("ab"))
    assert await ring.principal(made.stdout.strip() + "x") is None
    await store.close()


def test_without_a_url_it_is_the_instances(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    config = keys.database(None, "mine")
    assert config.database == f"sqlite:///{tmp_path}/ossia/mine/gateway.db"
    run("create", "--name", "mine")
    assert len(json.loads(run("list", "--json", "--name", "mine").stdout)) == 1
