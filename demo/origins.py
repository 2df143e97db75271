"""Where it came from and where it went: signed lineage, the graph of it, and the page for who has to answer for it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from demo.install import image_here
from demo.kubectl import Cluster, NotAsToldError, Tick, silent, wait_for
from demo.refusals import MODELWARD
from demo.screen import Screen
from demo.serving import BUILD, EXAMPLE, MODEL, NAMESPACE, SIGNED, STATEMENTS, condition

TYPED = {str(MODELWARD): ".venv/bin/modelward", sys.executable: "python"}
PAGE = f"{BUILD}/report.html"
CALLER = "user:dr-lee"
_MODEL_FILE = f"{BUILD}/model.joblib"
_BUNDLE = f"{BUILD}/wdbc.sigstore.json"
_POLICY = f"""
apiVersion: modelward.io/v1alpha1
kind: DataPolicy
metadata: {{name: {SIGNED}, namespace: {NAMESPACE}}}
spec:
  require:
    lineage: {{digests: true, signedBy: ["key:clinic-ml"], trustConfigMapName: signers}}
"""


def show_signed(screen: Screen, cluster: Cluster) -> None:
    """Show that lineage which nobody answers for keeps a model from being served, and how it is answered for."""
    screen.step(
        "Who answers for where the model came from?",
        "Anyone who may write the object may write its lineage. Now the clinic asks for the signature of its own team:"
        " until there is one, the model has no endpoints.",
    )
    screen.ran(cluster.kubectl("apply", "-f", f"{BUILD}/signers.yaml").expect_ok())
    screen.command("kubectl apply -f signed.yaml    # spec.require.lineage.signedBy: [key:clinic-ml]")
    screen.output(cluster.kubectl("apply", "-f", "-", stdin=_POLICY).expect_ok().text)
    with screen.waiting("Waiting for the verdict") as tick:
        screen.good(f"not served: {_verified(cluster, 'False', tick)['message']}")
    _sign(screen, cluster)
    made = ("create", "configmap", STATEMENTS, "-n", NAMESPACE, f"--from-file={_BUNDLE}")
    screen.ran(cluster.kubectl(*made).expect_ok())
    named = f"lineage.modelward.io/statements=configmap/{STATEMENTS}"
    screen.ran(cluster.kubectl("annotate", "modeldeployment", MODEL, "-n", NAMESPACE, named, "--overwrite").expect_ok())
    with screen.waiting("Waiting for the verdict") as tick:
        screen.good(f"served again: {_verified(cluster, 'True', tick)['message']}")


def _sign(screen: Screen, cluster: Cluster) -> None:
    """Sign the model's file, which is taken out of the image that serves it."""
    image = image_here("modelward-example-wdbc")
    container = cluster.run("docker", "create", image).expect_ok().stdout.strip()
    screen.command(f"docker cp $(docker create {image}):/srv/wdbc/model.joblib {_MODEL_FILE}")
    try:
        cluster.run("docker", "cp", f"{container}:/srv/wdbc/model.joblib", _MODEL_FILE).expect_ok()
    finally:
        cluster.run("docker", "rm", container)
    manifest = (cluster.folder / EXAMPLE / "model.yaml").read_text(encoding="utf-8")
    source = re.findall(r"lineage\.modelward\.io/dataset: (\S+)", manifest)[0]
    signed = cluster.run(
        *(MODELWARD, "sign", _MODEL_FILE, "--key", f"{BUILD}/clinic-ml.key", "--out", _BUNDLE),
        *("--from", source, "--transformations", f"{BUILD}/steps.json"),
    )
    screen.ran(signed.expect_ok(), TYPED)


def _verified(cluster: Cluster, status: str, tick: Tick = silent) -> dict[str, Any]:
    """Wait until the lineage is found to be signed (`True`), or not (`False`); return the condition."""

    def look() -> dict[str, Any] | None:
        resource = cluster.get("modeldeployment", MODEL, "-n", NAMESPACE)
        found = condition(resource, "LineageVerified")
        signed = found.get("reason") == "Signed"
        ready = condition(resource, "Ready").get("status")
        if (found.get("status"), ready) == (status, status) and signed == (status == "True"):
            return found
        raise NotAsToldError(f"LineageVerified is {found.get('status')}, {found.get('reason')}; Ready is {ready}")

    return wait_for(f"LineageVerified and Ready are {status}", look, timeout=60, tick=tick)


def show_lineage(screen: Screen, cluster: Cluster) -> None:
    """Show where the model's data came from and who got its answers; and how far the data set went."""
    screen.step(
        "Where did its data come from, and who got its answers?",
        "From the source to whoever was answered: what was done to the data, how and why, who vouches for it, and who"
        " asked, what for and when.",
    )

    def told() -> bool | None:
        lineage = cluster.get("modeldeployment", MODEL, "-n", NAMESPACE)["status"].get("lineage") or {}
        return True if any(one["client"] == CALLER for one in lineage.get("consumers", ())) else None

    with screen.waiting("Waiting for the minute in which it was asked to be over and told of") as tick:
        wait_for(f"status.lineage.consumers names {CALLER}", told, timeout=120, tick=tick)
    answered = cluster.run(MODELWARD, "lineage", f"md/{MODEL}", "-n", NAMESPACE)
    screen.ran(answered.expect_ok(), TYPED)
    _names(answered.stdout, CALLER, "wdbc.csv", "z-score", "diagnosis")
    screen.good("from the data set to the doctor")
    screen.step(
        "A breach of the data set: whom does it reach?",
        "Backwards, by nothing but the digest: every model that learned from it, and everyone who got answers.",
    )
    digest = re.findall(r"wdbc\.csv@(sha256:[0-9a-f]{64})", (cluster.folder / EXAMPLE / "model.yaml").read_text())[0]
    reached = cluster.run(MODELWARD, "lineage", "--digest", digest)
    screen.ran(reached.expect_ok(), TYPED)
    _names(reached.stdout, MODEL, CALLER)
    screen.good("its blast radius")


def show_report(screen: Screen, cluster: Cluster) -> None:
    """Show the page for auditors."""
    screen.step(
        "The page for whoever has to answer for it",
        "One file that asks nothing of a network: the register of processing, verdicts by framework, lineage,"
        " incidents, fairness and drift, certificates and exceptions.",
    )
    made = cluster.run(MODELWARD, "report", "-A", "--out", PAGE)
    screen.ran(made.expect_ok(), TYPED)
    page = Path(cluster.folder / PAGE)
    text = page.read_text(encoding="utf-8")
    _names(text, MODEL, CALLER, "LineageVerified")
    screen.good(f"{PAGE}: {len(text) // 1024} KiB, to be opened in any browser, or printed")


def _names(text: str, *wanted: str) -> None:
    """Fail where something is not named."""
    if lacks := [one for one in wanted if one not in text]:
        raise NotAsToldError(f"it should name {', '.join(lacks)}, and says:\n{text[:4000]}")
