"""Every trap of Pyfhel's and SEAL's that is known, and that it is closed."""

import numpy as np
import pytest

from modelward.encrypted.context import Context, Decryptor, Encryptor, Evaluator, generate
from modelward.encrypted.parameters import EncryptedError, Parameters

pytest.importorskip("Pyfhel")
PARAMETERS = Parameters()
DEEP = Parameters(poly_modulus_degree=8192, coeff_modulus_bits=(50, 35, 35, 35, 50), scale_bits=35)


@pytest.fixture(scope="module")
def keys() -> dict[str, bytes]:
    return generate(PARAMETERS, [1, 2, 4], squares=True)


@pytest.fixture(scope="module")
def encryptor(keys: dict[str, bytes]) -> Encryptor:
    return Encryptor(PARAMETERS, keys["public"])


@pytest.fixture(scope="module")
def evaluator(keys: dict[str, bytes]) -> Evaluator:
    return Evaluator(PARAMETERS, rotation_keys=keys["rotation"], relin_keys=keys["relin"])


@pytest.fixture(scope="module")
def decryptor(keys: dict[str, bytes]) -> Decryptor:
    return Decryptor(PARAMETERS, keys["secret"], keys["public"])


def test_decrypting_without_a_secret_key_is_an_error_and_no_crash(keys: dict[str, bytes]) -> None:
    for broken in (b"", keys["secret"][:100], keys["public"]):
        with pytest.raises(EncryptedError, match="secret key"):
            Decryptor(PARAMETERS, broken, keys["public"])


def test_a_missing_rotation_key_is_an_error_and_not_made_anew(
    evaluator: Evaluator, encryptor: Encryptor, keys: dict[str, bytes]
) -> None:
    ciphertext = evaluator.load(encryptor.encrypt(np.ones(16)))
    with pytest.raises(EncryptedError, match="do not reach over 16 slots"):
        evaluator.sum_slots(ciphertext, 16)
    without = Evaluator(PARAMETERS)
    with pytest.raises(EncryptedError, match="do not reach"):
        without.sum_slots(without.load(encryptor.encrypt(np.ones(2))), 2)


def test_a_missing_relinearisation_key_is_an_error_and_not_made_anew(encryptor: Encryptor) -> None:
    without = Evaluator(PARAMETERS)
    ciphertext = without.load(encryptor.encrypt(np.ones(2)))
    with pytest.raises(EncryptedError, match="relinearisation"):
        without.square(ciphertext)
    with pytest.raises(EncryptedError, match="relinearisation"):
        without.multiply(ciphertext, ciphertext)


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        (Parameters(poly_modulus_degree=4096), "add up to 160"),
        (Parameters(poly_modulus_degree=6000), "no power of two"),
        (Parameters(coeff_modulus_bits=(60,)), "two primes"),
        (Parameters(coeff_modulus_bits=(60, 40, 40)), "must be the largest"),
        (Parameters(scale_bits=60), "no room"),
    ],
)
def test_parameters_that_cannot_be_used_are_named(parameters: Parameters, told: str) -> None:
    with pytest.raises(EncryptedError, match=told):
        Context(parameters)


def test_what_the_context_itself_refuses_is_raised_and_not_returned() -> None:
    # There are not so many primes of 20 bits for a ring of that size.
    with pytest.raises(EncryptedError, match="cannot be used"):
        Context(Parameters(poly_modulus_degree=32768, coeff_modulus_bits=(20,) * 16, scale_bits=10))


def test_192_bits_of_security_are_not_128(keys: dict[str, bytes]) -> None:
    with pytest.raises(EncryptedError, match="192 bits of security they may be 152"):
        Context(PARAMETERS, 192)
    assert PARAMETERS.security_bits == 128
    assert Parameters(coeff_modulus_bits=(50, 40, 60)).security_bits == 192


