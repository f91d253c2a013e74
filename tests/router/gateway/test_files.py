"""/v1/files, with the client that users have."""

import secrets
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import openai
import pytest

from router.gateway.settings import Settings
from tests.fakes.scripted import ScriptedEngine
from tests.router.gateway.conftest import Gateway


@pytest.fixture
async def gateway(start: Callable) -> Gateway:
    settings = Settings(max_file_bytes=3 << 20, max_body_bytes=1 << 16)
    gateway: Gateway = await start(ScriptedEngine(), settings)
    return gateway


async def upload(gateway: Gateway, data: bytes, name: str = "in.jsonl", **more: Any) -> Any:
    return await gateway.client.files.create(file=(name, data), purpose="batch", **more)


async def test_a_file_comes_back_as_it_was(gateway: Gateway) -> None:
    data = secrets.token_bytes(5 << 19)
    file = await upload(gateway, data, "größer.jsonl")
    assert (file.object, file.bytes, file.filename, file.purpose, file.status) == (
        "file",
        len(data),
        "größer.jsonl",
        "batch",
        "processed",
    )
    assert await gateway.client.files.retrieve(file.id) == file
    content = await gateway.client.files.content(file.id)
    assert content.content == data
    assert content.response.headers["content-type"] == "application/octet-stream"
    deleted = await gateway.client.files.delete(file.id)
    assert (deleted.id, deleted.deleted, deleted.object) == (file.id, True, "file")
    for call in (gateway.client.files.retrieve, gateway.client.files.delete, gateway.client.files.content):
        with pytest.raises(openai.NotFoundError, match="there is no file"):
            await call(file.id)


async def test_files_are_listed_newest_first(gateway: Gateway) -> None:
    files = [await upload(gateway, b"x", f"{number}.jsonl") for number in range(5)]
    names = [file.filename async for file in gateway.client.files.list(limit=2)]
    assert names == ["4.jsonl", "3.jsonl", "2.jsonl", "1.jsonl", "0.jsonl"]
    page = await gateway.client.files.list(limit=2, order="asc", after=files[0].id, purpose="batch")
    assert ([file.filename for file in page.data], page.has_more) == (["1.jsonl", "2.jsonl"], True)
    assert (await gateway.client.files.list(purpose="batch_output")).data == []
    with pytest.raises(openai.BadRequestError) as caught:
        await gateway.client.files.list(after="file-none")
    assert caught.value.param == "after"


async def test_a_file_lives_as_long_as_asked(gateway: Gateway) -> None:
    file = await upload(gateway, b"x", expires_after={"anchor": "created_at", "seconds": 3600})
    assert file.expires_at == file.created_at + 3600
    assert (await upload(gateway, b"x")).expires_at == pytest.approx(file.created_at + 30 * 86_400, abs=10)


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({}, "purpose", "missing_required_parameter"),
        ({"purpose": "assistants"}, "purpose", "unsupported_value"),
        ({"purpose": "batch", "colour": "red"}, "colour", "unknown_parameter"),
        ({"purpose": "batch", "expires_after[seconds]": "3600"}, "expires_after", "missing_required_parameter"),
        ({"purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": "1"}, None, "invalid_value"),
        ({"purpose": "x" * 5000}, "purpose", "invalid_value"),
    ],
)
async def test_wrong_forms_are_refused(gateway: Gateway, fields: dict, param: str | None, code: str) -> None:
    answer = await gateway.http.post("/v1/files", data=fields, files={"file": ("a", b"x")})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (HTTPStatus.BAD_REQUEST, code)
    assert param is None or error["param"] == param
    assert (await gateway.client.files.list()).data == []


BOUNDARY = b"--B\r\nContent-Disposition: form-data; name="


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{}", "application/json"),
        (b"{}", "multipart/form-data"),
        (b"nonsense", "multipart/form-data; boundary=B"),
        (b"", "multipart/form-data; boundary=B"),
        (BOUNDARY + b'"purpose"\r\n\r\nbatch\r\n--B--\r\n', "multipart/form-data; boundary=B"),
        (BOUNDARY + b'"file"; filename="a"\r\n\r\nx', "multipart/form-data; boundary=B"),
        (
            BOUNDARY + b'"purpose"\r\n\r\nbatch\r\n' + BOUNDARY + b'"file"; filename="a"\r\n\r\nall but the end\r\n--B',
            "multipart/form-data; boundary=B",
        ),
        (
            BOUNDARY + b'"file"; filename="a"\r\n\r\nx\r\n' + BOUNDARY + b'"file"; filename="b"\r\n\r\nx',
            "multipart/form-data; boundary=B",
        ),
        (b"--B\r\nnothing\r\n\r\nx\r\n--B--\r\n", "multipart/form-data; boundary=B"),
        (BOUNDARY + b'"\xff\x00"\r\n\r\nx\r\n--B--\r\n', "multipart/form-data; boundary=B"),
        (b"--B\r\n" + b"a" * 100_000 + b"\r\n--B--\r\n", "multipart/form-data; boundary=B"),
        (BOUNDARY + b'"' + b"a" * 500 + b'"\r\n\r\nx\r\n' * 40 + b"--B--\r\n", "multipart/form-data; boundary=" + "B" * 1000),
    ],
)
async def test_what_is_no_form_is_refused(gateway: Gateway, body: bytes, kind: str) -> None:
    answer = await gateway.http.post("/v1/files", content=body, headers={"content-type": kind})
    assert answer.status_code == HTTPStatus.BAD_REQUEST
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert (await gateway.client.files.list()).data == []


async def test_a_file_may_be_too_large(gateway: Gateway) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        await upload(gateway, bytes((3 << 20) + 1))
    assert (caught.value.status_code, caught.value.param) == (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "file")
    assert (await gateway.client.files.list()).data == []


@pytest.mark.parametrize("query", ["limit=0", "limit=10001", "limit=x", "order=up", "colour=red", "after=%00"])
async def test_wrong_queries_are_refused(gateway: Gateway, query: str) -> None:
    answer = await gateway.http.get(f"/v1/files?{query}")
    assert answer.status_code == HTTPStatus.BAD_REQUEST
    assert answer.json()["error"]["param"] == query.partition("=")[0]
