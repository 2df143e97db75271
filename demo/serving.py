"""The yes: a safe model admitted, protected, and asked for predictions."""

from __future__ import annotations

import base64
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.evidence import SIDECAR, pods_of
from demo.kubectl import Cluster, NotAsToldError, Output, Tick, silent, wait_for
from demo.refusals import MODELWARD
from demo.screen import Screen

EXAMPLE = "examples/breast-cancer"
BUILD = "build/example"
NAMESPACE = "clinic"
MODEL = "wdbc"
STATEMENTS = "wdbc-statements"
SIGNED = "signed"
"""The policy that asks who answers for the lineage."""
READY_SECONDS = 180

_REQUEST_ID = re.compile(r"^< x-modelward-request-id: (\S+)", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True)
class Answer:
    """What the example's client showed of a request and its answer."""

    output: Output

    @property
    def status(self) -> int:
        """The HTTP status; 0 where there was no answer."""
        found = re.search(r"^< (\d{3})\b", self.output.stdout, re.MULTILINE)
        return int(found[1]) if found else 0

    @property
    def request_id(self) -> str:
        """The id under which the access log tells of it.

        Raises:
            NotAsToldError: the answer has none.
        """
        found = _REQUEST_ID.search(self.output.stdout)
        if found is None:
            raise NotAsToldError(f"the answer has no header x-modelward-request-id:\n{self.output.text}")
        return found[1]


@dataclass(frozen=True)
class Door:
    """A way from this machine to the model's Service, and the authority that its certificate is verified by."""

    cluster: Cluster
    port: int
    ca: Path
    server_name: str

    def ask(self, *options: str, verb: str = "infer") -> Answer:
        """Ask for a prediction, or to `explain` one, with the example's client."""
        command = [
            *(sys.executable, f"{EXAMPLE}/client.py", verb, "--url", f"https://127.0.0.1:{self.port}"),
            *("--ca", str(self.ca), "--server-name", self.server_name, *options),
        ]
        return Answer(self.cluster.run(*command))


@contextmanager
def door(cluster: Cluster, namespace: str = NAMESPACE, model: str = MODEL) -> Iterator[Door]:
    """Open a way to a model for as long as the context lasts."""
    with tempfile.TemporaryDirectory() as folder, cluster.port_forward(namespace, f"service/{model}", 443) as port:
        ca = Path(folder) / "ca.crt"
        ca.write_bytes(authority(cluster, namespace, model))
        yield Door(cluster, port, ca, f"{model}.{namespace}.svc")


def authority(cluster: Cluster, namespace: str, model: str) -> bytes:
    """Return the certificate authority (PEM) of a model's serving certificate."""
    return base64.b64decode(cluster.get("secret", f"{model}-serving", "-n", namespace)["data"]["ca.crt"])


def prepare(cluster: Cluster, image: str, tick: Tick = silent) -> Output:
    """Make what the example needs on this machine, in build/example: keys, baseline, the manifest with its image."""
    return cluster.run(sys.executable, f"{EXAMPLE}/prepare.py", "--image", image, timeout=120, tick=tick).expect_ok()


