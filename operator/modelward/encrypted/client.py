"""The client's side: keys that never leave it, rows that only it can read, answers that it believes.

A folder of keys holds `secret/` (0700; its files 0600) and `public/keys.bin`, which is what a server needs.
"""

import base64
import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from modelward.encrypted import envelope, totals
from modelward.encrypted.context import Array, Decryptor, Encryptor, generate, rotations
from modelward.encrypted.envelope import Answer, Keys, Layout, Request, Statistic
from modelward.encrypted.parameters import EncryptedError, Parameters, SecurityBits
from modelward.encrypted.score import MAX_ROWS, width_of

PUBLIC_FILE: Final = "public/keys.bin"
_SECRET_KEY: Final = "secret/secret.key"  # noqa: S105 - a file's name
_SIGNING_KEY: Final = "secret/signing.key"
_MAX_FILE = 64 << 20
DEFAULT_BOUND_BITS: Final = 10

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """A client's keys. `secret` and `signing` (32 bytes) are for nobody else; `public` is the envelope for servers."""

    secret: bytes
    signing: bytes
    public: bytes

    @classmethod
    def generate(
        cls,
        parameters: Parameters | None = None,
        *,
        columns: int = 0,
        rows: int = 0,
        squares: bool = False,
        security_bits: SecurityBits = 128,
    ) -> "ClientKeys":
        """New keys: for rows of up to `columns` columns in the layout `row` (0: none), with `squares` for networks.

        For means, sums and counts of up to `rows` rows (0: none).

        Raises:
            EncryptedError: the parameters are not to be had.
        """
        parameters = parameters or Parameters()
        if rows:
            totals.check_parameters(parameters)
        reach = max(width_of(columns), totals.needed_reach(parameters, rows))
        made = generate(parameters, rotations(reach), squares=squares, security_bits=security_bits)
        signing = Ed25519PrivateKey.generate()
        kinds: tuple[Literal["public", "rotation", "relin"], ...] = ("public", "rotation", "relin")
        parts = tuple(kind for kind in kinds if kind in made)
        header = Keys(parameters, signing.public_key().public_bytes_raw().hex(), parts, ())
        public = envelope.sealed(header, [made[part] for part in parts], signing)
        return cls(made["secret"], signing.private_bytes_raw(), public)

    def write(self, directory: Path) -> None:
        """Write the folder of keys; secrets are readable by their owner alone, and nothing is overwritten.

        Raises:
            EncryptedError: there are keys already.
            OSError: it cannot be written.
        """
        paths = {directory / _SECRET_KEY: self.secret, directory / _SIGNING_KEY: self.signing}
        for path in (*paths, directory / PUBLIC_FILE):
            if path.exists():
                raise EncryptedError(f"{path} is there already; what was encrypted to it could not be read without it")
        (directory / "secret").mkdir(mode=0o700, parents=True, exist_ok=True)
        (directory / "secret").chmod(0o700)
        (directory / "public").mkdir(exist_ok=True)
        for path, content in paths.items():
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
        (directory / PUBLIC_FILE).write_bytes(self.public)

    @classmethod
    def read(cls, directory: Path) -> "ClientKeys":
        """Read a folder of keys.

        Raises:
            EncryptedError: a secret can be read by others, or a file is too large.
            OSError: a file is missing or cannot be read.
        """
        for name in (_SECRET_KEY, _SIGNING_KEY):
            check_private(directory / name)
        contents = []
        for name in (_SECRET_KEY, _SIGNING_KEY, PUBLIC_FILE):
            with (directory / name).open("rb") as file:
                content = file.read(_MAX_FILE + 1)
            if len(content) > _MAX_FILE:
                raise EncryptedError(f"{directory / name} is too large to be a key")
            contents.append(content)
        return cls(*contents)


def check_private(path: Path) -> None:
    """Refuse a secret that others can read.

    Raises:
        EncryptedError: they can.
        OSError: it is missing.
    """
    if path.stat().st_mode & 0o077:
        raise EncryptedError(f"{path} can be read by others: chmod 600 {path}")


