"""Simulated venues that speak the real wire formats on one loopback port.

Here: the venues, the market behind them, faults on request. No dagster.
Not here: clients of venues; nothing in the platform but its commands and tests starts a sandbox.
"""

from __future__ import annotations

from copilot_quant_pipeline.sandbox.market import SimulatedEquities, TradedBars
from copilot_quant_pipeline.sandbox.server import Sandbox, serve_forever

__all__ = ["SimulatedEquities", "Sandbox", "TradedBars", "serve_forever"]
