"""Classify images or texts with the ONNX artifact of a run; needs neither ktransfer nor Keras.

python predict.py RUN IMAGE...
python predict.py RUN TEXT...
python predict.py RUN TEXT TEXT...      (of a run on pairs, two texts for each)
python predict.py RUN TEXT... --format onnx-strings      (the tokenizer is in the file; needs onnxruntime-extensions)
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps
from tokenizers import Tokenizer

FORMAT, STRINGS = "onnx", "onnx-strings"  # that takes texts as they are
MOST_PIXELS = 178_956_970  # what Pillow decodes at most
TOP_K = 5  # predictions, of several labels an example


def load_model(path):
    """Return the labels, what the file says of its task, and a function from inputs to probabilities `(B, C)`."""
    options = onnxruntime.SessionOptions()
    if path.name == "model_strings.onnx":
        try:
            from onnxruntime_extensions import get_library_path
        except ImportError:
            sys.exit(f"{path.name} needs the operators of: pip install onnxruntime-extensions")
        options.register_custom_ops_library(get_library_path())
    session = onnxruntime.InferenceSession(path, options)
    metadata = session.get_modelmeta().custom_metadata_map
    labels = json.loads(metadata["labels"])
    facts = {
        name: json.loads(metadata[name]) for name in ("task", "thresholds", "interval") if name in metadata
    }
    in_bytes = {given.name for given in session.get_inputs() if given.type == "tensor(uint8)"}

    def classify(inputs):
        for name in in_bytes & inputs.keys():
            inputs = {**inputs, name: np.rint(inputs[name]).astype(np.uint8)}
        return session.run(["probabilities"], inputs)[0]

    return labels, facts, classify


def text_reader(path, manifest, artifact):
    """Return a function from a text, or from both of a pair, to the artifact's inputs: ids by `tokenizer.json`."""
    if artifact["format"] == STRINGS:
        return lambda text: {"text": np.array([text.encode("utf-8", "replace").decode()], object)}
    facts = manifest["tokenizer"]
    tokenizer = Tokenizer.from_file(str(path.with_name(Path(facts["path"]).name)))
    if "pair" in facts:
        return pair_reader(tokenizer, facts, artifact["sequence"])
    if artifact["sequence"] != "dynamic":
        pad = facts["pad_token_id"]
        tokenizer.enable_padding(
            length=artifact["sequence"], pad_id=pad, pad_token=tokenizer.id_to_token(pad)
        )

    def read(text):
        text = text[: facts.get("characters")]  # as in training
        encoding = tokenizer.encode(text.encode("utf-8", "replace").decode())
        return {name: np.int32([getattr(encoding, field)]) for name, field in facts["inputs"].items()}

    return read


def pair_reader(tokenizer, facts, sequence):
    """Return a function from two texts to the artifact's inputs."""
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from pairs import Pairs

    try:
        pairs = Pairs(tokenizer, facts)
    except ValueError as error:
        sys.exit(str(error))
    pad = {"token_ids": facts["pad_token_id"]}

    def read(texts):
        found = {}
        for name, ids in pairs(*texts).items():
            lacking = 0 if sequence == "dynamic" else sequence - len(ids)
            found[name] = np.pad(ids, (0, lacking), constant_values=pad.get(name, 0))[np.newaxis]
        return found

    return read


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("run", type=Path, help="a run folder, or the artifacts folder in it")
    arguments.add_argument("given", nargs="+", metavar="image_or_text", help="as the run was trained on")
    arguments.add_argument("--format", default=FORMAT, help=f"{FORMAT}, or one that begins with {FORMAT}-")
    arguments = arguments.parse_args()
    if not arguments.format.startswith(FORMAT):
        sys.exit(f"Expected a format that begins with {FORMAT}, got {arguments.format}.")
    path, manifest, artifact = find_artifact(arguments.run, arguments.format)
    words = manifest.get("task") == "ner"
    if modality_of(manifest) == "text" and not words:
        read = text_reader(
            path, manifest, artifact
        )  # first: it brings operations that a SavedModel is loaded with
    elif not words:
        read = image_reader(manifest["preprocessing"])
    labels, facts, classify = load_model(path)
    examples = examples_of(manifest, arguments.given)
    if words:
        find = entity_finder(path, manifest, artifact, labels, classify)
        for given in examples:
            print(json.dumps({"entities": find(given)}), flush=True)
        return
    if facts.get("task") == "regression":
        for given in examples:
            found = measured(classify(read(given))[0], labels, facts.get("interval"))
            print(json.dumps(found), flush=True)
        return
    thresholds = thresholds_of(facts, labels)
    for given in examples:
        found = answer(classify(read(given))[0], labels, thresholds, ordered=facts.get("task") == "ordinal")
        print(json.dumps(found), flush=True)
        if found.get("labels") == []:
            nearest = found["predictions"][0]
            line = f"no label; the nearest is {nearest['label']} {nearest['probability']:.1%}"
            print(f"{str(given)[:60]!r}: {line}", file=sys.stderr)


