"""The metadata that mobile libraries read in a TFLite file: inputs, labels, and how pixels are to be scaled.

Laid out after metadata_schema.fbs of TensorFlow Lite Support, whose own writer wants protobuf 3. A field is
given by its index in the schema; only what a classifier needs is here.
"""

from __future__ import annotations

import io
import itertools
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

if TYPE_CHECKING:
    from ktransfer.core.typing import Array
    from ktransfer.exporting.serving import Input, Serving


_BUFFER_NAME = "TFLITE_METADATA"
_RGB = 1  # ColorSpaceType
_IMAGE_PROPERTIES = 2  # in the union ContentProperties
_NORMALIZATION = 1  # in the union ProcessUnitOptions
_SCORE_THRESHOLDING, _BERT_TOKENIZER = 3, 4
_DESCRIPTIONS, _AXIS_LABELS, _VOCABULARY = 1, 2, 5  # AssociatedFileType
_VOCABULARY_FILE = "vocab.txt"
# What MediaPipe's TextClassifier and the Task Library's BertNLClassifier look the inputs up by.
_OF_CLIENT = {"token_ids": "ids", "segment_ids": "segment_ids", "padding_mask": "mask"}
_ABOUT = {
    "token_ids": "Ids that tokenizer.json gives",
    "segment_ids": "Zeros",
    "padding_mask": "1 on tokens, 0 on padding",
}


def add_metadata(content: bytes, serving: Serving, extra: Mapping[str, Any] | None = None) -> bytes:
    """Return the TFLite file `content` with metadata, and with `labels.txt` zipped onto its end.

    The scaling of pixels is written down as none, mean 0 and standard deviation 1: it is inside the model. For a client
    that makes ids itself, `vocab.txt` and the options of its BERT tokenizer are there as well.

    Args:
        content: bytes of a TFLite file with the signature `serving_default`.
        serving: `Serving` that it was made from; its class names are in `labels.txt` a line each.
        extra: JSON-able facts, or `None`; zipped on as `extra.json`.

    Example:
        >>> content = add_metadata(Path("plain.tflite").read_bytes(), serving)
        >>> zipfile.ZipFile(io.BytesIO(content)).read("labels.txt")
        b'cat\\ndog\\n'
    """
    files = {"labels.txt": "".join(f"{name}\n" for name in serving.class_names)}
    if extra is not None:
        files["extra.json"] = json.dumps(extra)
    if serving.client and serving.word_pieces:
        files[_VOCABULARY_FILE] = "".join(f"{piece}\n" for piece in serving.word_pieces)

    model = schema.ModelT.InitFromPackedBuf(content)
    [signature], inputs = model.signatureDefs, {given.name: given for given in serving.inputs}
    names = {tensor.tensorIndex: tensor.name.decode() for tensor in signature.inputs}
    in_order = [inputs[names[index]] for index in model.subgraphs[0].inputs]
    metadata = _model_metadata(in_order, serving, described=extra is not None)
    _name_tensors(model)
    model.buffers.append(schema.BufferT(data=metadata))
    entry = schema.MetadataT(name=_BUFFER_NAME, buffer=len(model.buffers) - 1)
    model.metadata = [*(model.metadata or []), entry]
    file = io.BytesIO(packed(model))
    # Stored, not deflated: the mobile readers take no other. Without a date the bytes are the same each time.
    with zipfile.ZipFile(file, "a", zipfile.ZIP_STORED) as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return file.getvalue()


def packed(model: Any) -> bytes:
    """Return the bytes of a TFLite file, made from a `ModelT`."""
    builder = _AlignedBuilder(4096)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _name_tensors(model: Any) -> None:
    """Give every tensor of every subgraph a short name that no other has.

    OpenVINO, tf2onnx and ai-edge-quantizer look tensors up by name. Inputs and outputs are called as in the
    signature and the metadata, the others `t0`, `t1`, ... in the order of the file: the converter's names,
    paths of layers, are half a percent of a small network's file.
    """
    names: dict[tuple[int, int], bytes] = {}
    for signature in model.signatureDefs:
        for tensor in [*signature.inputs, *signature.outputs]:
            if tensor.name not in names.values():
                names.setdefault((signature.subgraphIndex, tensor.tensorIndex), tensor.name)
    free = (name for count in itertools.count() if (name := b"t%d" % count) not in {*names.values()})
    for place, graph in enumerate(model.subgraphs):
        for index, tensor in enumerate(graph.tensors):
            tensor.name = names.get((place, index)) or next(free)


