"""The Open Inference Protocol, version 2, over REST, with some of Triton's extensions."""

import json
from typing import Annotated, NamedTuple

import numpy as np
from fastapi import Depends, Path, Request
from fastapi.responses import Response

from . import openapi
from .classification import class_count, classified
from .errors import Refused, shown
from .json_body import check_keys, read_json
from .queries import known_query
from .responses import Json
from .tensors import read_inputs, written_tensor

VERSION = "1"
CHOSEN = "chosen"  # the output that says which probabilities reach the thresholds of their labels
ENTITIES = "entities"  # the output that has the entities of each text, as JSON
_BINARY = "Inference-Header-Content-Length"
_DATATYPES = {
    "uint8": "UINT8",
    "int8": "INT8",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
}
_EXTENSIONS = ["binary_tensor_data", "classification", "model_configuration", "statistics"]


class _Output(NamedTuple):
    """An output that a request asks for."""

    entry: dict  # its name, datatype and shape
    binary: bool  # whether it is wanted in bytes
    classes: int | None = None  # how many are wanted, instead of the probabilities


class _Asked(NamedTuple):
    """A request for inference."""

    id: dict  # of the request, to be echoed; empty where it has none
    tensors: dict | None  # for the model
    examples: list | None  # texts or image files, instead
    outputs: list  # `_Output`, in the order of the answer


class _Served:
    """A model of the server, as the protocol describes it."""

    def __init__(self, service, name):
        self.service, self.model, self.name = service, service.model, name
        self.inputs = [_described(entry) for entry in self.model.inputs]
        self.outputs = [_described(self.model.output)]
        self.described = {"labels": self.model.labels, "task": self.model.task}
        if self.model.thresholds is not None:
            self.outputs.append({"name": CHOSEN, "datatype": "BOOL", "shape": self.outputs[0]["shape"]})
            self.described["thresholds"] = self.model.thresholds.tolist()
        if self.model.task == "ner":
            self.outputs.append({"name": ENTITIES, "datatype": "BYTES", "shape": [-1, 1]})


