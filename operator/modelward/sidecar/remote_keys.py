"""An issuer's keys, fetched by URL and kept up to date: never on the way of a request, which takes what is there.

How long they are kept: the document says (`max-age`, within bounds), and they are fetched anew before that time is
over. While the issuer does not answer, the keys there are stay for `STALE_SECONDS` more; after that its tokens are
refused, because a key that was withdrawn meanwhile cannot be told from one that was not. A token with an unknown key
has them fetched at once, but not more often than every `MISS_SECONDS`: whoever makes tokens up must not be able to make
this pod hammer the issuer.
"""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec

from modelward.sidecar import log
from modelward.sidecar.config import ConfigError
from modelward.sidecar.fetch import Fetched, FetchError, fetch
from modelward.sidecar.keys import Keys, read_keys

DEFAULT_SECONDS = 300.0  # where the document does not say
LEAST_SECONDS = 60.0
MOST_SECONDS = 3600.0  # a withdrawn key is noticed within the hour, whatever the document says
EARLY = 0.8  # of a document's time, after which it is fetched anew
STALE_SECONDS = 3600.0
MISS_SECONDS = 10.0
RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0)  # after the first failure, the second, ...

Outcome = Literal["fetched", "failed", "expired"]


class RemoteKeys(Keys):
    """The keys behind one URL. `run` keeps them; nothing else changes them.

    Args:
        issuer: its name, for the log.
        url: the JWKS document's address, found on the list of those allowed.
        context: whom to trust there.
        withdrawn: called when a key that was there is there no more.
        count: called with what came of each attempt.
        get: fetches.
        clock: seconds, monotonic.
    """

    __slots__ = ("_clock", "_context", "_count", "_ends", "_failures", "_get", "_task", "_tried", "_url", "_wanted",
                 "_withdrawn", "fetched_at", "issuer", "why")  # fmt: skip

    def __init__(
        self,
        issuer: str,
        url: str,
        context: ssl.SSLContext,
        withdrawn: Callable[[], None],
        count: Callable[[Outcome], None],
        get: Callable[[str, ssl.SSLContext], Awaitable[Fetched]] = fetch,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.issuer = issuer
        self._url = url
        self._context = context
        self._withdrawn = withdrawn
        self._count = count
        self._get = get
        self._clock = clock
        self._wanted = asyncio.Event()
        self._tried = float("-inf")
        self._ends = float("inf")  # when what is there is too old to be used
        self._failures = 0
        self._task: asyncio.Task[None] | None = None
        self.fetched_at: float | None = None
        self.why = "not fetched yet"  # there are no keys, or no fresh ones; empty when all is well

    def start(self) -> None:
        """Begin to keep them."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    def stop(self) -> None:
        """Keep them no more."""
        if self._task is not None:
            self._task.cancel()

    def missed(self) -> bool:
        """No key fitted a token: fetch them now, unless that was done a moment ago."""
        if self._wanted.is_set() or self._clock() - self._tried < MISS_SECONDS:
            return self._wanted.is_set()
        self._wanted.set()
        return True

    async def _run(self) -> None:
        while True:
            wait = await self.refresh()
            self._wanted.clear()
            try:
                async with asyncio.timeout(wait):
                    await self._wanted.wait()
            except TimeoutError:
                self.expire()

    async def refresh(self) -> float:
        """Fetch them once; after how many seconds to do so again."""
        self._tried = self._clock()
        try:
            document = await self._get(self._url, self._context)
            keys = read_keys(self.issuer, _decoded(document.body))
        except (FetchError, ConfigError) as error:
            return self._failed(str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, the keys must go on being kept
            if not self._failures:
                log.fault("fetching an issuer's keys met a fault in the sidecar", error)
            return self._failed("a fault in the sidecar")
        before = {key.identity for key in self.current}
        after = {key.identity for key in keys}
        age = DEFAULT_SECONDS if document.max_age is None else float(document.max_age)
        age = min(max(age, LEAST_SECONDS), MOST_SECONDS)
        now = self._clock()
        self.current, self.fetched_at, self._ends = keys, now, now + age + STALE_SECONDS
        self._count("fetched")
        if before != after or self._failures:
            log.event("info", "an issuer's keys are there", issuer=self.issuer, keys=len(keys), seconds=age)
        self._failures, self.why = 0, ""
        if before - after:
            self._withdrawn()
        return age * EARLY

    def _failed(self, why: str) -> float:
        self._count("failed")
        if why != self.why or not self._failures:
            log.event("error", "an issuer's keys cannot be fetched", issuer=self.issuer, url=self._url, why=why)
        self.why = why
        wait = RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS) - 1)]
        self._failures += 1
        self.expire()
        return min(wait, max(self._ends - self._clock(), 0.0)) if self.current else wait

    def expire(self) -> None:
        """Give the keys up if they have not been confirmed for too long."""
        if self.current and self._clock() >= self._ends:
            self.current = ()
            self._count("expired")
            log.event("error", "an issuer's keys are too old to be used", issuer=self.issuer, why=self.why)
            self._withdrawn()


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise ConfigError("its answer is not a JSON Web Key Set")
    return document
