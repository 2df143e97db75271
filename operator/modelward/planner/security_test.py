"""The Job that attacks a model to test its security: when it is due, and its objects.

Its pod has one way out, to the model's own pods, and one way in, for the controller, which brings it the token by which
the sidecar lets it in, and takes its report.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from modelward.api.modeldeployment import ModelDeployment
from modelward.planner.names import KubeObject, host_names, metadata, namespace_of, selector
from modelward.planner.own_job import (
    Kind,
    common_arguments,
    job_container,
    job_host_name,
    job_labels,
    job_network_policy,
    job_pod,
    runs,
)
from modelward.planner.schedule import ScheduleError, read_schedule
from modelward.planner.secret import ServingCertificate, secret_of
from modelward.planner.sidecar import HTTPS_PORT, JOB_LABEL
from modelward.planner.tested import MAX_ATTEMPTS, AskedTest, LastTest, again_at
from modelward.securitytest import SECONDS, SUBJECT, Request
from modelward.wording import rfc3339

SUITES = ("baseline",)
KIND: Kind = "security-test"
CONTAINER_NAME = "attack"
COMMAND = ("python3", "-m", "modelward.cli.security_test_job")
REQUEST_ANNOTATION = "modelward.io/security-test-request"
_TLS_DIR = "/etc/modelward/test"
_TTL_SECONDS = 600
_RESOURCES = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}}
_SCRATCH = "256Mi"
_APART = timedelta(minutes=10)  # between scheduled runs, however often the schedule says
_JITTER_SECONDS = 300  # so that not all models of a cluster are attacked at three o'clock
_OPERATIONS = ("Explain", "Infer", "Metadata")  # not Feedback: what is told there is counted


class Due(NamedTuple):
    """A test that is due: what tells the run from others, and the reason, for people."""

    run: str
    why: str


def security_test_name(model: str) -> str:
    """Return the name of a model's report, and of its Job's Secret and NetworkPolicy: with a dot, as no model's has."""
    return f"{model}.security-test"


def job_name(model: str, request: Request) -> str:
    """Return the name of the Job for this very request: another run is another Job."""
    return f"{model}-sec-{request.digest[:8]}"


def host_name(namespace: str, model: str) -> str:
    """Return the name in the certificate of a Job's pod."""
    return job_host_name(KIND, namespace, model)


def url_of(md: ModelDeployment) -> str:
    """Return the address that is attacked: the model's, by the name in its certificate, at the sidecar's own port."""
    return f"https://{host_names(namespace_of(md), md.metadata.name)[0]}:{HTTPS_PORT}"


def security_test_unsupported(md: ModelDeployment) -> list[str]:
    """Return fields of spec.securityTest that cannot be honoured, with the reason and the fix."""
    own = md.spec.security_test
    wrong = []
    if own and own.suite not in SUITES:
        wrong.append(f"spec.securityTest.suite (there is no suite {own.suite!r}: {', '.join(SUITES)})")
    try:
        if own and own.schedule is not None:
            read_schedule(own.schedule)
    except ScheduleError as error:
        wrong.append(f"spec.securityTest.schedule ({error})")
    return wrong


def rule_of_tester(md: ModelDeployment) -> dict[str, Any] | None:
    """Return the access rule of the test: as much as the most that any caller may, and no more.

    The least of the rate limits would show the model as safer than it is to those who may ask more.

    Returns:
        None where no rule lets anybody infer: then the test may not either.
    """
    rules = [rule for rule in (md.spec.access.rules if md.spec.access else ()) if rule.subjects]
    asking = [rule for rule in rules if "Infer" in rule.operations]
    if not asking:
        return None
    allowed = {operation for rule in rules for operation in rule.operations}
    rule: dict[str, Any] = {
        "subjects": [SUBJECT],
        "operations": [operation for operation in _OPERATIONS if operation in allowed],
        "purposes": [],
    }
    limits = [one.rate_limit for one in asking if one.rate_limit is not None]
    if len(limits) == len(asking):
        most = max(limits, key=lambda limit: (limit.requests / limit.seconds, limit.requests))
        rule["rateLimit"] = {"requests": most.requests, "seconds": most.seconds}
    return rule


