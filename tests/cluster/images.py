"""The images that are made here where no registry answers: kind's node, and what Dockerfiles start from."""

from __future__ import annotations

import shutil
import time
from functools import partial
from pathlib import Path

from tests.cluster import cache, debian, go_builds, versions
from tests.cluster.commands import ClusterError, pipe, run, succeeds
from tests.cluster.go_builds import PROGRAMS
from tests.cluster.prerequisites import lacks_sys_resource, registry_has
from tests.cluster.progress import Step

_NODE_FILES = Path(__file__).parent / "node"
_NODE_PROGRAMS = ("kubelet", "kubeadm", "kubectl", "containerd", "containerd-shim-runc-v2", "ctr")
_CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "etcd", "coredns")
_NODE_PACKAGES = (
    *("bash", "ca-certificates", "curl", "e2fsprogs", "jq", "kmod", "mount", "procps", "systemd", "util-linux"),
    *("conntrack", "ethtool", "iproute2", "ipset", "iptables", "nftables"),
    *("containernetworking-plugins", "runc"),
)
_PROXY_PACKAGES = ("conntrack", "ipset", "iproute2", "iptables", "kmod", "nftables")
_PYTHON_PACKAGES = ("ca-certificates", "python3", "python3-venv")


def exists(image: str) -> bool:
    """Whether Docker has the image."""
    return succeeds(["docker", "image", "inspect", image])


# --- what Dockerfiles start from


def base_steps(wanted: list[str]) -> list[Step]:
    """What is left to do to have those of the wanted images that are made here."""
    return [
        Step(f"making the image {tag}", 60, partial(debian.make_image, tag, suite, _PYTHON_PACKAGES))
        for _, tag, suite in versions.PYTHON_BASES
        if tag in wanted and not exists(tag)
    ]


def python_bases() -> list[str]:
    """The images for Dockerfiles to start from on this machine: the first for the operator, the second for MLServer."""
    from_registry = [image for image, _, _ in versions.PYTHON_BASES]
    if all(exists(image) or registry_has(image) for image in from_registry):
        return from_registry
    return [tag for _, tag, _ in versions.PYTHON_BASES]


# --- kind's node


def node_image() -> str:
    """The tag of the node image made here; it changes with everything the image is made of."""
    files = sorted(path for path in _NODE_FILES.iterdir() if path.is_file())
    key = cache.key(
        *(PROGRAMS[name].path.name for name in (*_NODE_PROGRAMS, *_CONTROL_PLANE)),
        *(part for path in files for part in (path.name, path.read_bytes())),
        *(_root_image(), _proxy_image(), versions.KIND, str(lacks_sys_resource())),
    )
    return f"modelward-node:{versions.KUBERNETES}-{key}"


def node_steps() -> list[Step]:
    """What is left to do to have the node image."""
    if exists(node_image()):
        return []
    steps = go_builds.steps((*_NODE_PROGRAMS, *_CONTROL_PLANE))
    for tag, packages in ((_root_image(), _NODE_PACKAGES), (_proxy_image(), _PROXY_PACKAGES)):
        if not exists(tag):
            make = partial(debian.make_image, tag, versions.NODE_SUITE, packages)
            steps.append(Step(f"making the image {tag}", 60, make))
    return [*steps, Step(f"making the image {node_image()}", 90, _make_node)]


def _root_image() -> str:
    return f"modelward-node-root:{cache.key(versions.NODE_SUITE, *_NODE_PACKAGES)}"


def _proxy_image() -> str:
    return f"modelward-proxy-root:{cache.key(versions.NODE_SUITE, *_PROXY_PACKAGES)}"


def _make_node() -> None:
    """The node image is a bare node with the control plane's images imported into its containerd."""
    kubeadm = PROGRAMS["kubeadm"].path
    listed = run([kubeadm, "config", "images", "list", f"--kubernetes-version={versions.KUBERNETES}"]).split()
    bare = "modelward-node-bare:building"
    try:
        for image in listed:
            _make_control_plane_image(image)
        _make_bare_node(bare, pause_image=next(image for image in listed if _name(image) == "pause"))
        _import_into_node(bare, listed)
    finally:
        succeeds(["docker", "image", "rm", "--force", bare, *listed])


