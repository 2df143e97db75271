"""The kind cluster: made, kept, loaded with images, removed."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import cache, go_builds, images, versions
from tests.cluster.commands import ClusterError, run, succeeds
from tests.cluster.go_builds import PROGRAMS
from tests.cluster.prerequisites import ensure_debootstrap, ensure_docker, ensure_go, registry_has
from tests.cluster.progress import Step, run_steps

NAME = "modelward"
CONTEXT = f"kind-{NAME}"
CONFIG = Path(__file__).parents[2] / "kind-config.yaml"
NODE = f"{NAME}-control-plane"
_NEEDED = ("kind", "kubectl")
# What the node image made here needs of kind: it brings its own network, and may run on cgroup v1.
_OVERLAY = """
networking:
  disableDefaultCNI: true
kubeadmConfigPatches:
  - |
    kind: KubeletConfiguration
    apiVersion: kubelet.config.k8s.io/v1beta1
    failCgroupV1: false
"""
# The label that a loaded image carries in the node: the id Docker knows it by.
_LOADED_FROM = "modelward.io/loaded-from"


@dataclass(frozen=True)
class Loaded:
    """An image in the cluster: what it was called, and the name by digest under which pods can ask for it."""

    image: str
    by_digest: str


def up() -> None:
    """Give the cluster: keep it when it is healthy, make it anew when it is not."""
    ensure_docker()
    if healthy():
        print(f"the cluster {NAME} is there and healthy: kept ({_made_from()})", file=sys.stderr)
        _give_context_to_user()
        return
    ensure_go()
    if _nodes():
        print(f"the cluster {NAME} is there but does not answer: it is made anew", file=sys.stderr)
    steps, node_image, config = _plan()
    create = Step(f"making the cluster {NAME}", 45, lambda: _create(node_image, config))
    run_steps([*go_builds.steps(_NEEDED), *steps, create])
    print(f"the cluster {NAME} is ready ({_made_from()})\ntry: kubectl --context {CONTEXT} get nodes", file=sys.stderr)


def down() -> None:
    """Remove the cluster, and its context from the user's kubeconfig. Fine when there is none."""
    ensure_docker()
    there = bool(_nodes())
    if there:
        ensure_go()
        run_steps(go_builds.steps(("kind",)))
        _delete()
    print(f"the cluster {NAME} {'is removed' if there else 'is not there: nothing to remove'}", file=sys.stderr)


def status() -> str:
    """One line on the cluster's state."""
    if not _nodes():
        return f"{NAME}: not there; `python3 -m tests.cluster up` makes it"
    if not healthy():
        return f"{NAME}: does not answer; `python3 -m tests.cluster up` makes it anew"
    return f"{NAME}: ready, {_made_from()}, context {CONTEXT}"


def healthy() -> bool:
    """Whether the API server is ready, the node is Ready and the cluster's DNS is available."""
    if not _nodes() or not all(PROGRAMS[name].path.exists() for name in _NEEDED):
        return False
    questions = (
        ("get", "--raw=/readyz"),
        ("wait", "--for=condition=Ready", "node", "--all", "--timeout=5s"),
        ("--namespace=kube-system", "wait", "--for=condition=Available", "deployment/coredns", "--timeout=5s"),
    )
    try:
        _write_kubeconfig()
    except ClusterError:  # a node that does not run has none to give
        return False
    return all(succeeds([*_kubectl(), *question], timeout=20) for question in questions)


def kubeconfig() -> Path:
    """The cluster's own kubeconfig; the user's gets the same context."""
    return cache.root() / "kubeconfig"


def load(names: list[str]) -> list[Loaded]:
    """Put images of the local Docker into every node, where pods can name them by digest; no registry is asked.

    Raises:
        ClusterError: the cluster or one of the images is not there.
    """
    nodes = _nodes()
    if not nodes:
        raise ClusterError(f"the cluster {NAME} is not there: `python3 -m tests.cluster up` makes it")
    return [_load(name, nodes) for name in names]


def overlay(stock: str) -> str:
    """kind's configuration for the node image made here: the stock one, and what that image needs.

    Raises:
        ClusterError: the stock configuration has settings of its own where the overlay puts some.
    """
    for setting in re.findall(r"^\w+(?=:)", _OVERLAY, re.MULTILINE):
        if re.search(rf"^{setting}\s*:", stock, re.MULTILINE):
            raise ClusterError(
                f"{CONFIG.name} sets `{setting}`, which the node image made here needs for itself: "
                "move the setting to the node, or make the cluster where an image registry answers"
            )
    return stock.rstrip("\n") + "\n" + _OVERLAY.lstrip("\n")


