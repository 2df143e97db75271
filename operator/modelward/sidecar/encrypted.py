"""Requests that nobody here can read: from the body of an `infer` to a process that scores it, and back.

In V2 JSON, or with binary tensor data:

    {"parameters": {"encryption": "CKKS"},
     "inputs": [{"name": "request", "datatype": "BYTES", "shape": [1], "data": ["<base64 of the envelope>"]},
                {"name": "keys", "datatype": "BYTES", "shape": [1], "data": ["<base64>"]}]}

With the parameter `statistic` (mean, sum or count) that of each column is asked for, and no score. The envelope, which
the client signed, says the same.

`keys` may be left out once they are known: they are kept for an hour, for the caller who sent them. What can be known
of such a request without reading it is checked here: who asks, how much, how old it is, and whether it came before.
"""

import base64
import binascii
import hashlib
import struct
import time
from collections.abc import Callable
from typing import Annotated, Final, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from modelward.encrypted import envelope
from modelward.encrypted.envelope import Statistic
from modelward.encrypted.parameters import EncryptedError, Scheme
from modelward.encrypted.worker import Settings
from modelward.sidecar import binary, config
from modelward.sidecar.binary import Body, Trailer
from modelward.sidecar.caller import Caller
from modelward.sidecar.encrypted_callers import MAX_AGE, Budget, Clock, KeyStore, Seen
from modelward.sidecar.exchange import Exchange, Reply, Response
from modelward.sidecar.problems import Refusal
from modelward.sidecar.workers import Limits, Workers

_MARK: Final = b'"encryption"'
_LENGTH: Final = struct.Struct("<I")


class _Tensor(msgspec.Struct, forbid_unknown_fields=True):
    name: Literal["request", "keys"]
    datatype: Literal["BYTES"]
    shape: Annotated[list[int], Meta(min_length=1, max_length=1)]
    data: Annotated[list[str], Meta(min_length=1, max_length=1)] | UnsetType = UNSET
    parameters: dict[str, int] | UnsetType = UNSET


class _Asked(msgspec.Struct, forbid_unknown_fields=True):
    encryption: Scheme
    statistic: Statistic | None = None
    binary_data_output: bool = False


class _Request(msgspec.Struct, forbid_unknown_fields=True):
    parameters: _Asked
    inputs: Annotated[list[_Tensor], Meta(min_length=1, max_length=2)]
    id: Annotated[str, Meta(max_length=256)] = ""


class _Form(NamedTuple):
    """What an answer's body repeats of the request's, and whether it holds bytes or base64."""

    model: str
    request_id: str
    parameters: dict[str, str]
    as_bytes: bool


class _Marked(msgspec.Struct):
    encryption: Raw | UnsetType = UNSET


class _Marks(msgspec.Struct):
    parameters: _Marked | UnsetType = UNSET


