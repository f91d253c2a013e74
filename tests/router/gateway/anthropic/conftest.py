"""Gateways whose callers have limits."""

from tests.router.access.conftest import guarded, store

__all__ = ["guarded", "store"]
