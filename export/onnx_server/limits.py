"""Bounds of requests with a body: how large, how slow, how many, and how much of all together.

Others, such as those for the health, are always let through.
"""

import asyncio

from .content_encoding import coding_of, unpacked
from .errors import Refused
from .responses import error_response

_LINGER_S = 2.0
_RETRY_AFTER_S = 1


class BodyLimits:
    """ASGI middleware that reads and unpacks a request's body, whole and in time, for the application.

    A declared length is refused at once; a body sent in chunks that never end when it is over the limit, or
    over the time.

    Args:
        app: The ASGI application.
        max_bytes: The largest body, compressed and unpacked; 413 beyond.
        max_requests: Most in progress; 503 beyond.
        max_held_bytes: Most of all bodies of requests in progress together; 503 beyond.
        timeout_s: Longest that a body takes to arrive; 408 beyond.

    Example:
        >>> limits = {"max_bytes": 2**20, "max_held_bytes": 2**28, "max_requests": 512, "timeout_s": 10}
        >>> app.add_middleware(BodyLimits, **limits)
    """

    def __init__(self, app, *, max_bytes, max_held_bytes, max_requests, timeout_s):
        self._app = app
        self._max_bytes = max_bytes
        self._max_held_bytes = max_held_bytes
        self._timeout_s = timeout_s
        self._max_requests = max_requests
        self._held_bytes = self._requests = 0

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._app(scope, receive, send)
            return
        body, held = bytearray(), 0
        self._requests += 1
        try:
            try:
                async with asyncio.timeout(self._timeout_s):
                    self._check_place()
                    coding = coding_of(scope["headers"])
                    self._check_size(int(dict(scope["headers"]).get(b"content-length", 0)))
                    while True:
                        message = await receive()
                        if message["type"] == "http.disconnect":
                            return
                        body += message["body"]
                        held += len(message["body"])
                        self._held_bytes += len(message["body"])
                        self._check_size(len(body))
                        if not message["more_body"]:
                            break
                if coding:
                    body = await asyncio.to_thread(unpacked, body, coding, self._max_bytes)
                    held += len(body)
                    self._held_bytes += len(body)
                    self._check_size(len(body))
            except TimeoutError:
                refused = Refused(
                    408,
                    f"Expected a whole request within {self._timeout_s:g} s, got {len(body)} bytes of it. "
                    "Send it faster.",
                )
                await _refuse(refused, receive, send)
                return
            except Refused as refused:
                await _refuse(refused, receive, send)
                return
            await self._app(scope, _replayed(bytes(body), receive), send)
        finally:
            self._held_bytes -= held
            self._requests -= 1

    def _check_place(self):
        if self._requests > self._max_requests:
            raise Refused(
                503,
                f"Expected at most {self._max_requests} requests in progress, got one more. Try again later.",
                retry_after_s=_RETRY_AFTER_S,
            )

    def _check_size(self, size):
        if size > self._max_bytes:
            raise Refused(
                413,
                f"Expected a request of at most {self._max_bytes:,.0f} bytes, got {size:,}. "
                "Send a smaller image, or fewer examples.",
            )
        if self._held_bytes > self._max_held_bytes:
            raise Refused(
                503,
                f"Expected requests of at most {self._max_held_bytes:,.0f} bytes together, got more. "
                "Try again later.",
                retry_after_s=_RETRY_AFTER_S,
            )


def _replayed(body, receive):
    """Return a `receive` that gives the body once, then what the connection gives."""
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def replay():
        return next(messages, None) or await receive()

    return replay


async def _refuse(refused, receive, send):
    """Answer, then take in what still comes for a while: closing at once would lose the answer as well."""
    response = error_response(refused.status, str(refused), {"connection": "close", **refused.headers})
    await send({"type": "http.response.start", "status": refused.status, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": True})
    try:
        async with asyncio.timeout(_LINGER_S):
            while (await receive()).get("more_body", False):
                pass
    except TimeoutError:
        pass  # it never ends; the answer has been sent
    await send({"type": "http.response.body", "body": b"", "more_body": False})