def examples_of(manifest, given):
    """Return the arguments, or of a run on pairs of texts each two that follow one another."""
    if "pair" not in manifest.get("preprocessing", {}):
        return given
    if len(given) % 2:
        sys.exit(f"Expected two texts for each pair, got {len(given)} texts. Pass both texts of each pair.")
    return list(zip(given[::2], given[1::2], strict=True))


def measured(values, labels, interval):
    """Return what is printed of a number `(1,)`: its name, itself, and where there is one its prediction interval.

    Half the width of that is in the number's own unit or, with the transform "log", in its logarithm.
    """
    value = float(values[0])
    found = {"label": labels[0], "value": value}
    if interval is not None:
        width = interval["width"]
        low, high = value - width, value + width
        if interval.get("transform") == "log":
            low, high = value / float(np.exp(width)), value * float(np.exp(width))
        found |= {"interval": [low, high], "coverage": interval["coverage"]}
    return found


def answer(probabilities, labels, thresholds, *, ordered=False):
    """Return what is printed for one example, of its probabilities `(C,)`.

    Without thresholds it is the most probable label, or of labels in order the median one. With them it is in
    `labels` those that reach theirs, the most probable first, and in `predictions` the same and after them others, at
    least `TOP_K` together.
    """
    each = [
        {"label": label, "probability": round(float(value), 6)}
        for label, value in zip(labels, probabilities, strict=True)
    ]
    if thresholds is None:
        shares = np.cumsum(probabilities, dtype=np.float64)
        return each[int((shares >= 0.5 * shares[-1]).argmax() if ordered else probabilities.argmax())]
    chosen = probabilities >= thresholds
    ranked = np.lexsort((-probabilities, ~chosen))
    count = int(chosen.sum())
    return {
        "labels": [each[i] for i in ranked[:count]],
        "predictions": [{**each[i], "chosen": bool(chosen[i])} for i in ranked[: max(TOP_K, count)]],
    }


def entity_finder(path, manifest, artifact, labels, classify):
    """Return a function from a text to its entities, with offsets in characters."""
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from entities import Entities

    tokenizer = Tokenizer.from_file(str(path.with_name(Path(manifest["tokenizer"]["path"]).name)))
    try:
        entities = Entities(tokenizer, manifest, labels)
    except ValueError as error:
        sys.exit(str(error))
    pad = {"token_ids": manifest["tokenizer"]["pad_token_id"]}

    def answered(window):
        given = {}
        for name, ids in window.items():
            lacking = 0 if artifact["sequence"] == "dynamic" else artifact["sequence"] - len(ids)
            given[name] = np.pad(ids, (0, lacking), constant_values=pad.get(name, 0))[np.newaxis]
        return np.asarray(classify(given))[0]

    def find(text):
        windows = entities.windows(text)
        found = entities.found(windows, [answered(window) for window in windows])
        return [{**each, "probability": round(each["probability"], 6)} for each in found]

    return find


