"""What a process that encrypts is given, and what it gives back, both as JSON: no numpy here, nor Pyfhel."""

import msgspec


class Job(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Counters, and the files of keys to encrypt them to."""

    counts: list[int]
    keys: list[bytes]


class Done(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A ciphertext for each of the keys, or why there are none."""

    ciphertexts: list[bytes] = []
    why: str = ""
