"""POST /predict: images or texts to labels and probabilities."""

import base64
import binascii
import json
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query, Request
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from .errors import Refused

_KINDS = {"image-classification": "image", "text-classification": "text"}


def predict_router(service, *, top_k):
    """Return the route `/predict` for a service.

    Args:
        service: `Service`.
        top_k: Labels in an answer where the request does not say.

    Example:
        >>> app.include_router(predict_router(service, top_k=5))
    """
    router, labels, kind = APIRouter(), service.model.labels, _KINDS[service.model.task]

    @router.post("/predict", openapi_extra=_openapi(kind))
    async def predict(request: Request, top_k: Annotated[int, Query(ge=1)] = top_k) -> dict:
        """For each image or text the most probable labels, most probable first."""
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type == "application/json":
            examples = _of_json(await request.body(), kind)
        elif content_type == "multipart/form-data" and kind == "image":
            examples = await _of_form(request)
        else:
            expected = ("multipart/form-data or " if kind == "image" else "") + "application/json"
            raise Refused(415, f"A content type of {expected} was expected. Received: {content_type!r}.")
        return {"results": [_best(row, labels, top_k) for row in await service.classify(examples)]}

    return router


def _best(probabilities, labels, top_k):
    best = np.argsort(-probabilities, kind="stable")[:top_k]
    return [{"label": labels[index], "probability": float(probabilities[index])} for index in best]


def _of_json(body, kind):
    try:
        value = json.loads(body)[kind]
        examples = value if isinstance(value, list) else [value]
        if not examples or not all(isinstance(example, str) for example in examples):
            raise TypeError("another type")
        if kind == "image":
            return [base64.b64decode(example, validate=True) for example in examples]
    except (ValueError, TypeError, KeyError, RecursionError, binascii.Error) as error:
        what = "an image in base64, or a list of them" if kind == "image" else "a text, or a list of texts"
        raise Refused(
            400, f'JSON as {{"{kind}": ...}} was expected, with {what}. Received: {body[:60]!r}.'
        ) from error
    return examples


async def _of_form(request):
    try:
        async with request.form() as form:
            examples = [await item.read() for item in form.getlist("image") if isinstance(item, UploadFile)]
    except HTTPException as error:  # the parser's
        raise Refused(400, f"A multipart form was expected. Received: {error.detail}") from error
    if not examples:
        raise Refused(400, f"A form with the file `image` was expected. Received: {sorted(form)}.")
    return examples


def _openapi(kind):
    one = {"type": "string", "format": "byte"} if kind == "image" else {"type": "string"}
    both = {"oneOf": [one, {"type": "array", "items": one}]}
    content = {"application/json": {"schema": {"type": "object", "properties": {kind: both}}}}
    if kind == "image":
        files = {"image": {"type": "array", "items": {"type": "string", "format": "binary"}}}
        content["multipart/form-data"] = {"schema": {"type": "object", "properties": files}}
    return {"requestBody": {"required": True, "content": content}}
