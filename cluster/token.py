"""The cluster's gRPC token: from OSSIA_TOKEN or a file, never from an argument, which every user of the host can read."""

import os
import secrets
from pathlib import Path

from ossia.common import wire
from ossia.common.errors import UserError

VARIABLE = "OSSIA_TOKEN"


def read(file: Path | None = None) -> str | None:
    """What the file holds, else the environment variable; None where there is neither. Raises UserError."""
    if file is None:
        return os.environ.get(VARIABLE) or None
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UserError(f"{file}: the token cannot be read ({reason}); mend --token-file") from error
    if not token:
        raise UserError(f"{file}: there is no token in it; write one, such as the output of `openssl rand -hex 32`")
    return token


def require(host: str, file: Path | None = None) -> str | None:
    """As `read`; raises UserError where gRPC would listen beyond loopback without one."""
    token = read(file)
    if token is None and not wire.is_loopback(host):
        raise UserError(
            f"listening on {host} needs the cluster's token: set {VARIABLE} or --token-file, or use --host 127.0.0.1"
        )
    return token


def make() -> str:
    """128 random bits."""
    return secrets.token_hex(16)
