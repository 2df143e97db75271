"""What an auditor says of an aggregate to whoever runs the model: whether groups were treated unequally, and no figure.

Signed by the key that vouches for the auditor's own keys, whose digest a policy pins: it may go by any hand. Layout:
base64 of JSON and 64 bytes of signature (Ed25519, RFC 8032).
"""

import base64
import binascii
from typing import Annotated, Final, Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Meta

from modelward.audit.told import Digest
from modelward.encrypted import envelope
from modelward.encrypted.envelope import Keys, Name
from modelward.encrypted.parameters import EncryptedError

MAX_TEXT: Final = 8192
MAX_FIELDS: Final = 16
_SIGNATURE_BYTES: Final = 64
Moment = Annotated[int, Meta(ge=0, le=253_402_300_799)]  # the calendar's last second
_CONTEXT: Final = b"modelward auditor's word: "


class Word(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """What the holder of `keys` read in an `aggregate` (digests) of `model` from `begun` to `ended` (seconds, epoch).

    `status` is that of the condition Fair, `reason` its reason; `fields` are those by which groups are too far apart.
    It is by `max_difference`, and of the groups and answers that `compared` names (see `layout.compared`). `controller`
    is the key (hex) that signed the aggregate, as the auditor's ledger pins it: in another cluster the same auditor may
    have aggregates of another model of this name.
    """

    keys: Digest
    aggregate: Digest
    model: Name
    controller: Digest
    begun: Moment
    ended: Moment
    status: Literal["True", "False", "Unknown"]
    reason: Literal["WithinLimit", "DifferenceTooLarge", "TooFewRows", "NothingToCompare"]
    max_difference: Annotated[float, Meta(ge=0, le=1)]
    compared: Digest
    fields: Annotated[tuple[Name, ...], Meta(max_length=MAX_FIELDS)] = ()


def spoken(word: Word, signing: bytes) -> str:
    """Write a word down, signed by an auditor's `signing` key (32 bytes)."""
    content = msgspec.json.encode(word)
    signature = Ed25519PrivateKey.from_private_bytes(signing).sign(_CONTEXT + content)
    return base64.b64encode(content + signature).decode()


def heard(text: str, keys: bytes, model: str, controller: str) -> Word:
    """Read a word, once it is known that the holder of `keys` (a file of public keys) said it of this model.

    Args:
        text: as `spoken` writes it.
        keys: the auditor's.
        model: namespace/name.
        controller: the key (hex) that signs aggregates here.

    Raises:
        EncryptedError: another said it, of another model or another cluster's, or it is none.
    """
    header, _ = envelope.opened(keys, Keys)
    try:
        if len(text) > MAX_TEXT:
            raise EncryptedError(f"{len(text):,} characters are no auditor's word (at most {MAX_TEXT:,})")
        content = base64.b64decode(text, validate=True)
        signed, signature = content[:-_SIGNATURE_BYTES], content[-_SIGNATURE_BYTES:]
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(header.signer)).verify(signature, _CONTEXT + signed)
        word = msgspec.json.decode(signed, type=Word)
    except (InvalidSignature, binascii.Error, ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise EncryptedError("it is no word of this auditor's, or was changed on the way") from error
    if word.keys != envelope.digest(keys):
        raise EncryptedError("it is of other keys")
    if word.model != model:
        raise EncryptedError(f"it is of {word.model}")
    if word.controller != controller:
        raise EncryptedError("it is of an aggregate that another controller gave out")
    if word.begun > word.ended:
        raise EncryptedError("it is of no time")
    return word
