"""Bearer tokens of an identity provider that runs on loopback: what is accepted, what is not, and how its keys rotate."""

import asyncio
import base64
import hmac
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from router.access import jwks
from router.access.config import OidcConfig
from router.access.oidc import BadToken, Issuer
from router.access.principal import Principal
from router.gateway.server import listen, serving
from tests.fakes.scripted import MODEL, ScriptedEngine, answer, pairs
from tests.router.gateway.conftest import eventually

AUDIENCE = "ossia"
RSA = [rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2)]
EC = ec.generate_private_key(ec.SECP256R1())


class Provider:
    """An identity provider; `keys` are those it publishes, `asked` how often, `works` whether it answers, or says `broken`,
    `speaks` when.
    """

    def __init__(self) -> None:
        self.issuer = ""
        self.keys: dict[str, Any] = {"one": RSA[0], "ec": EC}
        self.asked = 0
        self.moved = False
        self.works = True
        self.broken: Response = Response("broken", 500)
        self.speaks = asyncio.Event()
        self.speaks.set()
        self.said: dict[str, str] = {}  # by its discovery document, in place of the truth

    def token(self, kid: str | None = "one", key: Any = RSA[0], algorithm: str = "RS256", **claims: Any) -> str:
        now = int(time.time())
        said = {"iss": self.issuer, "aud": AUDIENCE, "sub": "ada", "exp": now + 60, "iat": now, "org": "acme", **claims}
        kept = {name: value for name, value in said.items() if value is not None}
        return jwt.encode(kept, key, algorithm, headers={"kid": kid} if kid else {})

    async def discovery(self, request: Request) -> Response:
        return JSONResponse({"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys", **self.said})

    async def elsewhere(self, request: Request) -> Response:
        self.moved = True
        return await self.published(request)

    async def published(self, request: Request) -> Response:
        self.asked += 1
        await self.speaks.wait()
        if not self.works:
            return self.broken
        return JSONResponse({"keys": [_public(kid, key) for kid, key in self.keys.items()]})


def _coded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _public(kid: str, key: Any) -> dict[str, Any]:
    is_ec = isinstance(key, ec.EllipticCurvePrivateKey)
    algorithm: Any = jwt.algorithms.ECAlgorithm if is_ec else jwt.algorithms.RSAAlgorithm
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig", "alg": "ES256" if is_ec else "RS256"}


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    provider = Provider()
    routes = [
        Route("/.well-known/openid-configuration", provider.discovery),
        Route("/keys", provider.published),
        Route("/moved", provider.elsewhere),
    ]
    socket = listen("127.0.0.1", 0)
    provider.issuer = f"http://127.0.0.1:{socket.getsockname()[1]}"
    async with serving(Starlette(routes=routes), socket):
        yield provider


@pytest.fixture
async def issuer(provider: Provider) -> AsyncIterator[Issuer]:
    issuer = Issuer(OidcConfig(issuer=provider.issuer, audience=AUDIENCE, tenant="org"))
    yield issuer
    await issuer.close()


@pytest.mark.parametrize(("kid", "key", "algorithm"), [("one", RSA[0], "RS256"), ("ec", EC, "ES256")])
async def test_a_token_tells_tenant_and_user(provider: Provider, issuer: Issuer, kid: str, key: Any, algorithm: str) -> None:
    assert await issuer.principal(provider.token(kid, key, algorithm)) == Principal("acme", user="ada")
    assert await issuer.principal(provider.token(kid, key, algorithm, aud=["else", AUDIENCE])) == Principal("acme", user="ada")
    assert provider.asked == 1


async def test_without_a_claim_for_it_each_user_is_a_tenant(provider: Provider) -> None:
    issuer = Issuer(OidcConfig(issuer=provider.issuer, audience=AUDIENCE, jwks=f"{provider.issuer}/keys"))
    assert await issuer.principal(provider.token()) == Principal("user:ada", user="ada")
    await issuer.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"aud": "another"},
        {"iss": "https://elsewhere.example"},
        {"exp": 1},
        {"exp": None},
        {"aud": None},
        {"sub": None},
        {"nbf": 1 << 33},
        {"org": None},
        {"org": ["acme"]},
        {"org": ""},
        {"org": "x" * 257},
        {"org": "acme\0"},
        {"org": "\ud800"},
        {"sub": "a\nb"},
        {"key": RSA[1]},
        {"kid": "unknown"},
        {"kid": None},
    ],
)
async def test_tokens_that_are_not_accepted(provider: Provider, issuer: Issuer, wrong: dict[str, Any]) -> None:
    with pytest.raises(BadToken):
        await issuer.principal(provider.token(**wrong))


async def test_neither_unsigned_tokens_nor_those_signed_with_the_public_key(provider: Provider, issuer: Issuer) -> None:
    _, payload, _ = provider.token().split(".")
    secret = RSA[0].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for algorithm, mac in (("none", b""), ("HS256", None)):
        signed = f"{_coded(json.dumps({'alg': algorithm, 'kid': 'one'}).encode())}.{payload}"
        signature = hmac.digest(secret, signed.encode(), "sha256") if mac is None else mac
        with pytest.raises(BadToken, match="alg"):
            await issuer.principal(f"{signed}.{_coded(signature)}")


@pytest.mark.parametrize(
    "said",
    [
        {"issuer": "http://127.0.0.1:1"},
        {"jwks_uri": "http://login.example/keys"},
        {"jwks_uri": "keys"},
        {"jwks_uri": "https://login\x01.example/keys"},
    ],
)
async def test_keys_are_found_where_the_issuer_itself_says(provider: Provider, issuer: Issuer, said: dict[str, str]) -> None:
    provider.said = said
    with pytest.raises(jwks.Unreachable):
        await issuer.principal(provider.token())


