"""Who asks: what the rest of the gateway knows of a request's caller."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

ShownReasoning = Literal["both", "reasoning", "reasoning_content"]
"""The fields in which chat completions show what the model thought."""


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller whose credentials were checked.

    Whatever is stored belongs to a tenant, and is seen by that tenant alone. `key` is the id of the API key, never the key;
    empty where the caller came with a token of an identity provider, or access is open to all. `user` is the subject of such
    a token. `models` of None are all. `highest_priority` is the most urgent `priority` that requests may have, which is the
    lowest number; None: any.
    """

    tenant: str = ""
    key: str = ""
    models: frozenset[str] | None = None
    user: str = ""
    highest_priority: int | None = None
    reasoning: ShownReasoning = "both"

    def may_use(self, model: str) -> bool:
        return self.models is None or model in self.models

    def ranked(self, urgency: int) -> int:
        """The protocol's priority, of which the highest comes first, as far as the caller may have it."""
        return urgency if self.highest_priority is None else min(urgency, -self.highest_priority)

    @property
    def account(self) -> str:
        """Whose limits the caller's requests count against: the key's, else the user's."""
        return self.key or json.dumps([self.tenant, self.user])

    def stored(self) -> dict[str, object]:
        """To be stored with work that runs when the request is over."""
        return {**asdict(self), "models": None if self.models is None else sorted(self.models)}

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """What `stored` gave."""
        models = stored["models"]
        return cls(**{**stored, "models": None if models is None else frozenset(models)})


ANYBODY = Principal()
"""Everyone, where no credentials are asked for."""