def _name(image: str) -> str:
    """The last part of an image's name: ``coredns`` of ``<registry>/coredns/coredns:v1.14.6``."""
    return image.rpartition("/")[2].partition(":")[0]


def _make_control_plane_image(image: str) -> None:
    """One program in an image of exactly the tag that kubeadm asks for, whatever the program's own patch release is."""
    name = _name(image)
    with cache.scratch() as context:
        if name == "pause":
            go_builds.build_file(_NODE_FILES / "pause.go", context / name)
        else:
            shutil.copy(PROGRAMS[name].path, context / name)
        lines = (
            f"FROM {_proxy_image() if name == 'kube-proxy' else 'scratch'}",
            f"ENV PATH={debian.SYSTEM_PATH}",
            f"COPY {name} /usr/local/bin/{name}",
            f'ENTRYPOINT ["/usr/local/bin/{name}"]',
        )
        (context / "Dockerfile").write_text("\n".join(lines), encoding="utf-8")
        _docker_build(image, context)


def _make_bare_node(tag: str, pause_image: str) -> None:
    kind_files = go_builds.module_folder("sigs.k8s.io/kind", versions.KIND) / "images" / "base" / "files"
    wrapped = lacks_sys_resource()
    with cache.scratch() as context:
        # Go's module cache is read-only, and so would a plain copy of it be.
        shutil.copytree(kind_files, context / "kind", copy_function=shutil.copyfile)
        run(["chmod", "-R", "u+w", context / "kind"])
        (context / "bin").mkdir()
        for name in _NODE_PROGRAMS:
            shutil.copy(PROGRAMS[name].path, context / "bin" / name)
        (context / "sbin").mkdir()
        if wrapped:
            shutil.copy(_NODE_FILES / "runc-wrapper", context / "sbin" / "runc")
        for name in ("Dockerfile", "10-bridge.conflist"):
            shutil.copy(_NODE_FILES / name, context)
        (context / "version").write_text(versions.KUBERNETES, encoding="utf-8")
        arguments = {"ROOT": _root_image(), "PAUSE_IMAGE": pause_image, "RESTRICT_OOM_SCORE": str(wrapped).lower()}
        _docker_build(tag, context, arguments)


def _import_into_node(bare: str, listed: list[str]) -> None:
    """Start only containerd in a bare node, give it the images, and keep the result as the node image."""
    container = run(["docker", "run", "--detach", "--privileged", "--entrypoint=sleep", bare, "infinity"]).strip()
    inside = ["docker", "exec", container]
    try:
        run(["docker", "exec", "--detach", container, "containerd"])
        _wait_for([*inside, "ctr", "version"])
        importer = ["ctr", "--namespace=k8s.io", "images", "import", "--label=io.cri-containerd.pinned=pinned"]
        importer += ["--all-platforms", "--no-unpack", "--digests", "-"]
        pipe(["docker", "save", *listed], ["docker", "exec", "--interactive", container, *importer])
        run([*inside, "pkill", "-x", "containerd"])
        _wait_for([*inside, "sh", "-c", "! pgrep -x containerd"])
        entrypoint = '--change=ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]'
        run(["docker", "commit", entrypoint, container, node_image()])
    finally:
        run(["docker", "rm", "--force", "--volumes", container])


def _wait_for(question: list[str]) -> None:
    for _ in range(60):
        if succeeds(question):
            return
        time.sleep(0.5)
    raise ClusterError(f"`{' '.join(question)}` had not succeeded after 30 s, while making {node_image()}")


def _docker_build(tag: str, context: Path, arguments: dict[str, str] | None = None) -> None:
    """Build with the builder that every Docker has: BuildKit's client is a plugin that may not be there."""
    options = [f"--build-arg={name}={value}" for name, value in (arguments or {}).items()]
    run(["docker", "build", "--tag", tag, *options, context], env={"DOCKER_BUILDKIT": "0"})
