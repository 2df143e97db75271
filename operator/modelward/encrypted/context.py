"""Pyfhel, with its traps closed: every operation checks what Pyfhel and SEAL take for granted.

`Context` knows parameters alone; `Evaluator` computes with a client's public keys and cannot decrypt; `Decryptor` holds
the secret key. Nothing here is for more than one thread, and Pyfhel keeps the interpreter's lock: serve from processes.
"""

import hashlib
import warnings
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modelward.encrypted.parameters import EncryptedError, Parameters, SecurityBits
from modelward.encrypted.primes import PLAIN_BITS, coefficient_primes, plain_modulus
from modelward.encrypted.serial import Ring

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_KEPT_PLAINS = 8


@dataclass(frozen=True, slots=True)
class Ciphertext:
    """A ciphertext of Pyfhel's, in the process that loaded it (it does not pickle), and the `primes` that it has left.

    Pyfhel's own count of its level cannot be relied on: a product counts as rescaled before it is, and what was loaded
    as fresh.
    """

    handle: Any
    primes: int

    @property
    def scale(self) -> float:
        """What its numbers are multiplied by."""
        return float(self.handle.scale)


def _pyfhel() -> Any:
    """A new Pyfhel object, or the way to get Pyfhel."""
    try:
        from Pyfhel import Pyfhel  # noqa: PLC0415 - optional, and slow to import
    except ModuleNotFoundError as error:
        raise EncryptedError(
            "Pyfhel is not installed, and the homomorphic path needs it: pip install 'modelward[he]'"
            " (it is built from source: a C++ compiler and CMake)"
        ) from error
    except ImportError as error:
        raise EncryptedError(f"Pyfhel is installed and cannot be loaded: {error}") from error
    return Pyfhel()


def _generated(he: Any, parameters: Parameters, security_bits: SecurityBits) -> str:
    """Set `he` up, and give what it says.

    contextGen returns its errors, when it does not raise them, takes sec=0 as a wish for no security at all, and with
    BFV does not look at qi_sizes.
    """
    degree, bits = parameters.poly_modulus_degree, parameters.coeff_modulus_bits
    if parameters.scheme == "CKKS":
        of_scheme: dict[str, Any] = {
            "scheme": "CKKS",
            "scale": 2.0**parameters.scale_bits,
            "qi_sizes": list(bits),
        }
    else:
        of_scheme = {"scheme": "BFV", "t": plain_modulus(degree), "qi": list(coefficient_primes(degree, bits))}
    try:
        with warnings.catch_warnings():
            # That primes and scale differ: true, and no matter, since every weight's scale is chosen for its prime.
            warnings.simplefilter("ignore", UserWarning)
            told: str = he.contextGen(
                n=degree,
                sec=security_bits,
                **of_scheme,
            )
    except (RuntimeError, ValueError) as error:
        return str(error)
    return told


