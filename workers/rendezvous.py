"""The store where the ranks of a gang meet: rank 0 serves it on the address it was told, and on no other."""

import socket
from datetime import timedelta

from torch._C._distributed_c10d import Store, TCPStore

PATIENCE = timedelta(hours=1)  # how long ranks wait for the slowest; whoever supervises them ends it sooner


def serve(host: str, ranks: int) -> tuple[TCPStore, str]:
    """Opens the store on a free port of `host` alone (left to itself, TCPStore listens everywhere); returns host:port too."""
    listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    port = listener.getsockname()[1]
    store = TCPStore(host, port, ranks, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach())
    return store, f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def join(address: str, ranks: int) -> TCPStore:
    """The store that rank 0 serves at host:port."""
    host, _, port = address.rpartition(":")
    return TCPStore(host.strip("[]"), int(port), ranks, is_master=False, wait_for_workers=False)


def meet(store: Store, stage: str, rank: int, ranks: int) -> None:
    """Returns once every rank has reached `stage`: what follows may then be held to the timeout of a collective."""
    store.set(f"{stage}/{rank}", "")
    store.wait([f"{stage}/{other}" for other in range(ranks)], PATIENCE)
