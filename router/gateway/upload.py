"""A form with one file in it, read as it comes: nothing of it waits in memory or on a disk. Knows no endpoint.

Source: https://www.rfc-editor.org/rfc/rfc7578.
"""

from collections.abc import AsyncIterator

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, MultipartState, parse_options_header
from starlette.requests import Request

from router.gateway.errors import ApiError, invalid

_MOST_FIELDS = 32
_MOST_VALUE = 4096  # bytes of a field that is no file


class Upload:
    """`content()` yields the file's bytes; when it has ended, `fields` are the others and `filename` is the file's.

    Raises ApiError: 400 for what is no such form, 413 for a file of more than `most` bytes.
    """

    def __init__(self, request: Request, most: int) -> None:
        self._request = request
        self._most = most
        self._name = ""  # of the field that is being read
        self._is_file = False
        self._header = b""
        self._value = b""
        self._disposition = b""
        self._pieces: list[bytes] = []
        self._texts: dict[str, bytearray] = {}
        self.filename: str | None = None

    @property
    def fields(self) -> dict[str, str]:
        return {name: bytes(value).decode("utf-8", "replace") for name, value in self._texts.items()}

    async def content(self) -> AsyncIterator[bytes]:
        size = 0
        try:
            parser = self._parser()
            async for data in self._request.stream():
                parser.write(data)
                for piece in self._pieces:
                    size += len(piece)
                    if size > self._most:
                        message = f"the file is larger than {self._most} bytes"
                        raise ApiError(413, message, param="file", code="request_too_large")
                    yield piece
                self._pieces.clear()
        except FormParserError as error:
            raise invalid(f"the body is no multipart form: {error}", None) from None
        if parser.state is not MultipartState.END:
            raise invalid("the body ends before the form does", None)
        if self.filename is None:
            raise invalid("the form has no file", "file", "missing_required_parameter")

    def _parser(self) -> MultipartParser:
        kind, options = parse_options_header(self._request.headers.get("content-type"))
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise invalid("the content-type must be multipart/form-data with a boundary", None, "invalid_content_type")
        return MultipartParser(
            options[b"boundary"],
            {
                "on_part_begin": self._begin,
                "on_header_field": self._on_header,
                "on_header_value": self._on_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._named,
                "on_part_data": self._on_data,
            },
        )

    def _begin(self) -> None:
        self._disposition = b""

    def _on_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _named(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._is_file = self._name == "file" and b"filename" in options
        if self._is_file:
            if self.filename is not None:
                raise invalid("the form has more than one file", "file")
            self.filename = options[b"filename"].decode("utf-8", "replace")
        elif self._name in self._texts or len(self._texts) == _MOST_FIELDS:
            raise invalid(f"the form has '{self._name[:64]}' twice, or more than {_MOST_FIELDS} fields", self._name[:64])
        else:
            self._texts[self._name] = bytearray()

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._pieces.append(data[start:end])
            return
        text = self._texts[self._name]
        text += data[start:end]
        if len(text) > _MOST_VALUE:
            raise invalid(f"'{self._name[:64]}' is longer than {_MOST_VALUE} bytes", self._name[:64])
