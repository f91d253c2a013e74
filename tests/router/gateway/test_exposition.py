"""Which format of metrics an Accept header asks for."""

import pytest

from router.gateway.exposition import OPENMETRICS, PROMETHEUS, Format, accepted

TEXT, OPEN = "text/plain;version=0.0.4", "application/openmetrics-text;version=1.0.0"


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (  # Prometheus 3's
            f"{OPEN};escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,"
            f"text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,{TEXT};q=0.3,*/*;q=0.2",
            OPENMETRICS,
        ),
        (f"{TEXT};q=0.3,{OPEN};q=0.6", OPENMETRICS),
        (f"{TEXT};q=0.6,{OPEN};q=0.5", PROMETHEUS),  # with its `scrape_protocols` turned round
        (f"{TEXT},{OPEN}", PROMETHEUS),
        ("Application/OpenMetrics-Text ; Q=0.5", OPENMETRICS),
        (f"{OPEN};q=0,*/*", PROMETHEUS),
        ("application/openmetrics-text;version=2.0.0", PROMETHEUS),
        ("", PROMETHEUS),
        *((f"{OPEN};q={broken}", PROMETHEUS) for broken in ("nan", "inf", "-1", "x", "", "=", ";;,,;=")),
    ],
)
def test_what_is_liked_best_is_told(accept: str, wanted: Format) -> None:
    assert accepted(accept) is wanted


@pytest.mark.parametrize("form", [PROMETHEUS, OPENMETRICS])
def test_a_format_is_asked_for_by_its_own_media_type(form: Format) -> None:
    assert accepted(form.media_type) is form
