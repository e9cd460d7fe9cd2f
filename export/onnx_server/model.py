"""The artifact of a run, checked and loaded."""

import hashlib
import json
from pathlib import Path

import onnxruntime

from .decision import read_decision, read_interval
from .entity_texts import EntityReader
from .errors import StartError
from .images import ImageReader
from .pair_texts import PairReader
from .texts import TextReader


class Model:
    """The classifier of a run folder, run by ONNX Runtime.

    Args:
        folder: A run folder, or the `artifacts` folder in it.
        threads: Cores for one run of the model.
        max_pixels: The largest image to decode.

    Attributes:
        labels: Names of the classes, in the order of the probabilities.
        task: `"single_label"`, `"multi_label"`, `"ordinal"`, `"regression"`, or `"ner"`, entities in texts.
        interval: Of a regression its prediction interval, as `read_interval` gives it.
        thresholds: Of a multi-label task the least probability of each label with which it is answered, float64
            `(classes,)`; else `None`.
        inputs: `[{"name", "shape", "dtype"}, ...]`; `None` in a shape is any size, the first is the batch.
        max_batch: The one batch size that the artifact takes, or `None` for any.
        read: From an image's bytes, a text, or both texts of a pair to `{input: array}` without the batch axis.
        sha256: Of the artifact.
        adapters: Models on the same backbone by name, as `load_adapters` loads them; here none.

    Raises:
        StartError: The folder is no run, has no ONNX artifact, or that is not the one that was proved; or its
            modality or task is unknown.

    Example:
        >>> model = Model("runs/flowers")
        >>> model([model.read(Path("rose.jpg").read_bytes())]).argmax()
        2
    """

    def __init__(self, folder, *, threads=1, max_pixels=40e6):
        root, manifest, artifact, path = found_artifact(Path(folder), "onnx")
        session = opened(_proved(path, artifact["sha256"]), threads)
        metadata = session.get_modelmeta().custom_metadata_map
        self._serve(session, metadata, (root, manifest, artifact), max_pixels=max_pixels)

    def _serve(self, session, metadata, run, *, max_pixels, options=None):
        root, manifest, artifact = run
        self._session, self._options, self.adapters = session, options, {}
        self.labels = json.loads(metadata["labels"])
        self.task, self.thresholds = read_decision(metadata, self.labels)
        self.interval = read_interval(metadata)
        self.inputs = artifact["signature"]["inputs"]
        self.output = artifact["signature"]["output"]
        self.max_batch = None if artifact["batch"] == "dynamic" else artifact["batch"]
        self.sha256 = artifact["sha256"]
        if _modality(manifest) == "text":
            self.read = _text_reader(root / Path(artifact["path"]).parent, manifest, self)
        else:
            (image,) = self.inputs
            self.read = ImageReader(manifest["preprocessing"], image["dtype"], max_pixels=max_pixels)

    def __call__(self, rows):
        """Return the probabilities `(B, classes)` of a batch of what `read` gave; of tokens `(B, tokens, tags)`."""
        answers = self._session.run([self.output["name"]], self.read.collate(rows), self._options)[0]
        if answers.ndim < 3:
            return answers
        # Of each its own tokens: how far a batch is padded is chance.
        return [answer[: len(next(iter(row.values())))] for answer, row in zip(answers, rows, strict=True)]


def found_artifact(folder, format):
    """Return the folder of a run, its manifest, the entry of an artifact in it, and the artifact's path.

    Args:
        folder: A run folder, or the `artifacts` folder in it.
        format: Such as `"onnx"`.

    Raises:
        StartError: As `Model` does.
    """
    root, manifest = _manifest(folder)
    entries = manifest.get("artifacts") or manifest.get("artefacts", [])  # the key before 0.2.0
    artifact = next((entry for entry in entries if entry["format"] == format), None)
    if artifact is None:
        raise StartError(
            f"Expected a run with an artifact of the format {format}, got {root}, which has "
            f"{', '.join(entry['format'] for entry in entries) or 'none'}. "
            f"Run `ktransfer export {root} --format {format}`."
        )
    if artifact["batch"] not in ("dynamic", 1):
        raise StartError(
            f'Expected an artifact of batch "dynamic" or 1, got {artifact["batch"]!r}. Export it again.'
        )
    path = root / artifact["path"]
    if root.resolve() not in path.resolve().parents:
        raise StartError(f"Expected an artifact in the run, got {artifact['path']!r}. Export it again.")
    return root, manifest, artifact, path


def opened(content, threads):
    """Return ONNX Runtime's session of a file's bytes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # of each input that may be left out it warns that it is no constant
    # Threads that spin while they wait for work take it from those that decode and speak HTTP.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _manifest(folder):
    for root in (folder, folder.resolve().parent):
        if (root / "manifest.json").is_file():
            return root, json.loads((root / "manifest.json").read_text(encoding="utf-8"))
    raise StartError(
        f"Expected a run folder, or the artifacts folder in it, got {folder}, without manifest.json. "
        "Pass another folder."
    )


def _modality(manifest):
    """Return `"image"` or `"text"`; a manifest of format 1 says it as the task."""
    found = manifest.get("modality") or manifest.get("task", "image").removesuffix("-classification")
    if found not in ("image", "text"):
        raise StartError(
            f"Expected a modality of image or text, got {found!r}. Use the onnx_server of the ktransfer that "
            "trained it."
        )
    return found


def _proved(path, sha256):
    """Return the bytes of a file if their SHA-256 is that of the manifest.

    Read once, so that what is loaded is what was checked.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StartError(f"Expected {path}, got {error.strerror}. Export it again.") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise StartError(
            f"Expected {path} to have the SHA-256 {sha256}, as in manifest.json, got {found}. "
            "Export it again."
        )
    return content


def _text_reader(folder, manifest, model):
    import tokenizers  # not needed where images are served

    facts = manifest["tokenizer"]
    content = _proved(folder / Path(facts["path"]).name, facts["sha256"])
    tokenizer = tokenizers.Tokenizer.from_buffer(content)
    if model.task != "ner" and "pair" not in facts:
        return TextReader(tokenizer, facts, model.inputs)
    try:
        if "pair" in facts:
            return PairReader(tokenizer, facts, model.inputs)
        return EntityReader(tokenizer, manifest, model.inputs, model.labels)
    except ValueError as error:
        raise StartError(str(error)) from error
