"""Telling somebody once, in plain words, what is wrong, and once that it is over.

Here: what is wrong now (cell_problems, dagster_problems, run_problems), which of it is news (incidents), its words
(messages), its way out (channels), and what was told before (store).
Not here: putting anything right (upkeep), judging data (checks of the other rooms).
"""
