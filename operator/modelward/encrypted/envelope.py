"""The files and tensors of the homomorphic path: a header in JSON, ciphertexts or keys, and who vouches for them.

A client signs its keys and its requests (Ed25519), so that a request with another's keys, or one that was changed, is
refused. An answer carries a MAC (HMAC-SHA-256) under a key that only this request named, so that what a client decrypts
was computed for what it asked. Layout: `MWHE`, version, length of the header (u32), header, the parts one after the
other, 64 bytes of signature or 32 of MAC over all that stands before.
"""

import hashlib
import hmac
import struct
from collections.abc import Sequence
from typing import Annotated, Final, Literal, TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Meta

from modelward.encrypted.parameters import EncryptedError, Parameters

_LEAD: Final = struct.Struct("<4sBI")
_MAGIC: Final = b"MWHE"
_VERSION: Final = 1
_SIGNATURE_BYTES: Final = 64
_MAC_BYTES: Final = 32
_MAX_HEADER: Final = 64 << 10
MAX_PARTS: Final = 512
MAX_BYTES: Final = 256 << 20

Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Nonce = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
Sizes = Annotated[tuple[Annotated[int, Meta(ge=1, le=MAX_BYTES)], ...], Meta(max_length=MAX_PARTS)]
Name = Annotated[str, Meta(min_length=1, max_length=256)]
Layout = Literal["row", "columns"]
Statistic = Literal["mean", "sum", "count"]
Columns = Annotated[tuple[Name, ...], Meta(max_length=MAX_PARTS)]


class Keys(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", tag_field="kind", tag="keys"):
    """A client's public keys. Parts: the public key, rotation keys and relinearisation keys, as far as they are named.

    `signer` is the raw Ed25519 public key (hex) that vouches for these keys and for every request under them.
    """

    parameters: Parameters
    signer: Digest
    parts: Annotated[tuple[Literal["public", "rotation", "relin"], ...], Meta(min_length=1, max_length=3)]
    sizes: Sizes


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", tag_field="kind", tag="request"):
    """Encrypted rows. `row`: a part a row, its columns again and again over all slots; `columns`: a part a column.

    `keys` is the digest of the client's keys, `bound_bits` says that no number is beyond 2^bound_bits, `answer_key`
    (hex) is for the answer's MAC, `created` is in seconds since the epoch. With a `statistic` that of each column is
    asked for, and no score: a part holds a column again and again.
    """

    parameters: Parameters
    keys: Digest
    model: Name
    layout: Layout
    rows: Annotated[int, Meta(ge=1, le=16384)]
    columns: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=MAX_PARTS)]
    bound_bits: Annotated[int, Meta(ge=0, le=40)]
    nonce: Nonce
    answer_key: Digest
    created: Annotated[int, Meta(ge=0, le=1 << 40)]
    sizes: Sizes
    statistic: Statistic | None = None


