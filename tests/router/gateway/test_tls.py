"""TLS and mutual TLS with certificates of an authority of the test's own."""

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import trustme

from cluster import probe
from ossia.common.errors import UserError
from router.gateway.app import create_app
from router.gateway.server import listen, serving
from router.gateway.tls import Tls
from tests.fakes.scripted import ScriptedEngine


class Files:
    """An authority's certificate, and one with its key for 127.0.0.1."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.ca, self.cert, self.key = folder / "ca.pem", folder / "cert.pem", folder / "key.pem"
        issued = authority.issue_cert("127.0.0.1")
        authority.cert_pem.write_to_path(str(self.ca))
        issued.private_key_pem.write_to_path(str(self.key))
        issued.cert_chain_pems[0].write_to_path(str(self.cert))

    def client(self, *, presents: bool) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.ca))
        if presents:
            context.load_cert_chain(self.cert, self.key)
        return context


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Files]:
    yield Files(tmp_path_factory.mktemp("tls"))


@pytest.mark.parametrize("mutual", [False, True])
async def test_it_is_served_and_who_needs_a_certificate_must_have_one(files: Files, mutual: bool) -> None:
    socket = listen("127.0.0.1", 0)
    url = f"https://127.0.0.1:{socket.getsockname()[1]}/health"
    context = Tls(files.cert, files.key, files.ca if mutual else None).context()
    async with serving(create_app(ScriptedEngine()), socket, context):
        async with httpx.AsyncClient(verify=files.client(presents=mutual)) as client:
            assert (await client.get(url)).json() == {"status": "ok"}
        async with httpx.AsyncClient(verify=files.client(presents=False)) as stranger:
            if mutual:
                with pytest.raises(httpx.TransportError):
                    await stranger.get(url)
        assert await asyncio.to_thread(probe.answers, url)
    assert not probe.answers(url)


async def test_a_certificate_of_another_authority_opens_nothing(files: Files, tmp_path: Path) -> None:
    others = Files(tmp_path)
    socket = listen("127.0.0.1", 0)
    url = f"https://127.0.0.1:{socket.getsockname()[1]}/health"
    async with serving(create_app(ScriptedEngine()), socket, Tls(files.cert, files.key, files.ca).context()):
        context = files.client(presents=False)
        context.load_cert_chain(others.cert, others.key)
        async with httpx.AsyncClient(verify=context) as stranger:
            with pytest.raises(httpx.TransportError):
                await stranger.get(url)


def test_the_operators_mistakes(files: Files, tmp_path: Path) -> None:
    nonsense, none = tmp_path / "nonsense.pem", tmp_path / "none.pem"
    nonsense.write_text("nonsense")
    locked = tmp_path / "locked.pem"
    locked.write_text(_locked(files.key.read_bytes()))
    for wrong in (
        Tls(none, files.key),
        Tls(nonsense, files.key),
        Tls(files.cert, nonsense),
        Tls(files.cert, locked),
        Tls(files.cert, files.key, none),
        Tls(files.cert, files.key, nonsense),
    ):
        with pytest.raises(UserError, match="--tls-"):
            wrong.context()
    with pytest.raises(UserError, match="both"):
        Tls.of(files.cert, None, None)
    with pytest.raises(UserError, match="both"):
        Tls.of(None, None, files.ca)
    assert Tls.of(None, None, None) is None


def _locked(key: bytes) -> str:
    from cryptography.hazmat.primitives import serialization

    password = serialization.BestAvailableEncryption(b"secret")
    loaded = serialization.load_pem_private_key(key, None)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, password)
    return loaded.private_bytes(*form).decode()
