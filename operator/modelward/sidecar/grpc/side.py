"""The gRPC side of a sidecar: its listener, its connections, and the way to the model's gRPC port."""

import asyncio
from functools import partial

from modelward.sidecar.access_log import AccessLog
from modelward.sidecar.chain import Chain
from modelward.sidecar.config import Config
from modelward.sidecar.gateway import Gateway
from modelward.sidecar.grpc.connection import Connection
from modelward.sidecar.grpc.gateway import GrpcGateway
from modelward.sidecar.grpc.upstream import Upstream
from modelward.sidecar.instruments import Instruments
from modelward.sidecar.listener import Listener
from modelward.sidecar.server import Server
from modelward.sidecar.setup import Setup


class GrpcSide:
    """What serves gRPC beside `sibling`, HTTP/1.1's gateway; `take` makes it listen, and take another configuration.

    Raises:
        OSError: the address cannot be listened on.
    """

    def __init__(
        self, host: str, port: int, setup: Setup, sibling: Gateway, instruments: Instruments, access_log: AccessLog
    ) -> None:
        self._settings = setup.settings
        self.gateway = GrpcGateway(sibling, _upstream(setup.settings), instruments, access_log)
        self.server = Server(self.gateway, setup.settings.limits, asyncio.get_running_loop().time)
        self.listener = Listener(host, port, partial(Connection, self.server))

    async def take(self, setup: Setup, chain: Chain) -> None:
        """Serve by `setup`, whose chain is `chain`, from now on."""
        before, settings = self._settings, setup.settings
        previous = self.gateway.upstream
        same = (before.upstream, before.limits) == (settings.upstream, settings.limits)
        self.gateway.use(chain, previous if same else _upstream(settings))
        if not same:
            previous.close()
        self._settings = settings
        self.server.limits = settings.limits
        await self.listener.accept(setup.grpc_context)

    def sweep(self) -> None:
        """End the waits whose time is up."""
        self.server.sweep()
        self.gateway.upstream.sweep()

    def close(self) -> None:
        """Accept no more, and end what is under way."""
        self.listener.close()
        self.server.abort()
        self.gateway.upstream.close()


def _upstream(settings: Config) -> Upstream:
    port = settings.upstream.grpc_port
    assert port is not None  # noqa: S101 - or there is no such side
    return Upstream(settings.upstream.host, port, settings.limits, asyncio.get_running_loop())
