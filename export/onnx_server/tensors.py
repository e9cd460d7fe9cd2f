"""Tensors of the Open Inference Protocol: numbers and strings in JSON, or bytes behind it."""

import itertools
import math
import struct

import numpy as np

from .errors import Refused, shown
from .json_body import check_keys, whole_number

_DTYPES = {
    "BOOL": "?", "UINT8": "<u1", "INT8": "<i1", "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4",
}  # fmt: skip
_KEYS = ("name", "shape", "datatype", "data", "parameters")
_TYPES = {
    "name": (str, "a string"),
    "shape": (list, "a list"),
    "datatype": (str, "a string"),
    "parameters": (dict, "an object"),
}
_CONTENT_TYPES = {"text": "str", "image": "base64"}  # MLServer's; of numbers it is "np"


def read_inputs(given, blob, expected, reader):
    """Return what a request's inputs hold: tensors for the model, or texts or image files to be read.

    Args:
        given: `[{"name", "shape", "datatype", "data" or "parameters": {"binary_data_size"}}, ...]`.
        blob: The bytes behind the JSON, the tensors one after the other, little endian.
        expected: The model's inputs, `-1` in a shape for any size; the first axis is the batch.
        reader: `ImageReader` or `TextReader`.

    Returns:
        `({name: array}, None)`, or `(None, examples)` for one input of datatype BYTES.

    Raises:
        Refused: 400, the inputs are not those, not all, or hold what they cannot.

    Example:
        >>> x = {"name": "x", "datatype": "FP32", "shape": [-1, 2]}
        >>> read_inputs([{**x, "shape": [1, 2], "data": [0.5, 1]}], b"", [x], reader)
        ({'x': array([[0.5, 1. ]], dtype=float32)}, None)
    """
    given = [_checked(tensor, index) for index, tensor in enumerate(_list(given, "inputs"))]
    asked, names = [tensor["name"] for tensor in given], [entry["name"] for entry in expected]
    strings = asked == [reader.kind] and given[0]["datatype"] == "BYTES"
    if not strings and sorted(asked) != sorted(names):
        raise Refused(
            400,
            f"Expected the inputs {names} once each, or {reader.kind!r} alone as BYTES, got {shown(asked)}. "
            "GET the model's metadata for their shapes.",
        )
    found = {}
    for tensor in given:
        size = tensor["parameters"].get("binary_data_size")
        if size is None:
            data = tensor["data"]
        elif size > len(blob):
            raise Refused(
                400,
                f"Expected {size} bytes for {tensor['name']!r} behind the JSON, got {len(blob)}. "
                "Correct binary_data_size or Inference-Header-Content-Length.",
            )
        else:
            data, blob = blob[:size], blob[size:]
        if strings:
            found = _strings(tensor, data, reader)
        else:
            found[tensor["name"]] = _array(tensor, expected[names.index(tensor["name"])], data)
    if blob:
        raise Refused(
            400,
            f"Expected the bytes of the tensors alone behind the JSON, got {len(blob)} more. "
            "Correct binary_data_size.",
        )
    if strings:
        return None, found
    if len({array.shape[:2] for array in found.values()}) > 1:
        shapes = {name: list(array.shape) for name, array in found.items()}
        raise Refused(
            400, f"Expected inputs of the same batch and length, got {shapes}. Pad them to one length."
        )
    return {name: found[name] for name in names}, None


def written_tensor(array, entry, *, binary):
    """Return the description of an output, and its bytes where they are wanted.

    Args:
        array: Numbers, or lists of strings for an output of datatype BYTES.
        entry: Its `name` and `datatype`.
        binary: Whether the data go behind the JSON.

    Returns:
        `(description, bytes)`.
    """
    if entry["datatype"] == "BYTES":
        flat = list(itertools.chain.from_iterable(array))
        described = {"name": entry["name"], "datatype": "BYTES", "shape": [len(array), len(array[0])]}
        encoded = [text.encode("utf-8", "replace") for text in flat]
        blob = b"".join(struct.pack("<I", len(text)) + text for text in encoded)
    else:
        described = {"name": entry["name"], "datatype": entry["datatype"], "shape": list(array.shape)}
        array = np.ascontiguousarray(array, _DTYPES[entry["datatype"]])
        flat, blob = array.ravel().tolist(), array.tobytes()
    if not binary:
        return {**described, "data": flat}, b""
    return {**described, "parameters": {"binary_data_size": len(blob)}}, blob


