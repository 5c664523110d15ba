"""Telling somebody once, in plain words, what is wrong, and once that it is over.

Here: what is wrong now (cells, history), which of it is news (incidents), its words, its way out (channels), and the
book that remembers what was told.
Not here: putting anything right (upkeep), judging data (checks of the other rooms).
"""
