"""AdmissionReview (admission.k8s.io/v1) as bytes, in and out: strict about what is read, silent about the rest."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec

from modelward.rules.judge import Verdict

MAX_BODY = 6 * 1024 * 1024
"""Bytes of a review: twice the largest request that the API server takes (3 MiB), for the old object and the new."""

MAX_WARNING = 256  # characters of a warning, and of all of them, beyond which the API server cuts them
MAX_WARNINGS = 4096

Object = dict[str, Any]


class ReviewError(Exception):
    """A body that is no review that this server can answer: the sender's mistake."""


class Kind(msgspec.Struct, frozen=True):
    """Group, version and kind of the object under review."""

    group: str
    version: str
    kind: str


class Request(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """What is asked: may this object be made, or changed, so?"""

    uid: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    kind: Kind
    operation: Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]
    sub_resource: str = ""
    name: str = ""
    namespace: str = ""
    object: Object | None = None
    old_object: Object | None = None
    dry_run: bool | None = None

    @property
    def shown_name(self) -> str:
        """The object's name, or what its name will begin with."""
        metadata = (self.object or {}).get("metadata")
        generated = metadata.get("generateName") if isinstance(metadata, dict) else None
        return self.name or (generated if isinstance(generated, str) else "")

    @property
    def who(self) -> str:
        """The object in words, such as `ModelDeployment clinic/wdbc`."""
        return f"{self.kind.kind} {self.namespace + '/' if self.namespace else ''}{self.shown_name}"


@dataclass(frozen=True)
class Decision:
    """Yes or no, and why.

    Attributes:
        allowed: whether the object may be as it is, with the patch.
        message: for people, when it may not.
        warnings: for people, a line each.
        patch: JSON patch (RFC 6902) on the object.
        verdict: what the policies said, where they were asked.
    """

    allowed: bool
    message: str = ""
    warnings: tuple[str, ...] = ()
    patch: tuple[dict[str, Any], ...] = ()
    verdict: Verdict = field(default_factory=Verdict)


ALLOWED = Decision(allowed=True)


class _Review(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    api_version: Literal["admission.k8s.io/v1"]
    kind: Literal["AdmissionReview"]
    request: Request


_DECODER = msgspec.json.Decoder(_Review)


def decode(body: bytes) -> Request:
    """Read a review.

    Raises:
        ReviewError: it is not an AdmissionReview of v1 with a request about an object.
    """
    try:
        request = _DECODER.decode(body).request
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        what = str(error)[:MAX_WARNING]  # it may quote the body
        raise ReviewError(f"not an AdmissionReview of admission.k8s.io/v1: {what}") from None
    except RecursionError:
        raise ReviewError("not an AdmissionReview: nested too deep") from None
    wanted = {"CREATE": (request.object,), "UPDATE": (request.object, request.old_object)}
    for item in wanted.get(request.operation, ()):
        if item is None:
            raise ReviewError(f"request.object, or oldObject, is missing from an {request.operation}")
        group, _, version = str(item.get("apiVersion")).rpartition("/")
        if (group, version, item.get("kind")) != (request.kind.group, request.kind.version, request.kind.kind):
            raise ReviewError("request.kind is not the kind of request.object")
    return request


def encode(uid: str, decision: Decision) -> bytes:
    """Write the answer to the request with this uid."""
    response: Object = {"uid": uid, "allowed": decision.allowed}
    if not decision.allowed:
        response["status"] = {"code": 403, "reason": "Forbidden", "message": decision.message}
    elif decision.patch:
        response["patchType"] = "JSONPatch"
        response["patch"] = base64.b64encode(msgspec.json.encode(decision.patch)).decode()
    if decision.warnings:
        response["warnings"] = _bounded(decision.warnings)
    return msgspec.json.encode({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})


def _bounded(warnings: tuple[str, ...]) -> list[str]:
    bounded, room = [], MAX_WARNINGS
    for warning in warnings:
        text = " ".join(warning.split())
        text = text if len(text) <= MAX_WARNING else text[: MAX_WARNING - 3] + "..."
        room -= len(text)
        if room < 0:
            break
        bounded.append(text)
    return bounded
