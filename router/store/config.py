"""What an operator says about the store, and how it becomes one. Knows no HTTP."""

import base64
import binascii
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from ossia.common import folders
from ossia.common.errors import UserError
from router.store.seal import KEY_BYTES
from router.store.store import Store

DAY_S = 86_400.0
RETENTION_DAYS = 30.0


@dataclass(frozen=True)
class StoreConfig:
    """`database` is a URL as Store has it; None: a file of this user's, for the gateway's port. `key_file`: of contents.

    Raises UserError.
    """

    database: str | None = None
    key_file: Path | None = None
    retention_days: float = RETENTION_DAYS

    def __post_init__(self) -> None:
        if not 0 < self.retention_days < float("inf"):
            raise UserError(f"--retention-days must be a number of days above 0, not {self.retention_days:g}")

    @property
    def retention_s(self) -> float:
        return self.retention_days * DAY_S


@asynccontextmanager
async def opened(config: StoreConfig, port: int) -> AsyncIterator[Store]:
    """The store of the gateway on this port, migrated, until the end. Raises UserError."""
    keys = read_keys(config.key_file) if config.key_file else ()
    store = Store(config.database or own_url(port), keys)
    try:
        await store.open()
        yield store
    finally:
        await store.close()


def own_url(port: int) -> str:
    """The database of this user's gateway on this port; in memory for port 0, which nobody comes back to. Raises UserError."""
    if not port:
        return "sqlite://"
    folder = folders.state()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise UserError(f"{folder} cannot be made ({error.strerror}): choose a database with --database") from error
    return f"sqlite:///{folder}/gateway-{port}.db"


def read_keys(file: Path) -> list[bytes]:
    """The keys of a file, one a line in base64, the one that encrypts first. Raises UserError."""
    try:
        lines = file.read_text(encoding="ascii").split()
        keys = [base64.b64decode(line, validate=True) for line in lines]
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, binascii.Error) as error:
        raise UserError(f"{file}: holds no keys; `openssl rand -base64 {KEY_BYTES}` makes one") from error
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        raise UserError(f"{file}: every line must be a key of {KEY_BYTES} bytes; `openssl rand -base64 {KEY_BYTES}` makes one")
    return keys
