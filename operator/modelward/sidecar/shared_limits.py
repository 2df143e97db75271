"""Rate limits that all replicas of a model count together, in Valkey or Redis.

One connection, pipelined: the server works through commands one after another anyway, so a second connection would
gain nothing. A request's command is written when its header has come and answered, as a rule, before its body has been
read. The counting is one Lua script, which the server runs as a whole, by the server's own clock.

When the server is away, slow or refuses, each replica counts its own share of the limit (`access`), at once and until
the server is back: a request never waits for a connection. What a caller had used up in the common count is not known
then, so that within the first window of an outage a caller may get up to twice the limit.

No name of a caller reaches the server, only digests.
"""

import asyncio
import hashlib
import ssl
from collections import deque
from collections.abc import Callable
from typing import Literal, NamedTuple, cast
from urllib.parse import urlsplit

import msgspec

from modelward.sidecar import log
from modelward.sidecar.config import ConfigError, Rule, SharedLimits

PATIENCE_SECONDS = 0.1  # a server that is slower than that is of no use on a request's way
CONNECT_SECONDS = 2.0
RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
MAX_PENDING = 10_000
EXACT = 1000  # as many requests are remembered one by one; above, those within a thousandth of the window together
_MAX_LINE = 4096

# The list is [total, until, count, until, count, ...]: how many requests count, and for each grain of them the time
# (microseconds) from which they count, the oldest first. All work is at the two ends. The same as `access._Window`.
SCRIPT = b"""\
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local limit, window, grain = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local total = tonumber(redis.call('LPOP', KEYS[1]) or 0)
local first = tonumber(redis.call('LINDEX', KEYS[1], 0) or nil)
while first and first <= now - window do
  redis.call('LPOP', KEYS[1])
  total = total - tonumber(redis.call('LPOP', KEYS[1]))
  first = tonumber(redis.call('LINDEX', KEYS[1], 0) or nil)
end
local wait = 0
if total >= limit then
  wait = first + window - now
else
  local last = tonumber(redis.call('LINDEX', KEYS[1], -2) or nil)
  if last and now <= last then
    redis.call('RPUSH', KEYS[1], tonumber(redis.call('RPOP', KEYS[1])) + 1)
  else
    redis.call('RPUSH', KEYS[1], now + grain, 1)
  end
  total = total + 1
end
redis.call('LPUSH', KEYS[1], total)
redis.call('PEXPIRE', KEYS[1], math.ceil((window + grain) / 1000) + 1)
return wait
"""
_DIGEST = hashlib.sha1(SCRIPT, usedforsecurity=False).hexdigest().encode()  # how EVALSHA names it

Counted = Literal["together", "alone"]
Settle = Callable[[float | None], None]
"""Gets the seconds to wait, 0.0 where the request counts, or None: the server cannot say."""


class Limit(NamedTuple):
    """A limit as the script takes it: the beginning of its keys, and the arguments behind them."""

    prefix: bytes
    arguments: bytes

    @classmethod
    def of(cls, model: str, rule: bytes, requests: int, seconds: float) -> "Limit":
        """The limit of one rule of one model; `rule` is what the rule says, so that another rule counts apart."""
        digest = hashlib.sha256(rule).hexdigest()[:16]
        grain = seconds / EXACT if requests > EXACT else 0.0
        numbers = (requests, round(seconds * 1e6), round(grain * 1e6))
        return cls(f"modelward:{model}:{digest}:".encode(), b"".join(_bulk(b"%d" % number) for number in numbers))

    def command(self, caller: bytes) -> bytes:
        """The command that counts one request of a caller."""
        key = self.prefix + hashlib.blake2b(caller, digest_size=16).hexdigest().encode()
        return b"%b%b%b" % (_EVALUATE, _bulk(key), self.arguments)


def _bulk(text: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text)


def _command(*words: bytes) -> bytes:
    return b"*%d\r\n%b" % (len(words), b"".join(map(_bulk, words)))


_EVALUATE = b"*7\r\n" + b"".join(map(_bulk, (b"EVALSHA", _DIGEST, b"1")))


