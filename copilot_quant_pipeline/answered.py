"""What a vendor's route gave when it was asked once, to see whether its format is still the declared one.

Here: that value, the same for every vendor.
Not here: asking (each vendor's room), what is printed (cli/venues.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Answered:
    """What one route gave.

    Attributes:
        venue: its name, and
        route: the path that was asked.
        seconds: how long the answer took, with the turn that was waited for.
        records: how many came.
        error: why there is no answer, or none that can be read; None where there is one.
        missing: declared fields that no record has, though most should.
        other_type: declared fields that some record has of another type, and what is wrong with the first.
        new: fields that are not known of this venue.
    """

    venue: str
    route: str
    seconds: float
    records: int = 0
    error: str | None = None
    missing: tuple[str, ...] = ()
    other_type: Mapping[str, str] = field(default_factory=dict)
    new: tuple[str, ...] = ()

    @property
    def is_as_declared(self) -> bool:
        """Whether it answered and nothing declared is missing or of another type."""
        return not (self.error or self.missing or self.other_type)