def _list(value, name):
    if not isinstance(value, list):
        raise Refused(400, f"Expected a list of {name}, got {shown(value)}. Send `{name}` as a list.")
    return value


def _checked(tensor, index):
    """Return an input with its `parameters`, refused where a field is missing or of another type."""
    place = f"inputs[{index}]"
    if not isinstance(tensor, dict):
        raise Refused(
            400, f"Expected an object for {place}, got {shown(tensor)}. Send name, shape, datatype."
        )
    check_keys(tensor, _KEYS, place)
    tensor = {"parameters": {}, **tensor}
    for key, (kind, what) in _TYPES.items():
        if not isinstance(tensor.get(key), kind):
            found = shown(tensor[key]) if key in tensor else "none"
            raise Refused(400, f"Expected {what} for {key} of {place}, got {found}. Send one.")
    sizes = [whole_number(size) for size in tensor["shape"]]
    if not sizes or any(size is None or size < 1 for size in sizes):
        raise Refused(
            400,
            f"Expected sizes of 1 or more for the shape of {tensor['name']!r} in {place}, "
            f"got {shown(tensor['shape'])}. Correct it.",
        )
    tensor["shape"] = sizes
    parameters = tensor["parameters"]
    check_keys(parameters, ("binary_data_size", "content_type"), f"the parameters of {place}")
    if "binary_data_size" in parameters:
        size = whole_number(parameters["binary_data_size"])
        if size is None or size < 0:
            found = shown(parameters["binary_data_size"])
            raise Refused(
                400, f"Expected a number of bytes for binary_data_size of {place}, got {found}. Correct it."
            )
        tensor["parameters"] = parameters = {**parameters, "binary_data_size": size}
    if ("data" in tensor) == ("binary_data_size" in parameters):
        found = "both" if "data" in tensor else "none"
        raise Refused(400, f"Expected data or binary_data_size in {place}, got {found}. Send one of them.")
    numbers = tensor["datatype"] != "BYTES"
    wanted = "np" if numbers else _CONTENT_TYPES.get(tensor["name"])
    if wanted is not None and parameters.get("content_type", wanted) != wanted:
        raise Refused(
            400,
            f"Expected the content_type {wanted!r} for {place}, got {shown(parameters['content_type'])}. "
            "Leave it out.",
        )
    return tensor


def _strings(tensor, data, reader):
    """Return the texts or the image files of an input of datatype BYTES."""
    name, shape = tensor["name"], tensor["shape"]
    if reader.texts == 2:
        return _pairs_of_strings(tensor, data, reader)
    if len(shape) > 2 or shape[1:] not in ([], [1]):
        raise Refused(
            400, f"Expected {name!r} as BYTES [-1] or [-1, 1], got {shown(shape)}. Correct the shape."
        )
    if isinstance(data, bytes):
        values, read = _split_strings(data, name), reader.of_bytes
    else:
        values, read = _list(data, f"strings as the data of {name!r}"), reader.of_json
        if len(shape) == 2 and values and all(isinstance(each, list) and len(each) == 1 for each in values):
            values = [value for (value,) in values]
    _check_count(name, shape, len(values), "strings")
    examples = []
    for index, value in enumerate(values):
        try:
            examples.append(read(value))
        except Refused as error:
            raise error.at(f"{name}[{index}]") from error
    return examples


def _pairs_of_strings(tensor, data, reader):
    name, shape = tensor["name"], tensor["shape"]
    if len(shape) != 2 or shape[1] != 2:
        raise Refused(
            400, f"Expected {name!r} as BYTES [-1, 2], got {shown(shape)}. Send both texts of each pair."
        )
    if isinstance(data, bytes):
        values = [reader.of_bytes(value) for value in _split_strings(data, name)]
    else:
        values = _list(data, f"strings as the data of {name!r}")
        if values and all(isinstance(each, list) for each in values):
            values = [value for each in values for value in each]
    _check_count(name, shape, len(values), "strings")
    pairs = []
    for index in range(shape[0]):
        try:
            pairs.append(reader.of_json(values[2 * index : 2 * index + 2]))
        except Refused as error:
            raise error.at(f"{name}[{index}]") from error
    return pairs


