"""Whether this pod takes requests: the model is asked again and again, and what has to be there first is awaited."""

import asyncio
import contextlib

from modelward.sidecar import log
from modelward.sidecar.exchange import Outcome, Response
from modelward.sidecar.gateway import Gateway
from modelward.sidecar.problems import Refusal
from modelward.sidecar.resources import Resources

_PROBE_SECONDS = 2.0
_FIRST_PROBE_SECONDS = 0.2  # until the model has been ready once


class Readiness:
    """Of the model behind `gateway`, and of the `resources` of the configuration in force.

    Attributes:
        model: whether the model server answered its ready path when it was asked last.
    """

    def __init__(self, gateway: Gateway, resources: Resources) -> None:
        self._gateway = gateway
        self._resources = resources
        self.model = False
        self._keys_awaited = True
        self._workers_awaited = True
        self._audit_awaited = True

    def lacking(self) -> str:
        """What keeps this pod from taking requests; nothing when it is ready."""
        resources = self._resources
        # At the start alone: an issuer that goes silent later must not take every replica out of service.
        self._keys_awaited = self._keys_awaited and bool(resources.keyring.missing)
        if self._keys_awaited:
            return f"an issuer's keys are not there: {resources.keyring.missing}"
        # Likewise: who can make a process die must not take the plain requests with it.
        encrypted, auditing = resources.encrypted, resources.auditing
        self._workers_awaited = self._workers_awaited and not (encrypted is None or encrypted.workers.ready)
        if self._workers_awaited:
            return "no process is ready to score encrypted requests"
        self._audit_awaited = self._audit_awaited and not (auditing is None or auditing.ready)
        if self._audit_awaited:
            return "counters cannot be encrypted to an auditor's key yet"
        if not self.model:
            return "the model server does not answer its ready path"
        probes = self._gateway.chain.detection.probes
        return "" if probes is None else probes.not_ready()

    async def probe(self) -> None:
        """Ask the model's ready path, again and again."""
        while True:
            chain = self._gateway.chain
            path = chain.settings.upstream.ready_path.encode()
            request = b"GET %b HTTP/1.1\r\nhost: %b\r\n\r\n" % (path, chain.authority)
            with contextlib.suppress(Refusal):  # busy is not unready
                chain.upstream.call(request, self._probed)
            await asyncio.sleep(_PROBE_SECONDS if self.model else _FIRST_PROBE_SECONDS)

    def _probed(self, outcome: Outcome) -> None:
        ready = isinstance(outcome, Response) and outcome.status == 200
        if ready != self.model:
            log.event("info", "the model server is ready" if ready else "the model server is not ready")
        self.model = ready
