"""The warehouse: table declarations, the DuckDB file that holds what is settled, and reading it back.

Here: what is stored and the transactions that change it.
Not here: what was asked for (grid), where it came from (equities, prediction_markets), Dagster except for the
I/O manager.
"""
