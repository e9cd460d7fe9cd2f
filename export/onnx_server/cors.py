"""Requests of web pages from other origins."""

from starlette.middleware.cors import CORSMiddleware

from .errors import shown
from .responses import error_response


class Cors(CORSMiddleware):
    """Starlette's middleware for CORS, with the server's methods and headers, and errors in JSON.

    Args:
        app: The ASGI application.
        origins: Such as `["https://example.org"]`; `["*"]` for all.

    Example:
        >>> app.add_middleware(Cors, origins=["https://example.org"])
    """

    def __init__(self, app, *, origins):
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["*"],
            expose_headers=["Inference-Header-Content-Length", "Retry-After"],
        )

    def preflight_response(self, request_headers):
        """Return the response to a preflight request."""
        response = super().preflight_response(request_headers)
        if response.status_code == 200:
            return response
        headers = {name: value for name, value in response.headers.items() if not name.startswith("content-")}
        origin, method = request_headers["origin"], request_headers["access-control-request-method"]
        return error_response(
            response.status_code,
            f"Expected an origin of the option --cors-origins and GET, HEAD or POST, "
            f"got {shown(origin)} and {shown(method)}. Add the origin to the option.",
            headers,
        )
