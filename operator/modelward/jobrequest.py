"""What a Job of the controller's own is asked: told from every other request by the digest of what it says."""

import hashlib

import msgspec


class JobRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Base of requests; one that says the same is the same."""

    def to_bytes(self) -> bytes:
        """Return it as JSON; the same request gives the same bytes."""
        return msgspec.json.encode(self, order="deterministic")

    @property
    def digest(self) -> str:
        """What tells it from other requests: 64 hex digits."""
        return hashlib.sha256(self.to_bytes()).hexdigest()