def _split_strings(blob, name):
    """Return the strings of BYTES in bytes: each has its length before it, in four bytes."""
    strings, at = [], 0
    while at < len(blob):
        end = at + 4 + struct.unpack_from("<I", blob, at)[0] if at + 4 <= len(blob) else len(blob) + 1
        if end > len(blob):
            raise Refused(
                400,
                f"Expected the length of each string of {name!r} before it in 4 bytes, little endian, "
                f"got string {len(strings)} with an end behind that of the data. Correct it.",
            )
        strings.append(blob[at + 4 : end])
        at = end
    return strings


def _array(tensor, entry, data):
    name, shape, datatype, expected = tensor["name"], tensor["shape"], tensor["datatype"], entry["shape"]
    fits = len(shape) == len(expected)
    # One batch of several runs of the model, where the artifact takes one example only.
    fits = fits and all(wanted in (-1, size) for size, wanted in zip(shape[1:], expected[1:], strict=True))
    if not fits or datatype != entry["datatype"]:
        raise Refused(
            400,
            f"Expected {name!r} as {entry['datatype']} {expected}, got {shown(datatype)} {shown(shape)}. "
            "Convert it.",
        )
    dtype = np.dtype(_DTYPES[datatype])
    if isinstance(data, bytes):
        if len(data) != math.prod(shape) * dtype.itemsize:
            _check_count(name, shape, len(data) / dtype.itemsize, "numbers")
        array = np.frombuffer(data, dtype)
    else:
        array = _numbers(data, dtype, name, shape)
    if dtype.kind == "f" and not np.isfinite(array).all():
        index = np.flatnonzero(~np.isfinite(array.reshape(shape[0], -1)).all(axis=1))[0]
        raise Refused(
            400, f"Expected finite numbers of {datatype}, got NaN, infinity or too large ones. Correct them."
        ).at(f"{name}[{index}]")
    return array.reshape(shape)


def _check_count(name, shape, count, what):
    if count != math.prod(shape):
        raise Refused(
            400,
            f"Expected {math.prod(shape)} {what} for {name!r} of shape {shown(shape)}, got {count:g}. "
            "Correct the shape or the data.",
        )


def _numbers(data, dtype, name, shape):
    """Return the array of numbers in JSON, flat or nested as the shape is."""
    found, flat = _flat(_list(data, f"numbers as the data of {name!r}"), name, shape)
    # Before NumPy sees them: of one long string it would make every entry as long.
    for kind in set(map(type, flat)) - {int, float}:
        wrong = next(value for value in flat if type(value) is kind)
        raise Refused(400, f"Expected numbers for {name!r}, got {shown(wrong)}. Send numbers alone.")
    if len(found) > 1 and found != shape:
        raise Refused(
            400,
            f"Expected the data of {name!r} flat, or nested as {shown(shape)}, got {shown(found)}. "
            "Correct the shape or the data.",
        )
    _check_count(name, shape, len(flat), "numbers")
    try:
        return _converted(np.array(flat), dtype, name)
    except OverflowError as error:  # an integer that no float holds
        raise Refused(
            400, f"Expected numbers of {dtype.name} for {name!r}, got larger ones. Correct them."
        ) from error


def _flat(data, name, shape):
    """Return how lists in lists are nested, as a shape, and what is in them."""
    found = [len(data)]
    while data and isinstance(data[0], list):
        length = len(data[0])
        if not all(isinstance(part, list) and len(part) == length for part in data):
            raise Refused(
                400,
                f"Expected the data of {name!r} flat, or nested as {shown(shape)}, got ragged lists. "
                "Pad them to one length.",
            )
        found.append(length)
        data = list(itertools.chain.from_iterable(data))
    return found, data


def _converted(array, dtype, name):
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if array.dtype.kind == "f" and not (np.isfinite(array).all() and (array == np.trunc(array)).all()):
            wrong = array[~(np.isfinite(array) & (array == np.trunc(array)))][0]
            raise Refused(400, f"Expected whole numbers for {name!r}, got {wrong:g}. Round them.")
        if array.min() < limits.min or array.max() > limits.max:
            wrong = array.min() if array.min() < limits.min else array.max()
            raise Refused(
                400,
                f"Expected numbers in {limits.min} to {limits.max} for {name!r}, got {shown(int(wrong))}. "
                "Correct it.",
            )
    with np.errstate(over="ignore"):  # infinity, which is refused
        return array.astype(dtype)
