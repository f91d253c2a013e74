from datetime import date

import pytest

from ossia.common.errors import UserError
from router.gateway.settings import PromptDate, parse_date


@pytest.mark.parametrize(("text", "meant"), [("today", "today"), ("none", "none"), ("2025-06-28", date(2025, 6, 28))])
def test_dates(text: str, meant: PromptDate) -> None:
    assert parse_date(text) == meant


@pytest.mark.parametrize("text", ["", "tomorrow", "2025-02-30"])
def test_no_dates(text: str) -> None:
    with pytest.raises(UserError, match="--date"):
        parse_date(text)
