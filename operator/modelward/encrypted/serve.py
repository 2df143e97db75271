"""From a request's envelope to an answer's: what a server does, in the process that computes.

The order is that of distrust: an envelope's form, the keys' signature, the request's by the same signer, the shape
against the model, and only then ciphertexts, each looked at before SEAL sees it. Who calls, whether the nonce came
before and how old the request is are for the sidecar to know.
"""

from collections import OrderedDict
from dataclasses import dataclass

import msgspec

from modelward.encrypted import envelope, score, totals
from modelward.encrypted.context import Evaluator
from modelward.encrypted.envelope import Answer, Keys, Level, Request
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
    """A model and the parameters it is offered under; without one, `statistics` of columns alone."""

    model: Model | None
    name: str
    parameters: Parameters
    security_bits: SecurityBits = 128
    statistics: bool = False

    def check(self) -> None:
        """Raises EncryptedError when what is offered is not to be had under the parameters, or they are not secure."""
        self.parameters.check(self.security_bits)
        if self.model is not None:
            self.model.check(self.parameters)
        if self.statistics:
            totals.check_parameters(self.parameters)

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
        if header.statistic is not None:
            if not self.statistics:
                raise EncryptedError("means, sums and counts are not offered here (encryption.inUse.statistics)")
            totals.check_request(header, parts, header.statistic)
        elif self.model is None:
            raise EncryptedError("scores are not offered here, for want of weights: encrypt with --statistic")
        else:
            score.check(header, parts, self.model)
        return header, parts, name

    def answer(self, request: bytes, guest: Guest) -> bytes:
        """The answer's envelope.

        Raises:
            EncryptedError: the request cannot be answered; the message says why.
        """
        header, parts, name = self.accept(request, guest)
        try:
            answer, results = self._computed(guest.evaluator, header, parts, name)
        except RuntimeError as error:  # SEAL's own; what a library says of what it holds is not passed on
            raise EncryptedError(
                "these ciphertexts cannot be computed with: they are transparent, or made up"
            ) from error
        return envelope.sealed(answer, results, bytes.fromhex(header.answer_key))

    def _computed(
        self, evaluator: Evaluator, request: Request, parts: list[bytes], name: str
    ) -> tuple[Answer, list[bytes]]:
        """The answer's header and ciphertexts, for a request that was accepted."""
        if request.statistic is not None:
            results, level, error = totals.summed(evaluator, request, parts, request.statistic)
            answer = self._answer(request, name, level, error, outputs=len(request.columns), weights="")
            return msgspec.structs.replace(answer, statistic=request.statistic, columns=request.columns), results
        model = self.model
        assert model is not None  # noqa: S101 - or it would not have been accepted
        results, level, error = score.score(evaluator, model, request, parts)
        answer = self._answer(request, name, level, error, outputs=model.outputs, weights=model.sha256)
        if model.link != "logistic3":
            return msgspec.structs.replace(answer, link=model.link), results
        return msgspec.structs.replace(answer, link_error=sigmoid_polynomial()[2], link_range=SIGMOID_RANGE), results

    def _answer(self, request: Request, name: str, level: Level, error: float, outputs: int, weights: str) -> Answer:
        return Answer(
            parameters=request.parameters,
            request=name,
            nonce=request.nonce,
            model=self.name,
            weights=weights,
            layout=request.layout,
            rows=request.rows,
            outputs=outputs,
            level=level,
            link="identity",
            error=error,
            sizes=(),
        )


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
