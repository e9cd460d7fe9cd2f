"""The Open Inference Protocol, version 2, over REST, with its binary tensor data extension."""

import json

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from .errors import Refused
from .tensors import read_tensors, written_tensor

_BINARY = "Inference-Header-Content-Length"
_DATATYPES = {
    "uint8": "UINT8",
    "int8": "INT8",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
}


def protocol_router(service, *, name):
    """Return the routes under `/v2` for a service.

    Args:
        service: `Service`.
        name: Of the model.

    Example:
        >>> app.include_router(protocol_router(service, name="classifier"))
    """
    router, model = APIRouter(prefix="/v2"), service.model
    inputs = [_described(entry) for entry in model.inputs]
    output = _described(model.output)

    def known(asked):
        if asked != name:
            raise Refused(404, f"The model {name!r} was expected. Received: {asked!r}.")

    @router.get("")
    async def server():
        return {"name": "onnx_server", "version": "1", "extensions": ["binary_tensor_data"]}

    @router.get("/health/live")
    async def live():
        return {"live": service.batcher.alive}

    @router.get("/health/ready")
    async def ready():
        return _ready(service, {"ready": True})

    @router.get("/models/{model_name}")
    async def metadata(model_name: str):
        known(model_name)
        return {
            "name": name,
            "versions": [],
            "platform": "onnxruntime_onnx",
            "inputs": inputs,
            "outputs": [output],
        }

    @router.get("/models/{model_name}/ready")
    async def model_ready(model_name: str):
        known(model_name)
        return _ready(service, {"name": name, "ready": True})

    @router.post("/models/{model_name}/infer")
    async def infer(request: Request, model_name: str):
        known(model_name)
        header = request.headers.get(_BINARY)
        answer, binary, rows = await service.in_thread(_parsed, await request.body(), header, model, inputs)
        try:
            answers = np.stack(await service.infer(rows))
        except Refused:
            raise
        except Exception as error:  # whatever the runtime raises, such as for an id that is none
            raise Refused(
                400, f"Tensors that the model can take were expected. Received: {str(error)[:300]}"
            ) from error
        described, blob = written_tensor(answers, output, binary=binary)
        answer |= {"model_name": name, "outputs": [described]}
        if not binary:
            return JSONResponse(answer)
        head = json.dumps(answer).encode()
        headers = {_BINARY: str(len(head))}
        return Response(head + blob, media_type="application/octet-stream", headers=headers)

    return router


def _described(entry):
    shape = [-1 if size is None else size for size in entry["shape"]]
    return {"name": entry["name"], "datatype": _DATATYPES[entry["dtype"]], "shape": shape}


def _ready(service, answer):
    if not service.batcher.alive or service.batcher.full:
        raise Refused(503, "The server cannot take requests now.", retry_after_s=1)
    return answer


def _parsed(body, header, model, inputs):
    """Return what is echoed, whether the answer is wanted in bytes, and the tensors as rows."""
    try:
        size = len(body) if header is None else int(header)
        if not 0 <= size <= len(body):
            raise ValueError(f"a JSON of {size} bytes in a body of {len(body)}")
        asked = json.loads(body[:size])
        binary = asked.get("parameters", {}).get("binary_data_output", False)
        for wanted in asked.get("outputs", []):
            if wanted["name"] != model.output["name"]:
                raise Refused(
                    400, f"The output {model.output['name']!r} was expected. Received: {wanted['name']!r}."
                )
            binary = wanted.get("parameters", {}).get("binary_data", binary)
        tensors = read_tensors(asked["inputs"], body[size:], inputs)
    except Refused:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Refused(
            400, f"An inference request was expected. Received: one with {type(error).__name__}: {error}."
        ) from error
    for axis, (least, most) in model.read.limits.items():
        for name, tensor in tensors.items():
            if not least <= tensor.shape[axis] <= most:
                raise Refused(
                    400,
                    f"{name!r} was expected with {least} to {most} along axis {axis}. "
                    f"Received: {list(tensor.shape)}.",
                )
    echoed = {"id": asked["id"]} if "id" in asked else {}
    rows = [dict(zip(tensors, row, strict=True)) for row in zip(*tensors.values(), strict=True)]
    return echoed, binary, rows
