"""Claims about the errors that vendors are told apart by."""

from __future__ import annotations

import pytest

from copilot_quant_pipeline.errors import (
    Denied,
    NotFound,
    RateLimited,
    Rejected,
    Unavailable,
    VendorError,
    whose_denial,
)

DENIED = Denied("AAPL: Yahoo answers 403", 403)


@pytest.mark.parametrize("again", [Denied("MSFT: Yahoo answers 403", 403), Unavailable("down"), RateLimited("busy")])
def test_a_denial_is_the_venues_where_the_next_request_is_denied_too_or_it_is_failing(again: VendorError) -> None:
    assert type(whose_denial(DENIED, again)) is Unavailable


@pytest.mark.parametrize("again", [None, NotFound("no such symbol"), Rejected("422")])
def test_a_denial_is_the_records_where_the_venue_answers_for_another(again: VendorError | None) -> None:
    assert type(whose_denial(DENIED, again)) is Rejected
