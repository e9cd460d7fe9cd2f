"""POST /predict: images, texts or pairs of texts to labels and probabilities."""

from typing import Annotated

from fastapi import Depends, Query, Request
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from . import openapi
from .decision import measured, ranked
from .errors import Refused, shown
from .json_body import check_keys, read_json
from .queries import known_query
from .responses import Json

_SIDES = ("text_a", "text_b")


def add_predict(app, service, *, top_k, max_examples, name="classifier"):
    """Add the route `/predict` for a service.

    Args:
        app: `fastapi.FastAPI`.
        service: `Service`.
        top_k: Labels in an answer where the request does not say.
        max_examples: The most in a request, for the documentation.
        name: The adapter of the service itself, where it has others. Defaults to `"classifier"`.

    Example:
        >>> add_predict(app, service, top_k=5, max_examples=256)
    """
    services = {name: service, **service.adapters}

    def chosen(adapter: Annotated[str, Query(json_schema_extra={"enum": [*services]})] = name):
        if adapter not in services:
            raise Refused(
                400,
                f"Expected an adapter of {', '.join(services)}, got {shown(adapter)}. Choose one of them.",
            )
        return services[adapter]

    def alone():
        return service

    async def predict(
        request: Request,
        used: Annotated[object, Depends(chosen if service.adapters else alone)],
        top_k: Annotated[int, Query(ge=1)] = top_k,
    ):
        """For each image or text the most probable labels, most probable first.

        Of a multi-label classifier those whose probability reaches their threshold are `chosen`, and come first; they
        are listed by themselves in `labels`, an empty list where there is none. Of a model of entities those of each
        text, with their offsets in characters; `top_k` does not limit them. Of a regression one number each, with its
        prediction interval where there is one. Where the server has several runs on one backbone, `adapter` says by
        which of them.
        """
        model = used.model
        labels, reader, thresholds = model.labels, model.read, model.thresholds
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type == "application/json":
            examples = _of_json(await request.body(), reader)
        elif content_type == "multipart/form-data" and reader.kind == "image":
            examples = await _of_form(request)
        elif content_type.startswith("image/") and reader.kind == "image":
            examples = [await request.body()]
        else:
            forms = "multipart/form-data, image/* or " if reader.kind == "image" else ""
            expected = f"{forms}application/json"
            found = shown(content_type) if content_type else "none"
            raise Refused(
                415,
                f"Expected a Content-Type of {expected}, got {found}. See /docs for the forms of a request.",
            )
        probabilities, cut = await used.classify(examples)
        if model.task == "ner":
            return Json({"results": probabilities})
        if model.task == "regression":
            answer = {"results": [measured(row, labels, model.interval) for row in probabilities]}
            return Json({**answer, "cut_texts": cut} if cut else answer)
        ordered = model.task == "ordinal"
        answer = {
            "results": [ranked(row, labels, top_k, thresholds, ordered=ordered) for row in probabilities]
        }
        if thresholds is not None:
            answer["labels"] = [_chosen(result) for result in answer["results"]]
        return Json({**answer, "cut_texts": cut} if cut else answer)

    described = {"ner": openapi.entities, "regression": openapi.numbers}.get(service.model.task)
    content = openapi.predicted(service.model.thresholds is not None) if described is None else described()
    reader = service.model.read
    body = openapi.predict_body(reader.kind, max_examples, texts=reader.texts)
    query = known_query("top_k", *(["adapter"] if service.adapters else []))
    openapi.add_post(app, "/predict", predict, [Depends(query)], content, body)


def _chosen(result):
    return [{"label": each["label"], "probability": each["probability"]} for each in result if each["chosen"]]


def _of_json(body, reader):
    if reader.texts == 2:
        return _pairs_of_json(body, reader)
    kind = reader.kind
    what = "an image file in base64, or a list of them" if kind == "image" else "a text, or a list of texts"
    value = read_json(body, f'JSON as {{"{kind}": ...}} with {what}')
    if kind not in value:
        raise Refused(
            400, f'Expected JSON as {{"{kind}": ...}} with {what}, got {shown(value)}. Add "{kind}".'
        )
    check_keys(value, (kind,), "the body")
    examples = value[kind]
    if examples == [] or isinstance(examples, dict):
        raise Refused(400, f'Expected {what} for "{kind}", got {shown(examples)}. Send at least one.')
    if not isinstance(examples, list):
        return [reader.of_json(examples)]
    read = []
    for index, example in enumerate(examples):
        try:
            read.append(reader.of_json(example))
        except Refused as error:
            raise error.at(f"{kind}[{index}]") from error
    return read


def _pairs_of_json(body, reader):
    what = (
        '{"text": [a, b]}, {"text": [[a, b], ...]} or {"text_a": ..., "text_b": ...} with the texts of pairs'
    )
    value = read_json(body, f"JSON as {what}")
    sides = [value[name] for name in _SIDES if name in value]
    if ("text" in value) == bool(sides) or len(sides) == 1:
        raise Refused(400, f"Expected JSON as {what}, got {shown(value)}. Send both texts of a pair.")
    check_keys(value, _SIDES if sides else ("text",), "the body")
    if sides:
        several = isinstance(sides[0], list)
        if several != isinstance(sides[1], list) or (several and len(sides[0]) != len(sides[1])):
            raise Refused(
                400,
                f"Expected as many texts for 'text_a' as for 'text_b', got {shown(sides[0])} and {shown(sides[1])}. "
                "Send two strings, or two lists of the same length.",
            )
        pairs = [list(pair) for pair in zip(*sides, strict=True)] if several else [sides]
    else:
        pairs = value["text"]
        if isinstance(pairs, list) and pairs and not any(isinstance(each, list) for each in pairs):
            pairs = [pairs]
    if not isinstance(pairs, list) or not pairs:
        raise Refused(400, f"Expected {what}, got {shown(pairs)}. Send at least one pair.")
    read = []
    for index, pair in enumerate(pairs):
        try:
            read.append(reader.of_json(pair))
        except Refused as error:
            raise error.at(f"text[{index}]") from error
    return read


async def _of_form(request):
    try:
        async with request.form() as form:
            fields = form.multi_items()
            for name, value in fields:
                if name == "image" and not isinstance(value, UploadFile):
                    raise Refused(
                        400,
                        f"Expected `image` as a file, got a text field with {shown(value)}. "
                        "Send it as a file: with curl, `-F image=@FILE`, with the @.",
                    )
                if name != "image":
                    raise Refused(
                        400,
                        f"Expected only files called `image` in the form, got {shown(name)}. "
                        "Remove or rename it; `top_k` belongs in the query.",
                    )
            if not fields:
                raise Refused(
                    400, "Expected a form with the file `image`, got an empty form. Send `-F image=@FILE`."
                )
            return [await value.read() for _, value in fields]
    except HTTPException as error:  # the parser's
        raise Refused(
            400, f"Expected a multipart form, got one with: {error.detail} Send `-F image=@FILE`."
        ) from error
