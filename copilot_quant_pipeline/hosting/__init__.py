"""The processes that `copilot-quant ui` is made of: started together, watched, and ended together.

Depends on alerts, ledger, home and settings; only the command depends on it.
"""