async def test_keys_that_moved_are_found(provider: Provider, issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks, "_PAUSE_S", 0.0)
    await issuer.principal(provider.token())
    provider.keys["two"] = RSA[1]
    provider.said = {"jwks_uri": f"{provider.issuer}/moved"}
    assert (await issuer.principal(provider.token("two", RSA[1]))).user == "ada"
    assert provider.moved


async def test_keys_rotate(provider: Provider, issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    await issuer.principal(provider.token())
    provider.keys = {"two": RSA[1]}
    with pytest.raises(BadToken):  # keys were fetched just now: whoever makes names up does not have us ask for each
        await issuer.principal(provider.token("two", RSA[1]))
    assert provider.asked == 1
    monkeypatch.setattr(jwks, "_PAUSE_S", 0.0)
    assert (await issuer.principal(provider.token("two", RSA[1]))).user == "ada"
    with pytest.raises(BadToken):
        await issuer.principal(provider.token())


@pytest.mark.parametrize("broken", [Response("broken", 500), JSONResponse([])])
async def test_known_keys_outlive_the_provider(
    provider: Provider, issuer: Issuer, monkeypatch: pytest.MonkeyPatch, broken: Response
) -> None:
    monkeypatch.setattr(jwks, "_PAUSE_S", 0.0)
    await issuer.principal(provider.token())
    provider.broken = broken
    provider.works = False
    with pytest.raises(BadToken):
        await issuer.principal(provider.token("two", RSA[1]))
    assert (await issuer.principal(provider.token())).user == "ada"


async def test_a_provider_that_is_silent_holds_up_no_token_of_a_known_key(
    provider: Provider, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await issuer.principal(provider.token())
    for pause in ("_FRESH_S", "_PAUSE_S"):
        monkeypatch.setattr(jwks, pause, 0.0)
    provider.speaks.clear()
    first = asyncio.create_task(issuer.principal(provider.token()))
    await eventually(lambda: provider.asked == 2)
    others = [asyncio.create_task(issuer.principal(provider.token())) for _ in range(3)]
    done, _ = await asyncio.wait(others, timeout=3.0)
    provider.speaks.set()
    assert len(done) == 3
    assert (await first).user == "ada"


async def test_a_provider_that_does_not_answer_is_no_fault_of_the_caller(provider: Provider, guarded: Any) -> None:
    oidc = {"issuer": provider.issuer, "audience": AUDIENCE}
    gateway = await guarded(ScriptedEngine(), keys=True, oidc=oidc)
    headers = {"authorization": f"Bearer {provider.token()}"}
    provider.works = False
    refused = await gateway.http.get("/v1/models", headers=headers)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert (await gateway.http.get("/v1/models", headers={"authorization": "Bearer sk-ossia-x"})).status_code == 401
    provider.works = True
    await _eventually_ok(gateway, headers)


async def _eventually_ok(gateway: Any, headers: dict[str, str]) -> None:
    async with asyncio.timeout(10):
        while (await gateway.http.get("/v1/models", headers=headers)).status_code != 200:  # noqa: ASYNC110 - the pause is over
            await asyncio.sleep(0.1)


async def test_a_token_through_the_gateway(provider: Provider, guarded: Any) -> None:
    gateway = await guarded(ScriptedEngine(), oidc={"issuer": provider.issuer, "audience": AUDIENCE})
    listed = await gateway.http.get("/v1/models", headers={"authorization": f"bearer {provider.token()}"})
    assert listed.status_code == 200
    refused = await gateway.http.get("/v1/models", headers={"authorization": f"Bearer {provider.token(exp=1)}"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_token")


async def test_users_come_no_earlier_than_the_file_says(provider: Provider, guarded: Any) -> None:
    oidc = {"issuer": provider.issuer, "audience": AUDIENCE}
    gateway = await guarded(ScriptedEngine(*pairs(answer("Hi"), 2)), oidc=oidc, highest_priority=0)
    headers = {"authorization": f"Bearer {provider.token()}"}
    for priority, status in ((-1, 400), (1, 200)):
        ask = {"model": MODEL, "prompt": "Hi", "priority": priority}
        assert (await gateway.http.post("/v1/completions", json=ask, headers=headers)).status_code == status


segments = st.one_of(
    st.text(max_size=20),
    st.binary(max_size=30).map(_coded),
    st.recursive(st.none() | st.booleans() | st.text(max_size=5) | st.integers(), lambda inner: st.lists(inner, max_size=3))
    .flatmap(lambda value: st.dictionaries(st.sampled_from(["alg", "kid", "b64", "crit", "typ"]), st.just(value)))
    .map(lambda header: _coded(json.dumps(header).encode())),
)


class _Known(jwks.KeySet):
    def __init__(self) -> None:
        self._key = jwt.PyJWK(_public("one", RSA[0]))

    async def find(self, name: str | None) -> jwt.PyJWK | None:
        return self._key


@given(st.lists(segments, max_size=4).map(".".join))
async def test_whatever_is_sent_is_a_bad_token(token: str) -> None:
    issuer = Issuer.__new__(Issuer)
    issuer._config, issuer._keys = OidcConfig(issuer="https://login.example", audience=AUDIENCE), _Known()
    with pytest.raises(BadToken):
        await issuer.principal(token)
