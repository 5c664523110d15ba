"""The grid: axes of dates and keys, the cells of a run, lines and rectangles.

Here: what a cell is, which cells a run covers, how cells become requests and runs.
Not here: what is stored (warehouse), what a vendor says (equities, prediction_markets).
"""
