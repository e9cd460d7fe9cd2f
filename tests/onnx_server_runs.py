"""What the ONNX server's tests share: tiny runs made by hand, and the server in a thread."""

import contextlib
import hashlib
import io
import json
import threading
import time

import httpx
import numpy as np
import onnx
import onnxruntime
import uvicorn
from exporting import manifest_facts
from onnx import TensorProto, helper, numpy_helper
from onnx_server.adapters import load
from onnx_server.app import create_app
from onnx_server.connections import patient_for
from onnx_server.settings import Settings
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers

from ktransfer.exporting.artifact import fingerprint

COLOURS = ["red", "green", "blue"]
MOODS = ["bad", "good"]
_SIZE = 8

PATIENCE_S = 600  # longer than any step takes, on however slow a machine


def png(colour, size=(_SIZE, _SIZE), format="PNG"):
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, format)
    return file.getvalue()


def softmax(*logits):
    return np.exp(logits) / np.exp(logits).sum()


def sigmoid(*logits):
    return 1 / (1 + np.exp(-np.array(logits, float)))


def image_run(folder, *, batch="dynamic", relative=False, thresholds=None, format=2):
    """A run whose probabilities are the softmax of an image's mean colour / 128; with thresholds its sigmoid.

    Where `relative`, of an image's mean colour / itself: NaN for each colour that an image has nothing of.
    """
    shape = ["batch" if batch == "dynamic" else batch, _SIZE, _SIZE, 3]
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Div", ["mean", "mean" if relative else "scale"], ["logits"]),
        helper.make_node("Softmax" if thresholds is None else "Sigmoid", ["logits"], ["probabilities"]),
    ]
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)]
    constants = [] if relative else [numpy_helper.from_array(np.float32(128), "scale")]
    preprocessing = {"height": _SIZE, "width": _SIZE, "mode": "crop", "interpolation": "bilinear"}
    described = [{"name": "image", "shape": [None, _SIZE, _SIZE, 3], "dtype": "float32"}]
    facts = {"preprocessing": {**preprocessing, "antialias": True}}
    kind = ("image", thresholds, format)
    return _write_run(folder, nodes, inputs, constants, described, COLOURS, batch, facts, *kind)


def text_run(folder, *, mean=False, thresholds=None, format=2):
    """A run of two moods: each "good" adds 1 to a logit, each "bad" to the other, a [PAD] seen adds 5.

    Probabilities are their softmax, with thresholds their sigmoid.

    Where `mean`, these are divided by the number of tokens: NaN for a text of none.
    """
    effects = np.float32([[5, 0], [0, 0], [0, 1], [1, 0]])
    axes = ["batch", "sequence"]
    nodes = [
        helper.make_node("Gather", ["effects", "token_ids"], ["each"]),
        helper.make_node("Cast", ["padding_mask"], ["seen"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["seen", "last"], ["weights"]),
        helper.make_node("Mul", ["each", "weights"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "first"], ["sums"], keepdims=0),
        helper.make_node("ReduceSum", ["weights", "first"], ["tokens"], keepdims=0),
        helper.make_node("Div", ["sums", "tokens"], ["means"]),
        helper.make_node(
            "Softmax" if thresholds is None else "Sigmoid", ["means" if mean else "sums"], ["probabilities"]
        ),
    ]
    names = ["token_ids", "padding_mask"]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT32, axes) for name in names]
    constants = {"effects": effects, "last": np.int64([2]), "first": np.int64([1])}
    constants = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    described = [{"name": name, "shape": [None, None], "dtype": "int32"} for name in names]
    tokenizer = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "good": 2, "bad": 3}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_truncation(6)
    content = tokenizer.to_str().encode()
    facts = {
        "path": "artifacts/tokenizer.json",
        "sha256": hashlib.sha256(content).hexdigest(),
        "sequence_length": 6,
        "fixed_length": False,
        "pad_token_id": 0,
        "inputs": {"token_ids": "ids", "padding_mask": "attention_mask"},
    }
    (folder / "artifacts").mkdir(parents=True, exist_ok=True)
    (folder / "artifacts" / "tokenizer.json").write_bytes(content)
    kind = ("text", thresholds, format)
    return _write_run(
        folder, nodes, inputs, constants, described, MOODS, "dynamic", {"tokenizer": facts}, *kind
    )