def thresholds_of(facts, labels):
    """Return the least probability of each label with which it is answered, or `None` for one label an example."""
    task = facts.get("task", "single_label")  # files of earlier versions do not say
    if task in ("single_label", "ordinal"):
        return None
    if task != "multi_label":
        sys.exit(
            f"Expected a task of single_label, multi_label, ner, regression or ordinal, got {task!r}. Use the "
            "predict.py of the ktransfer that exported it."
        )
    # A run that was never evaluated has none.
    thresholds = np.array(facts.get("thresholds", [0.5] * len(labels)))
    if thresholds.shape != (len(labels),):
        sys.exit(f"Expected {len(labels)} thresholds, one a label, got {thresholds.size}. Export it again.")
    return thresholds


def modality_of(manifest):
    """Return `"image"` or `"text"`; a manifest of format 1 says it as the task."""
    found = manifest.get("modality") or manifest.get("task", "image").removesuffix("-classification")
    if found not in ("image", "text"):
        sys.exit(
            f"Expected a modality of image or text, got {found!r}. Use the predict.py of the ktransfer that "
            "trained it."
        )
    return found


def find_artifact(folder, format):
    """Return the artifact's path, the run's manifest, and what that says of the artifact."""
    for root in (folder, folder.resolve().parent):
        if (root / "manifest.json").is_file():
            manifest = json.loads((root / "manifest.json").read_text(encoding="utf-8"))
            for artifact in manifest.get("artifacts") or manifest.get("artefacts", []):
                if artifact["format"] == format:
                    path = root / artifact["path"]
                    if root.resolve() not in path.resolve().parents:
                        sys.exit(
                            f"{root}/manifest.json names {artifact['path']!r}, which is outside of the run."
                        )
                    return path, manifest, artifact
            sys.exit(f"{root} has no {format} artifact: run `ktransfer export {root} --format {format}`.")
    sys.exit(f"{folder} has no manifest.json: pass the folder of a run, or the artifacts folder in it.")


def image_reader(preprocessing):
    """Return a function from an image file to the artifact's input."""
    return lambda path: {"image": read_image(path, **preprocessing)[np.newaxis]}


def read_image(path, height, width, mode, interpolation, antialias, **_):
    """Return the image as float32 `(height, width, 3)`, RGB 0-255: upright, sized as in training."""
    try:
        # Of others that Pillow reads some start programs (EPS).
        image = Image.open(path, formats=("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"))
        image = ImageOps.exif_transpose(image)
    except (OSError, Image.DecompressionBombError) as error:
        sys.exit(f"{path} cannot be decoded: {error}.")
    if image.mode.startswith("I"):  # 16 bits of grey, which Pillow would clip
        image = Image.fromarray((np.asarray(image) / 257).clip(0, 255).round().astype(np.uint8))
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, "white")
        opaque.alpha_composite(image.convert("RGBA"))
        image = opaque
    image = image.convert("RGB")

    if interpolation == "mediapipe":
        return warped(np.asarray(image), height, width)
    fit_width = max(int(image.height * width / height), 1)
    fit_height = max(int(image.width * height / width), 1)
    if mode == "pad":
        if max(image.width, fit_width) * max(image.height, fit_height) > MOST_PIXELS:
            sys.exit(f"{path} is too long and narrow for bars: {image.width} x {image.height} pixels.")
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


def warped(pixels, height, width):
    """Return the pixels in another size, as MediaPipe sizes them: bilinear on a grid of 32 places a pixel."""

    def axis(size, target):
        places = np.rint(np.arange(target) * size * 32 / target).astype(int)
        return places // 32, np.minimum(places // 32 + 1, size - 1), places % 32

    (top, bottom, down), (left, right, across) = axis(len(pixels), height), axis(pixels.shape[1], width)
    across, down = across[None, :, None], down[:, None, None]
    above, below = (
        pixels[rows][:, left] * (32 - across) + pixels[rows][:, right] * across for rows in (top, bottom)
    )
    return ((above * (32 - down) + below * down + 512) // 1024).astype(np.float32)


if __name__ == "__main__":
    main()
