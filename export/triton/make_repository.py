"""Make a model repository for Triton Inference Server from the ONNX artifact of a run.

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


def config(manifest, name, metadata=None, *, max_batch=8, max_delay_us=2000):
    """Return the text of `config.pbtxt`.

    Args:
        manifest: What the run's `manifest.json` holds.
        name: Of the model, and of its folder in the repository.
        metadata: What `onnx_metadata` gives for the artifact, of which `task` and `thresholds` become parameters.
            Defaults to `None`, that of an earlier version, which has neither.
        max_batch: Most examples in one run of the model; an artifact of batch 1 is run one by one.
        max_delay_us: Longest that an example waits for others, microseconds.

    Example:
        >>> print(config(json.loads(Path("runs/flowers/manifest.json").read_text()), "classifier"))
        name: "classifier"
        backend: "onnxruntime"
        ...
    """
    artifact = find_artifact(manifest)
    batched = artifact["batch"] == "dynamic"
    signature = artifact["signature"]
    inputs = "".join(tensor("input", entry, batched) for entry in signature["inputs"])
    output = tensor("output", signature["output"], batched, '  label_filename: "labels.txt"\n')
    head = f'name: "{name}"\nbackend: "onnxruntime"\nmax_batch_size: {max_batch if batched else 0}\n'
    queue = f"dynamic_batching {{\n  max_queue_delay_microseconds: {max_delay_us}\n}}\n"
    return (
        head + inputs + output + parameters(metadata or {}, manifest["labels"]) + (queue if batched else "")
    )


def parameters(metadata, labels):
    """Return the entries of `parameters`: the task, and of several labels an example their thresholds."""
    task = json.loads(metadata.get("task", '"single_label"'))
    found = {"task": task}
    if task == "multi_label":
        # A run that was never evaluated has none.
        thresholds = json.loads(metadata["thresholds"]) if "thresholds" in metadata else [0.5] * len(labels)
        if len(thresholds) != len(labels):
            sys.exit(
                f"Expected {len(labels)} thresholds, one a label, got {len(thresholds)}. Export it again."
            )
        found["thresholds"] = json.dumps(thresholds)
    elif task not in ("single_label", "ordinal"):
        sys.exit(
            f"Expected a task of single_label, multi_label or ordinal, got {task!r}. Use the make_repository.py of the "
            "ktransfer that exported it."
        )
    return "".join(
        f'parameters {{\n  key: "{key}"\n  value {{ string_value: {json.dumps(value)} }}\n}}\n'
        for key, value in found.items()
    )


def tensor(kind, entry, batched, more=""):
    """Return one entry of `input` or `output`; where Triton batches, its shape is that of one example."""
    if not re.fullmatch(r"\w+", entry["name"], re.ASCII):
        sys.exit(f"Expected a tensor named by letters, digits and '_', got {entry['name']!r}.")
    shape = entry["shape"][1:] if batched else [1, *entry["shape"][1:]]
    dims = ", ".join("-1" if size is None else str(size) for size in shape)
    described = f'  name: "{entry["name"]}"\n  data_type: {_TYPES[entry["dtype"]]}\n  dims: [ {dims} ]\n'
    return f"{kind} {{\n{described}{more}}}\n"


def onnx_metadata(content):
    """Return the metadata of an ONNX file, strings by name.

    Read by hand, as Python's own library knows no protobuf: it is field 14 of the file, a message for each name, with
    the name as field 1 and its value as field 2.
    """
    entries = (dict(fields(value)) for number, value in fields(memoryview(content)) if number == 14)
    return {str(entry[1], "utf-8"): str(entry.get(2, b""), "utf-8") for entry in entries}


def fields(message):
    """Yield number and value of each field of a protobuf message in which all are integers, strings or messages."""
    at = 0

    def integer():
        nonlocal at
        value, shift = 0, 0
        while True:
            byte = message[at]
            value |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if byte < 0x80:
                return value

    while at < len(message):
        tag = integer()
        if tag & 7 not in (0, 2):
            sys.exit(f"Expected an ONNX file, got one with a field of wire type {tag & 7}. Export it again.")
        value = integer()
        if tag & 7 == 2:
            at, value = at + value, message[at : at + value]
        yield tag >> 3, value


def find_artifact(manifest):
    """Return the manifest's entry of the ONNX artifact."""
    for artifact in manifest.get("artifacts") or manifest.get("artefacts", []):
        if artifact["format"] == "onnx":
            return artifact
    sys.exit("The run has no onnx artifact: run `ktransfer export RUN --format onnx`.")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("run", type=Path, help="a run folder")
    arguments.add_argument("repository", type=Path, help="the model repository; made where there is none")
    arguments.add_argument("--name", default="classifier", help="of the model (%(default)s)")
    arguments.add_argument("--max-batch", type=int, default=8, help="examples (%(default)s)")
    arguments.add_argument("--max-delay-us", type=int, default=2000, help="microseconds (%(default)s)")
    arguments = arguments.parse_args()
    if not re.fullmatch(r"[\w.-]+", arguments.name, re.ASCII) or arguments.name.startswith("."):
        sys.exit(f"Expected a name of letters, digits, '_', '-' and '.', got {arguments.name!r}.")
    if not (arguments.run / "manifest.json").is_file():
        sys.exit(f"{arguments.run} has no manifest.json: pass the folder of a run.")
    target = arguments.repository / arguments.name
    if target.exists():
        sys.exit(f"{target} exists already: choose another name, or remove it.")
    manifest = json.loads((arguments.run / "manifest.json").read_text(encoding="utf-8"))
    partial = target.with_name(f".{arguments.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        (partial / "1").mkdir(parents=True)
        artifact = find_artifact(manifest)
        path = arguments.run / artifact["path"]
        if arguments.run.resolve() not in path.resolve().parents:
            sys.exit(f"Expected an artifact in the run, got {artifact['path']!r}.")
        copied = Path(shutil.copyfile(path, partial / "1" / "model.onnx"))
        content = copied.read_bytes()
        if hashlib.sha256(content).hexdigest() != artifact["sha256"]:
            sys.exit(f"{artifact['path']} is not the file of manifest.json: export it again.")
        limits = {"max_batch": arguments.max_batch, "max_delay_us": arguments.max_delay_us}
        text = config(manifest, arguments.name, onnx_metadata(content), **limits)
        (partial / "config.pbtxt").write_text(text, encoding="utf-8")
        labels = "".join(f"{label}\n" for label in manifest["labels"])
        (partial / "labels.txt").write_text(labels, encoding="utf-8")
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    print(target)


if __name__ == "__main__":
    main()