class EncryptedPath:
    """The encrypted requests of one model.

    Raises:
        ConfigError: the weights are not there.
    """

    def __init__(self, settings: config.InUse, model: str, weights: bytes | None, clock: Clock = time.time) -> None:
        if weights is None and (settings.weights is not None or not settings.statistics):
            raise config.ConfigError("encrypted requests need the model's exported weights")
        self.settings = settings
        self.weights = weights
        self._model = model
        self.workers = Workers(
            Settings(
                model,
                settings.parameters,
                settings.weights.sha256 if settings.weights else "",
                settings.memory_bytes,
                settings.security_bits,
                settings.statistics,
            ),
            weights or b"",
            Limits(settings.workers, settings.memory_bytes, settings.seconds),
        )
        self._clock = clock
        self._keys = KeyStore(settings.kept_key_bytes, clock)
        self._seen = Seen(clock)
        self._budget = Budget(settings.rows_per_hour, clock)

    def take(self, exchange: Exchange, body: Body, reply: Reply) -> Callable[[], None] | None:
        """Have an encrypted request scored; returns how to abandon it, or None for a request that is a plain one.

        Raises:
            Refusal: it cannot be scored.
        """
        head, trailer = body.split()
        if not _is_encrypted(head):
            return None
        asked = _decoded(head)
        parts = {tensor.name: _content(tensor, trailer) for tensor in asked.inputs}
        if trailer is not None:
            trailer.end()
        if "request" not in parts or len(parts) != len(asked.inputs):
            raise Refusal("schema-violation", "An encrypted request has the input `request` once, and `keys` at most.")
        header = self._header(parts["request"], asked.parameters)
        exchange.fields, exchange.rows = ("encrypted",), header.rows
        if header.layout == "row" and 0 < self.settings.rows_per_hour <= len(header.columns):
            # So few rows stand between a client and the weights, and one that is made up holds several: see `score`.
            raise Refusal(
                "encrypted-unfit",
                "With no more rowsPerHour than columns, rows must come in the layout `columns`: encrypt with it.",
                reason="layout",
            )
        owner = _owner(exchange.caller)
        # By all its bytes: one that was changed on the way must not use up the one that the client made.
        name = hashlib.sha256(parts["request"]).hexdigest()
        self._seen.refuse_again(name, owner)
        self.workers.refuse_if_full()  # before it counts as seen: the client is told to send it again
        keys = self._keys.resolve(header.keys, parts.get("keys", b""), owner)
        self._budget.spend(owner, header.rows)
        self._seen.add(name, owner)
        as_bytes = asked.parameters.binary_data_output or trailer is not None
        told: dict[str, str] = {"encryption": header.parameters.scheme}
        if header.statistic is not None:
            told["statistic"] = header.statistic
        form = _Form(self._model, asked.id, told, as_bytes)  # and not `asked`, which holds the body's texts

        def done(outcome: bytes | Refusal) -> None:
            if isinstance(outcome, Refusal) and outcome.problem.slug == "interrupted":
                self._seen.forget(name, owner)  # no answer came of it, and the client is told to send it again
            reply(outcome if isinstance(outcome, Refusal) else _response(form, outcome))

        return self.workers.call(parts["request"], keys, done)

    def _header(self, request: bytes, asked: _Asked) -> envelope.Request:
        try:
            header, _ = envelope.opened(request, envelope.Request)
        except EncryptedError as error:
            raise Refusal("encrypted-unfit", f"The encrypted request cannot be scored: {error}.") from None
        if (asked.encryption, asked.statistic) != (header.parameters.scheme, header.statistic):
            raise Refusal(
                "encrypted-unfit",
                "The parameters `encryption` and `statistic` are not those that the client signed.",
                reason="parameters",
            )
        if abs(self._clock() - header.created) > MAX_AGE:
            raise Refusal(
                "encrypted-unfit",
                f"The encrypted request is older than {MAX_AGE} seconds, or a clock is wrong: encrypt it anew.",
                reason="stale",
            )
        return header


def _owner(caller: Caller | None) -> str:
    return f"{caller.issuer} {caller.name}" if caller is not None else ""


def _is_encrypted(head: bytes) -> bool:
    """Whether the request says so; the word may as well be a value, or an input's name, of a plain one."""
    if _MARK not in head:
        return False
    try:
        parameters = msgspec.json.decode(head, type=_Marks).parameters
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False  # the schema says what is wrong with it
    return not isinstance(parameters, UnsetType) and parameters.encryption is not UNSET


def _decoded(head: bytes) -> _Request:
    try:
        return msgspec.json.decode(head, type=_Request)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Refusal(
            "schema-violation",
            'An encrypted request is {"parameters": {"encryption": "CKKS"}, "inputs": [...]} with the inputs `request`'
            " and, if need be, `keys`, each BYTES of the shape [1]; `modelward he` makes them.",
        ) from None


def _content(tensor: _Tensor, trailer: Trailer | None) -> bytes:
    if tensor.shape != [1]:
        raise Refusal("schema-violation", f"The input `{tensor.name}` must be of the shape [1].")
    size = binary.size_of(tensor.parameters, trailer)
    if size is not None and trailer is not None and tensor.data is UNSET:
        taken = trailer.take(size)
        if size < _LENGTH.size or _LENGTH.unpack_from(taken)[0] != size - _LENGTH.size:
            raise Refusal("schema-violation", f"The input `{tensor.name}` must be one BYTES element after its length.")
        return bytes(taken[_LENGTH.size :])
    if size is not None or isinstance(tensor.data, UnsetType):
        raise Refusal("schema-violation", f"The input `{tensor.name}` has no data, or has them twice.")
    try:
        return base64.b64decode(tensor.data[0], validate=True)
    except (binascii.Error, ValueError):
        raise Refusal("schema-violation", f"The data of the input `{tensor.name}` must be base64.") from None


def _response(form: _Form, answer: bytes) -> Response:
    output: dict[str, object] = {"name": "answer", "datatype": "BYTES", "shape": [1]}
    document: dict[str, object] = {"model_name": form.model, "parameters": form.parameters, "outputs": [output]}
    if form.request_id:
        document["id"] = form.request_id
    if not form.as_bytes:
        output["data"] = [base64.b64encode(answer).decode()]
        return Response(200, b"content-type: application/json\r\n", msgspec.json.encode(document))
    output["parameters"] = {binary.SIZE: _LENGTH.size + len(answer)}
    head = msgspec.json.encode(document)
    headers = b"content-type: application/octet-stream\r\ninference-header-content-length: %d\r\n" % len(head)
    return Response(200, headers, head + _LENGTH.pack(len(answer)) + answer)
