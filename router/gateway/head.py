"""How much a request may hold beside its body: its line, its headers, what follows the last chunk. Knows no request.

Nobody has said who they are before their headers are read, and the parser in C keeps whatever comes.
"""

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST = 1 << 16  # bytes in a row, what was read together with the last of a body apart


class BoundedHeads(HttpToolsProtocol):
    """uvicorn's, which closes connections that send more."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._row = 0
        self._moved = False

    def data_received(self, data: bytes) -> None:
        self._moved = False
        super().data_received(data)
        self._row = 0 if self._moved else self._row + len(data)
        if self._row > MOST:
            self._refuse()

    def on_headers_complete(self) -> None:
        self._moved = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._moved = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._moved = True
        super().on_message_complete()

    def _refuse(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.send_400_response(f"a request's headers may have {MOST} bytes.")
        else:
            self.transport.close()  # half an answer is on its way
