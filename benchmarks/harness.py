"""Common frame of benchmarks: arguments, and one JSON line with the machine's name.

Nothing heavy is imported at the top, so that `--help` and a wrong folder are answered at once.
"""

import argparse
import functools
import json
import os
import platform
import sys
import time
from importlib import metadata
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

SHARED = Path(__file__).resolve().parents[2] / "shared"
RESNET, MOBILENET = "resnet50_v2_3stage_imagenet", "mobilenet_v2_100_imagenet"

# For people; standard output has the JSON line alone.
note = functools.partial(print, file=sys.stderr, flush=True)


def arguments(doc):
    """The parser that every benchmark begins with; `doc` is the docstring of its script."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument(
        "data",
        nargs="?",
        type=Path,
        default=SHARED / "data" / "flowers",
        help="folder with train/ and val/, each of class folders (default: flowers in ../shared)",
    )
    parser.add_argument(
        "backbones",
        nargs="?",
        type=Path,
        default=SHARED / "backbones",
        help="folder that holds the presets, or one preset (default: ../shared/backbones)",
    )
    parser.add_argument("--image-size", type=int, help="pixels (default: what docs/benchmarks.md names)")
    parser.add_argument("--smoke", action="store_true", help="the smallest sizes, only to see that it works")
    return parser


def stopwatch():
    """Start a clock; called, what it returns gives wall and processor seconds since then (of all threads)."""
    wall, processor = time.perf_counter(), time.process_time()

    def read():
        return {
            "seconds": round(time.perf_counter() - wall, 1),
            "cpu_seconds": round(time.process_time() - processor, 1),
        }

    return read


def data_folder(options):
    """The folder of images; ends the program where there is none."""
    if not (options.data / "train").is_dir():
        refuse(f"Expected a folder with train/ and val/ as DATA, got {options.data}. Pass another.")
    return options.data


def presets(options, *names):
    """The preset folders of these names, or the one preset that was passed; ends the program without them."""
    alone = (options.backbones / "config.json").is_file()
    found = [options.backbones] if alone else [options.backbones / name for name in names]
    missing = [folder for folder in found if not (folder / "config.json").is_file()]
    if missing:
        refuse(
            f"Expected Preset folders {', '.join(names)}, or one preset, as BACKBONES, got "
            f"{options.backbones} without {missing[0].name}. Pass another."
        )
    return found


def refuse(line):
    """End the program with one line; exit status 2 means for `run_all.py` that nothing was measured."""
    note(line)
    raise SystemExit(2)


def report(rows, **settings):
    """Print what was measured as one JSON line: rows of named values, units in their names."""
    record = {
        "benchmark": Path(sys.argv[0]).stem,
        "date": time.strftime("%Y-%m-%d"),
        "settings": settings,
        "machine": machine(),
        "rows": rows,
    }
    print(json.dumps(record), flush=True)


def machine():
    """Processor, cores, system, Keras backend and versions, by name."""
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    if "keras" in sys.modules:
        backend = sys.modules["keras"].backend.backend()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = {name: metadata.version(name) for name in (backend, "keras", "keras-hub")}
    return {
        "processor": _processor(),
        "cores": cores,
        "system": platform.system(),
        "backend": backend,
        "versions": {"python": platform.python_version(), **versions},
    }


def _processor():
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