class Level(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Of an answer's ciphertexts: primes left, and the scale."""

    primes: Annotated[int, Meta(ge=1, le=16)]
    scale: Annotated[float, Meta(gt=0)]


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", tag_field="kind", tag="answer"):
    """Encrypted scores: for each row (`row`) or once (`columns`), a part for each of the model's `outputs`.

    `link` is still to be applied by the client. `link_error` is the greatest error of a link that the server
    approximated by a polynomial, for scores within `link_range` of zero. `error` is that of the encryption, six
    standard deviations.

    Of a `statistic`: a part for each of the `columns`, its sum in every slot (BFV: that of each half), which the client
    divides by `rows` for a mean; no `weights`; `error` is that of what the client reads.
    """

    parameters: Parameters
    request: Digest
    nonce: Nonce
    model: Name
    weights: Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")]
    layout: Layout
    rows: Annotated[int, Meta(ge=1, le=16384)]
    outputs: Annotated[int, Meta(ge=1, le=MAX_PARTS)]
    level: Level
    link: Literal["identity", "logistic", "softmax"]
    error: Annotated[float, Meta(ge=0)]
    sizes: Sizes
    link_error: Annotated[float, Meta(ge=0)] = 0.0
    link_range: Annotated[float, Meta(ge=0)] = 0.0
    statistic: Statistic | None = None
    columns: Columns = ()


class Aggregate(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", tag_field="kind", tag="aggregate"
):
    """A sum of many sidecars' counters under an auditor's key, signed by the controller. Parts: layout, ciphertext.

    `keys` names the auditor's key, `layout` (a digest) what the cells mean. The sum is of `windows` windows of `pods`
    pods from `begun` to `ended` (seconds since the epoch). Counts below `minimum` are not to be shown.

    Where groups are compared, `max_difference` is by how much rates may differ of groups that have
    `minimum_group_size` rows.
    """

    keys: Digest
    layout: Digest
    model: Name
    policy: Name
    begun: Annotated[int, Meta(ge=0, le=1 << 40)]
    ended: Annotated[int, Meta(ge=0, le=1 << 40)]
    windows: Annotated[int, Meta(ge=1, le=1 << 16)]
    pods: Annotated[int, Meta(ge=1, le=1 << 16)]
    minimum: Annotated[int, Meta(ge=1, le=1_000_000)]
    sizes: Sizes
    max_difference: Annotated[float, Meta(ge=0, le=1)] | None = None
    minimum_group_size: Annotated[int, Meta(ge=1, le=1_000_000)] = 1


_BUNDLE: Final = struct.Struct("<4sBI")
_BUNDLE_MAGIC: Final = b"MWHB"

Header = TypeVar("Header", Keys, Request, Answer, Aggregate)


def digest(envelope: bytes) -> str:
    """Names what was signed in an envelope of keys or a request: SHA-256, 64 hex digits."""
    return hashlib.sha256(memoryview(envelope)[:-_SIGNATURE_BYTES]).hexdigest()


def sealed(
    header: Keys | Request | Answer | Aggregate, parts: Sequence[bytes], key: Ed25519PrivateKey | bytes
) -> bytes:
    """An envelope of `parts`, signed with a private key or with a secret one's MAC; `header.sizes` is filled in."""
    header = msgspec.structs.replace(header, sizes=tuple(map(len, parts)))
    encoded = msgspec.json.encode(header)
    content = b"".join([_LEAD.pack(_MAGIC, _VERSION, len(encoded)), encoded, *parts])
    if isinstance(key, bytes):
        return content + hmac.digest(key, content, "sha256")
    return content + key.sign(_signed(hashlib.sha256(content).hexdigest()))


def opened(envelope: bytes, kind: type[Header]) -> tuple[Header, list[bytes]]:
    """Header and parts of an envelope that nobody has vouched for yet.

    Raises:
        EncryptedError: it is damaged, of another kind or version, or too large.
    """
    what = kind.__struct_config__.tag
    trailer = _MAC_BYTES if kind is Answer else _SIGNATURE_BYTES
    if not _LEAD.size + trailer < len(envelope) <= MAX_BYTES:
        raise EncryptedError(f"{len(envelope):,} bytes cannot be {what} (at most {MAX_BYTES:,})")
    magic, version, length = _LEAD.unpack_from(envelope)
    if magic != _MAGIC:
        raise EncryptedError(f"this is no file of modelward's homomorphic path; {what} was expected")
    if version != _VERSION:
        raise EncryptedError(f"version {version} of the format is not known, {_VERSION} is: make it anew")
    end = len(envelope) - trailer
    if length > min(_MAX_HEADER, end - _LEAD.size):
        raise EncryptedError(f"the header of {what} is cut short or too large")
    start = _LEAD.size + length
    try:
        header = msgspec.json.decode(envelope[_LEAD.size : start], type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise EncryptedError(f"the header of {what} cannot be read: {str(error)[:200]}") from error
    if start + sum(header.sizes) != end:
        raise EncryptedError(f"{what} is cut short, or has bytes too many")
    parts = []
    for size in header.sizes:
        parts.append(envelope[start : start + size])
        start += size
    return header, parts


def check_signature(envelope: bytes, signer: str) -> str:
    """The digest of `envelope`, once it is known that the holder of the private key to `signer` (hex) signed it.

    Raises:
        EncryptedError: another did, or it was changed since.
    """
    name = digest(envelope)
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(signer)).verify(envelope[-_SIGNATURE_BYTES:], _signed(name))
    except (InvalidSignature, ValueError) as error:
        raise EncryptedError("the signature does not fit: changed on the way, or signed by another's key") from error
    return name


def _signed(name: str) -> bytes:
    """What is signed: the digest, which is computed once, and what it is the digest of."""
    return b"modelward homomorphic envelope sha256:" + name.encode()


def check_mac(envelope: bytes, key: bytes) -> None:
    """Raises EncryptedError unless `envelope` was made by one who knew `key`."""
    if not hmac.compare_digest(hmac.digest(key, envelope[:-_MAC_BYTES], "sha256"), envelope[-_MAC_BYTES:]):
        raise EncryptedError("the answer is not one to a request of this client's, or was changed on the way")


def bundled(request: bytes, keys: bytes) -> bytes:
    """A request together with the keys that it needs, as one file."""
    return _BUNDLE.pack(_BUNDLE_MAGIC, _VERSION, len(request)) + request + keys


def unbundled(content: bytes) -> tuple[bytes, bytes]:
    """Request and keys; no keys where the content is a request alone.

    Raises:
        EncryptedError: it is cut short.
    """
    if not content.startswith(_BUNDLE_MAGIC):
        return content, b""
    if len(content) < _BUNDLE.size:
        raise EncryptedError("the request is cut short")
    _, version, length = _BUNDLE.unpack_from(content)
    if version != _VERSION or _BUNDLE.size + length >= len(content):
        raise EncryptedError("the request is cut short, or of a version that is not known")
    return content[_BUNDLE.size : _BUNDLE.size + length], content[_BUNDLE.size + length :]
