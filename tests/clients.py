"""Where the slow tests find clients that are no dependencies of the project."""

import importlib.util
import os
import subprocess
import sys

import pytest


def interpreter_with(package):
    """Path of a Python that has `package`: this one, or that of `KTRANSFER_TEST_PYTHON`; else skip.

    Example:
        >>> interpreter_with("openvino")
        '/usr/bin/python3.11'
    """
    if importlib.util.find_spec(package):
        return sys.executable
    other = os.environ.get("KTRANSFER_TEST_PYTHON")
    if other:
        found = subprocess.run([other, "-c", f"import {package}"], capture_output=True, check=False)
        if found.returncode == 0:
            return other
    pytest.skip(f"{package} is not here: install it, or name a Python that has it in KTRANSFER_TEST_PYTHON")
