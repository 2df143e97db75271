"""What an explanation looks like, and how it is added to the model's answer."""

import msgspec

from modelward.sidecar import binary
from modelward.sidecar.exchange import Response
from modelward.sidecar.problems import Refusal


class Row(msgspec.Struct, rename="camel", omit_defaults=True):
    """Of one row: `base + sum(contributions) == value`. No `standard_errors`: it is exact."""

    value: float
    base: float
    contributions: list[float]
    reasons: tuple[str, ...]
    standard_errors: list[float] | None = None


class Explanation(msgspec.Struct, rename="camel", omit_defaults=True):
    """The member `explanation` of an answer, as docs/how-to/explain-decisions.md describes it."""

    method: str
    explained: list[str]
    columns: list[str]
    baseline: str
    reference_rows: int
    asked_rows: int
    rows: list[Row]
    agreement: str = ""
    contact: str = ""
    contest_url: str = msgspec.field(name="contestURL", default="")


def with_explanation(answer: Response, explanation: Explanation) -> Response:
    """The answer, a JSON object, with the member `explanation`.

    Raises:
        Refusal: 422, the client asked for an answer as bytes; 502, it is no object.
    """
    if binary.header_value(answer.headers) is not None:
        raise Refusal("schema-violation", "An explained answer comes as JSON: leave out `binary_data_output`.")
    try:
        document = msgspec.json.decode(answer.body, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Refusal("bad-upstream", "The model's answer is not JSON.", reason="upstream-schema") from None
    document["explanation"] = msgspec.Raw(msgspec.json.encode(explanation))
    return answer._replace(body=msgspec.json.encode(document))