def condition(resource: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return a condition of a resource, {} where it is not told yet or tells of an older generation."""
    generation = resource["metadata"]["generation"]
    conditions = resource.get("status", {}).get("conditions", [])
    return next(
        (item for item in conditions if item["type"] == kind and item.get("observedGeneration") == generation), {}
    )


def wait_ready(cluster: Cluster, namespace: str, model: str, tick: Tick = silent) -> dict[str, Any]:
    """Wait until a ModelDeployment is Ready and return it.

    Raises:
        NotAsToldError: not within the time; the message has what its conditions say.
    """

    def look() -> dict[str, Any] | None:
        resource = cluster.get("modeldeployment", model, "-n", namespace)
        ready = condition(resource, "Ready")
        if ready.get("status") == "True":
            return resource
        raise NotAsToldError(f"Ready is {ready.get('status', 'not told yet')}: {ready.get('message', 'nothing yet')}")

    return wait_for(f"ModelDeployment {namespace}/{model} is Ready", look, timeout=READY_SECONDS, tick=tick)


def taken_away(cluster: Cluster, tick: Tick = silent) -> None:
    """Delete the model of an earlier run, and wait for its pods: they verify tokens by that run's keys.

    Who answers for its lineage goes along: that is asked for in the middle of the demo, and not at its start.

    Raises:
        NotAsToldError: it does not go.
    """
    place = ("-n", NAMESPACE)
    for kind, name in (("datapolicy", SIGNED), ("configmap", STATEMENTS)):
        cluster.kubectl("delete", kind, name, *place, "--ignore-not-found").expect_ok()
    cluster.kubectl("delete", "modeldeployment", MODEL, *place, "--ignore-not-found", timeout=90).expect_ok()
    pods = ("pod", "-l", f"modelward.io/model={MODEL}", *place)
    gone = cluster.kubectl("wait", "--for=delete", *pods, "--timeout=90s", timeout=100, tick=tick)
    if not gone.ok and "no matching resources" not in gone.text:
        raise NotAsToldError(f"the model of an earlier run does not go: {gone.text}")


def show_setting(screen: Screen, cluster: Cluster, image: str) -> None:
    """Show the namespace, its policy, and what the model refers to."""
    screen.step(
        "A namespace with a policy of its own",
        "What the clinic asks comes on top of what the cluster asks. The keys of its login service and the baseline of"
        " normal inputs are made on this machine.",
    )
    with screen.waiting("Taking away what an earlier demo left") as tick:
        taken_away(cluster, tick)
    with screen.waiting("Fitting the baseline") as tick:
        screen.ran(prepare(cluster, image, tick), {sys.executable: "python"})
    files = [f"{EXAMPLE}/namespace.yaml", f"{EXAMPLE}/policy.yaml", f"{BUILD}/jwks.yaml"]
    screen.ran(cluster.kubectl("apply", *(part for file in files for part in ("-f", file))).expect_ok())
    # A baseline is larger than the annotation in which kubectl keeps what it applied by itself.
    by_server = ("--server-side", "--force-conflicts")
    screen.ran(cluster.kubectl("apply", *by_server, "-f", f"{BUILD}/baseline.yaml").expect_ok())


def show_admitted(screen: Screen, cluster: Cluster) -> None:
    """Show that the safe model is admitted, protected and Ready."""
    screen.step(
        "A safe model is admitted",
        "One manifest says what the model is, who may call it and what for, where its data came from, and what watches"
        " it. modelward makes the rest, and puts the sidecar in front of it.",
    )
    screen.ran(cluster.kubectl("apply", "-f", f"{BUILD}/model.yaml").expect_ok())
    with screen.waiting("Waiting for it to be Ready") as tick:
        wait_ready(cluster, NAMESPACE, MODEL, tick)
    screen.ran(cluster.kubectl("get", "md", "-A").expect_ok())
    screen.ran(
        cluster.kubectl(
            "-n", NAMESPACE, "get", "deploy,svc,sa,netpol,pdb,cm,secret,pod", "-l", f"modelward.io/model={MODEL}"
        ).expect_ok()
    )
    for pod in pods_of(cluster, NAMESPACE, MODEL):
        spec = cluster.get("pod", pod, "-n", NAMESPACE)["spec"]
        if SIDECAR not in [container["name"] for container in spec.get("initContainers", [])]:
            raise NotAsToldError(f"pod {pod} runs without its sidecar")
    screen.good("Ready, and every pod has its sidecar")


_CALLS: tuple[tuple[str, str, str, int, tuple[str, ...]], ...] = (
    (
        "infer",
        "A doctor asks for a diagnosis",
        "TLS verified by modelward's own authority, a signed token, a purpose that the rule names: answered.",
        200,
        ("--proba",),
    ),
    (
        "explain",
        "The doctor asks why",
        "What each column adds to the answer, by asking the model about rows between this one and ordinary ones; in"
        " words, and with the address at which a patient contests it (GDPR articles 15 and 22).",
        200,
        (),
    ),
    (
        "infer",
        "Somebody asks without a token",
        "Who does not say who they are is not told anything.",
        401,
        ("--no-token",),
    ),
    (
        "infer",
        "The same doctor, for marketing",
        "A right to ask is a right to ask for a purpose (GDPR article 5).",
        403,
        ("--purpose", "marketing"),
    ),
    (
        "infer",
        "A body that no patient has",
        "Each value occurs, and together they cannot be: the smallest radius with the largest area. The detector"
        " knows what normal rows look like, and the model never sees this one.",
        403,
        ("--anomalous",),
    ),
)


def show_calls(screen: Screen, cluster: Cluster) -> dict[str, str]:
    """Show requests that are answered and refused; return what each was, by its request id."""
    requests = {}
    with door(cluster) as way:
        screen.step(
            "A way in",
            "The Service is the only address; from this machine it is reached through kubectl. The certificate is"
            " verified against the authority that modelward keeps.",
        )
        screen.command(f"kubectl -n {NAMESPACE} port-forward service/{MODEL} {way.port}:443 &")
        screen.command(
            f"kubectl -n {NAMESPACE} get secret {MODEL}-serving -o jsonpath='{{.data.ca\\.crt}}' | base64 -d > ca.crt"
        )
        for verb, title, shows, status, options in _CALLS:
            screen.step(title, shows)
            answer = way.ask("--expect", str(status), *options, verb=verb)
            screen.ran(answer.output, {sys.executable: "python", str(way.ca): "ca.crt"})
            if answer.status != status:
                raise NotAsToldError(f"the answer should be {status} and is {answer.status or 'none'}")
            requests[answer.request_id] = f"{title} ({status})"
            screen.good(f"{status}, as it should be")
    return requests


def show_attacked(screen: Screen, cluster: Cluster) -> None:
    """Show that nobody gets past the sidecar, by trying: the bypasses of the security test."""
    screen.step(
        "Friends attack it, before others do",
        "Ways past the sidecar, tried with a doctor's token and without. `spec.securityTest` has a Job try these and"
        " more before a model takes its first caller.",
    )
    with door(cluster) as way, tempfile.TemporaryDirectory() as folder:
        token = Path(folder) / "token"
        token.touch(mode=0o600)
        made = cluster.run(sys.executable, f"{EXAMPLE}/client.py", "token", "--seconds", "600").expect_ok()
        token.write_text(made.stdout, encoding="utf-8")
        screen.command(f"python {EXAMPLE}/client.py token --seconds 600 > token")
        attacked = cluster.run(
            *(MODELWARD, "attack", f"https://127.0.0.1:{way.port}", "--server-name", way.server_name),
            *("--ca-file", str(way.ca), "--token-file", str(token), "-f", f"{BUILD}/model.yaml"),
            *("--data", f"{BUILD}/holdout.csv", "--only", "bypass"),
            timeout=120,
        )
    typed = {str(MODELWARD): ".venv/bin/modelward", str(way.ca): "ca.crt", str(token): "token"}
    screen.ran(attacked.expect_ok(), typed)
    screen.good("none of them got through")