def test_the_sum_of_slots_is_in_every_slot(encryptor: Encryptor, evaluator: Evaluator, decryptor: Decryptor) -> None:
    repeated = np.tile([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], PARAMETERS.slots // 8)
    total = evaluator.sum_slots(evaluator.load(encryptor.encrypt(repeated)), 8)
    values = decryptor.decrypt(evaluator.store(total), total.primes, total.scale)
    assert np.abs(values - 36).max() < 1e-5


def test_products_are_rescaled(encryptor: Encryptor, evaluator: Evaluator, decryptor: Decryptor) -> None:
    product = evaluator.times(evaluator.load(encryptor.encrypt(np.full(4, 3.0))), np.full(4, 2.0), 2.0**40)
    assert product.scale == 2.0**80
    lower = evaluator.rescale(product)
    assert lower.primes == 1
    assert abs(np.log2(lower.scale) - 40) < 0.01
    assert np.allclose(decryptor.decrypt(evaluator.store(lower), 1, lower.scale)[:4], 6, atol=1e-6)
    with pytest.raises(EncryptedError, match="no depth left"):
        evaluator.rescale(lower)


def test_strided_and_other_arrays_are_encrypted_as_they_read(encryptor: Encryptor, decryptor: Decryptor) -> None:
    table = np.arange(64.0).reshape(8, 8)
    for values in (table[:, 3], table[::-2, 1], np.asfortranarray(table)[2], np.arange(8, dtype=np.float32)):
        read = decryptor.decrypt(encryptor.encrypt(values), 2, 2.0**40)[: len(values)]
        assert np.allclose(read, values, atol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_not_encrypted_as_one(encryptor: Encryptor, value: float) -> None:
    with pytest.raises(EncryptedError, match="finite"):
        encryptor.encrypt(np.array([1.0, value]))


def test_a_number_too_large_for_the_modulus_is_refused(encryptor: Encryptor) -> None:
    with pytest.raises(EncryptedError, match="too large"):
        encryptor.encrypt(np.array([2.0**70]))


def test_too_many_numbers_are_refused(encryptor: Encryptor) -> None:
    for values in (np.ones(4097), np.ones(0), np.ones((2, 2))):
        with pytest.raises(EncryptedError, match="slots"):
            encryptor.encrypt(values)


def test_weights_of_zero_are_an_error_with_a_name(encryptor: Encryptor, evaluator: Evaluator) -> None:
    ciphertext = evaluator.load(encryptor.encrypt(np.ones(2)))
    for weights in (np.zeros(2), np.full(2, 1e-30)):
        with pytest.raises(EncryptedError, match="all weights are zero"):
            evaluator.times(ciphertext, weights, 2.0**40)


def test_squares_and_lower_levels(encryptor: Encryptor) -> None:
    keys = generate(DEEP, [], squares=True)
    encryptor = Encryptor(DEEP, keys["public"])
    evaluator = Evaluator(DEEP, relin_keys=keys["relin"])
    decryptor = Decryptor(DEEP, keys["secret"], keys["public"])
    values = np.array([-3.0, 0.5, 4.0])
    ciphertext = evaluator.load(encryptor.encrypt(values))
    cube = evaluator.multiply(evaluator.square(ciphertext), evaluator.lower(ciphertext))
    assert cube.primes == 2
    assert np.allclose(decryptor.decrypt(evaluator.store(cube), 2, cube.scale)[:3], values**3, atol=1e-3)
    assert np.allclose(
        decryptor.decrypt(evaluator.store(evaluator.plus(cube, np.ones(3))), 2, cube.scale)[:3],
        values**3 + 1,
        atol=1e-3,
    )
    with pytest.raises(EncryptedError, match="different levels"):
        evaluator.multiply(cube, ciphertext)
    with pytest.raises(EncryptedError, match="different levels"):
        evaluator.add(cube, ciphertext)


def test_whole_numbers_are_added_exactly() -> None:
    parameters = Parameters(scheme="BFV", poly_modulus_degree=4096, coeff_modulus_bits=(36, 36, 37))
    keys = generate(parameters, [], squares=False)
    encryptor, evaluator = Encryptor(parameters, keys["public"]), Evaluator(parameters)
    counts = np.array([0, 1, 2**38, -7])
    total = evaluator.load(encryptor.encrypt_integers(counts))
    for _ in range(9):
        total = evaluator.add(total, evaluator.load(encryptor.encrypt_integers(np.array([1, 0, 0, 1]))))
    read = Decryptor(parameters, keys["secret"], keys["public"]).decrypt_integers(evaluator.store(total), total.primes)
    assert list(read[:4]) == [9, 1, 2**38, 2]
    with pytest.raises(EncryptedError, match="larger than"):
        encryptor.encrypt_integers(np.array([2**39 + 1]))
    with pytest.raises(EncryptedError, match="larger than"):  # of which the magnitude is no number of 64 bits
        encryptor.encrypt_integers(np.array([-(2**63)]))


COUNTS = Parameters(scheme="BFV", poly_modulus_degree=4096, coeff_modulus_bits=(36, 36, 37))


@pytest.fixture(scope="module")
def counted() -> dict[str, bytes]:
    return generate(COUNTS, [1, 2], squares=False)


def test_bfv_without_a_secret_key_is_an_error_and_no_crash(counted: dict[str, bytes]) -> None:
    for broken in (b"", counted["secret"][:100], counted["public"]):
        with pytest.raises(EncryptedError, match="secret key"):
            Decryptor(COUNTS, broken, counted["public"])


def test_bfv_missing_rotation_keys_are_an_error_and_not_made_anew(counted: dict[str, bytes]) -> None:
    ciphertext = Encryptor(COUNTS, counted["public"]).encrypt_integers(np.ones(8, dtype=np.int64))
    evaluator = Evaluator(COUNTS, rotation_keys=counted["rotation"])
    evaluator.sum_slots(evaluator.load(ciphertext), 4)
    with pytest.raises(EncryptedError, match="do not reach over 8 slots"):
        evaluator.sum_slots(evaluator.load(ciphertext), 8)


def test_bfv_strided_and_other_arrays_are_encrypted_as_they_read(counted: dict[str, bytes]) -> None:
    encryptor, decryptor = (
        Encryptor(COUNTS, counted["public"]),
        Decryptor(COUNTS, counted["secret"], counted["public"]),
    )
    table = np.arange(64).reshape(8, 8)
    for values in (table[:, 3], table[::-2, 1], np.asfortranarray(table)[2], np.arange(8, dtype=np.uint8)):
        assert list(decryptor.decrypt_integers(encryptor.encrypt_integers(values), 2)[: len(values)]) == list(values)


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf])
def test_bfv_what_is_no_whole_number_is_not_encrypted_as_one(counted: dict[str, bytes], value: float) -> None:
    with pytest.raises(EncryptedError, match="whole numbers"):
        Encryptor(COUNTS, counted["public"]).encrypt_integers(np.array([1.0, value]))


