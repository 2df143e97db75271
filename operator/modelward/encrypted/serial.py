"""Reads SEAL's own serialisation without SEAL: whatever comes from outside is looked at here first, byte by byte.

SEAL 4.1 trusts much of what it loads, and fixed deserialisation faults after the version that Pyfhel carries. Here
only one shape of each object passes: uncompressed, of the pinned parameters, of exactly the size that follows from
them, every coefficient below its prime. So SEAL is never shown a length, a flag or a number that it did not itself
write for these parameters. The layout is that of SEAL 4.1's `save` methods (serialization.h, ciphertext.cpp,
kswitchkeys.cpp), little-endian.
"""

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np

from modelward.encrypted.parameters import EncryptedError, Parameters, parms_id

_MAGIC: Final = b"\x5e\xa1\x10\x04\x01\x00\x00\x00"  # magic, size of the header, version 4.1, not compressed
_HEADER: Final = struct.Struct("<8sQ")
_CIPHERTEXT: Final = struct.Struct("<32s?QQQdQ")
_ARRAY: Final = struct.Struct("<Q")
_KEYS: Final = struct.Struct("<32sQ")
_OWN = _HEADER.size + _CIPHERTEXT.size + _HEADER.size + _ARRAY.size  # a ciphertext without its coefficients


@dataclass(frozen=True, slots=True)
class Ring:
    """Parameters with the primes that SEAL chose for them: all that a ciphertext or a key must agree with."""

    parameters: Parameters
    primes: tuple[int, ...]
    plain_modulus: int = 0

    @property
    def top(self) -> int:
        """Primes of a fresh ciphertext: all but the keys' own."""
        return len(self.primes) - 1

    def _id(self, level: int) -> bytes:
        return parms_id(
            self.parameters.scheme, self.parameters.poly_modulus_degree, self.primes[:level], self.plain_modulus
        )

    def ciphertext_size(self, primes: int) -> int:
        """Bytes of a ciphertext of two polynomials that has `primes` primes left."""
        return _OWN + 2 * primes * self.parameters.poly_modulus_degree * 8

    def check_ciphertext(self, content: bytes, primes: int, scale: float = 1.0) -> None:
        """Refuse anything but a ciphertext of two polynomials at this level and, in CKKS, of this very scale.

        Raises:
            EncryptedError: it is another thing.
        """
        self._check_pair(content, primes, scale, "ciphertext")

    def add(self, left: bytes, right: bytes) -> bytes:
        """The sum of two ciphertexts of one level, both of which have passed `check_ciphertext`."""
        degree = self.parameters.poly_modulus_degree
        modulus = np.array(self.primes[: (len(left) - _OWN) // (16 * degree)], dtype=np.uint64)[None, :, None]
        shape = (2, modulus.size, degree)
        total = np.frombuffer(left, "<u8", offset=_OWN).reshape(shape) + np.frombuffer(
            right, "<u8", offset=_OWN
        ).reshape(shape)
        total -= modulus * (total >= modulus)  # primes have 61 bits at most: no sum overflows
        coefficients: bytes = total.astype("<u8").tobytes()
        return left[:_OWN] + coefficients

    def check_public_key(self, content: bytes) -> None:
        """Refuse anything but a public key. Raises EncryptedError."""
        self._check_pair(content, len(self.primes), 1.0, "public key")

    def check_relin_keys(self, content: bytes) -> None:
        """Refuse anything but the keys that bring a square back to two polynomials. Raises EncryptedError."""
        if self._check_switch_keys(content, "relinearisation keys") != [0]:
            raise EncryptedError("the relinearisation keys are not those for squares")

    def check_rotation_keys(self, content: bytes) -> frozenset[int]:
        """The Galois elements that these rotation keys are for. Raises EncryptedError."""
        return frozenset(2 * place + 1 for place in self._check_switch_keys(content, "rotation keys"))

    def galois_element(self, step: int) -> int:
        """What a rotation to the left by `step` slots is among the Galois elements: 3^step mod 2n."""
        return pow(3, step, 2 * self.parameters.poly_modulus_degree)

    def _check_pair(self, content: bytes, primes: int, scale: float, what: str) -> None:
        parameters = self.parameters
        degree = parameters.poly_modulus_degree
        expected = self.ciphertext_size(primes)
        if len(content) != expected:
            raise EncryptedError(
                f"the {what} has {len(content):,} bytes; with these parameters it has {expected:,}, uncompressed"
            )
        key = primes == len(self.primes)
        in_ntt = parameters.scheme == "CKKS" or key
        lead = (
            _HEADER.pack(_MAGIC, expected)
            + _CIPHERTEXT.pack(self._id(primes), in_ntt, 2, degree, primes, scale, 1)
            + _HEADER.pack(_MAGIC, expected - _HEADER.size - _CIPHERTEXT.size)
            + _ARRAY.pack(2 * primes * degree)
        )
        if not content.startswith(lead):
            raise EncryptedError(f"the {what} is not one of these parameters, level and scale, or is damaged")
        limits = np.array(self.primes[:primes], dtype=np.uint64)
        coefficients = np.frombuffer(content, dtype="<u8", offset=_OWN).reshape(2, primes, degree)
        if (coefficients.max(axis=2) >= limits).any():
            raise EncryptedError(f"the {what} has a coefficient that its modulus does not allow: it is damaged")
        if not coefficients[1].any():  # SEAL: «transparent»; it would end what computes with it
            raise EncryptedError(f"the {what} hides nothing: its second polynomial is zero")

    def _check_switch_keys(self, content: bytes, what: str) -> list[int]:
        """The places that hold a key, each of one pair of polynomials for every prime but the keys' own."""
        start = _HEADER.size + _KEYS.size
        number = _ARRAY.unpack_from(content, start - _ARRAY.size)[0] if len(content) >= start else 0
        lead = _HEADER.pack(_MAGIC, len(content)) + _KEYS.pack(self._id(len(self.primes)), number)
        if number not in (1, self.parameters.poly_modulus_degree) or not content.startswith(lead):
            raise EncryptedError(f"the {what} are not of these parameters, or are damaged")
        size = self.ciphertext_size(len(self.primes))
        places = []
        for place in range(number):
            if len(content) < start + _ARRAY.size:
                raise EncryptedError(f"the {what} are cut short")
            (pairs,) = _ARRAY.unpack_from(content, start)
            start += _ARRAY.size
            if pairs == 0:
                continue
            if pairs != self.top or len(content) < start + pairs * size:
                raise EncryptedError(f"the {what} are cut short, or not of these parameters")
            for _ in range(pairs):
                self._check_pair(content[start : start + size], len(self.primes), 1.0, what)
                start += size
            places.append(place)
        if start != len(content):
            raise EncryptedError(f"the {what} have {len(content) - start} bytes behind their end")
        return places
