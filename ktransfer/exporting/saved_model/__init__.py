"""SavedModel: its exporter."""
