from __future__ import annotations

from dataclasses import replace

import pytest

from tests.cluster import go_builds, versions
from tests.cluster.go_builds import PROGRAMS, go_mod, programs_of

KUBERNETES_GO_MOD = """\
module k8s.io/kubernetes

go 1.26.0

require (
	k8s.io/api v0.0.0
	k8s.io/utils v0.0.0-20260108192941-914a6e750570
	k8s.io/klog/v2 v2.140.0
	k8s.io/client-go v0.0.0
	k8s.io/sample-apiserver v0.0.0
)

replace (
	k8s.io/api => ./staging/src/k8s.io/api
	k8s.io/client-go => ./staging/src/k8s.io/client-go
	k8s.io/sample-cli-plugin => ./staging/src/k8s.io/sample-cli-plugin
)
"""


def test_kubernetes_staged_modules_are_taken_from_where_they_are_released() -> None:
    program = replace(PROGRAMS["kubelet"], version="v1.37.2")
    assert go_mod(program, KUBERNETES_GO_MOD).splitlines() == [
        "module modelward/build",
        "go 1.26.0",
        "require k8s.io/kubernetes v1.37.2",
        "require k8s.io/api v0.37.2",
        "replace k8s.io/api => k8s.io/api v0.37.2",
        "require k8s.io/client-go v0.37.2",
        "replace k8s.io/client-go => k8s.io/client-go v0.37.2",
        "require k8s.io/sample-apiserver v0.37.2",
        "replace k8s.io/sample-apiserver => ./empty",
    ]


def test_other_modules_are_taken_as_they_are() -> None:
    assert "replace" not in go_mod(PROGRAMS["etcd"], "require (\n\tgo.etcd.io/raft/v3 v3.6.0\n)\n")


@pytest.mark.parametrize("change", [{"version": "v9.9.9"}, {"tags": "x"}, {"variables": ("a=b",)}, {"package": "p"}])
def test_what_decides_a_program_decides_where_it_is_kept(change: dict[str, object]) -> None:
    program = PROGRAMS["containerd"]
    assert replace(program, **change).path != program.path
    assert replace(program, seconds=1).path == program.path


def test_kubernetes_programs_know_their_version() -> None:
    assert "-X k8s.io/component-base/version.gitVersion=v1." in PROGRAMS["kubeadm"].link_flags


def test_another_kubernetes_changes_its_own_programs_alone() -> None:
    others = programs_of("v1.30.14")
    changed = {name for name, program in PROGRAMS.items() if others[name].path != program.path}
    assert changed == {name for name in PROGRAMS if name.startswith("kube")}
    assert "gitMinor=30" in others["kubectl"].link_flags
    assert go_builds.tool_folder(others) != go_builds.tool_folder()
    assert programs_of(versions.KUBERNETES) == PROGRAMS


def test_only_what_is_not_there_is_left_to_do() -> None:
    etcd = PROGRAMS["etcd"]
    assert [step.title for step in go_builds.steps(("etcd", "kind"))] == [
        f"building etcd {etcd.version}",
        f"building kind {PROGRAMS['kind'].version}",
    ]
    etcd.path.parent.mkdir(parents=True)
    etcd.path.write_text("a program")
    assert [step.title for step in go_builds.steps(("etcd",))] == []
    assert [path.name for path in go_builds.tool_folder().iterdir()] == ["etcd"]
    assert (go_builds.tool_folder() / "etcd").read_text() == "a program"
