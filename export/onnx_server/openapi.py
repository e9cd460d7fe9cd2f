"""The schema of requests and responses at `/openapi.json`, as exact as JSON Schema allows."""

import base64

from fastapi.responses import JSONResponse

# The smallest image file: one black pixel.
_PIXEL = base64.b64encode(b"GIF87a\x01\0\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;").decode("ascii")

# JSON Schema can say neither which strings are image files nor that the length of the data is the product of
# the shape. A schema that allows more than the server takes is wrong, so it has batches of these sizes alone,
# and the descriptions say the rest.
_BATCHES = (1, 2, 3, 4)


def _object(required, **properties):
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _list(items, **limits):
    return {"type": "array", "items": items, **limits}


_STRING, _COUNT = {"type": "string"}, {"type": "integer", "minimum": 0}
_ERROR = _object(
    ["error"], error={"type": "string", "description": "What was expected, got, and how to fix it."}
)
_TENSOR = _object(
    ["name", "datatype", "shape"], name=_STRING, datatype=_STRING, shape=_list({"type": "integer"})
)
_DURATION = _object(["count", "ns"], count=_COUNT, ns=_COUNT)

STATUS = {"application/json": _object(["status"], status=_STRING)}
METRICS = {"text/plain": _STRING}
SERVER = {
    "application/json": _object(
        ["name", "version", "extensions"], name=_STRING, version=_STRING, extensions=_list(_STRING)
    )
}
LIVE = {"application/json": _object(["live"], live={"type": "boolean"})}
READY = {"application/json": _object(["ready"], ready={"type": "boolean"})}
MODEL_READY = {"application/json": _object(["name", "ready"], name=_STRING, ready={"type": "boolean"})}
METADATA = {
    "application/json": _object(
        ["name", "versions", "platform", "inputs", "outputs", "parameters"],
        name=_STRING,
        versions=_list(_STRING),
        platform=_STRING,
        inputs=_list(_TENSOR),
        outputs=_list(_TENSOR),
        parameters=_object(
            ["labels", "task", "instead_of_inputs"],
            labels=_list(_STRING),
            task=_STRING,
            thresholds={
                **_list({"type": "number"}),
                "description": "The least probability of each label with which it is answered.",
            },
            instead_of_inputs=_list(_TENSOR),
        ),
    )
}
CONFIG = {"application/json": {"type": "object", "required": ["name", "max_batch_size", "input", "output"]}}
STATS = {
    "application/json": _object(
        ["model_stats"],
        model_stats=_list(
            {
                "type": "object",
                "required": ["name", "version", "inference_count", "execution_count", "inference_stats"],
                "properties": {
                    "inference_count": _COUNT,
                    "execution_count": _COUNT,
                    "inference_stats": {"type": "object", "additionalProperties": _DURATION},
                },
            }
        ),
    )
}
_CUT = {
    **_list(_COUNT),
    "description": "Indices of texts that had more tokens than the model takes; their ends were cut.",
}
INFERRED = {
    "application/json": {
        "type": "object",
        "required": ["model_name", "model_version", "outputs"],
        "properties": {
            "id": _STRING,
            "model_name": _STRING,
            "model_version": _STRING,
            "outputs": _list({"type": "object", "required": ["name", "datatype", "shape"]}),
        },
    },
    "application/octet-stream": {"type": "string", "format": "binary"},
}

_ERRORS_OF_GET = {
    400: "A query parameter that there is not",
    404: "Another model or version",
    422: "Never; FastAPI's own errors are 400",
    500: "A bug",
    503: "The server cannot take requests",
}
_ERRORS_OF_POST = {
    **_ERRORS_OF_GET,
    400: "A request, an image, a text or tensors that cannot be read",
    408: "The request took too long to arrive",
    413: "More bytes, pixels or examples than allowed",
    415: "Another Content-Type or Content-Encoding",
    422: "Values for which the model gives NaN",
    429: "The queue is full",
    504: "The answer took too long",
}


def add_get(app, path, endpoint, dependencies, content):
    """Add a route for GET and one for HEAD.

    Args:
        app: `fastapi.FastAPI`.
        path: Of the route.
        endpoint: Coroutine function.
        dependencies: Of FastAPI.
        content: From a media type of the response to its schema.

    Example:
        >>> add_get(app, "/healthz", healthz, [], STATUS)
    """
    for method in ("GET", "HEAD"):
        _add(app, path, method, endpoint, dependencies, content, _ERRORS_OF_GET)


def add_post(app, path, endpoint, dependencies, content, body):
    """Add a route for POST.

    Args:
        app: `fastapi.FastAPI`.
        path: Of the route.
        endpoint: Coroutine function.
        dependencies: Of FastAPI.
        content: From a media type of the response to its schema.
        body: `requestBody` of OpenAPI.

    Example:
        >>> add_post(app, "/predict", predict, [], PREDICTED, predict_body("text", 256))
    """
    _add(app, path, "POST", endpoint, dependencies, content, _ERRORS_OF_POST, requestBody=body)


def predicted(multi_label):
    """Return the content of an answer of `/predict`.

    Args:
        multi_label: Whether an example can have several labels, or none.

    Example:
        >>> list(predicted(True)["application/json"]["properties"])
        ['results', 'labels', 'cut_texts']
    """
    entry = {"label": _STRING, "probability": {"type": "number", "minimum": 0, "maximum": 1.001}}
    if not multi_label:
        results = _list(_list(_object(["label", "probability"], **entry)))
        return {"application/json": _object(["results"], results=results, cut_texts=_CUT)}
    results = _list(_list(_object(["label", "probability", "chosen"], **entry, chosen={"type": "boolean"})))
    labels = {
        **_list(_list(_object(["label", "probability"], **entry))),
        "description": "Of each example the labels whose probability reaches their threshold, most probable first; "
        "an empty list means no label.",
    }
    return {
        "application/json": _object(["results", "labels"], results=results, labels=labels, cut_texts=_CUT)
    }