def add_protocol(app, service, settings):
    """Add the routes under `/v2` for a service.

    Args:
        app: `fastapi.FastAPI`.
        service: `Service`.
        settings: `Settings`.

    Example:
        >>> add_protocol(app, service, settings)
    """
    served = {settings.name: _Served(service, settings.name)}
    served |= {name: _Served(each, name) for name, each in service.adapters.items()}

    def known_model(model_name: Annotated[str, Path(json_schema_extra={"enum": [*served]})]):
        if model_name not in served:
            raise Refused(
                404,
                f"Expected the model {' or '.join(map(repr, served))}, got {shown(model_name)}. Ask for that one.",
            )
        return served[model_name]

    Asked = Annotated[_Served, Depends(known_model)]

    def known_version(model_version: Annotated[str, Path(json_schema_extra={"enum": [VERSION]})]):
        if model_version != VERSION:
            raise Refused(
                404,
                f"Expected the version {VERSION!r}, got {shown(model_version)}. Leave it out.",
            )

    async def server():
        """Name and extensions of the server."""
        return Json({"name": "onnx_server", "version": VERSION, "extensions": _EXTENSIONS})

    async def live():
        """Whether the server should be kept."""
        return Json({"live": service.batcher.alive})

    async def ready():
        """Whether the server should be sent requests: 503 if not."""
        return _ready(service, {"ready": True})

    async def metadata(of: Asked):
        """Inputs and outputs of the model; the batch comes first, -1 is any size."""
        return Json(
            {
                "name": of.name,
                "versions": [VERSION],
                "platform": "onnxruntime_onnx",
                "inputs": of.inputs,
                "outputs": of.outputs,
                "parameters": {
                    **of.described,
                    "instead_of_inputs": [
                        {
                            "name": of.model.read.kind,
                            "datatype": "BYTES",
                            "shape": [-1, 2] if of.model.read.texts == 2 else [-1],
                        }
                    ],
                },
            }
        )

    async def model_ready(of: Asked):
        """Whether the model can be sent requests: 503 if not."""
        return _ready(service, {"name": of.name, "ready": True})

    async def config(of: Asked):
        """How the model is run, as Triton's model configuration says it."""
        return Json(_config(of, settings))

    async def stats(of: Asked):
        """Counts and times since the start, as Triton's statistics say them."""
        return Json(of.service.stats.described(of.name, VERSION))

    async def infer(request: Request, of: Asked):
        """Probabilities, or the most probable classes, of tensors, texts or image files.

        Of a multi-label classifier also `chosen`: which probabilities reach the thresholds of their labels. Of a model
        of entities `entities` of texts, as JSON, and of tensors the probabilities of tokens.
        """
        model, outputs, header = of.model, of.outputs, request.headers.get(_BINARY)
        asked = await service.in_thread(_parsed, await request.body(), header, model, of.inputs, outputs)
        answer = {"model_name": of.name, "model_version": VERSION, **asked.id}
        wanted_outputs = asked.outputs if model.task != "ner" else _of_entities(asked, outputs)
        if asked.examples is None:
            rows = [
                dict(zip(asked.tensors, row, strict=True))
                for row in zip(*asked.tensors.values(), strict=True)
            ]
            answers = await of.service.infer(rows)
        else:
            answers, cut = await of.service.classify(asked.examples)
            if cut:
                answer["parameters"] = {"cut_texts": ",".join(map(str, cut))}
        written = [_written(answers, wanted, model) for wanted in wanted_outputs]
        answer["outputs"] = [entry for entry, _ in written]
        if not any(wanted.binary for wanted in wanted_outputs):
            return Json(answer)
        head, blob = Json(answer).body, b"".join(blob for _, blob in written)
        headers = {_BINARY: str(len(head))}
        return Response(head + blob, media_type="application/octet-stream", headers=headers)

    checked = [Depends(known_query())]
    openapi.add_get(app, "/v2", server, checked, openapi.SERVER)
    openapi.add_get(app, "/v2/health/live", live, checked, openapi.LIVE)
    openapi.add_get(app, "/v2/health/ready", ready, checked, openapi.READY)
    for version, known in (("", []), ("/versions/{model_version}", [Depends(known_version)])):
        base, depends = "/v2/models/{model_name}" + version, [*checked, Depends(known_model), *known]
        openapi.add_get(app, base, metadata, depends, openapi.METADATA)
        openapi.add_get(app, f"{base}/ready", model_ready, depends, openapi.MODEL_READY)
        openapi.add_get(app, f"{base}/config", config, depends, openapi.CONFIG)
        openapi.add_get(app, f"{base}/stats", stats, depends, openapi.STATS)
        own = served[settings.name]
        body = openapi.infer_body(own.model, own.inputs, own.outputs, settings.max_pending)
        openapi.add_post(app, f"{base}/infer", infer, depends, openapi.INFERRED, body)


def _described(entry):
    """Return an input or output of the manifest as the protocol describes it; a batch is of any size."""
    shape = [-1 if size is None else size for size in entry["shape"]]
    return {"name": entry["name"], "datatype": _DATATYPES[entry["dtype"]], "shape": [-1, *shape[1:]]}


def _ready(service, answer):
    if not service.batcher.alive or service.batcher.full:
        raise Refused(
            503, "Expected a server with room for requests, got a full one. Try again later.", retry_after_s=1
        )
    return Json(answer)


def _written(answers, wanted, model):
    """Return an output as `written_tensor` does."""
    entry = wanted.entry
    if entry["name"] == ENTITIES:
        return written_tensor([[json.dumps(found)] for found in answers], entry, binary=wanted.binary)
    probabilities = np.stack(answers)
    if entry["name"] == CHOSEN:
        return written_tensor(probabilities >= model.thresholds, entry, binary=wanted.binary)
    if wanted.classes is None:
        return written_tensor(probabilities, entry, binary=wanted.binary)
    strings = classified(probabilities, model.labels, wanted.classes)
    return written_tensor(strings, {**entry, "datatype": "BYTES"}, binary=wanted.binary)


def _of_entities(asked, outputs):
    """Return the `_Output`s that a model of entities has for what it is given: for texts others than for tensors."""
    name = ENTITIES if asked.examples is not None else outputs[0]["name"]
    given = "texts" if asked.examples is not None else "tensors"
    found = [wanted for wanted in asked.outputs if wanted.entry["name"] == name]
    if not found:
        raise Refused(400, f"Expected the output {name!r} for {given}, got another. Leave `outputs` out.")
    if found[0].classes is not None:
        raise Refused(
            400, f"Expected no count of classes for {name!r} of a model of entities, got one. Leave it out."
        )
    return found