def due(tested: LastTest, tools: str, uid: str, now: datetime) -> Due | None:
    """Return whether a test is due now, as one run, however many were missed.

    Args:
        tested: what is asked, and the last test.
        tools: digest of what protects and attacks the model now.
        uid: of the ModelDeployment, by which runs of a schedule are spread.
        now: the time.
    """
    asked, last = tested.asked, tested.of_this
    if asked is None:
        return None
    before = f"after {tested.last['finishedAt']}" if tested.last else "first"
    if last is None:
        return Due(f"changed {before}", "it was not tested as it is now")
    ended = datetime.fromisoformat(last["finishedAt"])
    if ended - now > _APART:  # a clock was ahead once: by its time it would be neither old nor due for as long
        return Due(f"ahead {before}", "the last test ended at a time that is still to come")
    attempts = int(last.get("attempts", 0))
    if last["outcome"] == "Errored":
        if now >= again_at(last):
            return Due(f"again {before}", f"attempt {attempts + 1}")
        if attempts < MAX_ATTEMPTS:
            return None
    if last.get("tools") != tools:
        return Due(f"tools {before}", "what protects or attacks it is another version, or its policies ask otherwise")
    slot = _slot(asked, uid, now)
    if slot is not None and slot > ended and now - ended >= _APART:
        return Due(f"due {rfc3339(slot)}", f"as scheduled for {rfc3339(slot)}")
    if asked.max_age_days is not None and last["outcome"] == "Passed":
        age = timedelta(days=asked.max_age_days)
        if now - ended >= age - min(timedelta(days=1), age / 2):
            return Due(f"old {before}", "it will soon be older than policies allow")
    return None


def _slot(asked: AskedTest, uid: str, now: datetime) -> datetime | None:
    if not asked.schedule:
        return None
    try:
        schedule = read_schedule(asked.schedule)
    except ScheduleError:  # it is told of elsewhere
        return None
    chance = int.from_bytes(hashlib.sha256(uid.encode()).digest()[:4], "big")
    return schedule.last(now - timedelta(seconds=chance % _JITTER_SECONDS))


# --- objects


def security_test_secret(md: ModelDeployment, certificate: ServingCertificate) -> KubeObject:
    """Return the Secret with the certificate that the Job answers the controller with. No token lies in it."""
    data = {"tls.crt": certificate.chain, "tls.key": certificate.key}
    return secret_of(metadata(md, security_test_name(md.metadata.name)), data)


def security_test_network_policy(md: ModelDeployment) -> KubeObject:
    """Return the NetworkPolicy of the Job's pod: it may call the model's pods, at any port, and nobody else.

    At any port, for one attack is to try the model's own.
    """
    egress = [{"to": [{"podSelector": {"matchLabels": selector(md)}}]}]
    return job_network_policy(md, KIND, security_test_name(md.metadata.name), egress)


def security_test_job(md: ModelDeployment, request: Request, address: str, image: str, config_key: str) -> KubeObject:
    """Return the Job.

    Args:
        md: the ModelDeployment.
        request: what it is to test.
        address: of the pod that is attacked. No Service need lead there: a gated model has none that does.
        image: the jobs' image.
        config_key: base64 of the public key that the controller's tokens verify by.
    """
    mounts = [{"name": "tls", "mountPath": _TLS_DIR, "readOnly": True}]
    volumes = [{"name": "tls", "secret": {"secretName": security_test_name(md.metadata.name), "defaultMode": 0o440}}]
    args = common_arguments(md, _TLS_DIR, config_key)
    pod = job_pod(job_container(CONTAINER_NAME, image, COMMAND, args, _RESOURCES, mounts), volumes, _SCRATCH)
    pod["hostAliases"] = [{"ip": address, "hostnames": [host_names(namespace_of(md), md.metadata.name)[0]]}]
    head = metadata(md, job_name(md.metadata.name, request))
    head["labels"] = {**head["labels"], JOB_LABEL: KIND}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {**head, "annotations": {REQUEST_ANNOTATION: request.to_bytes().decode()}},
        "spec": {
            "backoffLimit": 0,  # another run is another request
            "activeDeadlineSeconds": SECONDS,
            "ttlSecondsAfterFinished": _TTL_SECONDS,
            "template": {"metadata": {"labels": job_labels(KIND, md)}, "spec": pod},
        },
    }


def is_test(pod: Mapping[str, Any], image: str) -> bool:
    """Tell whether a pod that says it tests a model does that and nothing else."""
    return runs(pod, KIND, image, COMMAND)


def request_of(job: KubeObject, md: ModelDeployment) -> Request | None:
    """Return what a Job was asked for; None where that is not about this very ModelDeployment."""
    text = (job["metadata"].get("annotations") or {}).get(REQUEST_ANNOTATION, "")
    try:
        request = msgspec.json.decode(text, type=Request)
    except ValueError:  # msgspec's errors are ValueErrors
        return None
    mine = (request.model, request.uid) == (f"{namespace_of(md)}/{md.metadata.name}", md.metadata.uid)
    return request if mine and job["metadata"]["name"] == job_name(md.metadata.name, request) else None
