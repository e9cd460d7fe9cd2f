"""The application: routes, and what is wrapped around them."""

import contextlib

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

from .classify import predict_router
from .errors import Refused
from .limits import BodyLimits
from .metrics import MeasureRequests, Metrics
from .protocol_v2 import protocol_router
from .service import Service

MIB = 2**20


def create_app(model, settings):
    """Return the ASGI application that serves a model.

    Args:
        model: `Model`, or what looks like it.
        settings: `Settings`.

    Example:
        >>> uvicorn.run(create_app(Model("runs/flowers"), Settings(run="runs/flowers")))
    """
    metrics = Metrics(pending=lambda: service.batcher.pending)
    service = Service(model, settings, observe=metrics.batch)

    @contextlib.asynccontextmanager
    async def lifespan(_):
        async with service:
            yield

    app = FastAPI(title=f"{settings.name}: {model.task}", lifespan=lifespan)
    app.include_router(predict_router(service, top_k=settings.top_k))
    app.include_router(protocol_router(service, name=settings.name))

    @app.get("/healthz")
    async def healthz():
        """Whether the server should be kept: 503 if it cannot answer any more."""
        if not service.batcher.alive:
            raise Refused(503, "The server has stopped to answer. Restart it.")
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz():
        """Whether the server should be sent requests: 503 if it is full."""
        await healthz()
        if service.batcher.full:
            raise Refused(503, "The server is full.", retry_after_s=1)
        return {"status": "ready"}

    @app.get("/metrics")
    async def metrics_text():
        """What Prometheus reads."""
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused):
        return JSONResponse({"error": str(error)}, error.status, error.headers)

    @app.exception_handler(HTTPException)
    async def no_route(_: Request, error: HTTPException):
        return JSONResponse({"error": f"{error.detail}."}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError):
        found = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        return JSONResponse({"error": f"A valid request was expected. Received: {found}."}, 400)

    app.add_middleware(
        BodyLimits,
        max_bytes=settings.max_request_mib * MIB,
        max_held_bytes=settings.max_held_mib * MIB,
        max_requests=settings.max_requests,
        timeout_s=settings.read_timeout_s,
    )
    app.add_middleware(MeasureRequests, metrics=metrics)
    return app
