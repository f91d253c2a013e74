"""Who asks: what the rest of the gateway knows of a request's caller."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller whose credentials were checked.

    Whatever is stored belongs to a tenant, and is seen by that tenant alone. `key` is the id of the API key, never the key;
    empty where the caller came with a token of an identity provider, or access is open to all. `models` of None are all.
    """

    tenant: str = ""
    key: str = ""
    models: frozenset[str] | None = None

    def may_use(self, model: str) -> bool:
        return self.models is None or model in self.models


ANYBODY = Principal()
"""Everyone, where no credentials are asked for."""
