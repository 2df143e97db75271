"""From a request's envelope to an answer's: what a server does, in the process that computes.

The order is that of distrust: the envelope's form, the keys' signature, the request's signature by the same signer, the
shape against the model, and only then ciphertexts, each looked at before SEAL sees it. What remains to be known outside
(who calls, whether a nonce came before, how old it is) is `about`'s.
"""

from collections import OrderedDict
from dataclasses import dataclass

from modelward.encrypted import envelope, score
from modelward.encrypted.context import Evaluator
from modelward.encrypted.envelope import Answer, Keys, Request
from modelward.encrypted.model import SIGMOID_RANGE, Model, sigmoid_polynomial
from modelward.encrypted.parameters import EncryptedError, Parameters, SecurityBits

MAX_EVALUATORS = 8  # clients whose keys a process keeps loaded


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

    def accept(self, request: bytes, keys: bytes) -> tuple[Request, list[bytes]]:
        """The request's header and ciphertexts, once it is known to be for this model and by the holder of `keys`.

        Raises:
            EncryptedError: it is not.
        """
        header, parts = envelope.opened(request, Request)
        if header.keys != envelope.digest(keys):
            raise EncryptedError("the request names other keys than came with it")
        owner, _ = envelope.opened(keys, Keys)
        envelope.check_signature(keys, owner.signer)
        envelope.check_signature(request, owner.signer)
        if not self.parameters == header.parameters == owner.parameters:
            raise EncryptedError(
                "the request has other parameters than this model is offered under: make keys with"
                f" {describe(self.parameters)}"
            )
        if header.model != self.name:
            raise EncryptedError(f"the request is for the model {header.model}, this is {self.name}")
        score.check(header, parts, self.model)
        return header, parts

    def evaluator(self, keys: bytes) -> Evaluator:
        """An evaluator with a client's keys, whose signature `accept` checked.

        Raises:
            EncryptedError: a key is damaged or of other parameters.
        """
        header, parts = envelope.opened(keys, Keys)
        if len(parts) != len(header.parts) or len(set(header.parts)) != len(header.parts):
            raise EncryptedError("the keys' parts are not those that the header names")
        by_name = dict(zip(header.parts, parts, strict=True))
        return Evaluator(
            self.parameters,
            rotation_keys=by_name.get("rotation", b""),
            relin_keys=by_name.get("relin", b""),
            security_bits=self.security_bits,
        )

    def answer(self, request: bytes, keys: bytes, evaluator: Evaluator) -> bytes:
        """The answer's envelope.

        Raises:
            EncryptedError: the request cannot be answered; the message says why.
        """
        header, parts = self.accept(request, keys)
        scores, level, error = score.score(evaluator, self.model, header, parts)
        linear = self.model.link != "logistic3"
        answer = Answer(
            parameters=header.parameters,
            request=envelope.digest(request),
            nonce=header.nonce,
            model=self.name,
            weights=self.model.sha256,
            layout=header.layout,
            rows=header.rows,
            outputs=self.model.outputs,
            level=level,
            link=self.model.link if linear else "identity",  # type: ignore[arg-type]
            error=error,
            sizes=(),
            link_error=0.0 if linear else sigmoid_polynomial()[2],
            link_range=0.0 if linear else SIGMOID_RANGE,
        )
        return envelope.sealed(answer, scores, bytes.fromhex(header.answer_key))


class Evaluators:
    """The evaluators of the clients that were served last: loading keys takes longer than a score."""

    def __init__(self, server: Server, most: int = MAX_EVALUATORS) -> None:
        self._server = server
        self._most = most
        self._by_keys: OrderedDict[str, Evaluator] = OrderedDict()

    def of(self, keys: bytes) -> Evaluator:
        """The evaluator with these keys. Raises EncryptedError as `Server.evaluator`."""
        digest = envelope.digest(keys)
        evaluator = self._by_keys.pop(digest, None)
        if evaluator is None:
            evaluator = self._server.evaluator(keys)
        self._by_keys[digest] = evaluator
        while len(self._by_keys) > self._most:
            self._by_keys.popitem(last=False)
        return evaluator


def describe(parameters: Parameters) -> str:
    """Parameters, as the options of `modelward he keygen`."""
    bits = ",".join(map(str, parameters.coeff_modulus_bits))
    return (
        f"--scheme {parameters.scheme} --degree {parameters.poly_modulus_degree} --modulus-bits {bits}"
        f" --scale-bits {parameters.scale_bits}"
    )
