"""Claims about refusals kept for the length of one backfill."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from copilot_quant_pipeline.errors import (
    BeforeFirstBar,
    NotFound,
    RateLimited,
    Rejected,
    Unavailable,
    VendorError,
)
from copilot_quant_pipeline.landing import InBackfill, Landing, keep_refusal, read_refusal

AT = datetime(2024, 3, 29, 14, tzinfo=UTC)
ONE, OTHER = InBackfill("one", AT), InBackfill("other", AT)
MARCH = (date(2024, 3, 1), date(2024, 3, 31))
A_DAY = (date(2024, 3, 5), date(2024, 3, 5))


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    return Landing(tmp_path)


@pytest.mark.parametrize("error", [NotFound("no such symbol"), BeforeFirstBar("too early"), Rejected("not so")])
def test_a_refusal_is_found_again_by_its_own_backfill_and_by_no_other(landing: Landing, error: VendorError) -> None:
    keep_refusal(landing, "YAHOO", "NOPE", error, of=ONE, window=MARCH, at=AT)
    found = read_refusal(landing, "YAHOO", "NOPE", of=ONE, window=A_DAY)
    assert found is not None
    assert (type(found.error), str(found.error), len(found.payload)) == (type(error), str(error), 0)
    assert read_refusal(landing, "YAHOO", "NOPE", of=OTHER, window=A_DAY) is None
    assert read_refusal(landing, "YAHOO", "NOPE", of=None, window=A_DAY) is None
    assert read_refusal(landing, "YAHOO", "ELSE", of=ONE, window=A_DAY) is None
    assert landing.read("YAHOO", "NOPE") is None  # it is no response


def test_a_refusal_holds_for_the_dates_it_was_asked_for(landing: Landing) -> None:
    keep_refusal(landing, "YAHOO", "NOPE", NotFound("?"), of=ONE, window=A_DAY, at=AT)
    assert read_refusal(landing, "YAHOO", "NOPE", of=ONE, window=A_DAY)
    assert read_refusal(landing, "YAHOO", "NOPE", of=ONE, window=MARCH) is None


def test_what_came_all_the_same_is_kept_with_it(landing: Landing) -> None:
    payload = pa.table({"price": [0.29]})
    keep_refusal(landing, "KALSHI", "X", Rejected("days are lost"), of=ONE, window=MARCH, at=AT, payload=payload)
    found = read_refusal(landing, "KALSHI", "X", of=ONE, window=MARCH)
    assert found is not None
    assert found.payload.equals(payload)


@pytest.mark.parametrize("error", [RateLimited("slowly"), Unavailable("down")])
def test_what_may_pass_is_not_kept(landing: Landing, error: VendorError) -> None:
    keep_refusal(landing, "YAHOO", "AAPL", error, of=ONE, window=MARCH, at=AT)
    assert read_refusal(landing, "YAHOO", "AAPL", of=ONE, window=MARCH) is None