class Context:
    """A scheme with its parameters: encodes, and checks what comes from outside.

    Raises:
        EncryptedError: Pyfhel is missing, or the parameters are not to be had at this security.
    """

    def __init__(self, parameters: Parameters, security_bits: SecurityBits = 128) -> None:
        parameters.check(security_bits)
        if parameters.scheme == "BFV" and sum(parameters.coeff_modulus_bits[:-1]) <= PLAIN_BITS:
            raise EncryptedError(
                f"coeffModulusBits without the last must be more than the {PLAIN_BITS} of whole numbers"
            )
        self.parameters = parameters
        self._he = _pyfhel()
        told = _generated(self._he, parameters, security_bits)
        if told != "success: valid":
            raise EncryptedError(f"these parameters cannot be used: {told}")
        if tuple(int(prime).bit_length() for prime in self._he.qi) != parameters.coeff_modulus_bits:
            raise EncryptedError("Pyfhel has taken other primes than it was told: this version of it cannot be used")
        self.ring = Ring(
            parameters,
            tuple(self._he.qi),
            self._he.get_plain_modulus() if parameters.scheme == "BFV" else 0,
        )

    @property
    def scale(self) -> float:
        """By what numbers are multiplied in a fresh ciphertext: a power of two, with BFV 1.0."""
        return 2.0**self.parameters.scale_bits if self.parameters.scheme == "CKKS" else 1.0

    def load(self, content: bytes, primes: int | None = None, scale: float | None = None) -> Ciphertext:
        """A ciphertext from outside, once it is known to be one of these parameters, level and scale.

        Raises:
            EncryptedError: it is not.
        """
        from Pyfhel import PyCtxt  # noqa: PLC0415

        primes = self.ring.top if primes is None else primes
        self.ring.check_ciphertext(content, primes, self.scale if scale is None else scale)
        handle = PyCtxt(pyfhel=self._he)
        handle.from_bytes(content, "float" if self.parameters.scheme == "CKKS" else "int")
        return Ciphertext(handle, primes)

    def encode(self, values: Array, scale: float) -> Any:
        """A plaintext of `values` (n,), at most `slots` of them, each multiplied by `scale` and rounded.

        Raises:
            EncryptedError: a number is not finite, or too large for the modulus at this scale.
        """
        values = np.ascontiguousarray(values, dtype=np.float64)  # a strided array would be read as if it were none
        if values.ndim != 1 or not 0 < len(values) <= self.parameters.slots:
            raise EncryptedError(f"{values.shape} numbers do not fit {self.parameters.slots} slots")
        if not np.isfinite(values).all():  # NaN would be encoded as 8388608
            raise EncryptedError("only finite numbers can be encrypted")
        bits = np.log2(max(float(np.abs(values).max()), 1.0)) + np.log2(scale)
        if bits > sum(self.parameters.coeff_modulus_bits[:-1]) - 1:
            raise EncryptedError("a number is too large for these parameters: make it smaller, or scaleBits")
        return self._he.encodeFrac(values, scale=scale)

    def encode_integers(self, values: Integers) -> Any:
        """A plaintext of whole numbers (BFV), each less than half the plain modulus.

        Raises:
            EncryptedError: one is larger, or they are too many.
        """
        if values.ndim != 1 or not 0 < len(values) <= self.parameters.slots:
            raise EncryptedError(f"{values.shape} numbers do not fit {self.parameters.slots} slots")
        if not np.issubdtype(values.dtype, np.integer):  # fractions would be cut off, and NaN be a number
            raise EncryptedError("only whole numbers can be counted with")
        if max(abs(int(values.max())), abs(int(values.min()))) > self.ring.plain_modulus // 2:
            raise EncryptedError(f"a count is larger than {self.ring.plain_modulus // 2:,}")
        return self._he.encodeInt(np.ascontiguousarray(values, dtype=np.int64))


class Encryptor(Context):
    """Encrypts with a public key; cannot decrypt."""

    def __init__(self, parameters: Parameters, public_key: bytes, security_bits: SecurityBits = 128) -> None:
        super().__init__(parameters, security_bits)
        self.ring.check_public_key(public_key)
        self._he.from_bytes_public_key(public_key)

    def encrypt(self, values: Array) -> bytes:
        """A fresh ciphertext of `values` (n,), n up to `slots` (CKKS). Raises EncryptedError as `encode` does."""
        content: bytes = self._he.encryptPtxt(self.encode(values, self.scale)).to_bytes("none")
        return content

    def encrypt_integers(self, values: Integers) -> bytes:
        """A fresh ciphertext of `values` (n,) (BFV). Raises EncryptedError as `encode_integers` does."""
        content: bytes = self._he.encryptPtxt(self.encode_integers(values)).to_bytes("none")
        return content


