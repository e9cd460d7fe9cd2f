"""Counts and times for Prometheus."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from .responses import matched_route

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counts and times, in a registry of their own.

    Example:
        >>> metrics = Metrics(pending=lambda: 0)
        >>> metrics.batch(8, 0.08, [0.001] * 8)
        >>> b"batch_size_sum 8.0" in metrics.text()
        True
    """

    def __init__(self, *, pending):
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        made = {"registry": self._registry}
        labels = ("route", "status")
        self._requests = Counter("onnx_server_requests", "Requests answered", labels, **made)
        self._seconds = Histogram(
            "onnx_server_request_seconds", "From head to answer", ("route",), buckets=_SECONDS, **made
        )
        self._batches = Histogram("onnx_server_batch_size", "Examples in a batch", buckets=_SIZES, **made)
        self._runs = Histogram("onnx_server_run_seconds", "A batch in the model", buckets=_SECONDS, **made)
        self._waits = Histogram(
            "onnx_server_wait_seconds", "An example in the queue", buckets=_SECONDS, **made
        )
        Gauge("onnx_server_pending", "Examples taken in and not answered", **made).set_function(pending)

    def text(self):
        """Return all in Prometheus' text format."""
        return generate_latest(self._registry)

    def batch(self, size, seconds, waits):
        """Count one batch: its rows, seconds in the model, and each row's seconds of waiting."""
        self._batches.observe(size)
        self._runs.observe(seconds)
        for wait in waits:
            self._waits.observe(wait)

    def request(self, route, status, seconds):
        """Count one request."""
        self._requests.labels(route, status).inc()
        self._seconds.labels(route).observe(seconds)

    def invalid(self):
        """Count one request that is no HTTP."""
        self._requests.labels("unparsed", "400").inc()


class MeasureRequests:
    """ASGI middleware that counts every request by its route, not its path: those are few.

    Args:
        app: The ASGI application.
        metrics: `Metrics`.

    Example:
        >>> app.add_middleware(MeasureRequests, metrics=metrics)
    """

    def __init__(self, app, *, metrics):
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, begin, counted = "none", time.perf_counter(), False

        def count():
            nonlocal counted
            if not counted:
                counted = True
                route = matched_route(scope["app"], scope) or "unmatched"
                self._metrics.request(route, status, time.perf_counter() - begin)

        async def noting(message):
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            elif message["type"] == "http.response.body" and not message.get("more_body", False):
                count()  # before the last byte leaves: a client that asks for the metrics next finds itself in them
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            count()
