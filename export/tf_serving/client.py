"""Ask TensorFlow Serving about images or texts; needs Python alone.

python client.py RUN EXAMPLE... [--url http://localhost:8501/v1/models/classifier]
"""

import argparse
import base64
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

# Of each task the signature, and what it takes.
ASKED = {
    "image-classification": ("image_bytes", "image_bytes"),
    "text-classification": ("serving_default", "text"),
}


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("run", type=Path, help="a run folder, or the artefacts folder in it")
    arguments.add_argument("examples", nargs="+", metavar="example", help="an image file, or a text")
    arguments.add_argument("--url", default="http://localhost:8501/v1/models/classifier")
    arguments = arguments.parse_args()
    manifest = read_manifest(arguments.run)
    signature, name = ASKED[manifest["task"]]
    for example in arguments.examples:
        value = example if name == "text" else encoded(example)
        (probabilities,) = ask(arguments.url, signature, [{name: value}])
        best = max(range(len(probabilities)), key=probabilities.__getitem__)
        print(json.dumps({"label": manifest["labels"][best], "probability": round(probabilities[best], 6)}))


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
    """Return what `manifest.json` holds."""
    for root in (folder, folder.resolve().parent):
        if (root / "manifest.json").is_file():
            return json.loads((root / "manifest.json").read_text(encoding="utf-8"))
    sys.exit(f"{folder} has no manifest.json: pass the folder of a run, or the artefacts folder in it.")


if __name__ == "__main__":
    main()
