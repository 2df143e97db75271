"""What is counted of a request's rows: by group, in cells for auditors, by combination of quasi-identifiers.

A caller waits for two looks at the rows, before and after they are treated; counting is done when the answer is out.
"""

from collections.abc import Callable, Sequence

from modelward.sidecar import log
from modelward.sidecar.binary import Body
from modelward.sidecar.chain import Work
from modelward.sidecar.exchange import REDIRECTS, Exchange, Response
from modelward.sidecar.reader import number_of
from modelward.sidecar.tensors import Tensor


def begin(work: Work, tensors: Sequence[Tensor]) -> None:
    """Look at rows as the caller sent them."""
    chain = work.chain
    if work.route.operation != "Infer" or work.explains:  # an explanation decides nothing, and is of the same people
        return
    if chain.fairness is not None:
        work.groups = chain.fairness.rows(tensors)
    if chain.auditing is not None:
        work.counted = chain.auditing.tally.begin(tensors)
    if chain.reidentification is not None:
        work.combined = chain.reidentification.begin(tensors)


def treated(work: Work, tensors: Sequence[Tensor]) -> None:
    """Look at them as the model gets them."""
    chain = work.chain
    if chain.auditing is not None and work.counted is not None:
        chain.auditing.tally.treated(work.counted, tensors)
    if chain.reidentification is not None and work.combined is not None:
        chain.reidentification.treated(work.combined, tensors)


def count(exchange: Exchange, work: Work, body_of: Callable[[Response], Body]) -> None:
    """Count the rows of a request that is over; `body_of` reads what the model answered."""
    chain = work.chain
    try:
        if chain.reidentification is not None and work.combined is not None and exchange.upstream_started:
            chain.reidentification.count(work.combined)
        if work.groups is not None or work.counted is not None:
            _count_answered(exchange, work, body_of)
    except Exception as error:  # noqa: BLE001 - the request is over
        log.fault("the rows of a request could not be counted", error)


def _count_answered(exchange: Exchange, work: Work, body_of: Callable[[Response], Body]) -> None:
    fairness, auditing, response = work.chain.fairness, work.chain.auditing, work.answered
    if exchange.refusal is not None or exchange.status >= REDIRECTS or exchange.grpc_status > 0:
        return
    body = None if response is None else body_of(response)
    if fairness is not None and work.groups is not None:
        fairness.count(number_of(exchange.id), work.groups, body)
    if auditing is not None and work.counted is not None:
        outcomes = None if fairness is None else fairness.outcomes(body, work.counted.count)
        auditing.tally.count(work.counted, outcomes)
