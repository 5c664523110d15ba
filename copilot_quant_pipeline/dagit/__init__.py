"""Dagit as `copilot-quant ui` serves it: behind the gate, and unable to paint the grid by hand."""