class _AlignedBuilder(flatbuffers.Builder):
    """Puts vectors at multiples of 16 bytes, as the TFLite schema asks of weights; the packer forgets to.

    Equal vectors are written once and referred to by all: each channel of int8 weights and of their bias has
    a zero point of 8 bytes, always 0, a tenth of a MobileNet's file.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._written: dict[tuple[str, bytes], int] = {}

    def CreateNumpyVector(self, x: Array) -> int:
        key = (x.dtype.str, x.tobytes())
        if key not in self._written:
            self._written[key] = super().CreateNumpyVector(x)
        return self._written[key]

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> int:
        return super().StartVector(elemSize, numElems, max(alignment, 16))


def _model_metadata(inputs: Sequence[Input], serving: Serving, *, described: bool) -> bytes:
    b = flatbuffers.Builder(1024)
    of_client = bool(serving.client and serving.word_pieces)
    names = _OF_CLIENT if of_client else {}
    described_inputs = [
        _DESCRIBED[len(given.axes)](b, given, names.get(given.name, given.name)) for given in inputs
    ]

    labels = _tables(b, [_file(b, "labels.txt", _AXIS_LABELS)])
    limits = _thresholds(b, serving)
    name, about = b.CreateString("probabilities"), b.CreateString(serving.task.output_title)
    probabilities = _table(
        b,
        7,
        lambda: (_refer(b, 0, name), _refer(b, 1, about), _refer(b, 4, limits), _refer(b, 6, labels)),
    )

    takes, gives = _tables(b, described_inputs), _tables(b, [probabilities])
    tokenizers = _tokenizer(b) if of_client else 0
    graphs = _tables(
        b, [_table(b, 6, lambda: (_refer(b, 2, takes), _refer(b, 3, gives), _refer(b, 5, tokenizers)))]
    )
    name = b.CreateString(f"{serving.modality.name.title()}Classifier")
    parser = b.CreateString("1.1.0" if of_client else "1.0.0")  # the first that knows a tokenizer
    files = _tables(b, [_file(b, "extra.json", _DESCRIPTIONS)] if described else [])
    model = _table(
        b, 8, lambda: (_refer(b, 0, name), _refer(b, 3, graphs), _refer(b, 6, files), _refer(b, 7, parser))
    )
    b.Finish(model, file_identifier=b"M001")
    return bytes(b.Output())


def _thresholds(b: flatbuffers.Builder, serving: Serving) -> int:
    """The least probability that an answer of a client has; of several labels the lowest of their thresholds."""
    limits = (serving.decision or {}).get("thresholds") if serving.client else None
    if not limits:
        return 0
    least = min(limits)
    options = _table(b, 1, lambda: b.PrependFloat32Slot(0, least, 0.0))
    return _units(b, _SCORE_THRESHOLDING, options)


def _tokenizer(b: flatbuffers.Builder) -> int:
    files = _tables(b, [_file(b, _VOCABULARY_FILE, _VOCABULARY)])
    return _units(b, _BERT_TOKENIZER, _table(b, 1, lambda: _refer(b, 0, files)))


def _units(b: flatbuffers.Builder, kind: int, options: int) -> int:
    """The process units of a tensor or of a graph: one, with these options of this kind."""
    return _tables(b, [_table(b, 2, lambda: (b.PrependUint8Slot(0, kind, 0), _refer(b, 1, options)))])


def _ids(b: flatbuffers.Builder, given: Input, called: str) -> int:
    name, about = b.CreateString(called), b.CreateString(_ABOUT[given.name])
    return _table(b, 7, lambda: (_refer(b, 0, name), _refer(b, 1, about)))


def _image(b: flatbuffers.Builder, given: Input, called: str) -> int:
    _, height, width, _ = given.axes
    size = _table(b, 2, lambda: (b.PrependUint32Slot(0, width, 0), b.PrependUint32Slot(1, height, 0)))
    properties = _table(b, 2, lambda: (b.PrependInt8Slot(0, _RGB, 0), _refer(b, 1, size)))
    content = _table(b, 3, lambda: (b.PrependUint8Slot(0, _IMAGE_PROPERTIES, 0), _refer(b, 1, properties)))
    mean, std = _floats(b, [0.0]), _floats(b, [1.0])
    normalization = _table(b, 2, lambda: (_refer(b, 0, mean), _refer(b, 1, std)))
    units = _units(b, _NORMALIZATION, normalization)
    highest, lowest = _floats(b, [255.0]), _floats(b, [0.0])
    stats = _table(b, 2, lambda: (_refer(b, 0, highest), _refer(b, 1, lowest)))
    name, about = b.CreateString(called), b.CreateString("RGB image, 0-255; scaled inside the model")
    return _table(
        b,
        7,
        lambda: (
            _refer(b, 0, name),
            _refer(b, 1, about),
            _refer(b, 3, content),
            _refer(b, 4, units),
            _refer(b, 5, stats),
        ),
    )


_DESCRIBED = {2: _ids, 4: _image}  # by the rank of the tensor


def _file(b: flatbuffers.Builder, name: str, kind: int) -> int:
    called = b.CreateString(name)
    return _table(b, 3, lambda: (_refer(b, 0, called), b.PrependInt8Slot(2, kind, 0)))


def _table(b: flatbuffers.Builder, fields: int, fill: Callable[[], object]) -> int:
    b.StartObject(fields)
    fill()
    return b.EndObject()


def _refer(b: flatbuffers.Builder, field: int, offset: int) -> Any:
    return b.PrependUOffsetTRelativeSlot(field, offset, 0)


def _tables(b: flatbuffers.Builder, offsets: list[int]) -> int:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return b.EndVector()


def _floats(b: flatbuffers.Builder, values: list[float]) -> int:
    b.StartVector(4, len(values), 4)
    for value in reversed(values):
        b.PrependFloat32(value)
    return b.EndVector()