def _config(of, settings):
    def tensor(entry):
        datatype = "TYPE_" + entry["datatype"]
        return {"name": entry["name"], "data_type": datatype, "dims": entry["shape"][1:]}

    return {
        "name": of.name,
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "max_batch_size": settings.max_pending,
        "input": [tensor(entry) for entry in of.inputs],
        "output": [tensor(entry) for entry in of.outputs],
        "instance_group": [{"name": of.name, "kind": "KIND_CPU", "count": settings.workers}],
        "dynamic_batching": {
            "preferred_batch_size": [of.service.max_batch],
            "max_queue_delay_microseconds": int(settings.max_wait_ms * 1000),
        },
        "parameters": {
            key: {"string_value": value if isinstance(value, str) else json.dumps(value)}
            for key, value in of.described.items()
        },
    }


def _parsed(body, header, model, inputs, outputs):
    """Return what a request asks for; `Refused` where it is none, or asks for what there is not."""
    size = _json_size(body, header)
    asked = read_json(body[:size], "an inference request")
    check_keys(asked, ("id", "parameters", "inputs", "outputs"), "the request")
    if not isinstance(asked.get("id", ""), str):
        raise Refused(400, f"Expected a string for id, got {shown(asked['id'])}. Send it in quotes.")
    if "inputs" not in asked:
        raise Refused(400, f"Expected `inputs` in the request, got {shown(list(asked))}. Send them.")
    parameters = _object(asked.get("parameters", {}), "the request's parameters")
    check_keys(parameters, ("binary_data_output",), "the request's parameters")
    binary = _flag(parameters, "binary_data_output", False)
    wanted = _outputs(asked.get("outputs", []), outputs, binary)
    tensors, examples = read_inputs(asked["inputs"], body[size:], inputs, model.read)
    if tensors is not None:
        _check_limits(tensors, model.read.limits)
        model.read.check(tensors)
    echoed = {"id": asked["id"]} if "id" in asked else {}
    return _Asked(echoed, tensors, examples, wanted)


def _outputs(asked, outputs, binary):
    """Return the `_Output`s that are asked for, all where none is named."""
    known = {entry["name"]: entry for entry in outputs}
    names = f"the output{'s' if len(known) > 1 else ''} {', '.join(map(repr, known))}"
    if not isinstance(asked, list) or len(asked) > len(known):
        raise Refused(400, f"Expected {names} once in a list, got {shown(asked)}. Leave `outputs` out.")
    found = {}
    for index, wanted in enumerate(asked):
        place = f"outputs[{index}]"
        _object(wanted, place)
        check_keys(wanted, ("name", "parameters"), place)
        name = wanted.get("name")
        if not isinstance(name, str) or name not in known or name in found:
            again = " again" if isinstance(name, str) and name in found else ""
            raise Refused(400, f"Expected {names}, got {shown(name)}{again}. Leave `outputs` out.")
        parameters = _object(wanted.get("parameters", {}), f"the parameters of {place}")
        options = ("binary_data",) if name == CHOSEN else ("binary_data", "classification", "class_count")
        check_keys(parameters, options, f"the parameters of {place}")
        found[name] = _Output(known[name], _flag(parameters, "binary_data", binary), class_count(parameters))
    return list(found.values()) or [_Output(entry, binary) for entry in outputs]


def _json_size(body, header):
    if header is None:
        return len(body)
    if not (header.isascii() and header.isdigit() and len(header) < 20 and int(header) <= len(body)):
        raise Refused(
            400,
            f"Expected the bytes of the JSON, 0 to {len(body)}, in {_BINARY}, got {shown(header)}. "
            "Correct it.",
        )
    return int(header)


def _object(value, what):
    if not isinstance(value, dict):
        raise Refused(400, f"Expected an object for {what}, got {shown(value)}. Send one, or leave it out.")
    return value


def _flag(parameters, name, default):
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise Refused(400, f"Expected true or false for {name}, got {shown(value)}. Send it without quotes.")
    return value


def _check_limits(tensors, limits):
    for axis, (least, most) in limits.items():
        for name, tensor in tensors.items():
            if not least <= tensor.shape[axis] <= most:
                expected = f"{least} to {most}" if least < most else str(most)
                raise Refused(
                    400,
                    f"Expected {expected} along axis {axis} of {name!r}, got {list(tensor.shape)}. "
                    "Cut or pad it.",
                )
