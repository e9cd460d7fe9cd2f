"""The graph of a model: blocks, freezing, heads, cost."""
