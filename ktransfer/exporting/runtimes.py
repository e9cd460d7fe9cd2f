"""An artefact as its own runtime sees it: the labels it carries, what it takes and gives, what it answers."""

import contextlib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ktransfer.errors import ExportError
from ktransfer.security.safe_io import MOST_JSON, is_line, parse_json, read_bytes

KERAS = "keras"
_ONNX_DTYPES = {"float": "float32", "double": "float64"}  # the others are named as in NumPy


@dataclass(frozen=True)
class Opened:
    """An artefact that its runtime has loaded.

    Args:
        labels: Those that it carries, in their order; none if it has none.
        signature: As in `Artefact`, without what a file does not know, such as the range of pixels.
        answer: Callable, inputs by name to the answers `(B, C)`.
    """

    labels: list[str]
    signature: dict
    answer: Callable[[dict[str, np.ndarray]], np.ndarray]


def open_artefact(format, path, *, threads=None):
    """Load an artefact by nothing but its own runtime, or a run's model by Keras.

    No more is imported than that runtime needs: ONNX Runtime and LiteRT are there within a second.

    Args:
        format: As in `Artefact`, or `KERAS`.
        path: The file or folder; of `KERAS` the run folder.
        threads: How many an operation may use; `None` leaves it to the runtime. Those of TensorFlow are the
            process', and set before it has done anything.

    Returns:
        `Opened`. Keras answers with logits, by `predict_on_batch`; all others with probabilities.

    Raises:
        ExportError: The format is none that is known here. What else a runtime raises is its own.

    Example:
        >>> open_artefact("onnx", "run/artefacts/model.onnx").labels
        ['cat', 'dog']
    """
    family = format.partition("-")[0]
    if family not in _OPENERS:
        raise ExportError(
            f"A format of {', '.join(_OPENERS)} was expected. Received: {format!r}. "
            "Use the ktransfer that wrote it."
        )
    return _OPENERS[family](Path(path), threads)


def _open_onnx(path, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def described(value):
        dtype = value.type.removeprefix("tensor(").removesuffix(")")
        shape = [size if isinstance(size, int) else None for size in value.shape]
        return {"name": value.name, "shape": shape, "dtype": _ONNX_DTYPES.get(dtype, dtype)}

    inputs, [output] = [described(value) for value in session.get_inputs()], session.get_outputs()
    dtypes = {given["name"]: given["dtype"] for given in inputs}

    def answer(given):
        cast = {name: array.astype(dtypes[name], copy=False) for name, array in given.items()}
        return session.run([output.name], cast)[0]

    labels = parse_json(session.get_modelmeta().custom_metadata_map.get("labels", "[]"))
    return Opened(_checked(labels), {"inputs": inputs, "output": described(output)}, answer)


def _open_tflite(path, threads):
    from ai_edge_litert.interpreter import Interpreter

    from ktransfer.exporting.tflite.flex import flex_ops, in_pieces

    run = Interpreter(str(path), num_threads=threads).get_signature_runner()
    takes, gives = run.get_input_details(), run.get_output_details()
    if flex_ops(path):  # LiteRT knows what they take and give, but cannot run them
        run = in_pieces(path, threads=threads)

    def described(name, details):
        shape = [None if size < 0 else int(size) for size in details["shape_signature"]]
        return {"name": name, "shape": shape, "dtype": np.dtype(details["dtype"]).name}

    [(output, details)] = gives.items()

    def answer(given):
        answers = run(**{name: _quantized(array, takes[name]) for name, array in given.items()})
        return _dequantized(answers[output], details)

    labels = []
    if zipfile.is_zipfile(path):
        with (
            zipfile.ZipFile(path) as archive,
            contextlib.suppress(KeyError),
            archive.open("labels.txt") as file,
        ):
            labels = _lines(file.read(MOST_JSON + 1))
    inputs = [described(name, details) for name, details in takes.items()]
    return Opened(labels, {"inputs": inputs, "output": described(output, details)}, answer)


def _lines(content):
    """Labels of a file of lines, of which no more was read than may be."""
    if len(content) > MOST_JSON:
        raise ExportError(
            f"Labels of at most {MOST_JSON:,} bytes were expected. Received: more. Export again."
        )
    return _checked(content.decode("utf-8", "replace").splitlines())


def _checked(labels):
    if not isinstance(labels, list) or not all(map(is_line, labels)):
        raise ExportError(f"Labels of one line were expected. Received: {labels!r:.80}. Export again.")
    return labels


def _quantized(array, details):
    """Numbers as a tensor takes them; whole ones, such as ids, are never scaled."""
    dtype, (scale, zero) = np.dtype(details["dtype"]), details["quantization"]
    if dtype.kind not in "iu" or array.dtype.kind in "iu":
        return array.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(array / (scale or 1) + zero), limits.min, limits.max).astype(dtype)


def _dequantized(array, details):
    scale, zero = details["quantization"]
    return array.copy() if array.dtype.kind == "f" else np.float32(scale) * (array.astype("float32") - zero)


def _open_savedmodel(path, threads):
    import tensorflow as tf

    _limit_tensorflow(threads)
    with contextlib.suppress(ImportError):
        import tensorflow_text  # noqa: F401  has the operations of the tokenizers in a text classifier
    loaded = tf.saved_model.load(str(path))

    def described(name, spec):
        return {"name": name, "shape": spec.shape.as_list(), "dtype": spec.dtype.name}

    def signature(name):
        function = loaded.signatures[name]
        inputs = [described(*given) for given in function.structured_input_signature[1].items()]
        [output] = [described(*given) for given in function.structured_outputs.items()]
        return {"inputs": inputs, "output": output}

    signatures = {name: signature(name) for name in loaded.signatures}
    by_inputs = {
        frozenset(given["name"] for given in described["inputs"]): name
        for name, described in signatures.items()
    }

    def answer(given):
        # By way of `loaded`, which keeps the weights alive; its functions alone do not.
        function = loaded.signatures[by_inputs[frozenset(given)]]
        specs = function.structured_input_signature[1]
        tensors = {name: tf.constant(array) for name, array in given.items()}
        # Of pixels in uint8 the examples are float32, as the model takes them.
        cast = {
            name: tensor if tensor.dtype == specs[name].dtype else tf.cast(tensor, specs[name].dtype)
            for name, tensor in tensors.items()
        }
        [answers] = function(**cast).values()
        return answers.numpy()

    labels = path / "assets" / "labels.txt"
    labels = _lines(read_bytes(labels)) if labels.is_file() else []
    return Opened(labels, {**signatures.pop("serving_default"), **signatures}, answer)


def _open_keras(path, threads):
    import keras

    if keras.backend.backend() == "tensorflow":
        _limit_tensorflow(threads)
    from ktransfer.models.inputs import as_taken
    from ktransfer.runs.run import Run

    run = Run.load(path)
    model = run.model

    def answer(given):
        return model.predict_on_batch(as_taken(model, given))

    return Opened(list(run.labels), {}, answer)


def _limit_tensorflow(threads):
    import tensorflow as tf

    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)


_OPENERS = {
    "savedmodel": _open_savedmodel,
    "tflite": _open_tflite,
    "onnx": _open_onnx,
    KERAS: _open_keras,
}
