"""The application: routes, and what is wrapped around them."""

import contextlib

from fastapi import FastAPI
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST

from . import openapi
from .classify import add_predict
from .cors import Cors
from .errors import Refused
from .limits import BodyLimits
from .metrics import MeasureRequests, Metrics
from .protocol_v2 import add_protocol
from .responses import AnswerBugs, Json, add_error_handlers
from .service import Service

MIB = 2**20


def create_app(model, settings):
    """Return the ASGI application that serves a model.

    Args:
        model: `Model`, or what looks like it.
        settings: `Settings`.

    Returns:
        `fastapi.FastAPI`; its `state.metrics` is a `Metrics`.

    Example:
        >>> uvicorn.run(create_app(Model("runs/flowers"), Settings(run="runs/flowers")))
    """
    metrics = Metrics(pending=lambda: service.batcher.pending)
    service = Service(model, settings, observe=metrics.batch)

    @contextlib.asynccontextmanager
    async def lifespan(_):
        async with service:
            yield

    app = FastAPI(title=f"{settings.name}: {model.read.kind} classification, {model.task}", lifespan=lifespan)
    app.state.metrics = metrics
    add_predict(app, service, top_k=settings.top_k, max_examples=settings.max_pending, name=settings.name)
    add_protocol(app, service, settings)

    async def healthz():
        """Whether the server should be kept: 503 if it cannot answer any more."""
        if not service.batcher.alive:
            raise Refused(503, "Expected a server that answers, got one that has stopped to. Restart it.")
        return Json({"status": "ok"})

    async def readyz():
        """Whether the server should be sent requests: 503 if it is full."""
        await healthz()
        if service.batcher.full:
            raise Refused(
                503, "Expected a server with room for requests, got a full one. Try later.", retry_after_s=1
            )
        return Json({"status": "ready"})

    async def metrics_text():
        """Counts and times, in Prometheus' text format."""
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    openapi.add_get(app, "/healthz", healthz, [], openapi.STATUS)
    openapi.add_get(app, "/readyz", readyz, [], openapi.STATUS)
    openapi.add_get(app, "/metrics", metrics_text, [], openapi.METRICS)
    add_error_handlers(app)

    # From the innermost to the outermost.
    app.add_middleware(
        BodyLimits,
        max_bytes=settings.max_request_mib * MIB,
        max_held_bytes=settings.max_held_mib * MIB,
        max_requests=settings.max_requests,
        timeout_s=settings.read_timeout_s,
    )
    app.add_middleware(AnswerBugs)
    if settings.origins:
        app.add_middleware(Cors, origins=settings.origins)
    app.add_middleware(MeasureRequests, metrics=metrics)
    return app
