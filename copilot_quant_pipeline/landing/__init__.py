"""Vendor responses kept on disk, so that any number of runs ask a vendor once.

Here: keeping, finding again and judging a kept response or refusal, whatever the vendor.
Not here: what a response means (the venue rooms), settled rows (warehouse), Dagster.
"""

from copilot_quant_pipeline.landing.refusals import InBackfill, KeptRefusal, keep_refusal, read_refusal
from copilot_quant_pipeline.landing.response import Kept, is_usable
from copilot_quant_pipeline.landing.store import Landing

__all__ = ["InBackfill", "Kept", "Landing", "KeptRefusal", "is_usable", "keep_refusal", "read_refusal"]
