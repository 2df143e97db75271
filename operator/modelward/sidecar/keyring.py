"""The keys of all issuers, those in the configuration and those behind a URL, over all changes of the configuration."""

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from modelward import allowlist
from modelward.sidecar.config import Access, ConfigError, Issuer, KeyFetching
from modelward.sidecar.keys import Keys, given

if TYPE_CHECKING:
    from modelward.sidecar.remote_keys import RemoteKeys

_Place = tuple[str, str]
"""A URL, and the authorities that are trusted there."""


class KeyRing:
    """Gives each issuer's keys to the configuration that is being tried, and keeps those of the one in force.

    What is behind the same URL stays when the configuration changes: it is neither fetched again nor missing meanwhile.

    Args:
        withdrawn: called when an issuer has withdrawn a key.
        count: called with what came of each fetch.
    """

    def __init__(self, withdrawn: Callable[[], None], count: Callable[[str], None]) -> None:
        self._withdrawn = withdrawn
        self._count = count
        self._remote: dict[_Place, RemoteKeys] = {}

    def keys(self, issuer: Issuer, fetching: KeyFetching) -> Keys:
        """The keys of an issuer; one fetched by URL has none until it has been kept for a moment.

        Raises:
            ConfigError: its keys cannot be used, or may not be fetched from there.
        """
        if not issuer.jwks_uri:
            return given(issuer)
        if issuer.jwks is not None:
            raise ConfigError(f"issuer {issuer.name}: has keys and a URL for them; give one of the two")
        problem = allowlist.problem(issuer.jwks_uri, fetching.allow)
        if problem:
            raise ConfigError(f"issuer {issuer.name}: {issuer.jwks_uri}: {problem}")
        place = issuer.jwks_uri, fetching.authorities
        return self._remote.get(place) or self._remote.setdefault(place, self._made(issuer, fetching.authorities))

    def keep(self, access: Access) -> None:
        """Fetch the keys of this configuration's issuers from now on, and no others."""
        wanted = {(issuer.jwks_uri, access.key_fetching.authorities) for issuer in access.issuers}
        for place in list(self._remote):
            if place in wanted:
                self._remote[place].start()
            else:
                self._remote.pop(place).stop()

    def close(self) -> None:
        """Fetch nothing any more."""
        for keys in self._remote.values():
            keys.stop()
        self._remote.clear()

    @property
    def missing(self) -> str:
        """Why keys that are to be fetched are not there; nothing when all are."""
        return "; ".join(f"{keys.issuer}: {keys.why}" for keys in self._sources() if not keys.current)

    def age(self) -> float | None:
        """Seconds since the keys that are oldest were fetched; None where none are."""
        times = [keys.fetched_at for keys in self._sources() if keys.fetched_at is not None]
        return time.monotonic() - min(times) if times else None

    def _sources(self) -> Iterable["RemoteKeys"]:
        return self._remote.values()

    def _made(self, issuer: Issuer, authorities: str) -> "RemoteKeys":
        import ssl  # noqa: PLC0415 - what follows costs memory, and is for those who fetch

        from modelward.sidecar.remote_keys import RemoteKeys  # noqa: PLC0415

        try:
            context = ssl.create_default_context(cadata=authorities or None)
        except (ssl.SSLError, ValueError) as error:
            raise ConfigError("access.keyFetching.authorities is not a bundle of PEM certificates") from error
        context.set_alpn_protocols(["http/1.1"])
        return RemoteKeys(issuer.name, issuer.jwks_uri, context, self._withdrawn, self._count)