def _plan() -> tuple[list[Step], str, str]:
    """The steps to the node image, the image, and the configuration that goes with it."""
    stock = CONFIG.read_text(encoding="utf-8")
    image = versions.STOCK_NODE_IMAGE
    if images.exists(image):
        return [], image, stock
    if registry_has(image):
        print(f"an image registry answers: kind's own node image is used ({image})", file=sys.stderr)
        return [Step(f"pulling {image}", 120, lambda: run(["docker", "pull", "--quiet", image]))], image, stock
    print("no image registry answers: the node image is made here, from source", file=sys.stderr)
    image = images.node_image()
    if not images.exists(image):
        ensure_debootstrap()
    return images.node_steps(), image, overlay(stock)


def _create(node_image: str, config: str) -> None:
    if _nodes():
        _delete()
    command = [*_kind("create", "cluster"), "--config=-", f"--image={node_image}", f"--kubeconfig={kubeconfig()}"]
    try:
        run([*command, "--wait=180s"], stdin=config, timeout=600)
    except ClusterError as error:
        if "unable to apply caps" not in str(error):
            raise
        raise ClusterError(
            "Docker cannot start privileged containers: this machine lacks CAP_SYS_RESOURCE, and its Docker was not "
            "started by this script, which knows a way around it. Stop Docker and run this again."
        ) from error
    run([*_kubectl(), "--namespace=kube-system", "rollout", "status", "deployment/coredns", "--timeout=120s"])
    _give_context_to_user()


def _delete() -> None:
    run(_kind("delete", "cluster"), timeout=120)
    kubeconfig().unlink(missing_ok=True)


def _write_kubeconfig() -> None:
    run([*_kind("export", "kubeconfig"), f"--kubeconfig={kubeconfig()}"], timeout=60)


def _give_context_to_user() -> None:
    """Put the context into the user's own kubeconfig and make it the current one, as kind does by default."""
    run(_kind("export", "kubeconfig"), timeout=60)


def _made_from() -> str:
    image = run(["docker", "inspect", "--format={{.Config.Image}}", NODE], timeout=60).strip()
    return f"node image {image}"


def _nodes() -> list[str]:
    """The cluster's nodes that exist, running or not, as Docker calls them."""
    named = f"label=io.x-k8s.kind.cluster={NAME}"
    return run(["docker", "ps", "--all", f"--filter={named}", "--format={{.Names}}"], timeout=60).split()


def _load(image: str, nodes: list[str]) -> Loaded:
    found = run(["docker", "image", "inspect", image], timeout=60)
    identifier: str = json.loads(found)[0]["Id"]
    if any(_LOADED_FROM + "=" + identifier not in _image_line(node, image) for node in nodes):
        run([*_kind("load", "docker-image"), image], timeout=600)
    digests = {_name_by_digest(node, image, identifier) for node in nodes}
    if len(digests) != 1:
        raise ClusterError(f"the nodes of {NAME} disagree on the digest of {image}: {', '.join(sorted(digests))}")
    return Loaded(image, f"{repository(image)}@{digests.pop()}")


def _name_by_digest(node: str, image: str, identifier: str) -> str:
    """Name the image by its digest in the node, and return the digest."""
    name, _, digest, *_ = _image_line(node, image).split()
    ctr = [*_ctr(node), "images"]
    run([*ctr, "label", name, f"{_LOADED_FROM}={identifier}"])
    run([*ctr, "tag", "--force", name, f"{repository(name)}@{digest}"])
    return digest


def _image_line(node: str, image: str) -> str:
    """The line of ``ctr images ls`` on an image: name, media type, digest, ..., labels; empty when it is not there."""
    lines = run([*_ctr(node), "images", "ls"], timeout=60).splitlines()
    return next((line for line in lines if is_name_of(line.partition(" ")[0], image)), "")


def is_name_of(full: str, image: str) -> bool:
    """Whether containerd's full name is that of an image as Docker's users write it: short, or with its registry."""
    if ":" not in image.rpartition("/")[2]:
        image += ":latest"
    return full == image or (full.endswith(f"/{image}") and full.removesuffix(image).count("/") <= 2)


def repository(image: str) -> str:
    """An image's name without tag and digest."""
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return head + slash + last.partition(":")[0]


def _ctr(node: str) -> list[str]:
    return ["docker", "exec", node, "ctr", "--namespace=k8s.io"]


def _kind(verb: str, noun: str) -> list[str]:
    return [str(PROGRAMS["kind"].path), verb, noun, f"--name={NAME}"]


def _kubectl() -> list[str]:
    return [str(PROGRAMS["kubectl"].path), f"--kubeconfig={kubeconfig()}"]
