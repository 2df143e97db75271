"""The primes of BFV. Pyfhel takes SEAL's own choice for a degree there, whatever it is told: they are chosen here.

Each is 1 modulo twice the degree, so that SEAL can transform and batch by it (SEAL: CoeffModulus::Create).
"""

from collections.abc import Iterator, Sequence
from functools import cache

from modelward.encrypted.parameters import EncryptedError

PLAIN_BITS = 40
# Deciding witnesses for every number below 3.3e24 (Sorenson and Webster, 2015).
_WITNESSES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41)


@cache
def plain_modulus(degree: int) -> int:
    """What whole numbers are counted by: the largest prime of 40 bits that the degree can batch by.

    Numbers from -(t // 2) to t // 2 are told apart.
    """
    return next(_of_bits(degree, PLAIN_BITS))


@cache
def coefficient_primes(degree: int, bits: Sequence[int]) -> tuple[int, ...]:
    """A prime for each of `bits` (a tuple), all different, and none the plain modulus.

    Raises:
        EncryptedError: there are not so many of that size for the degree.
    """
    found: list[int] = []
    for size in bits:
        taken = {*found, plain_modulus(degree)}
        prime = next((one for one in _of_bits(degree, size) if one not in taken), None)
        if prime is None:
            raise EncryptedError(f"these parameters cannot be used: degree {degree} has too few primes of {size} bits")
        found.append(prime)
    return tuple(found)


def _of_bits(degree: int, bits: int) -> Iterator[int]:
    """Primes that are 1 modulo 2 `degree`, of so many bits, from the largest down."""
    step = 2 * degree
    for candidate in range(((1 << bits) - 2) // step * step + 1, 1 << (bits - 1), -step):
        if _is_prime(candidate):
            yield candidate


def _is_prime(number: int) -> bool:
    """Miller and Rabin's test, for numbers of at most 64 bits."""
    for witness in _WITNESSES:
        if number % witness == 0:
            return number == witness
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    return all(_passes(number, witness, odd, twos) for witness in _WITNESSES)


def _passes(number: int, witness: int, odd: int, twos: int) -> bool:
    power = pow(witness, odd, number)
    if power in (1, number - 1):
        return True
    for _ in range(twos - 1):
        power = power * power % number
        if power == number - 1:
            return True
    return False
