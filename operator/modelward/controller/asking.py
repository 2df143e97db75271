"""Asks what runs in a model's pods, at the pod's own address: TLS verified by name, a token for that one request."""

from __future__ import annotations

import ssl
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from modelward import incidents
from modelward.controller.certificates import Pair
from modelward.planner.sidecar import HTTPS_PORT

SECONDS = 5.0
_MAX_CONTEXTS = 256


class AskingError(Exception):
    """No usable answer; the message says why, and never what was answered."""


@dataclass(frozen=True)
class Answer:
    """What was answered: headers in lower case."""

    status: int
    headers: dict[str, str]
    content: bytes


@dataclass(frozen=True)
class Asked:
    """Whom to ask.

    Attributes:
        address: of the pod.
        model: namespace/name, which the token is for.
        host: the name that its certificate must have.
        authorities: PEM bundle that must vouch for it.
    """

    address: str
    model: str
    host: str
    authorities: bytes


class Asker:
    """Sends requests to pods, each signed by the key that signs configurations.

    Args:
        sign: gives what gives the raw Ed25519 signature over a document.
        port: of every pod.
        seconds: for a whole exchange.
        client: gives the certificate that is shown where one is asked for; None: there is none.
    """

    def __init__(
        self,
        sign: Callable[[], Callable[[bytes], bytes]],
        port: int = HTTPS_PORT,
        seconds: float = SECONDS,
        client: Callable[[], Pair] | None = None,
    ) -> None:
        self._sign = sign
        self._port = port
        self._seconds = seconds
        self._client = client
        self._contexts: OrderedDict[tuple[bytes, bytes], ssl.SSLContext] = OrderedDict()

    async def ask(self, whom: Asked, method: str, path: str, body: bytes = b"", max_bytes: int = 1 << 20) -> Answer:
        """Return the answer to one request, on a connection of its own.

        Raises:
            AskingError: there is none, not by whom it should be, or it is too long.
        """
        if not whom.authorities:  # OpenSSL would take the system's, whom nobody named
            raise AskingError("no authority is named that vouches for its certificate: the Secret has no ca.crt")
        token = incidents.token(self._sign(), whom.model, method, path, time.time(), body)
        headers = {
            "authorization": f"Bearer {token}",
            "content-type": "application/json",
            "accept-encoding": "identity",
        }
        host = f"[{whom.address}]" if ":" in whom.address else whom.address
        try:
            context = self._context(whom.authorities)
            # A pod's address is nobody's proxy's, and sets no cookies.
            async with (
                aiohttp.ClientSession(trust_env=False, cookie_jar=aiohttp.DummyCookieJar()) as session,
                session.request(
                    method,
                    f"https://{host}:{self._port}{path}",
                    data=body or None,
                    headers=headers,
                    ssl=context,
                    server_hostname=whom.host,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=self._seconds),
                ) as answer,
            ):
                content = await answer.content.read(max_bytes + 1)
                while len(content) <= max_bytes and (more := await answer.content.read(max_bytes + 1 - len(content))):
                    content += more
                if len(content) > max_bytes:
                    raise AskingError(f"the answer has more than {max_bytes:,} bytes")
                return Answer(answer.status, {k.lower(): v for k, v in answer.headers.items()}, content)
        except aiohttp.ClientConnectorCertificateError as error:
            raise AskingError(f"its certificate does not verify as {whom.host}'s") from error
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise AskingError(f"no answer ({type(error).__name__})") from error

    def _context(self, authorities: bytes) -> ssl.SSLContext:
        pair = self._client() if self._client else None
        key = (authorities, pair.chain if pair else b"")
        context = self._contexts.get(key)
        if context is None:
            context = self._contexts[key] = ssl.create_default_context(cadata=authorities.decode())
            if pair is not None:
                _show(context, pair)
            if len(self._contexts) > _MAX_CONTEXTS:
                self._contexts.popitem(last=False)
        return context


def _show(context: ssl.SSLContext, pair: Pair) -> None:
    """Have a context show a certificate: OpenSSL takes it from files alone, which are gone again at once."""
    with tempfile.TemporaryDirectory(prefix="modelward-") as folder:
        chain, key = Path(folder, "tls.crt"), Path(folder, "tls.key")
        chain.write_bytes(pair.chain)
        key.touch(0o600)
        key.write_bytes(pair.key)
        context.load_cert_chain(chain, key)
