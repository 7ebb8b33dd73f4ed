"""Figures for a monitoring system, in Prometheus' text form: requests by route and status, and what the service counts."""

import time
from inspect import isfunction

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


METHODS = ("GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS")


class Figures:
    """The counters of one app."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("vigil_requests", "Answered requests", ["method", "route", "status"], registry=self.registry)
        self.seconds = Histogram("vigil_request_seconds", "Time to the last byte of an answer", ["route"], buckets=BUCKETS, registry=self.registry)
        self.counts = Gauge("vigil_items", "Detections and cases by state", ["what"], registry=self.registry)
        self.ready = Gauge("vigil_ready", "1 while a model answers", registry=self.registry)
        self.restarts = Gauge("vigil_worker_restarts", "Times that the worker was started again", registry=self.registry)

    def text(self, counts: dict[str, int], ready: bool, restarts: int) -> bytes:
        """The page."""
        for name, count in counts.items():
            self.counts.labels(name).set(count)
        self.ready.set(ready)
        self.restarts.set(restarts)
        return generate_latest(self.registry)


class Measured:
    """Counts and times every request by its route's pattern, never by its address: that would make a series of each id."""

    def __init__(self, app: ASGIApp, figures: Figures) -> None:
        self.app, self.figures = app, figures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), "500"

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self.app(scope, receive, told)
        finally:
            pattern = _pattern(scope)
            self.figures.requests.labels(scope["method"] if scope["method"] in METHODS else "other", pattern, status).inc()
            self.figures.seconds.labels(pattern).observe(time.perf_counter() - started)


def _pattern(scope: Scope) -> str:
    """The pattern of the route that answered, with the path under which it is mounted; "(none)" where there is none."""
    route, mount = scope.get("route"), scope.get("root_path", "")
    if route is not None:
        return f"{mount}{route.path}"
    if isfunction(scope.get("endpoint")) and not scope.get("path_params"):  # a plain route of one address, such as /openapi.json
        return str(scope["path"])
    return f"{mount}/{{path}}" if mount else "(none)"  # files of a mounted folder
