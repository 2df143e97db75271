"""From a request's envelope to an answer's: what a server does, in the process that computes.

The order is that of distrust: an envelope's form, the keys' signature, the request's by the same signer, the shape
against the model, and only then ciphertexts, each looked at before SEAL sees it. Who calls, whether the nonce came
before and how old the request is are for the sidecar to know.
"""

from collections import OrderedDict
from dataclasses import dataclass

from modelward.encrypted import envelope, score
from modelward.encrypted.context import Evaluator
from modelward.encrypted.envelope import Answer, Keys, Request
from modelward.encrypted.model import SIGMOID_RANGE, Model, sigmoid_polynomial
from modelward.encrypted.parameters import EncryptedError, Parameters, SecurityBits

MAX_GUESTS = 8  # clients whose keys a process keeps loaded


@dataclass(frozen=True, slots=True)
class Guest:
    """A client whose keys are loaded: their digest, who signs under them, and what computes with them."""

    keys: str
    signer: str
    evaluator: Evaluator


@dataclass(frozen=True, slots=True)
class Server:
    """A model and the parameters it is offered under."""

    model: Model
    name: str
    parameters: Parameters
    security_bits: SecurityBits = 128

    def check(self) -> None:
        """Raises EncryptedError when the model cannot be scored under the parameters, or they are not secure."""
        self.parameters.check(self.security_bits)
        self.model.check(self.parameters)

    def guest(self, keys: bytes) -> Guest:
        """The client of these keys.

        Raises:
            EncryptedError: a key is damaged, of other parameters, or not signed by the keys' own signer.
        """
        header, parts = envelope.opened(keys, Keys)
        name = envelope.check_signature(keys, header.signer)
        if header.parameters != self.parameters:
            raise EncryptedError(
                "the keys have other parameters than this model is offered under: make keys with"
                f" {describe(self.parameters)}"
            )
        if len(parts) != len(header.parts) or len(set(header.parts)) != len(header.parts):
            raise EncryptedError("the keys' parts are not those that the header names")
        by_name = dict(zip(header.parts, parts, strict=True))
        evaluator = Evaluator(
            self.parameters,
            rotation_keys=by_name.get("rotation", b""),
            relin_keys=by_name.get("relin", b""),
            security_bits=self.security_bits,
        )
        return Guest(name, header.signer, evaluator)

    def accept(self, request: bytes, guest: Guest) -> tuple[Request, list[bytes], str]:
        """The request's header, ciphertexts and digest, once it is known to be for this model and by this client.

        Raises:
            EncryptedError: it is not.
        """
        header, parts = envelope.opened(request, Request)
        if header.keys != guest.keys:
            raise EncryptedError("the request names other keys than came with it")
        name = envelope.check_signature(request, guest.signer)
        if header.parameters != self.parameters:
            raise EncryptedError("the request has other parameters than its keys")
        if header.model != self.name:
            raise EncryptedError(f"the request is for the model {header.model}, this is {self.name}")
        score.check(header, parts, self.model)
        return header, parts, name

    def answer(self, request: bytes, guest: Guest) -> bytes:
        """The answer's envelope.

        Raises:
            EncryptedError: the request cannot be answered; the message says why.
        """
        header, parts, name = self.accept(request, guest)
        scores, level, error = score.score(guest.evaluator, self.model, header, parts)
        linear = self.model.link != "logistic3"
        answer = Answer(
            parameters=header.parameters,
            request=name,
            nonce=header.nonce,
            model=self.name,
            weights=self.model.sha256,
            layout=header.layout,
            rows=header.rows,
            outputs=self.model.outputs,
            level=level,
            link="identity" if self.model.link == "logistic3" else self.model.link,
            error=error,
            sizes=(),
            link_error=0.0 if linear else sigmoid_polynomial()[2],
            link_range=0.0 if linear else SIGMOID_RANGE,
        )
        return envelope.sealed(answer, scores, bytes.fromhex(header.answer_key))


class Guests:
    """The clients that were served last: loading keys takes longer than a score."""

    def __init__(self, server: Server, most: int = MAX_GUESTS) -> None:
        self._server = server
        self._most = most
        self._by_keys: OrderedDict[str, Guest] = OrderedDict()

    def known(self, keys: str) -> Guest | None:
        """The client of the keys with this digest."""
        if keys not in self._by_keys:
            return None
        self._by_keys.move_to_end(keys)
        return self._by_keys[keys]

    def admit(self, keys: bytes) -> Guest:
        """The client of these keys, from now on known. Raises EncryptedError as `Server.guest` does."""
        guest = self._server.guest(keys)
        self._by_keys[guest.keys] = guest
        if len(self._by_keys) > self._most:
            self._by_keys.popitem(last=False)
        return guest


def describe(parameters: Parameters) -> str:
    """Parameters, as the options of `modelward he keygen`."""
    bits = ",".join(map(str, parameters.coeff_modulus_bits))
    return (
        f"--scheme {parameters.scheme} --degree {parameters.poly_modulus_degree} --modulus-bits {bits}"
        f" --scale-bits {parameters.scale_bits}"
    )