class Counting:
    """The common count of one installation's server.

    Args:
        settings: where the server is.
        password: for it; empty: none is asked.
        count: called with how each request was counted.
    """

    def __init__(
        self, settings: SharedLimits, password: str = "", count: Callable[[Counted], None] = lambda _: None
    ) -> None:
        url = urlsplit(settings.address)
        try:
            port = url.port or 6379
        except ValueError:
            port = 0
        if url.scheme not in ("redis", "rediss") or not url.hostname or not port or url.password:
            raise ConfigError(
                "access.sharedLimits.address: give redis://host:port or rediss://host:port (TLS), without a password"
            )
        self.settings = settings
        self.password = password
        self.count = count
        self._host, self._port = url.hostname, port
        self._greeting = _greeting(url.username or "", password, url.path.strip("/"))
        self._context = _context(settings.authorities) if url.scheme == "rediss" else None
        self._link: _Link | None = None
        self._task: asyncio.Task[None] | None = None
        self.why = "not connected yet"

    def limit(self, rule: Rule) -> Limit | None:
        """A rule's limit, None where it has none."""
        limit = rule.rate_limit
        if limit is None:
            return None
        return Limit.of(self.settings.model, msgspec.json.encode(rule), limit.requests, limit.seconds)

    def start(self) -> None:
        """Connect, and stay connected."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    def close(self) -> None:
        """Disconnect; what is under way settles with None."""
        if self._task is not None:
            self._task.cancel()
        if self._link is not None:
            self._link.abort()

    def take(self, limit: Limit, caller: bytes, settle: Settle) -> bool:
        """Count a request of a caller, and settle it soon; False: the server is away, and nothing will be settled."""
        link = self._link
        return link is not None and link.send(limit.command(caller), settle)

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                link = await self._connected()
            except _ServerError as error:
                self._tell(str(error))
            else:
                failures = 0
                self._tell("")
                self._link = link
                await link.lost
                self._link = None
                self._tell(link.why)
            await asyncio.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
            failures += 1

    async def _connected(self) -> "_Link":
        """A connection on which the server has agreed to everything."""
        loop = asyncio.get_running_loop()
        name = self._host if self._context else None
        link: _Link | None = None
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, link = await loop.create_connection(
                    _Link, self._host, self._port, ssl=self._context, server_hostname=name
                )
                for what, command in self._greeting:
                    await link.ask(what, command)
        except (TimeoutError, OSError, _ServerError) as error:
            if link is not None:
                link.abort()
            raise error if isinstance(error, _ServerError) else _ServerError(_reason(error)) from None
        link.begin()
        return link

    def _tell(self, why: str) -> None:
        if why == self.why:
            return
        if why:
            log.event("error", "rate limits are counted here alone, as this replica's share", why=why)
        else:
            log.event("info", "rate limits are counted together with the other replicas")
        self.why = why


class _ServerError(Exception):
    """The server cannot be used; the message is in words of ours, with the first word of the server's at most."""


class _Link(asyncio.Protocol):
    """One connection. Before `begin` it is asked one thing at a time; after that, `send` pipelines."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self.lost: asyncio.Future[None] = loop.create_future()
        self.why = "the connection was closed"
        self._asked: asyncio.Future[bytes] | None = None
        self._pending: deque[tuple[float, Settle]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._begun = False
        self._skip = False
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember it."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Nobody will be answered any more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._asked is not None and not self._asked.done():
            self._asked.set_exception(_ServerError(self.why))
        while self._pending:
            self._pending.popleft()[1](None)
        if not self.lost.done():
            self.lost.set_result(None)

    def abort(self) -> None:
        """End it now."""
        self._transport.abort()

    def begin(self) -> None:
        """Take requests from now on."""
        self._begun = True

    async def ask(self, what: str, command: bytes) -> None:
        """Send one command and wait for its answer.

        Raises:
            _ServerError: it is refused.
        """
        self._asked = self._loop.create_future()
        self._transport.write(command)
        answer = await self._asked
        if answer.startswith(b"-"):
            raise _ServerError(f"{what} is refused: {_first_word(answer)}")

    def send(self, command: bytes, settle: Settle) -> bool:
        """Send a command whose answer is a number; False: no more can be waited for."""
        if self._transport.is_closing() or len(self._pending) >= MAX_PENDING:
            return False
        self._pending.append((self._loop.time() + PATIENCE_SECONDS, settle))
        if self._timer is None:
            self._timer = self._loop.call_later(PATIENCE_SECONDS, self._overdue)
        self._transport.write(command)
        return True

    def data_received(self, data: bytes) -> None:
        """Answers, whole or in part."""
        self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\r\n")
        if len(self._buffer) > _MAX_LINE:
            self._break("the server does not speak RESP")
            return
        for line in lines:
            if self._skip:  # the text that a `$` announced: the digest of the script, which is known
                self._skip = False
            elif line.startswith(b"$"):
                self._skip = line != b"$-1"
                self._answer(line)
            else:
                self._answer(line)

    def _answer(self, line: bytes) -> None:
        if self._asked is not None and not self._asked.done():
            self._asked.set_result(line)
            return
        if not self._pending:
            self._break("the server speaks unasked")
        elif line.startswith(b":") and line[1:].isdigit():
            self._pending.popleft()[1](int(line[1:]) / 1e6)
        elif line.startswith(b"-"):
            self._pending.popleft()[1](None)
            self._break(f"the server answers {_first_word(line)}")
        else:
            self._break("the server does not answer as the script does")

    def _overdue(self) -> None:
        self._timer = None
        if not self._pending:
            return
        left = self._pending[0][0] - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._overdue)
        else:
            self._break(f"no answer within {PATIENCE_SECONDS * 1000:g} ms")

    def _break(self, why: str) -> None:
        """Settle what is under way and connect anew: after this, answers and requests might not belong together."""
        self.why = why
        self._transport.abort()
        while self._pending:
            self._pending.popleft()[1](None)


def _greeting(username: str, password: str, database: str) -> list[tuple[str, bytes]]:
    commands = []
    if password:
        words = [username.encode()] if username else []
        commands.append(("authentication", _command(b"AUTH", *words, password.encode())))
    if database:
        commands.append(("the database's number", _command(b"SELECT", database.encode())))
    return [*commands, ("the script", _command(b"SCRIPT", b"LOAD", SCRIPT))]


def _context(authorities: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cadata=authorities or None)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError("access.sharedLimits.authorities is not a bundle of PEM certificates") from error


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no connection within {CONNECT_SECONDS:g} seconds"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate does not verify: {error.verify_message}"
    return "no connection to the server"


def _first_word(answer: bytes) -> str:
    """What kind of error it is, such as WRONGPASS; the rest might quote what was sent."""
    return answer[1:].split(b" ", 1)[0].decode("ascii", "replace")[:32]
