"""Responses in JSON, and one shape for all errors: `{"error": "one line"}`."""

import json
import logging

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import Match

from .errors import Refused, shown

_LOG = logging.getLogger("onnx_server")


class Json(Response):
    """A response in JSON that every parser reads: ASCII only, and never NaN or infinity.

    Example:
        >>> Json({"id": "\\ud800"}).body
        b'{"id":"\\\\ud800"}'
    """

    media_type = "application/json"

    def render(self, content):
        """Return the bytes of a body; `ValueError` for NaN and infinity, which JSON cannot hold."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def error_response(status, message, headers=None):
    """Return the response of an error.

    Args:
        status: HTTP status.
        message: One line.
        headers: Further headers. Defaults to none.

    Example:
        >>> error_response(404, "Expected the model 'a', got 'b'.").body
        b'{"error":"Expected the model \\'a\\', got \\'b\\'."}'
    """
    return Json({"error": message}, status, headers)


def add_error_handlers(app):
    """Have an application answer every error that it raises with `error_response`.

    Args:
        app: `fastapi.FastAPI`.

    Example:
        >>> add_error_handlers(app)
    """

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused):
        return error_response(error.status, str(error), error.headers)

    @app.exception_handler(HTTPException)
    async def no_route(request: Request, error: HTTPException):
        path, headers = shown(request.url.path), dict(error.headers or {})
        if error.status_code == 404:
            message = f"Not Found: expected a path of this server, got {path}. See /docs for all paths."
        elif error.status_code == 405:
            headers["Allow"] = allowed = ", ".join(allowed_methods(app, request.scope))
            method = shown(request.method)
            message = f"Method Not Allowed: expected {allowed} for {path}, got {method}. Use one of them."
        else:
            message = f"{error.detail}."
        return error_response(error.status_code, message, headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError):
        found = "; ".join(
            f"{'.'.join(map(str, each['loc']))}={shown(each.get('input'))} ({each['msg']})"
            for each in error.errors()
        )
        return error_response(400, f"Expected a valid request, got {found}. See /docs for what is taken.")


def matched_route(app, scope):
    """Return the path of the route that a request is for, whatever its method, or `None`.

    Args:
        app: `fastapi.FastAPI`, with its routes added directly to it.
        scope: The request's ASGI scope.

    Example:
        >>> matched_route(app, {"type": "http", "method": "POST", "path": "/healthz"})
        '/healthz'
    """
    matches = {route.matches(scope)[0]: route.path for route in reversed(app.routes)}
    return matches.get(Match.FULL) or matches.get(Match.PARTIAL)


def allowed_methods(app, scope):
    """Return the sorted methods that the path of a request takes, over all routes."""
    taking = (route for route in app.routes if route.matches(scope)[0] != Match.NONE)
    return sorted({method for route in taking for method in route.methods or ()})


class AnswerBugs:
    """ASGI middleware that logs an unexpected exception and answers 500 in JSON.

    Args:
        app: The ASGI application.

    Example:
        >>> app.add_middleware(AnswerBugs)
    """

    def __init__(self, app):
        self._app = app

    async def __call__(self, scope, receive, send):
        started = False

        async def noting(message):
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception:
            if started or scope["type"] != "http":
                raise
            _LOG.exception("Unexpected error for %s %s", scope["method"], scope["path"])
            message = "The server failed on this request; its log says why. Report it as a bug."
            await error_response(500, message)(scope, receive, send)
