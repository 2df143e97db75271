"""What callers tell of what answers should have been: POST /v2/models/<name>/feedback, or :feedback with V1.

    {"id": "<x-modelward-request-id of the answer>", "labels": [1, 0, null]}   ->   {"rows": 2}

A label a row, in the terms of the answer (or true: it should have been the favourable one); null: nobody knows. Told
once for each request; what is told is counted by group, and kept nowhere. Of an answer that another replica gave it is
kept until the controller has passed it on: 202.
"""

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from modelward.fairness.labels import Labels, read, run_of, written
from modelward.sidecar import rest
from modelward.sidecar.awaited import LabelledError, UnknownError
from modelward.sidecar.elsewhere import FullError
from modelward.sidecar.exchange import Exchange, Response
from modelward.sidecar.metrics import Counter
from modelward.sidecar.problems import Refusal
from modelward.sidecar.reader import number_of, run
from modelward.sidecar.repeated import refuse_repeated

if TYPE_CHECKING:
    from modelward.sidecar.fairness import Fairness

_HEADERS = b"content-type: application/json\r\ncache-control: no-store\r\n"


class _Feedback(msgspec.Struct, forbid_unknown_fields=True):
    id: Annotated[str, Meta(max_length=256)]
    labels: Annotated[
        list[bool | int | float | Annotated[str, Meta(max_length=1024)] | None], Meta(min_length=1, max_length=4096)
    ]


def take(fairness: "Fairness | None", exchange: Exchange, counter: Counter, *, passes_on: bool) -> Response:
    """Count what a caller tells, and answer. `passes_on`: there is a controller, which brings others what is theirs.

    Raises:
        Refusal: it is not read, not wanted here, or of no answer that is remembered.
    """
    if fairness is None:
        raise Refusal("not-found", "This model takes no feedback: it declares no `spec.fairness`.")
    told = _read(rest.body_of(exchange).content)
    exchange.rows = len(told.labels)
    try:
        truths = fairness.truths(told.labels)
        if passes_on and run_of(told.id) not in ("", run()):
            counter.add("lost", amount=fairness.elsewhere.expire())
            fairness.elsewhere.keep(told.id, written(truths))
            counter.add("kept")
            return Response(202, _HEADERS, msgspec.json.encode({"passedOn": len(truths)}))
        rows = fairness.learn(number_of(told.id), truths)
    except UnknownError:
        counter.add("unknown")
        raise Refusal(
            "unknown-request",
            "No answer is remembered under this `id`: it was a refusal or a stream, or is older than what is remembered"
            " (up to 7 days, up to 100,000 rows).",
        ) from None
    except LabelledError:
        counter.add("repeated")
        raise Refusal("already-labelled", "The labels of this request were told already; they count once.") from None
    except FullError:
        counter.add("full")
        raise Refusal(
            "overloaded",
            "Too many labels wait to be passed on to the replicas that gave the answers: try again in a minute.",
            headers=b"retry-after: 60\r\n",
        ) from None
    except ValueError as error:
        counter.add("unfit")
        raise Refusal("schema-violation", f"The request had {error} rows: send a label for each, or null.") from None
    except TypeError:
        counter.add("unfit")
        raise Refusal(
            "schema-violation", "A label here is a number, true, false or null: answers are scores."
        ) from None
    counter.add("taken")
    return Response(200, _HEADERS, msgspec.json.encode({"rows": rows}))


def bring(fairness: "Fairness", brought: Labels, counter: Counter) -> int:
    """Count what other replicas were told, and let go what has reached others. Of how many requests it was counted."""
    counted = 0
    for each in brought.told:
        try:
            fairness.learn(number_of(each.request), read(each.truths))
        except (UnknownError, LabelledError, ValueError) as error:
            counter.add(_WHY[type(error)])
        else:
            counter.add("taken")
            counted += 1
    for request in brought.delivered:
        fairness.elsewhere.delivered(request)
    counter.add("lost", amount=fairness.elsewhere.give_up(brought.lost))
    return counted


def _read(content: bytes) -> _Feedback:
    try:
        told = _DECODER.decode(content)
    except msgspec.ValidationError:
        raise Refusal(
            "schema-violation",
            'Send {"id": "<the answer\'s x-modelward-request-id>", "labels": [<a label for each of its rows>]}, '
            "at most 4,096 labels.",
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refusal("malformed-json", "The body cannot be read as JSON (UTF-8, RFC 8259).") from None
    refuse_repeated(content, 2)
    return told


_WHY: dict[type[Exception], str] = {UnknownError: "unknown", LabelledError: "repeated", ValueError: "unfit"}
_DECODER = msgspec.json.Decoder(_Feedback)
