"""What comes from outside is looked at before SEAL sees it: a byte changed anywhere does not pass as another thing."""

import numpy as np
import pytest

from modelward.encrypted.context import Encryptor, Evaluator, generate
from modelward.encrypted.parameters import EncryptedError, Parameters, parms_id

pytest.importorskip("Pyfhel")
PARAMETERS = Parameters(poly_modulus_degree=4096, coeff_modulus_bits=(40, 29, 40), scale_bits=25)
OTHER = Parameters(poly_modulus_degree=4096, coeff_modulus_bits=(38, 31, 40), scale_bits=25)


@pytest.fixture(scope="module")
def keys() -> dict[str, bytes]:
    return generate(PARAMETERS, [1, 2], squares=True)


@pytest.fixture(scope="module")
def evaluator(keys: dict[str, bytes]) -> Evaluator:
    return Evaluator(PARAMETERS, rotation_keys=keys["rotation"], relin_keys=keys["relin"])


@pytest.fixture(scope="module")
def ciphertext(keys: dict[str, bytes]) -> bytes:
    return Encryptor(PARAMETERS, keys["public"]).encrypt(np.arange(8.0))


def test_the_names_of_parameters_are_seals_own(ciphertext: bytes, keys: dict[str, bytes], evaluator: Evaluator) -> None:
    primes = evaluator.ring.primes
    assert ciphertext[16:48] == parms_id("CKKS", 4096, primes[:2])
    assert keys["public"][16:48] == parms_id("CKKS", 4096, primes)


def test_what_pyfhel_writes_passes(ciphertext: bytes, keys: dict[str, bytes], evaluator: Evaluator) -> None:
    ring = evaluator.ring
    ring.check_ciphertext(ciphertext, 2, 2.0**25)
    ring.check_public_key(keys["public"])
    ring.check_relin_keys(keys["relin"])
    assert ring.check_rotation_keys(keys["rotation"]) >= {ring.galois_element(1), ring.galois_element(2)}


def test_no_bit_of_the_lead_may_differ(ciphertext: bytes, evaluator: Evaluator) -> None:
    lead = len(ciphertext) - 4 * 4096 * 8
    for place in range(8 * lead):
        changed = bytearray(ciphertext)
        changed[place // 8] ^= 1 << place % 8
        with pytest.raises(EncryptedError):
            evaluator.load(bytes(changed))


def test_no_other_length_passes(ciphertext: bytes, evaluator: Evaluator) -> None:
    whole = len(ciphertext)
    for other in [ciphertext[:cut] for cut in (0, 1, 15, 16, 48, 112, 113, whole // 2, whole - 1)]:
        with pytest.raises(EncryptedError):
            evaluator.load(other)
    for other in (ciphertext + b"\0", ciphertext[1:], ciphertext * 100):
        with pytest.raises(EncryptedError):
            evaluator.load(other)


def test_a_coefficient_beyond_its_prime_is_refused(ciphertext: bytes, evaluator: Evaluator) -> None:
    for index in (0, 4096, 2 * 4096, 4 * 4096 - 1):
        changed = bytearray(ciphertext)
        prime = evaluator.ring.primes[index // 4096 % 2]
        at = len(ciphertext) - (4 * 4096 - index) * 8
        changed[at : at + 8] = prime.to_bytes(8, "little")
        with pytest.raises(EncryptedError, match="coefficient"):
            evaluator.load(bytes(changed))
        changed[at : at + 8] = (prime - 1).to_bytes(8, "little")
        evaluator.load(bytes(changed))


def test_other_parameters_level_and_scale_are_refused(evaluator: Evaluator, ciphertext: bytes) -> None:
    other = generate(OTHER, [1], squares=True)
    with pytest.raises(EncryptedError, match="not one of these parameters"):
        evaluator.load(Encryptor(OTHER, other["public"]).encrypt(np.ones(2)))
    with pytest.raises(EncryptedError):
        evaluator.load(ciphertext, 2, 2.0**26)
    with pytest.raises(EncryptedError):
        evaluator.load(ciphertext, 1)
    for name, load in (("rotation", "rotation_keys"), ("relin", "relin_keys")):
        with pytest.raises(EncryptedError, match="not of these parameters"):
            Evaluator(PARAMETERS, **{load: other[name]})
    with pytest.raises(EncryptedError):
        Encryptor(PARAMETERS, other["public"])


def test_keys_that_are_damaged_are_refused(keys: dict[str, bytes], evaluator: Evaluator) -> None:
    ring = evaluator.ring
    for content, check in ((keys["rotation"], ring.check_rotation_keys), (keys["relin"], ring.check_relin_keys)):
        for other in (content[:40], content[:-1], content + b"\0", content[: len(content) // 2]):
            with pytest.raises(EncryptedError):
                check(other)
        for place in range(60):  # the lead: magic, sizes, names
            changed = bytearray(content)
            changed[place] ^= 0x10
            with pytest.raises(EncryptedError):
                check(bytes(changed))
    with pytest.raises(EncryptedError, match="not those for squares"):
        ring.check_relin_keys(keys["rotation"])
