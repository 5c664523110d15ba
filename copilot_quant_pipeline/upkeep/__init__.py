"""Keeping the grids settled: backfills that run without a browser, and what they found.

Here: from asked cells to Dagster runs and their outcome.
Not here: how cells are fetched (equities, prediction_markets) or stored (warehouse), what is printed (cli).
"""
