"""The file of `--access`."""

from pathlib import Path

import pytest

from ossia.common.errors import UserError
from router.access.config import load
from router.access.limits import Limits

WHOLE = """
keys: true
oidc:
  issuer: https://login.example.com/realms/acme
  audience: ossia
  tenant: org
limits:
  requests-per-minute: 600
  tokens-per-day: 5000000
highest-priority: -5
audit:
  file: /var/log/ossia/audit.jsonl
"""


def test_a_whole_file(tmp_path: Path) -> None:
    file = tmp_path / "access.yaml"
    file.write_text(WHOLE)
    config = load(file)
    assert config.keys
    assert config.oidc is not None
    assert (config.oidc.tenant, config.oidc.jwks) == ("org", None)
    assert config.limits == Limits(requests_per_minute=600, tokens_per_day=5_000_000)
    assert config.highest_priority == -5
    assert config.audit is not None
    assert not config.audit.contents


def test_a_keys_own_limits_come_first() -> None:
    own = Limits(requests_per_minute=5)
    assert own.over(Limits(requests_per_minute=9, tokens_per_day=7)) == Limits(requests_per_minute=5, tokens_per_day=7)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "valid dictionary"),
        ("{}", "open: true"),
        ("open: true\nkeys: true", "open: true"),
        ("keys: yes please", "keys: Input should be a valid boolean"),
        ("keys: true\nlimit: {}", "limit: Extra inputs"),
        ("keys: true\nlimits: {requests-per-minute: 0}", "limits.requests-per-minute: Input should be greater"),
        ("keys: true\nlimits: {requests: 1}", "limits.requests: Extra inputs"),
        ("keys: true\nlimits: {requests_per_minute: 1}", "limits.requests_per_minute: Extra inputs"),
        ("keys: true\nhighest_priority: 0", "highest_priority: Extra inputs"),
        ("keys: true\nhighest-priority: first", "highest-priority: Input should be a valid integer"),
        ("oidc: {issuer: https://login.example}", "oidc.audience: Field required"),
        ("oidc: {issuer: http://login.example, audience: a}", "begins with https://"),
        ("oidc: {issuer: http://127.0.0.1.evil.example, audience: a}", "begins with https://"),
        ("oidc: {issuer: 'http://localhost:1@login.example', audience: a}", "begins with https://"),
        ("oidc: {issuer: 'https://', audience: a}", "begins with https://"),
        ("oidc: {issuer: 'https://[::1', audience: a}", "begins with https://"),
        ("keys: [", "not YAML"),
    ],
)
def test_mistakes_are_one_line_that_says_where(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "access.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as raised:
        load(file)
    assert said in str(raised.value)
    assert str(file) in str(raised.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        load(tmp_path / "none.yaml")
