"""What the API server's own metrics tell of refusals by the backstop: which policy, how often, and nothing more.

Kubernetes counts each validation that fails (`apiserver_validating_admission_policy_check_total`, KEP-3488, since 1.26;
labels `policy`, `policy_binding`, `enforcement_action` and, depending on the version, others), so that one request
may count several times. Each API server counts for itself from its own start: it is told apart from others, and from
itself before a restart, by `process_start_time_seconds`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from modelward.wording import rfc3339

CHECKS = "apiserver_validating_admission_policy_check_total"
STARTED = "process_start_time_seconds"
MAX_INSTANCES = 8
"""API servers whose counts are kept, the last ones seen: a restart makes a new one."""
MAX_POLICIES = 1000
_OURS = "modelward-"
_SAMPLE = re.compile(r"(?P<name>\w+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Reading(NamedTuple):
    """The counts of one API server: when it started (Unix time), and how many validations failed by policy."""

    started: float
    denied: Mapping[str, int]


class Refusals(NamedTuple):
    """Validations of a policy that failed since a time."""

    policy: str
    failed: int
    since: datetime


@dataclass(frozen=True)
class Known:
    """What was told already.

    Attributes:
        denied: the counts of each API server, by when it started; the last seen comes last.
        looked: when each was last looked at.
        total: how many failed validations were found of each policy in all.
    """

    denied: Mapping[float, Mapping[str, int]] = field(default_factory=dict)
    looked: Mapping[float, datetime] = field(default_factory=dict)
    total: Mapping[str, int] = field(default_factory=dict)

    def dumped(self) -> str:
        """Write it as JSON."""
        looked = {str(started): rfc3339(moment) for started, moment in self.looked.items()}
        denied = {str(started): dict(counts) for started, counts in self.denied.items()}
        return json.dumps({"denied": denied, "looked": looked, "total": dict(self.total)})

    @classmethod
    def loaded(cls, text: str) -> Known:
        """Read what `dumped` wrote.

        Raises:
            ValueError: it was not.
        """
        try:
            data = json.loads(text)
            denied = {
                float(started): {str(policy): int(count) for policy, count in counts.items()}
                for started, counts in data["denied"].items()
            }
            looked = {float(started): datetime.fromisoformat(moment) for started, moment in data["looked"].items()}
            if denied.keys() != looked.keys() or any(moment.tzinfo is None for moment in looked.values()):
                raise ValueError("counts and times do not belong together")
            return cls(denied, looked, {str(policy): int(count) for policy, count in data["total"].items()})
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not what was written ({error})") from error


def read(lines: Iterable[str]) -> Reading:
    """Read an API server's metrics (the Prometheus text format); only refusals by policies of ours are kept.

    Raises:
        ValueError: they do not tell when the API server started.
    """
    started = 0.0
    denied = Counter[str]()
    for line in lines:
        sample = _SAMPLE.match(line)
        if not sample:
            continue
        if sample["name"] == STARTED:
            started = float(sample["value"])
        elif sample["name"] == CHECKS:
            labels = dict(_LABEL.findall(sample["labels"] or ""))
            policy = labels.get("policy", "")
            if labels.get("enforcement_action") == "deny" and policy.startswith(_OURS):
                denied[policy] += int(float(sample["value"]))
    if not started:
        raise ValueError(f"there is no {STARTED} among the API server's metrics")
    return Reading(started, dict(sorted(denied.items())[:MAX_POLICIES]))


def addresses(endpoint_slice: Mapping[str, Any]) -> list[str]:
    """Return the address of each API server, such as `https://10.0.0.2:6443`, of the EndpointSlice that they keep.

    Args:
        endpoint_slice: `kubernetes` of the namespace `default` (discovery.k8s.io/v1); empty: none are known.
    """
    ports = [port["port"] for port in endpoint_slice.get("ports") or () if port.get("port")]
    hosts = [host for endpoint in endpoint_slice.get("endpoints") or () for host in endpoint.get("addresses") or ()]
    shown = (f"[{host}]" if ":" in host else host for host in sorted(set(hosts)))
    return [f"https://{host}:{ports[0]}" for host in shown][:MAX_INSTANCES] if ports else []


def together(found: Iterable[Refusals]) -> list[Refusals]:
    """Return what several API servers counted as one for each policy."""
    sums: dict[str, Refusals] = {}
    for one in found:
        before = sums.get(one.policy, Refusals(one.policy, 0, one.since))
        sums[one.policy] = Refusals(one.policy, before.failed + one.failed, min(before.since, one.since))
    return list(sums.values())


def follow(known: Known, reading: Reading, now: datetime) -> tuple[Known, list[Refusals]]:
    """Return what is known after a reading, and what in it is news.

    Of an API server that was never seen everything is news, since its start: so nothing is lost when one restarts, or
    when there are several and another one answers.
    """
    before = known.denied.get(reading.started, {})
    since = known.looked.get(reading.started, datetime.fromtimestamp(reading.started, UTC))
    found = [
        Refusals(policy, count - before.get(policy, 0), since)
        for policy, count in reading.denied.items()
        if count > before.get(policy, 0)
    ]
    denied = {started: counts for started, counts in known.denied.items() if started != reading.started}
    denied[reading.started] = reading.denied
    kept = list(denied)[-MAX_INSTANCES:]
    policies = {policy for started in kept for policy in denied[started]}
    total = Counter(dict(known.total))
    total.update({one.policy: one.failed for one in found})
    after = Known(
        {started: denied[started] for started in kept},
        {started: now if started == reading.started else known.looked[started] for started in kept},
        {policy: count for policy, count in sorted(total.items()) if policy in policies},
    )
    return after, found
