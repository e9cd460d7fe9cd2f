"""Connections that never come to the point."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_MAX_HEAD_BYTES = 64 * 1024


def patient_for(timeout_s):
    """Return uvicorn's HTTP protocol with a bound on the time and the size of a request's head.

    uvicorn bounds neither; a client that sends a header a minute would keep its connection for ever.

    Args:
        timeout_s: From a connection's start, or a request's first byte, to the end of its head.

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

        def _expect_head(self):
            self._head_bytes = 0
            self._deadline = self.loop.call_later(timeout_s, self.transport.abort)

    return BoundedHead
