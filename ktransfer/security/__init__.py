"""Untrusted input: JSON, paths, Keras files."""
