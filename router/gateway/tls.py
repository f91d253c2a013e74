"""TLS of the gateway's port, and mutual TLS: from files to the context that sockets are wrapped in."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from ossia.common.errors import UserError


@dataclass(frozen=True)
class Tls:
    """Files in PEM. `client_ca`: clients must present a certificate that one of these authorities has signed."""

    cert: Path
    key: Path
    client_ca: Path | None = None

    @classmethod
    def of(cls, cert: Path | None, key: Path | None, client_ca: Path | None) -> "Tls | None":
        """From flags, none of which is given for plain HTTP. Raises UserError."""
        if cert is None and key is None and client_ca is None:
            return None
        if cert is None or key is None:
            raise UserError("TLS needs both --tls-cert and --tls-key")
        return cls(cert, key, client_ca)

    def context(self) -> ssl.SSLContext:
        """TLS 1.2 and newer. Raises UserError."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(self.cert, self.key, password=_no_password)
        except (OSError, ValueError) as error:
            raise UserError(f"--tls-cert {self.cert}, --tls-key {self.key}: {_reason(error)}") from None
        if self.client_ca is not None:
            try:
                context.load_verify_locations(self.client_ca)
            except OSError as error:
                raise UserError(f"--tls-client-ca {self.client_ca}: {_reason(error)}") from None
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def _no_password() -> str:
    raise ValueError("the key is protected by a password, which nobody could type in")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"no certificate and its key in PEM ({error.reason or error})"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
