"""Ask TensorFlow Serving about images or texts; needs Python alone.

python client.py RUN EXAMPLE... [--url http://localhost:8501/v1/models/classifier]
"""

import argparse
import base64
import itertools
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

# Of each modality the signature, and what it takes.
ASKED = {"image": ("image_bytes", "image_bytes"), "text": ("serving_default", "text")}
TOP_K = 5  # predictions, of several labels an example


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("run", type=Path, help="a run folder, or the artifacts folder in it")
    arguments.add_argument(
        "examples", nargs="+", metavar="example", help="an image file, or a text; of pairs two"
    )
    arguments.add_argument("--url", default="http://localhost:8501/v1/models/classifier")
    arguments = arguments.parse_args()
    root, manifest = read_manifest(arguments.run)
    signature, name = ASKED[modality_of(manifest)]
    thresholds = read_thresholds(root, manifest)
    examples = arguments.examples
    pairs = "pair" in manifest.get("preprocessing", {})
    if pairs:
        if len(examples) % 2:
            sys.exit(f"Expected two texts for each pair, got {len(examples)} texts. Pass both of each pair.")
        examples = list(zip(examples[::2], examples[1::2], strict=True))
    for example in examples:
        value = example if name == "text" else encoded(example)
        given = dict(zip(("text_a", "text_b"), value, strict=True)) if pairs else {name: value}
        (probabilities,) = ask(arguments.url, signature, [given])
        ordered = manifest.get("task") == "ordinal"
        found = answer(probabilities, manifest["labels"], thresholds, ordered=ordered)
        print(json.dumps(found), flush=True)
        if found.get("labels") == []:
            nearest = found["predictions"][0]
            line = f"no label; the nearest is {nearest['label']} {nearest['probability']:.1%}"
            print(f"{str(example)[:60]!r}: {line}", file=sys.stderr)


def answer(probabilities, labels, thresholds, *, ordered=False):
    """Return what is printed for one example, of its probabilities.

    Without thresholds it is the most probable label, or of labels in order the median one. With them it is in
    `labels` those that reach theirs, the most probable first, and in `predictions` the same and after them others, at
    least `TOP_K` together.
    """
    each = [
        {"label": label, "probability": round(value, 6)}
        for label, value in zip(labels, probabilities, strict=True)
    ]
    if thresholds is None and ordered:
        shares = list(itertools.accumulate(probabilities))
        return each[next(index for index, share in enumerate(shares) if share >= 0.5 * shares[-1])]
    if thresholds is None:
        return each[max(range(len(each)), key=probabilities.__getitem__)]
    chosen = [value >= least for value, least in zip(probabilities, thresholds, strict=True)]
    ranked = sorted(range(len(each)), key=lambda i: (not chosen[i], -probabilities[i]))
    count = sum(chosen)
    return {
        "labels": [each[i] for i in ranked[:count]],
        "predictions": [{**each[i], "chosen": chosen[i]} for i in ranked[: max(TOP_K, count)]],
    }


def encoded(path):
    """Return the bytes of a file as TensorFlow Serving takes them."""
    try:
        return {"b64": base64.b64encode(Path(path).read_bytes()).decode()}
    except OSError as error:
        sys.exit(f"{path} cannot be read: {error}.")


def ask(url, signature, instances):
    """Return the probabilities of each of `[{input: value}, ...]`."""
    body = json.dumps({"signature_name": signature, "instances": instances}).encode()
    request = urllib.request.Request(f"{url}:predict", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.load(answer)["predictions"]
    except urllib.error.HTTPError as error:
        sys.exit(f"{url} refused the request: {error.code} {error.read(500).decode(errors='replace')}")
    except OSError as error:
        sys.exit(f"{url} cannot be reached: {error}. Start the server, or pass --url.")


def read_manifest(folder):
    """Return the folder of a run, and what its `manifest.json` holds."""
    for root in (folder, folder.resolve().parent):
        if (root / "manifest.json").is_file():
            return root, json.loads((root / "manifest.json").read_text(encoding="utf-8"))
    sys.exit(f"{folder} has no manifest.json: pass the folder of a run, or the artifacts folder in it.")


def read_thresholds(root, manifest):
    """Return the least probability of each label with which it is answered, or `None` for one label an example.

    They are read from the SavedModel: those of the manifest are for probabilities without a temperature.
    """
    task = manifest.get("task", "single_label") if manifest.get("modality") else "single_label"
    if task in ("single_label", "ordinal"):
        return None
    if task != "multi_label":
        sys.exit(
            f"Expected a task of single_label, multi_label or ordinal, got {task!r}. Use the client.py of the "
            "ktransfer that trained it."
        )
    entries = manifest.get("artifacts") or manifest.get("artefacts", [])  # the key before 0.2.0
    path = next((each["path"] for each in entries if each["format"] == "savedmodel"), None)
    if path is None:
        sys.exit(f"{root} has no savedmodel artifact: run `ktransfer export {root} --format savedmodel`.")
    extra = root / path / "assets" / "extra.json"
    if root.resolve() not in extra.resolve().parents:
        sys.exit(f"{root}/manifest.json names {path!r}, which is outside of the run.")
    try:
        facts = json.loads(extra.read_text(encoding="utf-8"))
    except OSError as error:
        sys.exit(
            f"{extra}, which holds the thresholds, cannot be read: {error}. Copy it from where the run was made."
        )
    count = len(manifest["labels"])
    thresholds = facts.get("thresholds", [0.5] * count)  # a run that was never evaluated has none
    if len(thresholds) != count:
        sys.exit(f"Expected {count} thresholds, one a label, got {len(thresholds)}. Export it again.")
    return thresholds


def modality_of(manifest):
    """Return `"image"` or `"text"`; a manifest of format 1 says it as the task."""
    found = manifest.get("modality") or manifest.get("task", "image").removesuffix("-classification")
    if found not in ASKED:
        sys.exit(
            f"Expected a modality of {' or '.join(ASKED)}, got {found!r}. Use the client.py of the ktransfer that "
            "trained it."
        )
    return found


if __name__ == "__main__":
    main()