def _write_run(
    folder, nodes, inputs, constants, described, labels, batch, facts, modality, thresholds, format
):
    task = "single_label" if thresholds is None else "multi_label"
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", len(labels)])]
    graph = helper.make_graph(nodes, "classifier", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    props = {"labels": labels}
    if format > 1:  # artifacts of then said nothing of the task
        props |= {"task": task} | ({} if thresholds is None else {"thresholds": thresholds})
    helper.set_model_props(model, {name: json.dumps(value) for name, value in props.items()})
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString()
    (folder / "artifacts").mkdir(parents=True, exist_ok=True)
    (folder / "artifacts" / "model.onnx").write_bytes(content)
    artifact = {
        "format": "onnx",
        "path": "artifacts/model.onnx",
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
        "batch": batch,
        "signature": {
            "inputs": described,
            "output": {"name": "probabilities", "shape": [None, len(labels)], "dtype": "float32"},
        },
    }
    manifest = {
        **manifest_facts(modality, task, format), "labels": labels, "artifacts": [artifact], **facts
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


class Held:
    """A model that answers when it is let go."""

    def __init__(self, model):
        self._model, self.go, self.sizes = model, threading.Event(), []

    def __getattr__(self, name):
        return getattr(self._model, name)

    def __call__(self, rows):
        self.go.wait(PATIENCE_S)
        self.sizes.append(len(rows))
        return self._model(rows)


@contextlib.contextmanager
def serving(run, *, hold=False, **settings):
    """The server in a thread: yields a client of it, and the model. Nothing ends by a time not set here."""
    settings = {"read_timeout_s": PATIENCE_S, "answer_timeout_s": PATIENCE_S, **settings}
    settings = Settings(run=run, **settings)
    model = load(settings)
    model = Held(model) if hold else model
    app = create_app(model, settings)
    config = uvicorn.Config(
        app,
        port=0,
        http=patient_for(settings.read_timeout_s, app.state.metrics.invalid),
        ws="none",
        log_level="warning",
        timeout_graceful_shutdown=60,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as client:
            yield client, model
    finally:
        if hold:
            model.go.set()
        server.should_exit = True
        thread.join()


def wait_for(condition, seconds=PATIENCE_S):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come about in time"
        time.sleep(0.01)


def adapter_run(folder, effects, labels, *, backbone=1.0, thresholds=None):
    """A run whose probabilities are the softmax of the sums of what each token adds, in its adapter.

    Args:
        folder: The run folder.
        effects: float32 `(4, classes)`: of [PAD], an unknown word, "good" and "bad".
        labels: Names of the classes.
        backbone: A factor on all sums, which is no part of the adapter.
        thresholds: As in `text_run`.
    """
    text_run(folder, thresholds=thresholds)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    network = onnx.load(folder / "artifacts" / "model.onnx")
    kept = [value for value in network.graph.initializer if value.name != "effects"]
    network.graph.initializer.clear()
    network.graph.initializer.extend([*kept, numpy_helper.from_array(np.zeros((4, 1), "float32"), "effects")])
    network.graph.input.append(helper.make_tensor_value_info("effects", TensorProto.FLOAT, [4, "classes"]))
    network.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "classes"
    network.graph.node[-1].input[0] = "scaled"
    network.graph.node.insert(
        len(network.graph.node) - 1, helper.make_node("Mul", ["sums", "factor"], ["scaled"])
    )
    network.graph.initializer.append(numpy_helper.from_array(np.float32(backbone), "factor"))
    network.ClearField("metadata_props")
    place = folder / "artifacts" / "onnx_adapters"
    place.mkdir()
    (place / "backbone.onnx").write_bytes(network.SerializeToString())
    file = onnxruntime.AdapterFormat()
    file.set_adapter_version(1)
    file.set_model_version(1)
    file.set_parameters({"effects": onnxruntime.OrtValue.ortvalue_from_numpy(np.float32(effects))})
    file.export_adapter(str(place / "adapter.onnx_adapter"))
    facts = {
        "format": 1,
        "labels": labels,
        "task": "single_label" if thresholds is None else "multi_label",
        **({} if thresholds is None else {"thresholds": thresholds}),
        "backbone_sha256": hashlib.sha256((place / "backbone.onnx").read_bytes()).hexdigest(),
    }
    (place / "adapter.json").write_text(json.dumps(facts), encoding="utf-8")
    artifact = manifest["artifacts"][0]
    artifact |= {
        "format": "onnx-adapters",
        "path": "artifacts/onnx_adapters",
        "sha256": fingerprint(place)[0],
    }
    artifact["signature"]["output"]["shape"][-1] = len(labels)
    manifest |= {"labels": labels}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder
