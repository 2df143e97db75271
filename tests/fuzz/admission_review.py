"""Any bytes as an AdmissionReview: an answer or a 4xx, never a traceback, and never an allow without a reason."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import UTC, datetime
from typing import Any

from modelward.admission.app import Webhook
from modelward.admission.decide import Settings, Surroundings
from modelward.admission.events import manifest as event_manifest
from modelward.admission.metrics import Metrics
from modelward.api.validate import SchemaError, canonical, parse, stored
from modelward.planner.sidecar import CONTAINER_NAME
from modelward.rules.prepared import prepare
from tests.fuzz.driver import Target, main
from tests.fuzz.mutate import mutated

_API = "modelward.io/v1alpha1"
_NOTHING_PASSES = {
    "apiVersion": _API,
    "kind": "ClusterDataPolicy",
    "metadata": {"name": "nothing-passes"},
    "spec": {
        "require": {"encryption": {"inTransit": "TLS"}, "lineage": {"annotations": ["dataset"]}, "access": {}},
        "rules": [{"id": "NEVER-001", "expression": "false", "message": "'never: ' + object.metadata.name"}],
    },
}
_AROUND = Surroundings([prepare(canonical(parse(_NOTHING_PASSES)))], {}, Settings("sidecar@sha256:" + "a" * 64, "a2V5"))
_JSON = [(b"content-type", b"application/json")]


async def _around(_: str) -> Surroundings:
    return _AROUND


def ask(body: bytes) -> tuple[int, bytes]:
    """Put a body to the webhook; return status and answer."""
    told: list[Any] = []
    sent: list[Any] = []
    webhook = Webhook(_around, told.extend, Metrics(), lambda: datetime(2026, 5, 1, tzinfo=UTC))

    async def receive() -> Any:
        return {"type": "http.request", "body": body}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/admit", "method": "POST", "headers": _JSON}
    asyncio.run(webhook(scope, receive, send))
    for event in told:
        json.dumps(event_manifest(event)).encode()
    return sent[0]["status"], sent[1]["body"]


def one(body: bytes) -> None:
    """Check the answer to one body; under a policy that nothing passes.

    Raises:
        AssertionError: it is not what it must be.
    """
    status, answer = ask(body)
    assert b"Traceback" not in answer
    if status != 200:
        assert 400 <= status < 500, f"{status}: {answer!r}"
        assert len(answer) < 4096
        return
    review = json.loads(answer)
    response = review["response"]
    assert review["kind"] == "AdmissionReview"
    assert response["uid"]
    if not response["allowed"]:
        assert response["status"]["message"]
        return
    # What stands in fields that nobody reads need not be UTF-8.
    request = json.loads(body.decode(errors="replace"))["request"]
    patch = json.loads(base64.b64decode(response["patch"])) if "patch" in response else []
    assert _may_pass(request, patch), "allowed, and nothing says why"


def _may_pass(request: dict[str, Any], patch: list[Any]) -> bool:
    """Whether there is a reason to let the object through, looked for in another way than the server does."""
    kind, operation = request["kind"]["kind"], request["operation"]
    item, old = request.get("object"), request.get("oldObject")
    if operation in ("DELETE", "CONNECT") or (kind == "Pod" and operation == "UPDATE"):
        return True  # the ValidatingAdmissionPolicies judge these
    if kind == "Pod":
        for change in patch:
            _, part, field = change["path"].split("/")
            item[part][field] = change["value"]
        return any(container["name"] == CONTAINER_NAME for container in item["spec"]["initContainers"])
    try:
        new = canonical(parse({key: value for key, value in item.items() if key != "status"}))
    except SchemaError:
        return True  # the API server's schema refuses it next
    if kind != "ModelDeployment":
        return True
    if "deletionTimestamp" in new["metadata"]:
        return True
    return operation == "UPDATE" and _judged(item) == _judged(old)


def _judged(item: dict[str, Any]) -> Any:
    """What of an object is judged: unchanged, it is not judged again."""
    try:
        spec = stored({key: value for key, value in item.items() if key != "status"})["spec"]
    except SchemaError:
        spec = item.get("spec")
    metadata = item.get("metadata", {})
    annotations = metadata.get("annotations") or {}
    lineage = {key: value for key, value in annotations.items() if key.startswith("lineage.modelward.io/") and value}
    return spec, metadata.get("labels") or {}, lineage


TARGET = Target("admission_review", one, mutated)


if __name__ == "__main__":
    main(TARGET)
