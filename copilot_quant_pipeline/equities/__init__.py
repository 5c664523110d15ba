"""Daily equity bars: Yahoo's client, the universe, as-traded bars, how a run's cells are settled.

Here: everything that knows Yahoo or the S&P 500.
Not here: what is stored and how (warehouse), kept responses (landing), prediction markets.
"""
