"""Programs built from Go modules: kept in the cache, one file each, keyed by everything that decides their contents."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.cluster import cache, versions
from tests.cluster.commands import run
from tests.cluster.progress import Step

_FLAGS = ("-mod=mod", "-trimpath")
_STAGED = re.compile(r"^\s+(k8s\.io/\S+) v0\.0\.0\b(?!-)", re.MULTILINE)
_STAGED_SAMPLE = "\tk8s.io/api v0.0.0\n"  # stands for all of them in keys: the rest follows from the version
_KUBERNETES = "k8s.io/kubernetes"
_SAMPLE = "k8s.io/sample-apiserver"
_EMPTY = "empty"  # the folder of a module with nothing in it


@dataclass(frozen=True)
class Program:
    """One command of a Go module; ``seconds`` is its usual build time after the programs listed before it."""

    name: str
    module: str
    version: str
    package: str
    seconds: float
    tags: str = ""
    variables: tuple[str, ...] = ()

    @property
    def link_flags(self) -> str:
        return " ".join(("-s -w", *(f"-X {variable}" for variable in self.variables)))

    @property
    def path(self) -> Path:
        """Where it is, or will be, in the cache."""
        key = cache.key(self.package, self.tags, self.link_flags, *_FLAGS, go_mod(self, _STAGED_SAMPLE))
        return cache.root() / "programs" / f"{self.name}-{self.version}-{key}"


Programs = Mapping[str, Program]


def _kubernetes_variables(version: str) -> tuple[str, ...]:
    """Without these a binary calls itself v0.0.0, and kubeadm refuses to work with it."""
    major, minor = version.removeprefix("v").split(".")[:2]
    values = {
        "gitVersion": version,
        "gitMajor": major,
        "gitMinor": minor,
        "gitCommit": "unknown",
        "gitTreeState": "archive",
        "buildDate": "1970-01-01T00:00:00Z",
    }
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return tuple(f"{package}.{name}={value}" for package in packages for name, value in values.items())


def _kubernetes(name: str, seconds: float, version: str = versions.KUBERNETES) -> Program:
    package = f"{_KUBERNETES}/cmd/{name}"
    return Program(name, _KUBERNETES, version, package, seconds, variables=_kubernetes_variables(version))


def _containerd(name: str, seconds: float) -> Program:
    module = "github.com/containerd/containerd/v2"
    tags = "no_btrfs,no_devmapper,no_zfs,no_aufs"  # snapshotters that a kind node has no use for
    return Program(name, module, versions.CONTAINERD, f"{module}/cmd/{name}", seconds, tags=tags)


def _etcd() -> Program:
    module = "go.etcd.io/etcd/server/v3"  # the module at the repository's root is not the server
    return Program("etcd", module, versions.ETCD, module, 60)


def _helm() -> Program:
    variables = (f"helm.sh/helm/v4/internal/version.version={versions.HELM}",)
    return Program("helm", "helm.sh/helm/v4", versions.HELM, "helm.sh/helm/v4/cmd/helm", 180, variables=variables)


# In the order in which they are built: first what the integration tests wait for.
PROGRAMS = {
    program.name: program
    for program in (
        _kubernetes("kube-apiserver", 480),
        _etcd(),
        _kubernetes("kubectl", 40),
        Program("kind", "sigs.k8s.io/kind", versions.KIND, "sigs.k8s.io/kind", 10),
        _helm(),
        _kubernetes("kube-controller-manager", 110),
        _kubernetes("kube-scheduler", 40),
        _kubernetes("kubelet", 70),
        _kubernetes("kubeadm", 40),
        _kubernetes("kube-proxy", 30),
        _containerd("containerd", 80),
        _containerd("containerd-shim-runc-v2", 10),
        _containerd("ctr", 15),
        Program("coredns", "github.com/coredns/coredns", versions.COREDNS, "github.com/coredns/coredns", 240),
    )
}
TOOLS = ("kube-apiserver", "etcd", "kubectl", "kind", "helm", "kube-controller-manager")


def programs_of(kubernetes: str) -> Programs:
    """PROGRAMS with Kubernetes' own of another version, as ``v1.30.14``."""
    return {
        name: _kubernetes(name, program.seconds, kubernetes) if program.module == _KUBERNETES else program
        for name, program in PROGRAMS.items()
    }


def steps(names: tuple[str, ...], programs: Programs = PROGRAMS) -> list[Step]:
    """What is left to do to have the named programs in the cache."""
    missing = [program for name, program in programs.items() if name in names and not program.path.exists()]
    return [
        Step(f"building {program.name} {program.version}", program.seconds, partial(_build, program))
        for program in missing
    ]


def tool_folder(programs: Programs = PROGRAMS) -> Path:
    """The folder with the tools built so far, under their plain names: for a PATH."""
    tools = [programs[name] for name in TOOLS]
    folder = cache.folder("bin", cache.key(*(tool.path.name for tool in tools)))
    for tool in tools:
        if tool.path.exists() and not (folder / tool.name).exists():
            _install(tool.path, folder / tool.name)
    return folder


def _install(built: Path, target: Path) -> None:
    """Give a built file a second name at ``target``, whole or not at all even if another run does the same."""
    name = target.with_name(f".{target.name}.{os.getpid()}")
    name.unlink(missing_ok=True)
    name.hardlink_to(built)
    name.replace(target)


def module_folder(module: str, version: str) -> Path:
    """Where Go keeps the source of a module; downloaded when it is not there."""
    return Path(_download(module, version)["Dir"])


def build_file(source: Path, target: Path) -> None:
    """Build a program of one file that needs nothing but Go's standard library."""
    run(["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", target, source], env=_environment())


def go_mod(program: Program, upstream: str) -> str:
    """The go.mod to build a program with; ``upstream`` is that of its module.

    Kubernetes is the reason for it: its module requires the staged ones at v0.0.0 and replaces them by folders of its
    own repository, which does not count elsewhere. They are released together: v1.37.2 of it, v0.37.2 of them. The
    sample of an API server, which nothing built here imports, is not to be had of every release: ``_EMPTY`` stands in.
    """
    released = program.version.replace("v1.", "v0.", 1)
    lines = ["module modelward/build", "go 1.26.0", f"require {program.module} {program.version}"]
    for staged in _STAGED.findall(upstream):
        source = f"./{_EMPTY}" if staged == _SAMPLE else f"{staged} {released}"
        lines += [f"require {staged} {released}", f"replace {staged} => {source}"]
    return "\n".join(lines) + "\n"


def _build(program: Program) -> None:
    upstream = Path(_download(program.module, program.version)["GoMod"]).read_text(encoding="utf-8")
    with cache.scratch() as folder:
        (folder / "go.mod").write_text(go_mod(program, upstream), encoding="utf-8")
        (folder / _EMPTY).mkdir()
        (folder / _EMPTY / "go.mod").write_text(f"module {_SAMPLE}\n", encoding="utf-8")
        target = folder / program.name
        flags = [*_FLAGS, f"-tags={program.tags}", "-ldflags", program.link_flags]
        run(["go", "build", *flags, "-o", target, program.package], cwd=folder, env=_environment())
        program.path.parent.mkdir(parents=True, exist_ok=True)
        target.replace(program.path)


def _download(module: str, version: str) -> dict[str, str]:
    output = run(["go", "mod", "download", "-json", f"{module}@{version}"], cwd=cache.folder(), env=_environment())
    found: dict[str, str] = json.loads(output)
    return found


def _environment() -> dict[str, str]:
    return {"CGO_ENABLED": "0", "GOWORK": "off"}
