"""Connections whose requests do not end in time, are too large, or are no HTTP."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .responses import error_response

_MAX_HEAD_BYTES = 64 * 1024


def patient_for(timeout_s, on_invalid=lambda: None):
    """Return uvicorn's HTTP protocol with a bound on the time and the size of a request's head.

    uvicorn bounds neither; a client that sends a header a minute would keep its connection for ever. What is
    no HTTP is answered in JSON, as every other error.

    Args:
        timeout_s: Seconds from a connection's start, or a request's first byte, to the end of its head.
        on_invalid: Called for each request that is no HTTP. Defaults to nothing.

    Example:
        >>> uvicorn.run(app, http=patient_for(10.0))
    """

    class BoundedHead(HttpToolsProtocol):
        _head_bytes, _deadline = 0, None

        def connection_made(self, transport):
            super().connection_made(transport)
            self._expect_head()

        def connection_lost(self, exc):
            self._deadline.cancel()
            super().connection_lost(exc)

        def on_message_begin(self):
            super().on_message_begin()
            self._deadline.cancel()
            self._expect_head()

        def on_headers_complete(self):
            self._deadline.cancel()
            self._head_bytes = None
            super().on_headers_complete()

        def data_received(self, data):
            super().data_received(data)
            if self._head_bytes is not None:
                self._head_bytes += len(data)
                if self._head_bytes > _MAX_HEAD_BYTES:
                    self.transport.abort()

        def send_400_response(self, msg):
            on_invalid()
            response = error_response(400, "Expected a request in HTTP/1.1, got other bytes. Correct it.")
            head = b"".join(name + b": " + value + b"\r\n" for name, value in response.raw_headers)
            self.transport.write(
                b"HTTP/1.1 400 Bad Request\r\n" + head + b"connection: close\r\n\r\n" + response.body
            )
            self.transport.close()

        def _expect_head(self):
            self._head_bytes = 0
            self._deadline = self.loop.call_later(timeout_s, self.transport.abort)

    return BoundedHead