class Evaluator(Context):
    """Computes on ciphertexts with one client's evaluation keys; cannot decrypt."""

    def __init__(
        self,
        parameters: Parameters,
        *,
        rotation_keys: bytes = b"",
        relin_keys: bytes = b"",
        security_bits: SecurityBits = 128,
    ) -> None:
        super().__init__(parameters, security_bits)
        self._elements: frozenset[int] = frozenset()
        self._squares = bool(relin_keys)
        self._plains: OrderedDict[tuple[bytes, float, int], Any] = OrderedDict()
        if rotation_keys:
            self._elements = self.ring.check_rotation_keys(rotation_keys)
            self._he.from_bytes_rotate_key(rotation_keys)
        if relin_keys:
            self.ring.check_relin_keys(relin_keys)
            self._he.from_bytes_relin_key(relin_keys)

    @property
    def squares(self) -> bool:
        """Whether ciphertexts can be multiplied with one another."""
        return self._squares

    def turns(self, steps: Iterable[int]) -> bool:
        """Whether there are keys for rotations by all `steps`."""
        return all(self.ring.galois_element(step) in self._elements for step in steps)

    def times(self, ciphertext: Ciphertext, values: Array, scale: float) -> Ciphertext:
        """The product with plain numbers `values` (n,) at `scale`, slot by slot, not rescaled.

        Raises:
            EncryptedError: all numbers vanish at this scale: the product would be no secret (SEAL: «transparent»).
        """
        if not (np.abs(values) * scale >= 1).any():
            raise EncryptedError("all weights are zero: there is nothing to score")
        plain = self._plain(values, scale, ciphertext.primes)
        return Ciphertext(self._he.multiply_plain(ciphertext.handle, plain, in_new_ctxt=True), ciphertext.primes)

    def plus(self, ciphertext: Ciphertext, values: Array) -> Ciphertext:
        """The sum with plain numbers `values` (n,), slot by slot, at the ciphertext's own scale.

        Raises:
            EncryptedError: one is too large for that scale, or they are too many.
        """
        plain = self._plain(values, ciphertext.scale, ciphertext.primes)
        return Ciphertext(self._he.add_plain(ciphertext.handle, plain, in_new_ctxt=True), ciphertext.primes)

    def add(self, left: Ciphertext, right: Ciphertext) -> Ciphertext:
        """The sum of two ciphertexts of one level and scale. Raises EncryptedError where their levels differ."""
        if left.primes != right.primes:
            raise EncryptedError("ciphertexts of different levels cannot be added")
        return Ciphertext(self._he.add(left.handle, right.handle, in_new_ctxt=True), left.primes)

    def rescale(self, ciphertext: Ciphertext) -> Ciphertext:
        """Divide by the last prime, and spend it; `ciphertext` is not to be used any more.

        Raises:
            EncryptedError: none is left to spend.
        """
        if ciphertext.primes < 2:
            raise EncryptedError("the parameters have no depth left: take more primes, or a smaller model")
        self._he.rescale_to_next(ciphertext.handle)
        return Ciphertext(ciphertext.handle, ciphertext.primes - 1)

    def square(self, ciphertext: Ciphertext) -> Ciphertext:
        """The square, of two polynomials, rescaled. Raises EncryptedError without the keys or the depth for it."""
        if not self._squares:  # Pyfhel would make keys under a secret of its own
            raise EncryptedError("squares need the client's relinearisation keys: make keys with --squares")
        squared = self._he.square(ciphertext.handle, in_new_ctxt=True)
        self._he.relinearize(squared)
        return self.rescale(Ciphertext(squared, ciphertext.primes))

    def multiply(self, left: Ciphertext, right: Ciphertext) -> Ciphertext:
        """The product of two ciphertexts of one level, rescaled. Raises EncryptedError as `square` does."""
        if not self._squares:
            raise EncryptedError("products need the client's relinearisation keys: make keys with --squares")
        if left.primes != right.primes:
            raise EncryptedError("ciphertexts of different levels cannot be multiplied")
        product = self._he.multiply(left.handle, right.handle, in_new_ctxt=True)
        self._he.relinearize(product)
        return self.rescale(Ciphertext(product, left.primes))

    def lower(self, ciphertext: Ciphertext) -> Ciphertext:
        """The same numbers and scale with one prime less. Raises EncryptedError where none is left to spend."""
        if ciphertext.primes < 2:
            raise EncryptedError("the parameters have no depth left: take more primes, or a smaller model")
        handle = self._he.mod_switch_to_next_ctxt(ciphertext.handle, in_new_ctxt=True)
        return Ciphertext(handle, ciphertext.primes - 1)

    def last_prime(self, ciphertext: Ciphertext) -> int:
        """The prime that the next rescaling divides by."""
        return self.ring.primes[ciphertext.primes - 1]

    def sum_slots(self, ciphertext: Ciphertext, width: int) -> Ciphertext:
        """In every slot, the sum of the `width` (a power of two) that begin there; in BFV each half turns in itself.

        Where slots repeat every `width`, that is the same sum in all of them.

        Raises:
            EncryptedError: a rotation key is missing. (Pyfhel would make one under another secret, and be wrong.)
        """
        steps = rotations(width)
        if not self.turns(steps):
            raise EncryptedError(
                f"the rotation keys do not reach over {width} slots: make keys with --columns {width} (scores) or"
                f" --rows {width} (means, sums, counts)"
            )
        total = ciphertext.handle
        for step in reversed(steps):
            total = self._he.add(total, self._he.rotate(total, step, in_new_ctxt=True), in_new_ctxt=True)
        return Ciphertext(total, ciphertext.primes)

    def store(self, ciphertext: Ciphertext) -> bytes:
        """Its bytes, uncompressed."""
        content: bytes = ciphertext.handle.to_bytes("none")
        return content

    def _plain(self, values: Array, scale: float, primes: int) -> Any:
        """Plain numbers at a scale and level. The last few are kept: a model's weights are the same for every row."""
        name = (hashlib.blake2b(np.ascontiguousarray(values).tobytes(), digest_size=16).digest(), scale, primes)
        plain = self._plains.pop(name, None)
        if plain is None:
            plain = self.encode(values, scale)
            for _ in range(self.ring.top - primes):
                self._he.mod_switch_to_next_ptxt(plain, in_new_ptxt=False)
        self._plains[name] = plain
        if len(self._plains) > _KEPT_PLAINS:
            self._plains.popitem(last=False)
        return plain


