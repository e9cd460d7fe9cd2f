"""Runs the benchmarks one after the other, keeps their results and writes the tables of docs/benchmarks.md.

python benchmarks/run_all.py [DATA [BACKBONES]] [--only epoch_cost memory]

DATA and BACKBONES are of images; the texts are those of `text_accuracy.py` itself.
Each is a subprocess, so that none pays for another; leave the machine alone meanwhile. What a
benchmark found is kept as soon as it ends, in place of what it found before. With --smoke nothing is kept.
"""

import json
import subprocess
import sys
from pathlib import Path

from docs_tables import check_markers, read_records, write_docs, write_records
from harness import MOBILENET, RESNET, arguments, data_folder, note, presets

HERE = Path(__file__).parent
RESULTS, DOCS = HERE / "results.jsonl", HERE.parent / "docs" / "benchmarks.md"
ON_IMAGES = (
    *("time_to_accuracy", "epoch_cost", "pipeline", "depthwise"),
    *("onnx_latency", "memory", "cold_start", "callback_overhead", "gpu"),
)
BENCHMARKS = (*ON_IMAGES, "text_accuracy")


def main():
    parser = arguments(__doc__)
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=BENCHMARKS, metavar="NAME")
    options = parser.parse_args()
    data_folder(options)
    presets(options, RESNET, MOBILENET)
    size = ["--image-size", str(options.image_size)] if options.image_size else []
    images = [str(options.data), str(options.backbones), *size]
    if not options.smoke:
        check_markers(DOCS, options.only)
    failed = []
    for name in options.only:
        note(f"== {name}")
        command = [sys.executable, str(HERE / f"{name}.py"), *(images if name in ON_IMAGES else [])]
        command += ["--smoke"] if options.smoke else []
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode == 2:
            note(f"{name}: not measured")
        elif done.returncode:
            failed.append(name)
        else:
            line = done.stdout.splitlines()[-1]
            print(line, flush=True)
            if not options.smoke:
                records = read_records(RESULTS) | {name: json.loads(line)}
                write_records(RESULTS, records)
                write_docs(DOCS, {name: records[name]})
    if failed:
        note(f"failed: {', '.join(failed)}")
        raise SystemExit(1)


if __name__ == "__main__":
    main()
