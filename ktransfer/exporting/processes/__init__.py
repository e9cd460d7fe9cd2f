"""Subprocesses for converters and runtimes, which can abort."""
