"""Make a model repository for Triton Inference Server from the ONNX artefact of a run.

python make_repository.py RUN REPOSITORY [--name classifier]
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import sys
from pathlib import Path

_TYPES = {
    "uint8": "TYPE_UINT8",
    "int8": "TYPE_INT8",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "float16": "TYPE_FP16",
    "float32": "TYPE_FP32",
}


def config(manifest, name, *, max_batch=8, max_delay_us=2000):
    """Return the text of `config.pbtxt`.

    Args:
        manifest: What the run's `manifest.json` holds.
        name: Of the model, and of its folder in the repository.
        max_batch: Most examples in one run of the model; an artefact of batch 1 is run one by one.
        max_delay_us: Longest that an example waits for others, microseconds.

    Example:
        >>> print(config(json.loads(Path("runs/flowers/manifest.json").read_text()), "classifier"))
        name: "classifier"
        backend: "onnxruntime"
        ...
    """
    artefact = find_artefact(manifest)
    batched = artefact["batch"] == "dynamic"
    signature = artefact["signature"]
    inputs = "".join(tensor("input", entry, batched) for entry in signature["inputs"])
    output = tensor("output", signature["output"], batched, '  label_filename: "labels.txt"\n')
    head = f'name: "{name}"\nbackend: "onnxruntime"\nmax_batch_size: {max_batch if batched else 0}\n'
    queue = f"dynamic_batching {{\n  max_queue_delay_microseconds: {max_delay_us}\n}}\n"
    return head + inputs + output + (queue if batched else "")


def tensor(kind, entry, batched, more=""):
    """Return one entry of `input` or `output`; where Triton batches, its shape is that of one example."""
    if not re.fullmatch(r"\w+", entry["name"], re.ASCII):
        sys.exit(f"A tensor named by letters, digits and '_' was expected. Received: {entry['name']!r}.")
    shape = entry["shape"][1:] if batched else [1, *entry["shape"][1:]]
    dims = ", ".join("-1" if size is None else str(size) for size in shape)
    described = f'  name: "{entry["name"]}"\n  data_type: {_TYPES[entry["dtype"]]}\n  dims: [ {dims} ]\n'
    return f"{kind} {{\n{described}{more}}}\n"


def find_artefact(manifest):
    """Return the manifest's entry of the ONNX artefact."""
    for artefact in manifest["artefacts"]:
        if artefact["format"] == "onnx":
            return artefact
    sys.exit("The run has no onnx artefact: run `ktransfer export RUN --format onnx`.")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("run", type=Path, help="a run folder")
    arguments.add_argument("repository", type=Path, help="the model repository; made where there is none")
    arguments.add_argument("--name", default="classifier", help="of the model (%(default)s)")
    arguments.add_argument("--max-batch", type=int, default=8, help="examples (%(default)s)")
    arguments.add_argument("--max-delay-us", type=int, default=2000, help="microseconds (%(default)s)")
    arguments = arguments.parse_args()
    if not re.fullmatch(r"[\w.-]+", arguments.name, re.ASCII) or arguments.name.startswith("."):
        sys.exit(f"A name of letters, digits, '_', '-' and '.' was expected. Received: {arguments.name!r}.")
    if not (arguments.run / "manifest.json").is_file():
        sys.exit(f"{arguments.run} has no manifest.json: pass the folder of a run.")
    target = arguments.repository / arguments.name
    if target.exists():
        sys.exit(f"{target} exists already: choose another name, or remove it.")
    manifest = json.loads((arguments.run / "manifest.json").read_text(encoding="utf-8"))
    text = config(
        manifest, arguments.name, max_batch=arguments.max_batch, max_delay_us=arguments.max_delay_us
    )
    partial = target.with_name(f".{arguments.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        (partial / "1").mkdir(parents=True)
        artefact = find_artefact(manifest)
        path = arguments.run / artefact["path"]
        if arguments.run.resolve() not in path.resolve().parents:
            sys.exit(f"An artefact in the run was expected. Received: {artefact['path']!r}.")
        copied = Path(shutil.copyfile(path, partial / "1" / "model.onnx"))
        if hashlib.sha256(copied.read_bytes()).hexdigest() != artefact["sha256"]:
            sys.exit(f"{artefact['path']} is not the file that manifest.json tells of: export it again.")
        (partial / "config.pbtxt").write_text(text, encoding="utf-8")
        labels = "".join(f"{label}\n" for label in manifest["labels"])
        (partial / "labels.txt").write_text(labels, encoding="utf-8")
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    print(target)


if __name__ == "__main__":
    main()
