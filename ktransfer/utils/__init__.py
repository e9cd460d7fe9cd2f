"""Files, terminal, progress, memory errors, machine."""
