"""Structured pruning: whole channels, heads and feed-forward units, by the dependencies that the graph shows."""
