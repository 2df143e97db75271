"""Port 9090: metrics, liveness and readiness, for the cluster. Nothing about a caller or a value."""

from collections.abc import Callable

from modelward.sidecar.exchange import Exchange, Reply, Response
from modelward.sidecar.instruments import Instruments
from modelward.sidecar.problems import Refusal

_TEXT = b"content-type: text/plain; charset=utf-8\r\n"
_METRICS = b"content-type: text/plain; version=0.0.4; charset=utf-8\r\n"


class Monitor:
    """Serves `/metrics`, `/healthz` and `/readyz`, as `exchange.Application`. `ready` gives "" or what is not ready."""

    def __init__(self, instruments: Instruments, ready: Callable[[], str]) -> None:
        self._instruments = instruments
        self._ready = ready

    def admit(self, exchange: Exchange) -> None:
        """Reading only."""
        if exchange.method not in (b"GET", b"HEAD"):
            raise Refusal("method-not-allowed", "Use GET, HEAD.", headers=b"allow: GET, HEAD\r\n")

    def respond(self, exchange: Exchange, reply: Reply) -> None:
        """Answer at once."""
        match exchange.target:
            case b"/metrics":
                reply(Response(200, _METRICS, self._instruments.exposition()))
            case b"/healthz":
                reply(Response(200, _TEXT, b"ok\n"))
            case b"/readyz":
                missing = self._ready()
                reply(Response(503 if missing else 200, _TEXT, (missing or "ok").encode() + b"\n"))
            case _:
                raise Refusal("not-found", "This port serves /metrics, /healthz and /readyz alone.")

    def finished(self, exchange: Exchange) -> None:
        """Not recorded: probes and scrapes are not requests to the model."""