def test_bfv_a_column_of_zeros_is_a_secret_like_any_other(counted: dict[str, bytes]) -> None:
    evaluator = Evaluator(COUNTS, rotation_keys=counted["rotation"])
    zeros = Encryptor(COUNTS, counted["public"]).encrypt_integers(np.zeros(4, dtype=np.int64))
    total = evaluator.sum_slots(evaluator.load(zeros), 4)
    read = Decryptor(COUNTS, counted["secret"], counted["public"]).decrypt_integers(evaluator.store(total), 2)
    assert not read.any()


def test_bfv_ciphertexts_of_other_parameters_are_refused(counted: dict[str, bytes]) -> None:
    evaluator = Evaluator(COUNTS)
    good = Encryptor(COUNTS, counted["public"]).encrypt_integers(np.ones(4, dtype=np.int64))
    other = Parameters(scheme="BFV", poly_modulus_degree=4096, coeff_modulus_bits=(35, 36, 38))
    keys = generate(other, [1, 2], squares=False)
    foreign = Encryptor(other, keys["public"]).encrypt_integers(np.ones(4, dtype=np.int64))
    for content in (foreign, good[:-8], good + bytes(8), bytes(len(good))):
        with pytest.raises(EncryptedError):
            evaluator.load(content)
    with pytest.raises(EncryptedError, match="not of these parameters"):
        Evaluator(COUNTS, rotation_keys=keys["rotation"])
    approximate = Parameters(poly_modulus_degree=4096, coeff_modulus_bits=(36, 36, 37), scale_bits=20)
    with pytest.raises(EncryptedError, match="not one of these parameters"):
        evaluator.load(Encryptor(approximate, generate(approximate, [], squares=False)["public"]).encrypt(np.ones(2)))
    for place in range(8 * (len(good) - 4 * 4096 * 8)):  # no bit of the lead may differ
        changed = bytearray(good)
        changed[place // 8] ^= 1 << place % 8
        with pytest.raises(EncryptedError):
            evaluator.load(bytes(changed))


def test_bfv_parameters_that_cannot_be_are_an_error_with_a_name() -> None:
    """SEAL takes such a modulus, and encrypts with the keys' prime in use, since no level is left without it."""
    with pytest.raises(EncryptedError, match="more than the 40 of whole numbers"):
        Context(Parameters(scheme="BFV", poly_modulus_degree=4096, coeff_modulus_bits=(30, 40)))
