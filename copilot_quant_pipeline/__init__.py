"""Market data on Dagster: daily cells of a (date, symbol) grid, stored in DuckDB.

Each room says in its own first lines what belongs there. Nothing is imported here, so that the command starts fast.
"""
