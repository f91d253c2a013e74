"""How much an account may use. Knows neither whose it is nor what was used."""

from typing import Annotated

from pydantic import AliasGenerator, ConfigDict, Field

from router.gateway.parsing import Closed

_Count = Annotated[int, Field(ge=1, lt=1 << 53)]
DASHED = ConfigDict(alias_generator=AliasGenerator(validation_alias=lambda name: name.replace("_", "-")), validate_by_name=True)
"""Keys of files are spelled with dashes; who reads a file says so (`by_name=False`)."""


class Limits(Closed):
    """None: as much as it likes. Tokens are those of prompts and outputs together; days are UTC's."""

    model_config = DASHED

    requests_per_minute: _Count | None = None
    tokens_per_minute: _Count | None = None
    tokens_per_day: _Count | None = None
    concurrent_requests: _Count | None = None

    def given(self) -> dict[str, int]:
        """Those that there are."""
        return self.model_dump(exclude_none=True)

    def over(self, default: "Limits") -> "Limits":
        """These, and where there is none the default's."""
        return Limits(**{**default.given(), **self.given()})


NONE = Limits()
