"""Means, sums and exact counts of encrypted columns: the server's half, which only adds and turns.

A ciphertext holds one column, filled up with zeros to a power of two and again and again over all slots, so that sums
by rotation leave the column's in every slot: no weights, no multiplication, no depth. The client divides by the rows,
as it applies the link of a score, exactly; under CKKS it reads the mean of all slots, which has far less noise than the
first (SEAL's key switching leaves most of its own there). Under BFV a rotation turns each half of the slots in itself:
a column that is longer than one lies in both, and its sum is that of two.
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from modelward.encrypted.context import Array, Ciphertext, Decryptor, Evaluator, Integers
from modelward.encrypted.envelope import Answer, Level, Request, Statistic
from modelward.encrypted.parameters import EncryptedError, Parameters
from modelward.encrypted.primes import PLAIN_BITS, plain_modulus
from modelward.encrypted.score import width_of

_DEVIATIONS: Final = 6
_NOISE: Final = 3.2  # standard deviation of a coefficient's fresh noise (Homomorphic Encryption Standard, 2018)


def check_parameters(parameters: Parameters) -> None:
    """Refuse parameters under which a column of all slots could not be summed.

    Under BFV a sum is exact while the noise stays below the coefficient modulus over twice the plain one; the sum of
    all slots may be as noisy as they are many.

    Raises:
        EncryptedError: there is no room for the numbers beside the noise.
    """
    if parameters.scheme == "CKKS":
        return
    degree = parameters.poly_modulus_degree
    noise = math.log2(_DEVIATIONS * _NOISE * math.sqrt(4 * degree / 3)) + math.log2(parameters.turned) + 2
    needed = math.ceil(PLAIN_BITS + 1 + noise)
    there = sum(parameters.coeff_modulus_bits[:-1])
    if there < needed:
        raise EncryptedError(
            f"exact counts at polyModulusDegree {degree} need {needed} bits in coeffModulusBits without the last, these"
            f" are {there}: take [36, 36, 37] at 4096, or [60, 40, 60] at 8192"
        )


def check(parameters: Parameters, statistic: Statistic, rows: int, bound_bits: int) -> None:
    """Refuse what these parameters cannot tell: for client and server alike.

    Raises:
        EncryptedError: says what does not fit.
    """
    check_parameters(parameters)
    if rows > parameters.slots:
        raise EncryptedError(f"{rows} rows; {parameters.slots} fit one request: split them")
    if statistic == "count":
        if parameters.scheme != "BFV":
            raise EncryptedError("counts are exact, and CKKS is not: make keys with --scheme BFV")
        if bound_bits:
            raise EncryptedError("counts are of columns that hold 0 and 1 alone: boundBits must be 0")
    if parameters.scheme == "BFV":
        most = plain_modulus(parameters.poly_modulus_degree) // 2
        if rows << bound_bits > most:
            raise EncryptedError(
                f"sums of {rows} rows may be as large as {rows << bound_bits:,}, and whole numbers are told apart up to"
                f" {most:,}: state a smaller --bound-bits, or send fewer rows"
            )
    elif _bits(parameters, rows, bound_bits) > sum(parameters.coeff_modulus_bits[:-1]) - 1:
        raise EncryptedError(
            f"sums of {rows} numbers of up to 2^{bound_bits} have no room in coeffModulusBits at scaleBits"
            f" {parameters.scale_bits}: standardise the columns, state a smaller --bound-bits, or send fewer rows"
        )


def check_request(request: Request, parts: Sequence[bytes], statistic: Statistic) -> None:
    """Refuse a request that cannot be answered, before any ciphertext is looked at. Raises EncryptedError."""
    if request.layout != "columns":
        raise EncryptedError("means, sums and counts are of columns: encrypt with --layout columns")
    if len(parts) != len(request.columns):
        raise EncryptedError(f"{len(parts)} ciphertexts for {len(request.columns)} columns: one each is needed")
    check(request.parameters, statistic, request.rows, request.bound_bits)


def summed(
    evaluator: Evaluator, request: Request, parts: Sequence[bytes], statistic: Statistic
) -> tuple[list[bytes], Level, float]:
    """The encrypted sums of a request that `check_request` let pass, their level, and the error of what they tell.

    Raises:
        EncryptedError: a ciphertext or a key is not what it must be.
    """
    parameters = request.parameters
    width = _width(parameters, request.rows)
    sums = []
    for part in parts:
        column = evaluator.load(part)
        if parameters.scheme == "CKKS":
            column = _lowered(evaluator, column, _bits(parameters, request.rows, request.bound_bits))
        sums.append(evaluator.sum_slots(column, width))
    error = _error(parameters, width, request.bound_bits)
    if statistic == "mean":
        error /= request.rows
    return [evaluator.store(one) for one in sums], Level(sums[0].primes, sums[0].scale), error


def read(decryptor: Decryptor, answer: Answer, parts: Sequence[bytes]) -> Array:
    """The statistic of each column (columns).

    Raises:
        EncryptedError: a ciphertext is damaged, or a count is beyond what can be counted.
    """
    if len(parts) != len(answer.columns):
        raise EncryptedError(f"the answer has {len(parts)} ciphertexts, {len(answer.columns)} belong to it")
    level = answer.level
    if answer.parameters.scheme == "CKKS":
        sums = np.array([decryptor.decrypt(part, level.primes, level.scale).mean() for part in parts])
    else:
        sums = np.array([_whole(decryptor.decrypt_integers(part, level.primes), answer) for part in parts], np.float64)
    return sums / answer.rows if answer.statistic == "mean" else sums


def _whole(slots: Integers, answer: Answer) -> int:
    """The sum that all slots tell alike."""
    halves = slots.reshape(2, -1)
    if (halves != halves[:, :1]).any():
        raise EncryptedError("the slots of a sum differ: the request was not made by this client")
    total = int(halves[0, 0]) if answer.rows <= answer.parameters.turned else int(halves[:, 0].sum())
    if answer.statistic == "count" and not 0 <= total <= answer.rows:
        raise EncryptedError(f"a count is not from 0 to {answer.rows}: the columns did not hold 0 and 1 alone")
    return total


def repeated(column: Array, parameters: Parameters) -> Array:
    """A column (rows), filled up with zeros to a power of two and again and again over all slots."""
    width = _width(parameters, len(column))
    padded = np.pad(column, (0, -len(column) % width))
    return np.tile(padded, parameters.slots // len(padded))


def needed_reach(parameters: Parameters, rows: int) -> int:
    """The slots that rotation keys must reach over for columns of so many rows."""
    return _width(parameters, min(rows, parameters.slots)) if rows else 1


def _width(parameters: Parameters, rows: int) -> int:
    return width_of(min(rows, parameters.turned))


def _bits(parameters: Parameters, rows: int, bound_bits: int) -> float:
    """Bits that the sum of a column may have at its scale (CKKS)."""
    return bound_bits + math.log2(rows) + parameters.scale_bits + 1


def _lowered(evaluator: Evaluator, column: Ciphertext, bits: float) -> Ciphertext:
    """With as few primes as the sum has room in: rotations cost less there, and the answer is smaller."""
    while column.primes > 1 and math.log2(math.prod(evaluator.ring.primes[: column.primes - 1])) - 1 > bits:
        column = evaluator.lower(column)
    return column


def _error(parameters: Parameters, width: int, bound_bits: int) -> float:
    """An upper estimate of a sum's error (CKKS): six standard deviations; 0 under BFV, which is exact.

    The mean of all slots holds the noise of a polynomial's constant coefficient, which rotations leave where it is, so
    that it is added up `width` times: that of a fresh encryption, 3.2 sqrt(1 + 4n/3), of switching keys, whose digits
    SEAL takes from 0 to the prime, 3.2 sqrt(n primes / 3), and of lowering them, sqrt((1 + 2n/3) / 12); and what
    doubles lose of numbers of that size.
    """
    if parameters.scheme != "CKKS":
        return 0.0
    degree, primes = parameters.poly_modulus_degree, len(parameters.coeff_modulus_bits) - 1
    noise = math.hypot(
        _NOISE * math.sqrt(1 + 4 * degree / 3),
        _NOISE * math.sqrt(degree * primes / 3),
        math.sqrt((1 + 2 * degree / 3) / 12),
    )
    return _DEVIATIONS * width * math.hypot(noise / 2.0**parameters.scale_bits, 2.0 ** (bound_bits - 52))
