"""What of a model's answer passes to the caller: what fits the declared outputs, its fields treated."""

import re

from modelward.sidecar import binary, log
from modelward.sidecar.binary import Body
from modelward.sidecar.chain import Work
from modelward.sidecar.exchange import Outcome, Response
from modelward.sidecar.problems import Refusal

_ENCODED = re.compile(rb"(?:\A|\n)content-encoding: (?! *identity *\r)", re.IGNORECASE)


def check_plain(headers: bytes, work: Work) -> None:
    """Raise Refusal for an answer that is read here and says that a client is to read it otherwise, as compressed."""
    chain = work.chain
    if (chain.outputs is not None or chain.answers is not None) and _ENCODED.search(headers):
        detail = "The model's answer is compressed, though nobody asked for it, so it could not be checked."
        raise Refusal("bad-upstream", detail, reason="upstream-schema")


def response(given: Response, work: Work) -> Outcome:
    """The model's answer as the caller may have it."""
    headers, content = given.headers, given.body
    if work.route.has_body:  # no success goes past the checks, whatever its number
        body = Body(content, binary.header_value(headers))
        try:
            check_plain(headers, work)
            passed = answer(work, body)
        except Refusal as refusal:
            return refusal
        if passed is not body:
            content = passed.content
            if body.json_length is not None:
                headers = binary.with_header_value(headers, passed.json_length or b"%d" % len(content))
    if work.flag or content is not given.body:
        return Response(given.status, headers + work.flag, content)
    return given


def answer(work: Work, body: Body) -> Body:
    """An answer that fits the declared outputs, its fields treated; raises Refusal."""
    try:
        return _released(work, body)
    except Refusal:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, the answer must not pass, and the caller be told
        raise fault(error) from None


def event(work: Work, data: bytes) -> bytes:
    """The same of one event of an answer that comes piece by piece."""
    return answer(work, Body(data)).content


def _released(work: Work, body: Body) -> Body:
    chain = work.chain
    answers = chain.answers
    if work.route.operation == "Infer":
        if chain.outputs is not None:
            chain.outputs.check(body)
        if work.watch is not None:
            work.watch(body)
        if answers is not None and not answers.concerned:
            return body
    return body if answers is None else answers.treat(body, work.tensors)


def fault(error: Exception) -> Refusal:
    """What a caller is told of a fault of ours, which is logged."""
    log.fault("a request met a fault in the sidecar", error)
    return Refusal("internal-error", "The sidecar failed; tell the model's owner the `instance`.", close=True)
