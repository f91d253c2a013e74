"""/v1/files: what batches read and write, by the Files API.

Source: https://platform.openai.com/docs/api-reference/files.
"""

import secrets
import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from router.gateway.errors import ApiError, Json, invalid, not_found
from router.gateway.openapi import Operation
from router.gateway.query import PageQuery, listed
from router.gateway.settings import Settings
from router.gateway.shapes_stored import Deleted, File, FilePage
from router.gateway.upload import Upload
from router.store.store import Store

HOUR_S = 3600
MONTH_S = 30 * 24 * HOUR_S
Lifetime = Annotated[int, Field(ge=HOUR_S, le=MONTH_S)]
"""Seconds that a file is kept, where its owner says so."""
_EXPIRY = "expires_after"


class FileQuery(PageQuery):
    limit: Annotated[int, Field(ge=1, le=10_000)] = 10_000
    purpose: str | None = None


class FileForm(BaseModel):
    """What is uploaded: only batches read files here."""

    file: Annotated[str, Field(json_schema_extra={"format": "binary"})] = ""
    purpose: Literal["batch"]
    anchor: Annotated[Literal["created_at"] | None, Field(alias="expires_after[anchor]")] = None
    seconds: Annotated[Lifetime | None, Field(alias="expires_after[seconds]")] = None


class Files:
    """Every method is an endpoint; each raises ApiError for whatever is not a 200."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._files = store.files
        self._settings = settings

    def routes(self) -> Sequence[Route]:
        return [
            Route("/v1/files", self.create, methods=["POST"]),
            Route("/v1/files", self.list, methods=["GET"]),
            Route("/v1/files/{id}", self.retrieve, methods=["GET"]),
            Route("/v1/files/{id}", self.delete, methods=["DELETE"]),
            Route("/v1/files/{id}/content", self.content, methods=["GET"]),
        ]

    @Operation("Files", body=FileForm, takes="multipart/form-data", answer=File)
    async def create(self, request: Request) -> Response:
        """Stores a file, as it comes in."""
        upload = Upload(request, self._settings.max_file_bytes)
        id_ = f"file-{secrets.token_hex(16)}"

        def describe(size: int) -> Json:
            form = _form(upload.fields)
            return described(id_, upload.filename or "", form.purpose, size, form.seconds or self._settings.retention_s)

        return JSONResponse(await self._files.put(request.state.principal.tenant, id_, upload.content(), describe))

    @Operation("Files", query=FileQuery, answer=FilePage)
    async def list(self, request: Request) -> Response:
        """The files there are."""
        query = FileQuery.of(request)
        tenant = request.state.principal.tenant
        page = await self._files.list(tenant, query.purpose, query.after, query.limit, query.order)
        if page is None:
            raise invalid("there is no such file", "after")
        return JSONResponse(listed(page.data, more=page.more))

    @Operation("Files", answer=File)
    async def retrieve(self, request: Request) -> Response:
        """A file, without what is in it."""
        return JSONResponse(await self._find(request))

    @Operation("Files", answer=Deleted)
    async def delete(self, request: Request) -> Response:
        """Deletes a file."""
        id_ = request.path_params["id"]
        if not await self._files.delete(request.state.principal.tenant, id_):
            raise not_found("file", id_, "id")
        return JSONResponse({"id": id_, "object": "file", "deleted": True})

    @Operation("Files", answer=bytes, gives="application/octet-stream")
    async def content(self, request: Request) -> Response:
        """What is in a file."""
        file = await self._find(request)
        headers = {"content-length": str(file["bytes"])}
        return StreamingResponse(self._files.content(str(file["id"])), 200, headers, "application/octet-stream")

    async def _find(self, request: Request) -> Json:
        id_ = request.path_params["id"]
        file = await self._files.get(request.state.principal.tenant, id_)
        if file is None:
            raise not_found("file", id_, "id")
        return file


def described(id_: str, filename: str, purpose: str, size: int, lifetime_s: float) -> Json:
    """A file as the API shows it, which is kept for so long from now on."""
    now = int(time.time())
    return {
        "id": id_,
        "object": "file",
        "bytes": size,
        "created_at": now,
        "expires_at": now + int(lifetime_s),
        "filename": filename,
        "purpose": purpose,
        "status": "processed",
    }


def _form(fields: dict[str, str]) -> FileForm:
    unknown = [name for name in fields if name not in ("purpose", f"{_EXPIRY}[anchor]", f"{_EXPIRY}[seconds]")]
    if unknown:
        raise invalid(f"unknown parameter: '{unknown[0][:64]}'", unknown[0][:64], "unknown_parameter")
    try:
        form = FileForm.model_validate(fields)
    except ValidationError as error:
        raise _mistaken(error) from None
    if (form.anchor is None) != (form.seconds is None):
        raise invalid(f"'{_EXPIRY}' has an anchor and seconds", _EXPIRY, "missing_required_parameter")
    return form


def _mistaken(error: ValidationError) -> ApiError:
    first: Any = error.errors(include_url=False)[0]
    name = str(first["loc"][0])
    if first["type"] == "missing":
        return invalid(f"'{name}' is missing", name, "missing_required_parameter")
    if name == "purpose":
        return invalid(
            "only files with the purpose 'batch' can be uploaded: nothing else here reads files", name, "unsupported_value"
        )
    return invalid(f"'{name}': {first['msg']}", name)
