"""Ask TensorFlow Serving about images or texts; needs neither TensorFlow nor Keras.

python client.py RUN EXAMPLE... [--url http://localhost:8501/v1/models/classifier]
"""

import argparse
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

SIGNATURE = "serving_default"
INPUTS = {"image-classification": "image", "text-classification": "text"}


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("run", type=Path, help="a run folder, or the artefacts folder in it")
    arguments.add_argument("examples", nargs="+", metavar="example", help="an image file, or a text")
    arguments.add_argument("--url", default="http://localhost:8501/v1/models/classifier")
    arguments = arguments.parse_args()
    manifest = read_manifest(arguments.run)
    name = INPUTS[manifest["task"]]
    for example in arguments.examples:
        value = example
        if name == "image":
            value = read_image(example, **manifest["preprocessing"]).tolist()
        (probabilities,) = ask(arguments.url, [{name: value}])
        best = int(np.argmax(probabilities))
        print(json.dumps({"label": manifest["labels"][best], "probability": round(probabilities[best], 6)}))


def ask(url, instances):
    """Return the probabilities of each of `[{input: value}, ...]`."""
    body = json.dumps({"signature_name": SIGNATURE, "instances": instances}).encode()
    request = urllib.request.Request(f"{url}:predict", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
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


def read_image(path, height, width, mode, interpolation, antialias, **_):
    """Return the image as float32 `(height, width, 3)`, RGB 0-255: upright, sized as in training."""
    try:
        image = ImageOps.exif_transpose(Image.open(path))
    except OSError as error:
        sys.exit(f"{path} cannot be decoded: {error}.")
    if image.mode.startswith("I"):  # 16 bits of grey, which Pillow would clip
        image = Image.fromarray((np.asarray(image) / 257).clip(0, 255).round().astype(np.uint8))
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, "white")
        opaque.alpha_composite(image.convert("RGBA"))
        image = opaque
    image = image.convert("RGB")

    fit_width = max(int(image.height * width / height), 1)
    fit_height = max(int(image.width * height / width), 1)
    if mode == "pad":
        bars = max(fit_width - image.width, 0) // 2, max(fit_height - image.height, 0) // 2
        image = ImageOps.expand(image, bars)
    left, top, right, bottom = 0, 0, image.width, image.height
    if mode == "crop":
        left, top = max(right - fit_width, 0) // 2, max(bottom - fit_height, 0) // 2
        right, bottom = left + min(right, fit_width), top + min(bottom, fit_height)
    size, box = (width, height), (left, top, right, bottom)
    resample = Image.Resampling[interpolation.upper().rstrip("3")]
    if antialias or (right - left <= width and bottom - top <= height):
        image = image.resize(size, resample, box=box)
    else:  # `resize` always averages when it makes smaller, `transform` never does
        image = image.transform(size, Image.Transform.EXTENT, box, resample)
    return np.asarray(image, dtype=np.float32)


if __name__ == "__main__":
    main()
