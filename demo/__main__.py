"""`python -m demo`: exit 0 when every step came out as told, 1 when one did not, 130 when interrupted."""

from __future__ import annotations

import sys
import time

from demo import evidence, origins, refusals, serving
from demo.diagnosis import diagnosis
from demo.install import SYSTEM, cluster_up, helm_command, images_in_cluster, installed
from demo.kubectl import Cluster, NotAsToldError
from demo.screen import Screen

WHOLE_SECONDS = 240
READY_SECONDS = 180
REFUSED = "wdbc-in-a-hurry"

NEXT = f"""\
kubectl get md -A                               the models, and whether they are protected
kubectl describe md -n {serving.NAMESPACE} {serving.MODEL}                each condition with its reason
kubectl get clusterdatapolicy baseline -o yaml  what every model must have
kubectl explain modeldeployment.spec.access     what a manifest can say
kubectl -n {serving.NAMESPACE} edit md {serving.MODEL}                    take `encryption` out, and see it refused
.venv/bin/modelward check your-model.yaml       the same verdict, in your editor and your CI
make demo                                       all of this again, in about two minutes
make cluster-down                               the cluster is yours until then"""


def main() -> int:
    """Run every step in order."""
    screen = Screen()
    cluster = None
    start = time.monotonic()
    try:
        cluster = _cluster(screen)
        images = _images(screen)
        begun = time.monotonic()
        _install(screen, cluster, images)
        serving.show_setting(screen, cluster, images["modelward-example-wdbc"])
        rules = refusals.on_the_laptop(screen, cluster)
        refusals.by_the_webhook(screen, cluster, rules)
        serving.show_admitted(screen, cluster)
        ready = time.monotonic() - begun
        requests = serving.show_calls(screen, cluster)
        evidence.show_events(screen, cluster, REFUSED)
        evidence.show_measurements(screen, cluster, serving.NAMESPACE, serving.MODEL, requests)
        serving.show_attacked(screen, cluster)
        origins.show_signed(screen, cluster)
        refusals.with_the_operator_dead(screen, cluster)
        origins.show_lineage(screen, cluster)
        origins.show_report(screen, cluster)
    except NotAsToldError as error:
        _explain(screen, cluster, error)
        return 1
    except KeyboardInterrupt:
        screen.note("\ninterrupted: what was made stays, and the next run goes on from there")
        return 130
    _budgets(screen, time.monotonic() - start, ready)
    screen.panel("The cluster stays up. What to try next", NEXT)
    return 0


def _cluster(screen: Screen) -> Cluster:
    screen.step(
        "A Kubernetes cluster",
        "A real one, of kind: an API server, a kubelet, containers. The first time it is made from nothing, which takes"
        " a while where no image registry answers; afterwards it is kept.",
    )
    screen.command("python3 -m tests.cluster up")
    cluster = cluster_up()
    screen.ran(cluster.kubectl("get", "nodes").expect_ok())
    return cluster


def _images(screen: Screen) -> dict[str, str]:
    screen.step(
        "Images",
        "modelward's own four and the example's model server, built here and named by digest: what was reviewed is what"
        " runs.",
    )
    screen.command("python3 -m tests.cluster.build_images && python3 -m tests.cluster load …")
    images = images_in_cluster()
    screen.output("\n".join(images.values()))
    return images


def _install(screen: Screen, cluster: Cluster, images: dict[str, str]) -> None:
    screen.step(
        "Installing modelward",
        "One chart: controller, admission server, custom resources, the API server's own rules, and the policy"
        " `baseline` that governs every model from now on.",
    )
    screen.command(" ".join(helm_command(images)))
    with screen.waiting("Waiting for modelward to answer") as tick:
        installed(cluster, images, tick)
    screen.ran(cluster.kubectl("-n", SYSTEM, "get", "pods").expect_ok())
    screen.ran(cluster.kubectl("get", "clusterdatapolicies").expect_ok())


def _budgets(screen: Screen, whole: float, ready: float) -> None:
    screen.console.print()
    for what, seconds, budget in (
        ("`helm install` to the first Ready model", ready, READY_SECONDS),
        ("the whole demo", whole, WHOLE_SECONDS),
    ):
        text = f"{what}: {seconds:.0f} s (budget {budget} s with cluster and images there)"
        if seconds <= budget:
            screen.good(text)
        else:
            screen.note(f"over budget: {text}")


def _explain(screen: Screen, cluster: Cluster | None, error: NotAsToldError) -> None:
    screen.failure(str(error))
    if cluster is not None:
        screen.note("What the cluster looks like:")
        screen.output(diagnosis(cluster, serving.NAMESPACE), keep=200)


if __name__ == "__main__":
    sys.exit(main())
