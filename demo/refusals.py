"""The no: an unsafe model refused on the laptop, by the webhook, and by the API server alone."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from demo.install import ROLLOUT_SECONDS, SYSTEM, rolled_out
from demo.kubectl import Cluster, NotAsToldError, Output
from demo.screen import Screen

BAD = "examples/breast-cancer/bad.yaml"
POLICY = "examples/breast-cancer/policy.yaml"
MODELWARD = Path(sys.executable).with_name("modelward")

_RULE = re.compile(r"\b[A-Z]{2,}-\d{3}\b")
_HARMLESS = """
apiVersion: v1
kind: ConfigMap
metadata: {name: modelward-demo-unrelated, namespace: default}
data: {about: "nothing that modelward watches"}
"""


def rules_in(text: str) -> set[str]:
    """Return the ids of the rules that a message names."""
    return set(_RULE.findall(text))


def on_the_laptop(screen: Screen, cluster: Cluster) -> set[str]:
    """Show `modelward check`; return the rules that it says are broken."""
    screen.step(
        "The same verdict before any cluster is asked",
        "`modelward check` judges manifests offline, by the very rules that the cluster enforces: for editors and CI.",
    )
    output = cluster.run(MODELWARD, "check", BAD, POLICY)
    screen.ran(output, {str(MODELWARD): ".venv/bin/modelward"})
    rules = rules_in(output.stdout)
    if output.returncode != 1 or not rules:
        raise NotAsToldError(f"`modelward check` should find violations and exit 1; it exited {output.returncode}")
    screen.good(f"{len(rules)} rules broken, exit code 1")
    return rules


def by_the_webhook(screen: Screen, cluster: Cluster, expected: set[str]) -> None:
    """Show that the unsafe model is refused with every reason at once."""
    screen.step(
        "An unsafe model is refused",
        "Every broken rule at once: its id, the field, what was found, how to mend it, and which policy asks.",
    )
    output = cluster.kubectl("apply", "-f", BAD)
    screen.ran(output)
    _must_be_refused(output)
    if missing := expected - rules_in(output.text):
        raise NotAsToldError(f"the refusal leaves out {', '.join(sorted(missing))}, which `modelward check` found")
    screen.good(f"refused, for the same {len(expected)} rules that `modelward check` named")


def with_the_operator_dead(screen: Screen, cluster: Cluster) -> None:
    """Show that all of modelward can be down and an unsafe model is refused still, and nothing else is."""
    screen.step(
        "The same with all of modelward dead",
        "The rules are also ValidatingAdmissionPolicies of the API server itself: nothing slips past a dead operator,"
        " and nobody is locked out by one.",
    )
    replicas = _replicas(cluster)
    try:
        screen.ran(cluster.kubectl("-n", SYSTEM, "scale", "deployment", "--all", "--replicas=0").expect_ok())
        with screen.waiting("Waiting for its pods to be gone") as tick:
            gone = ("wait", "--for=delete", "pod", "--all", "--timeout=90s")
            cluster.kubectl("-n", SYSTEM, *gone, timeout=100, tick=tick).expect_ok()
        output = cluster.kubectl("apply", "-f", BAD)
        screen.ran(output)
        _must_be_refused(output)
        if "ValidatingAdmissionPolicy" not in output.text:
            raise NotAsToldError("the refusal should come from a ValidatingAdmissionPolicy")
        screen.good(f"refused by the API server alone: {', '.join(sorted(rules_in(output.text)))}")
        screen.command("kubectl apply -f an-unrelated-configmap.yaml")
        screen.output(cluster.kubectl("apply", "-f", "-", stdin=_HARMLESS).expect_ok().text)
        screen.good("accepted: everything else goes on as before")
    finally:
        _restore(screen, cluster, replicas)


def _must_be_refused(output: Output) -> None:
    if output.ok:
        raise NotAsToldError("the API server accepted the unsafe model")
    if not rules_in(output.text):
        raise NotAsToldError("the model was not created, but for a reason that is none of modelward's rules")


def _replicas(cluster: Cluster) -> dict[str, int]:
    deployments = cluster.get("deployments", "-n", SYSTEM)["items"]
    return {item["metadata"]["name"]: item["spec"]["replicas"] for item in deployments}


def _restore(screen: Screen, cluster: Cluster, replicas: dict[str, int]) -> None:
    cluster.kubectl("delete", "--ignore-not-found", "-f", "-", stdin=_HARMLESS)
    for name, count in replicas.items():
        screen.ran(cluster.kubectl("-n", SYSTEM, "scale", f"deployment/{name}", f"--replicas={count}").expect_ok())
    with screen.waiting(f"Waiting for modelward to be back (at most {ROLLOUT_SECONDS} s)") as tick:
        rolled_out(cluster, tick)
    screen.good("modelward is back")