def entities():
    """Return the content of an answer of `/predict` with the entities of each text.

    Example:
        >>> list(entities()["application/json"]["properties"])
        ['results']
    """
    entry = _object(
        ["label", "start", "end", "text", "probability"],
        label=_STRING,
        start={**_COUNT, "description": "The first character, from 0 on."},
        end={**_COUNT, "description": "The character after the last."},
        text=_STRING,
        probability={"type": "number", "minimum": 0, "maximum": 1.001},
    )
    return {"application/json": _object(["results"], results=_list(_list(entry)))}


def numbers():
    """Return the content of an answer of `/predict` with one number an example.

    Example:
        >>> list(numbers()["application/json"]["properties"])
        ['results']
    """
    number = {"type": "number"}
    entry = _object(
        ["label", "value"],
        label=_STRING,
        value={**number, "description": "In the unit of the target."},
        interval={**_list(number), "description": "The lower and the upper end of the prediction interval."},
        coverage={**number, "description": "Share of such intervals that hold the truth."},
    )
    return {"application/json": _object(["results"], results=_list(entry))}


def predict_body(kind, max_examples, texts=1):
    """Return the `requestBody` of `/predict`.

    Args:
        kind: `"image"` or `"text"`.
        max_examples: The most in a request.
        texts: How many texts an example has.

    Example:
        >>> list(predict_body("text", 256)["content"])
        ['application/json']
    """
    if kind == "image":
        description = (
            "One image file as the body (JPEG, PNG, WebP, GIF, BMP, TIFF). Also taken, for up to "
            f"{max_examples} images: multipart/form-data with a file `image` for each; and application/json "
            'with {"image": "<base64>"}, or a list of them.'
        )
        content = {"image/*": {"schema": {"type": "string", "format": "binary"}}}
    elif texts == 2:
        description = (
            'Both texts of a pair, as {"text": [a, b]} or {"text_a": a, "text_b": b}; or of several pairs, as '
            '{"text": [[a, b], ...]} or two lists. Where both have more tokens than the model takes, the longer loses '
            "its end first."
        )
        pair = _list(_STRING, minItems=2, maxItems=2)
        several = _list(pair, minItems=1, maxItems=max_examples)
        content = {"application/json": {"schema": _object(["text"], text={"anyOf": [pair, several]})}}
    else:
        description = "A text, or several. The end of one that has more tokens than the model takes is cut."
        several = _list(_STRING, minItems=1, maxItems=max_examples)
        content = {"application/json": {"schema": _object([kind], **{kind: {"anyOf": [_STRING, several]}})}}
    return {"required": True, "description": description, "content": content}


def infer_body(model, inputs, outputs, max_examples):
    """Return the `requestBody` of the protocol's inference.

    Args:
        model: `Model`.
        inputs: The model's inputs, as the protocol describes them.
        outputs: What it gives, the probabilities first.
        max_examples: The most in a request.

    Example:
        >>> infer_body(model, inputs, outputs, 256)["required"]
        True
    """
    kind, pairs = model.read.kind, model.read.texts == 2
    example = _STRING if kind == "text" else {"type": "string", "enum": [_PIXEL]}
    exact = [
        _list(
            _object(
                ["name", "shape", "datatype", "data"],
                name={"const": kind},
                shape={"enum": [[batch, 2]] if pairs else [[batch], [batch, 1]]},
                datatype={"const": "BYTES"},
                data=_list(example, minItems=batch * (1 + pairs), maxItems=batch * (1 + pairs)),
            ),
            minItems=1,
            maxItems=1,
        )
        for batch in _BATCHES
    ]
    flag, count = {"type": "boolean"}, {"type": "integer", "minimum": 1}
    wanted = [
        _object(["name"], name={"const": output["name"]}, parameters=_object([], binary_data=flag, **more))
        for output, more in zip(outputs, ({"classification": count}, {}), strict=False)
    ]
    schema = _object(
        ["inputs"],
        id=_STRING,
        parameters=_object([], binary_data_output=flag),
        inputs={"anyOf": exact},
        outputs=_list({"anyOf": wanted}, maxItems=1),
    )
    tensors = ", ".join(f"{entry['name']} {entry['datatype']} {entry['shape']}" for entry in inputs)
    both = " The outputs can be asked for together, each once; without `outputs` all are given."
    what = "texts" if kind == "text" else "image files in base64, of which the schema has one for an example"
    description = (
        f"{what.capitalize()} as the input {kind!r} of datatype BYTES and shape "
        f"{'[batch, 2], both of a pair after each other' if pairs else '[batch] or [batch, 1]'}. Also "
        f"taken are the model's tensors, {tensors}, flat or nested; batches of up to {max_examples}; and, "
        "behind a JSON whose length the header Inference-Header-Content-Length gives, the bytes of inputs "
        f"with the parameter binary_data_size.{both if len(outputs) > 1 else ''}"
    )
    return {"required": True, "description": description, "content": {"application/json": {"schema": schema}}}


def _add(app, path, method, endpoint, dependencies, content, errors, **extra):
    described = {media_type: {"schema": schema} for media_type, schema in content.items()}
    responses = {200: {"content": described}}
    for status, why in errors.items():
        responses[status] = {"description": why, "content": {"application/json": {"schema": _ERROR}}}
    app.add_api_route(
        path,
        endpoint,
        methods=[method],
        dependencies=dependencies,
        responses=responses,
        openapi_extra=extra,
        response_class=JSONResponse,
    )