class Client:
    """Encrypts rows to one's own keys and reads the answers."""

    def __init__(self, keys: ClientKeys, security_bits: SecurityBits = 128) -> None:
        header, parts = envelope.opened(keys.public, Keys)
        envelope.check_signature(keys.public, header.signer)
        by_name = dict(zip(header.parts, parts, strict=True))
        if "public" not in by_name:
            raise EncryptedError("public/keys.bin has no public key")
        self.parameters = header.parameters
        self._digest = envelope.digest(keys.public)
        self._signing = Ed25519PrivateKey.from_private_bytes(keys.signing)
        if self._signing.public_key().public_bytes_raw().hex() != header.signer:
            raise EncryptedError("secret/ and public/ are not of the same keys")
        self._encryptor = Encryptor(header.parameters, by_name["public"], security_bits)
        self._decryptor = Decryptor(header.parameters, keys.secret, by_name["public"], security_bits)
        self._signing_seed = keys.signing
        ring = self._encryptor.ring
        turns = ring.check_rotation_keys(by_name["rotation"]) if "rotation" in by_name else frozenset()
        self._reach = 1  # slots that the keys can sum
        while ring.galois_element(self._reach) in turns:
            self._reach *= 2

    def encrypt(
        self,
        rows: Array,
        columns: Sequence[str],
        *,
        model: str,
        now: int,
        layout: Layout | None = None,
        bound_bits: int | None = None,
        statistic: Statistic | None = None,
        progress: Progress | None = None,
    ) -> bytes:
        """A request to score `rows` (n, d), whose columns are named, at `now` (seconds since the epoch).

        `layout`: one ciphertext a row, or a column; None: by row where there are few rows. `bound_bits`: 10; for counts
        0. `statistic`: that of each column is asked for, and no score.

        Raises:
            EncryptedError: a number is not finite or beyond 2^bound_bits, or there are too many rows.
        """
        if bound_bits is None:
            bound_bits = 0 if statistic == "count" else DEFAULT_BOUND_BITS
        if rows.ndim != 2 or rows.shape[1] != len(columns) or not rows.size:
            raise EncryptedError(f"rows of {len(columns)} numbers are needed, these are {rows.shape}")
        if not np.isfinite(rows).all():
            row, column = (int(where[0]) for where in np.nonzero(~np.isfinite(rows)))
            raise EncryptedError(f"row {row} has no finite number in {columns[column]}: leave it out or fill it in")
        if statistic is not None:
            if layout == "row":
                raise EncryptedError("means, sums and counts are of columns: use the layout columns")
            self._check_statistic(rows, columns, statistic, bound_bits)
        if np.abs(rows).max() > 2.0**bound_bits:
            raise EncryptedError(
                f"a number is beyond 2^{bound_bits}: standardise the columns, or state a larger --bound-bits"
            )
        if statistic is not None:
            layout = "columns"
            vectors = [totals.repeated(column, self.parameters) for column in rows.T]
        elif self.parameters.scheme != "CKKS":
            raise EncryptedError("a model is scored under CKKS; these keys are BFV's, for exact sums and counts")
        else:
            vectors = self._vectors(rows, layout := layout or self._layout(rows))
        parts = []
        for index, vector in enumerate(vectors):
            parts.append(self._encrypted(vector))
            if progress:
                progress(index + 1, len(vectors))
        nonce = secrets.token_bytes(16)
        header = Request(
            self.parameters,
            self._digest,
            model,
            layout,
            len(rows),
            tuple(columns),
            bound_bits,
            nonce.hex(),
            self._answer_key(nonce).hex(),
            now,
            (),
            statistic,
        )
        return envelope.sealed(header, parts, self._signing)

    def _encrypted(self, vector: Array) -> bytes:
        if self.parameters.scheme == "CKKS":
            return self._encryptor.encrypt(vector)
        return self._encryptor.encrypt_integers(vector.astype(np.int64))

    def _check_statistic(self, rows: Array, columns: Sequence[str], asked: Statistic, bound_bits: int) -> None:
        totals.check(self.parameters, asked, len(rows), bound_bits)
        needed = totals.needed_reach(self.parameters, len(rows))
        if needed > self._reach:
            raise EncryptedError(
                f"these keys are for means, sums and counts of up to {self._reach} rows, these are {len(rows)}: make"
                f" keys with --rows {len(rows)}"
            )
        if self.parameters.scheme == "CKKS":
            return
        unfit = ~np.isin(rows, (0, 1)) if asked == "count" else rows != np.rint(rows)
        if unfit.any():
            row, column = (int(where[0]) for where in np.nonzero(unfit))
            what = "0 or 1, which is what is counted" if asked == "count" else "a whole number, and BFV has no others"
            raise EncryptedError(f"row {row} has {rows[row, column]:g} in {columns[column]}, not {what}")

    def _layout(self, rows: Array) -> Layout:
        """The smaller request of the two, where the keys allow it."""
        few = len(rows) < rows.shape[1] and len(rows) <= MAX_ROWS
        return "row" if few and width_of(rows.shape[1]) <= self._reach else "columns"

    def _vectors(self, rows: Array, layout: Layout) -> list[Array]:
        slots = self.parameters.slots
        if layout == "columns":
            if len(rows) > slots:
                raise EncryptedError(f"{len(rows)} rows; {slots} fit one request: split them")
            return [np.ascontiguousarray(column) for column in rows.T]
        if len(rows) > MAX_ROWS:
            raise EncryptedError(f"{len(rows)} rows; {MAX_ROWS} fit one request by row: use the layout columns")
        width = width_of(rows.shape[1])
        if width > self._reach:
            raise EncryptedError(
                f"these keys are for rows of up to {self._reach} columns, these have {rows.shape[1]}: make keys with"
                f" --columns {rows.shape[1]}, or use the layout columns"
            )
        padded = np.pad(rows, ((0, 0), (0, width - rows.shape[1])))
        return [np.tile(row, slots // width) for row in padded]

    def decrypt(self, answer: bytes) -> tuple[Array, Answer]:
        """The scores (rows, outputs) of an answer, its link applied, and the answer's header.

        Of a statistic: one row, of a number for each of the header's `columns`.

        Raises:
            EncryptedError: it does not answer a request of this client's, was changed on the way, or is damaged.
        """
        header, parts = envelope.opened(answer, Answer)
        envelope.check_mac(answer, self._answer_key(bytes.fromhex(header.nonce)))
        if header.parameters != self.parameters:
            raise EncryptedError("the answer has other parameters than these keys")
        if header.statistic is not None:
            return totals.read(self._decryptor, header, parts)[np.newaxis], header
        scores = self._read(header, parts)
        if header.link == "logistic":
            scores = 1 / (1 + np.exp(-scores))
        elif header.link == "softmax":
            powers = np.exp(scores - scores.max(axis=1, keepdims=True))
            scores = powers / powers.sum(axis=1, keepdims=True)
        return scores, header

    def _read(self, header: Answer, parts: list[bytes]) -> Array:
        expected = header.outputs * (header.rows if header.layout == "row" else 1)
        if len(parts) != expected:
            raise EncryptedError(f"the answer has {len(parts)} ciphertexts, {expected} belong to it")
        level = header.level
        numbers = [self._decryptor.decrypt(part, level.primes, level.scale) for part in parts]
        if header.layout == "row":  # every slot holds the score: their mean has less noise than any
            return np.array([one.mean() for one in numbers]).reshape(header.rows, header.outputs)
        return np.stack([one[: header.rows] for one in numbers], axis=1)

    def _answer_key(self, nonce: bytes) -> bytes:
        """Of one request, and to be had again from its nonce: nothing is kept of a request."""
        derive = HKDF(hashes.SHA256(), 32, salt=nonce, info=b"modelward homomorphic answer")
        return derive.derive(self._signing_seed)


def v2_body(request: bytes, keys: bytes = b"") -> bytes:
    """The body of a V2 `infer` request with an encrypted one in it, and the keys where the server has none yet.

    Raises:
        EncryptedError: `request` is none.
    """
    header, _ = envelope.opened(request, Request)
    told = {"encryption": header.parameters.scheme} | ({"statistic": header.statistic} if header.statistic else {})
    parts = {"request": request} | ({"keys": keys} if keys else {})
    inputs = [
        {"name": name, "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(part).decode()]}
        for name, part in parts.items()
    ]
    return msgspec.json.encode({"parameters": told, "inputs": inputs})


def v2_answer(content: bytes) -> bytes:
    """The answer's envelope in the body of a V2 answer, or `content` where it is one already.

    Raises:
        EncryptedError: it is the body of something else; what a problem document says is told.
    """
    if not content.lstrip().startswith(b"{"):
        return content
    try:
        document = msgspec.json.decode(content)
        if "outputs" not in document:
            raise EncryptedError(f"no answer, but: {document.get('title', '')} {document.get('detail', '')}".strip())
        return base64.b64decode(document["outputs"][0]["data"][0], validate=True)
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise EncryptedError("this JSON is not the answer to an encrypted request") from error


def named(keys: ClientKeys) -> dict[str, Any]:
    """What a folder of keys is, for people: nothing of it is secret."""
    header, parts = envelope.opened(keys.public, Keys)
    return {
        "keys": f"sha256:{envelope.digest(keys.public)}",
        "scheme": header.parameters.scheme,
        "polyModulusDegree": header.parameters.poly_modulus_degree,
        "coeffModulusBits": list(header.parameters.coeff_modulus_bits),
        "scaleBits": header.parameters.scale_bits,
        "securityBits": header.parameters.security_bits,
        "bytes": {name: len(part) for name, part in zip(header.parts, parts, strict=True)},
    }
