"""Protocols that every package may import: modality and task. Imports nothing heavy."""
