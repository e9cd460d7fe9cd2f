"""Tensors of the Open Inference Protocol: numbers in JSON, or bytes behind it."""

import math

import numpy as np

from .errors import Refused

_DTYPES = {
    "UINT8": "<u1", "INT8": "<i1", "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4",
}  # fmt: skip


def read_tensors(given, blob, expected):
    """Return `{name: array}` of a request's inputs.

    Args:
        given: `[{"name", "shape", "datatype", "data" or "parameters": {"binary_data_size"}}, ...]`.
        blob: The bytes behind the JSON, the tensors one after the other, little endian.
        expected: The model's inputs, `-1` in a shape for any size; the first axis is the batch.

    Raises:
        Refused: 400, the tensors are not those, or not all.

    Example:
        >>> x = {"name": "x", "datatype": "FP32", "shape": [-1, 2]}
        >>> read_tensors([{**x, "shape": [1, 2], "data": [0.5, 1]}], b"", [x])
        {'x': array([[0.5, 1. ]], dtype=float32)}
    """
    names = [entry["name"] for entry in expected]
    if sorted(tensor["name"] for tensor in given) != sorted(names):
        raise Refused(
            400, f"The inputs {names} were expected. Received: {[tensor['name'] for tensor in given]}."
        )
    found = {}
    for tensor in given:
        entry = expected[names.index(tensor["name"])]
        size = tensor.get("parameters", {}).get("binary_data_size")
        data = tensor["data"] if size is None else blob[:size]
        found[tensor["name"]] = _array(tensor, entry, data)
        blob = blob[size or 0 :]
    if blob:
        raise Refused(400, f"The tensors' bytes were expected. Received: {len(blob)} more.")
    if len({array.shape[:2] for array in found.values()}) > 1:
        shapes = {name: list(array.shape) for name, array in found.items()}
        raise Refused(400, f"Inputs of the same batch and length were expected. Received: {shapes}.")
    return {name: found[name] for name in names}


def written_tensor(array, entry, *, binary):
    """Return the description of an output, and its bytes where they are wanted."""
    described = {"name": entry["name"], "datatype": entry["datatype"], "shape": list(array.shape)}
    array = np.ascontiguousarray(array, _DTYPES[entry["datatype"]])
    if not binary:
        return {**described, "data": array.ravel().tolist()}, b""
    return {**described, "parameters": {"binary_data_size": array.nbytes}}, array.tobytes()


def _array(tensor, entry, data):
    shape, datatype, expected = tensor["shape"], tensor["datatype"], entry["shape"]
    fits = len(shape) == len(expected) and all(
        type(size) is int and size > 0 and wanted in (-1, size)
        # One batch of several runs of the model, where the artefact takes one example only.
        for size, wanted in zip(shape, [-1, *expected[1:]], strict=False)
    )
    if not fits or datatype != entry["datatype"]:
        raise Refused(
            400,
            f"{entry['name']!r} was expected as {entry['datatype']} {expected}. "
            f"Received: {datatype} {shape}.",
        )
    dtype = np.dtype(_DTYPES[datatype])
    if isinstance(data, bytes):
        count, array = len(data) // dtype.itemsize, None
        if len(data) == math.prod(shape) * dtype.itemsize:
            array = np.frombuffer(data, dtype)
    else:
        array = np.array(data).ravel()
        if array.dtype.kind not in ("iuf" if dtype.kind == "f" else "iu"):
            raise Refused(400, f"{entry['name']!r} was expected as numbers. Received: {array.dtype}.")
        count, array = array.size, _converted(array, dtype, entry["name"])
    if array is None or count != math.prod(shape):
        raise Refused(
            400, f"{entry['name']!r} was expected with {math.prod(shape)} numbers. Received: {count}."
        )
    if dtype.kind == "f" and not np.isfinite(array).all():
        raise Refused(400, f"{entry['name']!r} was expected as finite numbers. Received: NaN or infinity.")
    return array.reshape(shape)


def _converted(array, dtype, name):
    if dtype.kind in "iu" and array.size:
        limits = np.iinfo(dtype)
        if array.min() < limits.min or array.max() > limits.max:
            raise Refused(400, f"{name!r} was expected in {limits.min}..{limits.max}. Received: others.")
    with np.errstate(over="ignore"):  # infinity, which is refused
        return array.astype(dtype)
