"""Examples, splits, folders and tables: what images and texts share."""
