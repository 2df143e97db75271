"""Windows of counters as sidecars hand them over, and the sums that the controller makes of them without reading any.

A sum is the coefficients' own, modulo each prime: that is all there is to adding ciphertexts (Fan, Vercauteren:
Somewhat Practical Fully Homomorphic Encryption, 2012), and numpy does it. Whatever comes from a sidecar is looked at
first.
"""

from collections.abc import Mapping
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from modelward.audit.parameters import LEVEL, MAX_WINDOWS, PARAMETERS, RING
from modelward.audit.told import MAX_KEPT, Digest, Time, Window
from modelward.encrypted import envelope
from modelward.encrypted.envelope import Aggregate, Keys
from modelward.encrypted.parameters import EncryptedError

SKEW_SECONDS: Final = 30  # between the clocks of two nodes
MAX_PODS: Final = 1024


class Sum(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Windows that were added up, in the period that began at `begun`. `pods`: of each the start of its last window.

    The period's first window made `begun`; 0: there is none yet. `pods` outlives periods: no window comes in twice.
    `closed`: up to when the periods before have come. No window is of both: an auditor opens no two that overlap.
    """

    keys: Digest
    layout: Digest
    begun: Time = 0
    ended: Time = 0
    windows: int = 0
    ciphertext: bytes = b""
    pods: dict[str, int] = {}
    closed: Time = 0

    @property
    def contributed(self) -> int:
        """Of how many pods it is."""
        return sum(start >= self.closed for start in self.pods.values())


class WindowError(Exception):
    """A window that is not added; the message says why."""


def public_key(keys: bytes) -> bytes:
    """The auditor's public key in the file that `modelward audit keygen` writes, once all about it holds.

    Raises:
        EncryptedError: it is damaged, of other parameters, not signed by its own signer, or not for this.
    """
    header, parts = envelope.opened(keys, Keys)
    envelope.check_signature(keys, header.signer)
    if header.parameters != PARAMETERS or header.parts != ("public",):
        raise EncryptedError("these are not an auditor's keys: make them with `modelward audit keygen`")
    RING.check_public_key(parts[0])
    return parts[0]


def added(total: Sum, window: Window, pod: str, seconds: int, now: float) -> Sum:
    """The sum with one more window, of a length of `seconds`, that `pod` (its name) handed over at `now`.

    Raises:
        WindowError: it is of another key or layout, came before, is not of a time that can be, or is damaged.
    """
    if (window.keys, window.layout) != (total.keys, total.layout):
        raise WindowError("it is of another key, or counts something else")
    if window.start % seconds or not now - (MAX_KEPT + 2) * seconds <= window.start <= now + SKEW_SECONDS - seconds:
        raise WindowError("it is not of a time that it can be of")
    if window.start <= total.pods.get(pod, -1):
        raise WindowError("a window of this time came from this pod before")
    if window.start < total.closed:
        raise WindowError("it came late: the aggregate of its time was given out, or begun anew, before")
    if total.windows >= MAX_WINDOWS:
        raise WindowError(f"the aggregate has {MAX_WINDOWS:,} windows, as many as can be added exactly")
    try:
        RING.check_ciphertext(window.ciphertext, LEVEL)
    except EncryptedError as error:
        raise WindowError(str(error)) from error
    ciphertext = RING.add(total.ciphertext, window.ciphertext) if total.ciphertext else window.ciphertext
    return Sum(
        total.keys,
        total.layout,
        min(total.begun, window.start) if total.windows else window.start,
        max(total.ended, window.start + seconds),
        total.windows + 1,
        ciphertext,
        _recent({**total.pods, pod: window.start}),
        total.closed,
    )


def emptied(total: Sum, layout: Digest) -> Sum:
    """The sum of the next period: nothing in it yet, and no window of the last one may come again, or late."""
    return Sum(total.keys, layout, pods=total.pods, closed=max(total.closed, total.ended))


def sealed(
    total: Sum,
    layout: bytes,
    key: Ed25519PrivateKey,
    *,
    model: str,
    policy: str,
    minimum: int,
    max_difference: float | None = None,
    minimum_group_size: int = 1,
) -> bytes:
    """The aggregate as it is given out, signed by the controller.

    Args:
        total: with at least one window.
        layout: what the cells mean, as `Layout.encode` writes it.
        key: the one that signs configurations.
        model: namespace/name.
        policy: kind and name of the policy that asks.
        minimum: counts below it are not to be shown.
        max_difference: by how much the rates of groups may differ; None: groups are not compared.
        minimum_group_size: of how many rows a group must be to be compared.
    """
    header = Aggregate(
        keys=total.keys,
        layout=total.layout,
        model=model,
        policy=policy,
        begun=total.begun,
        ended=total.ended,
        windows=total.windows,
        pods=total.contributed,
        minimum=minimum,
        sizes=(),
        max_difference=max_difference,
        minimum_group_size=minimum_group_size,
    )
    return envelope.sealed(header, [layout, total.ciphertext], key)


def _recent(pods: Mapping[str, int]) -> dict[str, int]:
    """The pods that were added last: windows of the others are too old to be added again."""
    latest = sorted(pods.items(), key=lambda one: (one[1], one[0]))[-MAX_PODS:]
    return dict(latest)
