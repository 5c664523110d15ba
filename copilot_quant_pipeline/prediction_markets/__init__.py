"""Prediction markets: venues, their markets and prices, and the assets over them.

Here: what a venue is, each venue's client, which markets are followed, how prices settle cells.
Not here: the grid, the warehouse, landing, alerts; equities know nothing of this room nor it of them.
"""
