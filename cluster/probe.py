"""Questions about ports on this host, answered without a library."""

import errno
import http.client
import socket
import ssl
import urllib.request

from ossia.common.errors import UserError

TIMEOUT_S = 2.0
_DIRECT = urllib.request.ProxyHandler({})  # a proxy of the environment does not know this host's ports


def fetch(url: str) -> str:
    """What plain HTTP's GET answers; empty where nobody does in time."""
    try:
        with urllib.request.build_opener(_DIRECT).open(url, timeout=TIMEOUT_S) as response:
            return str(response.read().decode(errors="replace"))
    except (OSError, http.client.HTTPException):
        return ""


def answers(url: str) -> bool:
    """Whether GET answers 200 now; of a server that hangs up on who has no certificate, whether it does."""
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE  # it is asked nothing that matters
    opener = urllib.request.build_opener(_DIRECT, urllib.request.HTTPSHandler(context=anybody))
    try:
        with opener.open(url, timeout=TIMEOUT_S) as response:
            return bool(response.status == 200)
    except http.client.RemoteDisconnected:
        return url.startswith("https:")
    except (OSError, http.client.HTTPException):  # URLError is of the former
        return False


def listens(address: str) -> bool:
    """Whether something accepts TCP connections at host:port."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=TIMEOUT_S):
            return True
    except OSError:
        return False


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nothing listens on now."""
    return _listen(host, 0)


def require_free(host: str, port: int) -> int:
    """The port, or a free one for port 0. Raises UserError when it is taken or the host is not this one's."""
    try:
        return _listen(host, port)
    except OSError as error:
        if port and error.errno == errno.EADDRINUSE:
            raise UserError(f"port {port} on {host} is in use; choose another with --port, or 0 for a free one") from error
        reason = str(error.strerror or error).partition(" (while ")[0]
        raise UserError(f"cannot listen on {host}:{port} ({reason}); mend --host or --port") from error


def _listen(host: str, port: int) -> int:
    """The port that was listened on for a moment; raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as server:
        return int(server.getsockname()[1])


def local_address(peer: str) -> str:
    """The address of this host that packets to `peer` (host:port) leave from. Raises UserError: no such host, no way to it."""
    host, _, port = peer.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        try:
            datagrams.connect((host, int(port)))  # sends nothing
        except OSError as error:
            raise UserError(f"{peer} cannot be reached ({error.strerror}); give the address of a running Ray") from error
        return str(datagrams.getsockname()[0])


def reachable(host: str) -> str:
    """What a client on this host dials to reach a server bound to `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
