"""Kotlin of the deployment kit, compiled once for all tests that run it."""

import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from exporting import KIT

STUBS = Path(__file__).parent / "kotlin"


def kotlin_jar():
    """Path of a jar with the snippets and the stubs of Android and LiteRT; skips where there is no compiler.

    The compiler is `kotlinc` on the PATH, or that of npm's package in `KTRANSFER_KOTLIN`, which `.ci/run` sets.
    """
    compiler = shutil.which(
        "kotlinc", path=os.environ.get("KTRANSFER_KOTLIN", "") + os.pathsep + os.environ["PATH"]
    )
    if not (compiler and shutil.which("java")):
        pytest.skip("kotlinc and java are not on the PATH; npm's package kotlin-compiler has bin/kotlinc")
    return _compiled(compiler)


@functools.cache
def _compiled(compiler):
    jar = Path(tempfile.mkdtemp(prefix="ktransfer-kotlin-"), "snippets.jar")
    sources = [*sorted((KIT / "tflite").glob("*.kt")), *sorted(STUBS.glob("*.kt"))]
    # npm keeps no rights to execute in some installations.
    subprocess.run(["bash", compiler, *sources, "-include-runtime", "-d", jar], check=True)
    return jar
