"""The port for probes and Prometheus: 8080, plain HTTP, nothing about anybody's data."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from aiohttp import web

Metrics = Callable[[], Mapping[str, tuple[str, Mapping[str, float]]]]
"""Gives, for each metric's name, its help text and its values by rendered labels (`{rule="ENC-001"}`, or empty)."""


@asynccontextmanager
async def served(port: int, metrics: Metrics) -> AsyncIterator[None]:
    """Serve /healthz, /readyz and /metrics while the context lasts.

    A candidate that does not lead is ready as well: ready to take over.
    """

    async def health(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")  # that it answers at all shows that the event loop turns

    async def tell(_: web.Request) -> web.Response:
        return web.Response(text=rendered(metrics()), content_type="text/plain", charset="utf-8")

    application = web.Application()
    application.add_routes([web.get("/healthz", health), web.get("/readyz", health), web.get("/metrics", tell)])
    runner = web.AppRunner(application, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, port=port).start()
        yield
    finally:
        await runner.cleanup()


def quoted(text: str) -> str:
    """Write a label's value as the Prometheus text format has it."""
    return '"' + text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n") + '"'


def rendered(metrics: Mapping[str, tuple[str, Mapping[str, float]]]) -> str:
    """Write counters (`_total`) and gauges in the Prometheus text format."""
    lines = []
    for name, (help_text, values) in sorted(metrics.items()):
        kind = "counter" if name.endswith("_total") else "gauge"
        lines += [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"]
        lines += [f"{name}{labels} {value!r}" for labels, value in sorted(values.items())]
    return "\n".join(lines) + "\n"
