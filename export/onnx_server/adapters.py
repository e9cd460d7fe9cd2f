"""Several runs on one backbone: the network is in memory once, and of each run its adapter of a few hundred KB."""

import hashlib
import json
from pathlib import Path

import onnxruntime

from .errors import StartError
from .model import Model, found_artifact, opened

_FORMAT = "onnx-adapters"
_BACKBONE, _ADAPTER, _FACTS = "backbone.onnx", "adapter.onnx_adapter", "adapter.json"


class Backbone:
    """The backbone of a run, which other runs share.

    Args:
        folder: A run folder with an artifact of the format `onnx-adapters`.
        threads: Cores for one run of the model.

    Attributes:
        session: ONNX Runtime's.
        sha256: Of the file.

    Raises:
        StartError: The folder is no run, or has no such artifact.

    Example:
        >>> len(Backbone("runs/reviews").sha256)
        64
    """

    def __init__(self, folder, *, threads=1):
        path = found_artifact(Path(folder), _FORMAT)[-1] / _BACKBONE
        content = _bytes(path)
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.session = opened(content, threads)


class AdapterModel(Model):
    """The classifier of a run, whose adapter is added to a backbone at each call.

    Args:
        folder: A run folder; its own copy of the backbone is not needed.
        backbone: `Backbone` that its adapter was exported for.
        max_pixels: The largest image to decode.

    Raises:
        StartError: As of `Model`; or the adapter is of another backbone.

    Example:
        >>> backbone = Backbone("runs/reviews")
        >>> [AdapterModel(run, backbone).labels for run in ("runs/reviews", "runs/topics")]
        [['bad', 'good'], ['food', 'service']]
    """

    def __init__(self, folder, backbone, *, max_pixels=40e6):
        root, manifest, artifact, path = found_artifact(Path(folder), _FORMAT)
        content = _bytes(path / _FACTS)
        facts = json.loads(content)
        if facts["backbone_sha256"] != backbone.sha256:
            raise StartError(
                f"Expected adapters of the backbone {backbone.sha256[:12]}, which is served, got those in {root}, "
                f"which are of {facts['backbone_sha256'][:12]}. Serve them with the run that has it."
            )
        # As `sha256sum` lists a folder: what was proved is this adapter on that backbone.
        digests = {
            _FACTS: hashlib.sha256(content).hexdigest(),
            _ADAPTER: hashlib.sha256(_bytes(path / _ADAPTER)).hexdigest(),
            _BACKBONE: backbone.sha256,
        }
        listed = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
        if (found := hashlib.sha256(listed.encode()).hexdigest()) != artifact["sha256"]:
            raise StartError(
                f"Expected {path} to have the SHA-256 {artifact['sha256']}, as in manifest.json, got {found}. "
                "Export it again."
            )
        self._adapter, options = onnxruntime.LoraAdapter(), onnxruntime.RunOptions()
        self._adapter.Load(str(path / _ADAPTER))  # kept, since the options do not keep it
        options.add_active_adapter(self._adapter)
        metadata = {name: json.dumps(value) for name, value in facts.items()}
        run = (root, manifest, artifact)
        self._serve(backbone.session, metadata, run, max_pixels=max_pixels, options=options)


def load(settings):
    """Return the `Model` that the settings say; with adapters, these are its `adapters`.

    Args:
        settings: `Settings`.

    Raises:
        StartError: As of `Model` and `AdapterModel`; or two runs are of different tasks.

    Example:
        >>> load(Settings.parse(["runs/reviews", "--adapter", "topics=runs/topics"])).adapters["topics"].labels
        ['food', 'service']
    """
    max_pixels = settings.max_megapixels * 1e6
    if not settings.adapters:
        return Model(settings.run, threads=settings.threads, max_pixels=max_pixels)
    backbone = Backbone(settings.run, threads=settings.threads)
    model = AdapterModel(settings.run, backbone, max_pixels=max_pixels)
    for name, folder in settings.adapters.items():
        found = AdapterModel(folder, backbone, max_pixels=max_pixels)
        kinds = [(each.task, each.read.kind, each.read.texts) for each in (model, found)]
        if kinds[0] != kinds[1]:
            raise StartError(
                f"Expected runs of one task, {kinds[0][0]} of {kinds[0][2]} {kinds[0][1]}s, got {kinds[1][0]} of "
                f"{kinds[1][2]} {kinds[1][1]}s for the adapter {name}. Serve it by itself."
            )
        model.adapters[name] = found
    return model


def _bytes(path):
    try:
        return path.read_bytes()
    except OSError as error:
        raise StartError(f"Expected {path}, got {error.strerror}. Export it again.") from error
