"""The parameters of a homomorphic scheme, and what they are worth: security, depth, precision.

Pure: no Pyfhel here, so that admission, planner and client agree without it.
"""

import hashlib
import math
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
from msgspec import Meta

Scheme = Literal["CKKS", "BFV"]
SecurityBits = Literal[128, 192, 256]

# Most bits of the coefficient modulus by ring dimension and security, for ternary secrets against classical attacks
# (Albrecht and others: Homomorphic Encryption Standard, 2018, table 1).
MOST_BITS: Final[dict[int, dict[int, int]]] = {
    128: {1024: 27, 2048: 54, 4096: 109, 8192: 218, 16384: 438, 32768: 881},
    192: {1024: 19, 2048: 37, 4096: 75, 8192: 152, 16384: 305, 32768: 611},
    256: {1024: 14, 2048: 29, 4096: 58, 8192: 118, 16384: 237, 32768: 476},
}
SEAL_SCHEMES: Final[dict[Scheme, int]] = {"BFV": 1, "CKKS": 2}
MAX_PRIMES = 16


class EncryptedError(Exception):
    """Something on the homomorphic path cannot be done or believed; the message says what, why and the fix."""


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """As `spec.encryption.inUse` has them. The last prime is the keys'; a multiplication spends one of the others."""

    scheme: Scheme = "CKKS"
    poly_modulus_degree: Annotated[int, Meta(ge=1024, le=32768)] = 8192
    coeff_modulus_bits: Annotated[tuple[Annotated[int, Meta(ge=20, le=60)], ...], Meta(max_length=MAX_PRIMES)] = (
        60,
        40,
        60,
    )
    scale_bits: Annotated[int, Meta(ge=10, le=60)] = 40

    @property
    def slots(self) -> int:
        """Numbers that one ciphertext holds."""
        return self.poly_modulus_degree // (2 if self.scheme == "CKKS" else 1)

    @property
    def turned(self) -> int:
        """Slots that a rotation turns round: all, or in BFV each half of them."""
        return self.poly_modulus_degree // 2

    @property
    def depth(self) -> int:
        """Multiplications one after the other (CKKS): one prime stays for the result, one is the keys'."""
        return max(len(self.coeff_modulus_bits) - 2, 0)

    @property
    def security_bits(self) -> int:
        """256, 192, 128, or 0 where the modulus is too large for its ring."""
        total = sum(self.coeff_modulus_bits)
        for bits in (256, 192, 128):
            if total <= MOST_BITS[bits].get(self.poly_modulus_degree, 0):
                return bits
        return 0

    def check(self, security_bits: SecurityBits = 128) -> None:
        """Refuse what SEAL would refuse, or take without saying that it is not secure.

        Raises:
            EncryptedError: names the parameter, and what would do.
        """
        degree = self.poly_modulus_degree
        if degree not in MOST_BITS[128]:
            raise EncryptedError(f"polyModulusDegree {degree} is no power of two from 1024 to 32768: take 8192")
        total, most = sum(self.coeff_modulus_bits), MOST_BITS[security_bits][degree]
        if total > most:
            raise EncryptedError(
                f"coeffModulusBits add up to {total}; at polyModulusDegree {degree} and {security_bits} bits of"
                f" security they may be {most} together: take a larger degree or fewer primes"
            )
        if len(self.coeff_modulus_bits) < 2:
            raise EncryptedError("coeffModulusBits needs two primes at least: one for the numbers, one for the keys")
        if self.coeff_modulus_bits[-1] < max(self.coeff_modulus_bits):
            raise EncryptedError("the last of coeffModulusBits is the keys' prime and must be the largest")
        if self.scheme == "CKKS" and self.scale_bits >= self.coeff_modulus_bits[0]:
            raise EncryptedError(
                f"scaleBits {self.scale_bits} leaves no room for a number in the first prime of"
                f" {self.coeff_modulus_bits[0]} bits: it must be smaller, by 15 or more"
            )

    def digest(self) -> str:
        """Names the parameters: 64 hex digits."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()


def parms_id(scheme: Scheme, degree: int, primes: tuple[int, ...], plain_modulus: int = 0) -> bytes:
    """SEAL's 32-byte name for a scheme at one level: BLAKE2b over its numbers (native/src/seal/encryptionparams.h)."""
    numbers = np.array([SEAL_SCHEMES[scheme], degree, *primes, plain_modulus], dtype="<u8")
    return hashlib.blake2b(numbers.tobytes(), digest_size=32).digest()


def score_error(parameters: Parameters, weight_norm: float) -> float:
    """An upper estimate of a linear score's error in any slot: six standard deviations.

    Fresh noise of a public-key encryption is 3.2 sqrt(n) sqrt(1 + 4n/3) in a slot (Cheon and others, 2017, with
    ternary secrets), over the scale, times the weights' Euclidean norm; rounding after the multiplication adds
    sqrt(n (1 + 2n/3) / 12) over the answer's scale.
    """
    degree, scale = parameters.poly_modulus_degree, 2.0**parameters.scale_bits
    fresh = 3.2 * math.sqrt(degree * (1 + 4 * degree / 3)) / scale * weight_norm
    rounding = math.sqrt(degree * (1 + 2 * degree / 3) / 12) / scale
    return 6 * math.hypot(fresh, rounding)
