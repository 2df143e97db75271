"""What the checks of a configuration need and a change of it leaves alone: keys, counts, processes, connections.

Each is made when a configuration first asks for it, and is kept as long as nothing about it has changed: callers are
neither refused nor forgotten because somebody changed something else.
"""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from modelward.sidecar.chain import Chain
from modelward.sidecar.config import Config
from modelward.sidecar.instruments import Instruments
from modelward.sidecar.keyring import KeyRing
from modelward.sidecar.setup import Setup
from modelward.sidecar.upstream import Upstream

if TYPE_CHECKING:
    from modelward.sidecar.auditing import Auditing
    from modelward.sidecar.encrypted import EncryptedPath
    from modelward.sidecar.shared_limits import Counting


class Resources:
    """Those of the checks in force; `chain` makes others with what there is, `keep` has them in force.

    Attributes:
        keyring: the issuers' keys.
        counting: the common count of rate limits.
        encrypted: what takes encrypted requests.
        auditing: what counts for auditors.
        ending: what goes on no longer and has not ended yet.

    Args:
        instruments: what is counted.
        withdrawn: called when an issuer has withdrawn a key.
    """

    def __init__(self, instruments: Instruments, withdrawn: Callable[[], None]) -> None:
        self._instruments = instruments
        self.keyring = KeyRing(withdrawn, instruments.key_fetches.add)
        self.counting: Counting | None = None
        self.encrypted: EncryptedPath | None = None
        self.auditing: Auditing | None = None
        self.ending: set[asyncio.Task[None]] = set()
        self._chain: Chain | None = None

    def chain(self, setup: Setup) -> Chain:
        """The checks of a setup, with what there is for them already.

        Raises:
            ConfigError: the parts of the configuration do not fit one another, a key or the baseline cannot be used.
        """
        return Chain(
            setup.settings,
            setup.baseline,
            self._upstream(setup.settings),
            partial(self.keyring.keys, fetching=setup.settings.access.key_fetching),
            setup.keys,
            self._counting(setup),
            self._encrypted(setup),
            setup.explained_weights,
            self._auditing(setup),
        )

    def keep(self, chain: Chain) -> None:
        """Use from now on what these checks use, begun where it is new, and end all else."""
        self._chain = chain
        self.keyring.keep(chain.settings.access)
        self._count_by(chain.access.counting)
        self._encrypt_by(chain.encrypted)
        self._audit_by(chain.auditing)

    def close(self) -> None:
        """End everything; `ending` is what takes a while."""
        if self._chain is not None:
            self._chain.upstream.close()
            self._chain.detection.close()
        self.keyring.close()
        self._count_by(None)
        self._encrypt_by(None)
        self._audit_by(None)

    def _upstream(self, settings: Config) -> Upstream:
        running = self._chain
        if running is not None:
            there = running.settings
            if (there.upstream, there.limits) == (settings.upstream, settings.limits):
                return running.upstream
        return Upstream(settings.upstream.host, settings.upstream.port, settings.limits, asyncio.get_running_loop())

    def _counting(self, setup: Setup) -> "Counting | None":
        settings, password = setup.settings.access.shared_limits, setup.limits_password
        if settings is None:
            return None
        there = self.counting
        if there is not None and (there.settings, there.password) == (settings, password):
            return there
        from modelward.sidecar.shared_limits import Counting  # noqa: PLC0415 - for those who ask for it

        return Counting(settings, password, self._instruments.rate_limit_checks.add)

    def _count_by(self, counting: "Counting | None") -> None:
        if self.counting is not None and self.counting is not counting:
            self.counting.close()
        self.counting = counting
        if counting is not None:
            counting.start()

    def _encrypted(self, setup: Setup) -> "EncryptedPath | None":
        settings = setup.settings.in_use
        if settings is None:
            return None
        there = self.encrypted
        if there is not None and (there.settings, there.weights) == (settings, setup.weights):
            return there
        from modelward.sidecar.encrypted import EncryptedPath  # noqa: PLC0415 - for those who ask for it

        return EncryptedPath(settings, setup.settings.upstream.model, setup.weights)

    def _encrypt_by(self, encrypted: "EncryptedPath | None") -> None:
        previous, self.encrypted = self.encrypted, encrypted
        if previous is encrypted:
            return
        if encrypted is not None:
            encrypted.workers.start()
        if previous is not None:
            self._end(previous.workers.close())

    def _auditing(self, setup: Setup) -> "Auditing | None":
        settings, inputs = setup.settings.audit, setup.settings.inputs
        if settings is None:
            return None
        there = self.auditing
        if there is not None and (there.settings, there.keys, there.inputs) == (settings, setup.audit_keys, inputs):
            return there
        from modelward.sidecar.auditing import Auditing  # noqa: PLC0415 - for those who ask for it

        made = Auditing(settings, setup.audit_keys, inputs)
        if there is not None:
            made.inherit(there)
        return made

    def _audit_by(self, auditing: "Auditing | None") -> None:
        previous, self.auditing = self.auditing, auditing
        if previous is auditing:
            return
        if auditing is not None:
            auditing.start()
        if previous is not None:
            self._end(previous.close())

    def _end(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.ending.add(task)
        task.add_done_callback(self.ending.discard)
