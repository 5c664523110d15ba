"""The event log of the grid: Dagster's own events, recorded in bulk, and the instance that holds them.

Here: one event for many cells (recording), the rows stored for it (events, documents), their files (sqlite),
and the instance configuration (instance, dagster.yaml).
Not here: the rows a cell stands for (warehouse) and which cells there are (grid).
"""
