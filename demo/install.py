"""From nothing to modelward installed: cluster, images, chart. Each part does only what is not done yet."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from demo.kubectl import Cluster, NotAsToldError, Tick, silent, wait_for
from tests.cluster import go_builds, kind

ROOT = Path(__file__).parents[1]
CHART = "charts/modelward"
SYSTEM = "modelward-system"
PARTS = ("controller", "admission", "sidecar", "jobs")
ROLLOUT_SECONDS = 180

# Breaks every rule there is, so that whoever judges it has something to say.
_PROBE = """
apiVersion: modelward.io/v1alpha1
kind: ModelDeployment
metadata: {name: is-the-webhook-there, namespace: default}
spec: {model: {image: probe}}
"""


def cluster_up() -> Cluster:
    """Bring the kind cluster up, with progress on standard error.

    Raises:
        NotAsToldError: it could not be made.
    """
    _module("tests.cluster", "up")
    _module("tests.cluster", "tools", "kubectl", "helm")
    return Cluster(go_builds.tool_folder(), kind.kubeconfig(), ROOT)


def images_in_cluster() -> dict[str, str]:
    """Build the images that are missing and load them into the cluster.

    Returns:
        References by digest, by the images' names.

    Raises:
        NotAsToldError: one could not be built or loaded.
    """
    references = _references()
    loaded = _module("tests.cluster", "load", *references.values())
    by_digest = dict(line.split() for line in loaded.splitlines())
    return {name: by_digest[reference] for name, reference in references.items()}


def image_here(name: str) -> str:
    """Return the reference of an image on this machine, by its name."""
    return _references()[name]


def _references() -> dict[str, str]:
    references: dict[str, str] = json.loads(_module("tests.cluster.build_images", "-o", "json"))
    return references


def installed(cluster: Cluster, images: dict[str, str], tick: Tick = silent, values: str = "{}") -> None:
    """See to it that the chart is installed as it is here, with these values (YAML), and that modelward answers.

    Raises:
        NotAsToldError: Helm failed, or modelward did not come up in time.
    """
    # Helm applies CRDs when it installs, and never again.
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", f"{CHART}/crds").expect_ok()
    cluster.run(*helm_command(images), "--values=-", stdin=values, timeout=120, tick=tick).expect_ok()
    rolled_out(cluster, tick)


def helm_command(images: dict[str, str]) -> list[str]:
    """Return the command that installs the chart, or brings the release up to it.

    `--force-conflicts`: whoever scaled a Deployment by hand owns its replicas since, and Helm would refuse to set them.
    """
    settings = [f"--set=images.{part}={images[f'modelward-{part}']}" for part in PARTS]
    place = ["--namespace", SYSTEM, "--create-namespace"]
    return ["helm", "upgrade", "--install", "modelward", CHART, *place, "--force-conflicts", *settings]


def rolled_out(cluster: Cluster, tick: Tick = silent) -> None:
    """Wait until every process of modelward runs and the API server reaches the webhook.

    Raises:
        NotAsToldError: not within the time.
    """
    for process in ("controller", "admission"):
        rollout = ("rollout", "status", f"deployment/modelward-{process}", f"--timeout={ROLLOUT_SECONDS}s")
        cluster.kubectl("-n", SYSTEM, *rollout, timeout=ROLLOUT_SECONDS + 10, tick=tick).expect_ok()
    wait_for("an answer of the webhook to the API server", lambda: webhook_answers(cluster), timeout=60, tick=tick)


def webhook_answers(cluster: Cluster) -> bool | None:
    """Tell whether the webhook, and not the backstop behind it, refuses what is unsafe; None where it does not."""
    output = cluster.kubectl("apply", "--dry-run=server", "-f", "-", stdin=_PROBE)
    return True if "admission webhook" in output.text else None


def _module(*args: str) -> str:
    """Run `python -m …` with its progress on this terminal; return what it wrote to standard output."""
    done = subprocess.run([sys.executable, "-m", *args], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise NotAsToldError(f"`python -m {' '.join(args)}` failed (exit {done.returncode}); it says why above")
    return done.stdout