def rotations(width: int) -> list[int]:
    """The steps that sum `width` slots (a power of two)."""
    return [1 << bit for bit in range(width.bit_length() - 1)]


class Decryptor(Context):
    """Reads what was encrypted to its secret key."""

    def __init__(
        self, parameters: Parameters, secret_key: bytes, public_key: bytes, security_bits: SecurityBits = 128
    ) -> None:
        super().__init__(parameters, security_bits)
        self.ring.check_public_key(public_key)
        self._he.from_bytes_public_key(public_key)  # Pyfhel does not decrypt without one, though SEAL would
        if len(secret_key) > 64 << 20:
            raise EncryptedError("the secret key is too large to be one")
        try:
            self._he.from_bytes_secret_key(secret_key)
        except Exception as error:
            raise EncryptedError("the secret key cannot be read: it is damaged, or of other parameters") from error
        if self._he.is_secret_key_empty():  # decrypting without one is a segmentation fault
            raise EncryptedError("the secret key is empty")

    def decrypt(self, content: bytes, primes: int, scale: float) -> Array:
        """The numbers (`slots`,) of a ciphertext (CKKS). Raises EncryptedError as `load` does."""
        values: Array = self._he.decryptFrac(self.load(content, primes, scale).handle)
        return values

    def decrypt_integers(self, content: bytes, primes: int) -> Integers:
        """The whole numbers of a ciphertext (BFV). Raises EncryptedError as `load` does, and when noise ate them."""
        handle = self.load(content, primes).handle
        if self._he.noise_level(handle) < 1:  # SEAL would decrypt to other numbers, and say nothing
            raise EncryptedError("the ciphertext holds more noise than its parameters bear: its numbers are lost")
        values: Integers = self._he.decryptInt(handle)
        return values

    def noise_budget(self, content: bytes, primes: int) -> int:
        """Bits that a ciphertext's noise may still grow by (BFV); with none left its numbers are not those encrypted.

        For the key's holder alone: it tells of the noise, and with that of the key. Raises EncryptedError as `load`.
        """
        return int(self._he.noise_level(self.load(content, primes).handle))


def generate(
    parameters: Parameters, steps: Iterable[int], *, squares: bool, security_bits: SecurityBits = 128
) -> dict[str, bytes]:
    """New keys: `secret`, `public`, and for evaluation `rotation` (for `steps`, if any) and `relin` (for squares)."""
    context = Context(parameters, security_bits)
    he = context._he  # noqa: SLF001 - the key generator is the context's own
    he.keyGen()
    keys = {"secret": he.to_bytes_secret_key("none"), "public": he.to_bytes_public_key("none")}
    steps = list(steps)
    if steps:
        he.rotateKeyGen(rot_steps=steps)
        keys["rotation"] = he.to_bytes_rotate_key("none")
    if squares:
        he.relinKeyGen()
        keys["relin"] = he.to_bytes_relin_key("none")
    return keys
