"""TFLite: its exporter, and what only this format needs."""
