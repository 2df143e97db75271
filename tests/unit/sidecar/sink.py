"""What a `RequestReader` hands over, kept."""

from __future__ import annotations

from modelward.sidecar.exchange import Exchange


class Sink:
    """Keeps the requests that are read. `held`: bytes of bodies that were read."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []
        self.held = 0

    def head(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)

    def hold(self, exchange: Exchange, size: int) -> None:
        self.held += size
