"""Run folders: saved and loaded, their manifest, and how to repeat a run."""
