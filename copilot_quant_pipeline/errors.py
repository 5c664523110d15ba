"""Every error this platform raises on purpose.

Here: the one error for a user's mistake and the small family for what a vendor can answer, with the pause it asks for.
Not here: programming errors (they stay ordinary exceptions) and texts for a cell's reason other than a vendor's.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from copilot_quant_pipeline.redaction import redacted

# So much of what a vendor is quoted with is kept.
LONGEST_MESSAGE = 1_500


class UserError(Exception):
    """Something the user can put right; the message is one line that says what is wrong and what to do."""

    def __str__(self) -> str:
        return redacted(super().__str__())


class BusyError(UserError):
    """Somebody else holds what is needed, and has for longer than one was ready to wait; nothing is wrong with it."""


class VendorError(Exception):
    """A vendor did not give what was asked; `reason` is the word a cell carries for it.

    Whether asking again can help is `transient`.
    """

    reason: str = "vendor_error"
    transient: bool = False

    def __init__(self, message: str = "") -> None:
        # It often quotes the vendor, and is stored.
        super().__init__(storable(message[:LONGEST_MESSAGE]))

    def __str__(self) -> str:
        # Whatever a venue or a library below says is stored, logged and sent as text: it is made safe here.
        return redacted(super().__str__())


class NotFound(VendorError):
    """The vendor does not know the symbol or market."""

    reason = "unknown_symbol"


class BeforeFirstBar(VendorError):
    """The vendor knows the symbol, and the whole window lies outside its life."""

    reason = "missing_at_source"


class AnotherInstrument(VendorError):
    """The vendor answers with something else than what was asked for: another company, another exchange."""

    reason = "another_instrument"


class AnotherCurrency(VendorError):
    """The vendor's numbers are not in US dollars."""

    reason = "another_currency"


class Rejected(VendorError):
    """The vendor refuses the request as asked, for instance a grain it no longer keeps."""

    reason = "rejected"


class NoSuchRoute(Rejected):
    """The vendor has no such route, or not for this method; whatever is asked there, the answer will be the same."""


# A login, a key, a region, a proxy: such an answer refuses one record, or whoever asks.
DENIALS = frozenset({401, 403, 407, 451})


class Denied(Rejected):
    """The vendor answers one of `DENIALS`, `status`: of the record, or of whoever asks. `whose_denial` tells which."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status

    def blame_vendor(self) -> None:
        """Make it the vendor's: it passes, as an outage does. Until then it is the record's."""
        if not self.transient:
            self.reason, self.transient = Unavailable.reason, True
            self.args = (f"{self}, and so is whatever else is asked",)


class RateLimited(VendorError):
    """The vendor asks for a pause; `retry_after` is in seconds, None where it does not say."""

    reason = "rate_limited"
    transient = True

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(VendorError):
    """The vendor could not be reached or answered with a server error; `retry_after` is as of RateLimited."""

    reason = "unavailable"
    transient = True

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TooSlow(Unavailable):
    """The vendor began to answer, or did not even, and was not through within the deadline of a request."""


class Malformed(VendorError):
    """The vendor answered with something that is not its own format."""

    reason = "malformed_response"
    transient = True


class Defect(Malformed):
    """This program broke while it read a vendor's answer, by an error that nobody declared; asking again is no cure."""

    transient = False


def storable(text: str) -> str:
    """The text as every table and page can hold it: of half a character (a lone surrogate) is shown that it is none."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def whose_denial(denied: Denied, next_answer: VendorError | None) -> VendorError:
    """What a denial is, by what the vendor answered to its next request for something else; None is a good answer.

    Denied likewise, it is the vendor's: `Unavailable`, which passes. So it is while the vendor is failing, for nothing
    is concluded then. Else it is the record's, `Rejected`.
    """
    if isinstance(next_answer, Denied) or (next_answer is not None and next_answer.transient):
        return Unavailable(f"{denied}, and so is whatever else is asked: {next_answer}")
    return Rejected(f"{denied}; the vendor answers for others")


def retry_after(headers: Mapping[str, str | None]) -> float | None:
    """The seconds that `Retry-After` asks for, which it may do by a date: the venue's own clock tells how far off."""
    asked = (headers.get("Retry-After") or "").strip()
    with suppress(ValueError):
        return max(0.0, float(asked))
    with suppress(ValueError, TypeError):
        sent = headers.get("Date")
        now = parsedate_to_datetime(sent) if sent else datetime.now(UTC)
        return max(0.0, (parsedate_to_datetime(asked) - now).total_seconds())
    return None
