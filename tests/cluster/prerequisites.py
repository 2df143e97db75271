"""What the machine must have: Docker, Go, and debootstrap where images are made here.

On Debian, as root, what is missing is installed and started. Elsewhere the command that mends it is named.
"""

from __future__ import annotations

import fcntl
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.cluster import cache, versions
from tests.cluster.commands import ClusterError, PrerequisiteError, run, succeeds, tail

_CAP_SYS_RESOURCE = 24  # linux/capability.h
_WRAPPER = Path(__file__).parent / "node" / "runc-wrapper"


def ensure_docker() -> None:
    """A Docker daemon that answers.

    Raises:
        PrerequisiteError: there is none, and it is not for this script to install or start it.
    """
    if docker_answers():
        return
    if address := os.environ.get("DOCKER_HOST"):
        raise PrerequisiteError(f"Docker does not answer at DOCKER_HOST={address}: start it, or unset it")
    if sys.platform != "linux":
        raise PrerequisiteError("Docker does not answer: start it, or install it (https://docs.docker.com/get-docker/)")
    _ensure_programs({"docker": "docker.io", "dockerd": "docker.io", "iptables": "iptables"})
    if lacks_sys_resource():
        _ensure_programs({"jq": "jq", "runc": "runc"})
    if not docker_answers():
        _start_docker()


def ensure_go() -> None:
    """A Go tool chain that is new enough for what is built with it.

    Raises:
        PrerequisiteError: Go is missing or too old. It is never installed from here: Debian's is older than needed.
    """
    wanted = ".".join(map(str, versions.GO_AT_LEAST))
    cure = f"install Go {wanted} or newer as https://go.dev/doc/install says, and put its bin folder on the PATH"
    if shutil.which("go") is None:
        raise PrerequisiteError(f"Go is missing: {cure}")
    found = run(["go", "env", "GOVERSION"], timeout=60).strip()
    if go_version(found) < versions.GO_AT_LEAST:
        raise PrerequisiteError(f"Go is too old ({found}): {cure}")


def ensure_debootstrap() -> None:
    """debootstrap, and the right to use it.

    Raises:
        PrerequisiteError: no image can be made on this machine.
    """
    if sys.platform != "linux" or os.geteuid() != 0:
        raise PrerequisiteError(
            "no image registry answers, and images can be made without one only on Linux, as root: "
            "mend Docker's way to its registry, or run this with `sudo -E`"
        )
    _ensure_programs({"debootstrap": "debootstrap"})


def ensure_valkey() -> str:
    """A server that counts shared rate limits, Valkey or Redis; where its program is.

    Raises:
        PrerequisiteError: neither is there, and it is not for this script to install one.
    """
    if not (shutil.which("valkey-server") or shutil.which("redis-server")):
        _ensure_programs({"redis-server": "redis-server"})
    return shutil.which("valkey-server") or shutil.which("redis-server") or ""


def docker_answers() -> bool:
    """Whether the Docker daemon answers."""
    return succeeds(["docker", "version", "--format", "{{.Server.Version}}"], timeout=20)


def registry_has(image: str) -> bool:
    """Whether a registry answers and has the image. Asks for a few kilobytes; its absence shows within seconds."""
    return succeeds(["docker", "manifest", "inspect", image], timeout=20)


def go_version(text: str) -> tuple[int, ...]:
    """``go1.26.8`` as ``(1, 26, 8)``; what cannot be read is older than everything."""
    found = re.match(r"go(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part or 0) for part in found.groups()) if found else (0,)


def lacks_sys_resource() -> bool:
    """Whether no process of this machine can have CAP_SYS_RESOURCE, as in some containers and sandboxes.

    Privileged containers ask for it, so that runc fails there: ``node/runc-wrapper`` is the way around it.
    """
    status = Path("/proc/self/status")
    return status.exists() and not bounding_set(status.read_text(encoding="ascii")) >> _CAP_SYS_RESOURCE & 1


def bounding_set(status: str) -> int:
    """The capability bounding set in a ``/proc/<pid>/status``; all capabilities when it does not say."""
    found = re.search(r"^CapBnd:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return int(found[1], 16) if found else -1


def _ensure_programs(packages: dict[str, str]) -> None:
    missing = _missing(packages)
    if not missing:
        return
    command = f"apt-get install {' '.join(missing)}"
    if not _on_debian():
        raise PrerequisiteError(f"missing: {', '.join(missing)}; on Debian, `{command}` would install it")
    if os.geteuid() != 0:
        raise PrerequisiteError(f"missing: {', '.join(missing)}; install with `sudo {command}`")
    with (cache.folder() / "apt.lock").open("w") as lock:  # tests that run side by side may lack the same
        fcntl.flock(lock, fcntl.LOCK_EX)
        missing = _missing(packages)
        if not missing:
            return
        print(f"installing from Debian: {', '.join(missing)}", file=sys.stderr)
        run(["apt-get", "update", "-qq"])
        run(["apt-get", "install", "-y", "-qq", *missing], env={"DEBIAN_FRONTEND": "noninteractive"})


def _missing(packages: dict[str, str]) -> list[str]:
    return sorted({package for program, package in packages.items() if shutil.which(program) is None})


def _on_debian() -> bool:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return False
    return "debian" in (release["ID"], *release.get("ID_LIKE", "").split()) and shutil.which("apt-get") is not None


def _start_docker() -> None:
    if os.geteuid() != 0:
        raise PrerequisiteError(
            "Docker does not answer: start it with `sudo systemctl start docker`, and if it runs, "
            "let yourself use it with `sudo usermod -aG docker $USER` (then log in anew)"
        )
    if Path("/run/systemd/system").exists():
        print("starting Docker (systemctl start docker)", file=sys.stderr)
        run(["systemctl", "start", "docker"])
        return
    log = cache.folder() / "dockerd.log"
    print(f"starting Docker, which is no service here: dockerd, its log in {log}", file=sys.stderr)
    with log.open("ab") as output:
        # A session of its own: the daemon outlives this script and the terminal it was called from.
        daemon = subprocess.Popen(
            ["dockerd", *_runtime_options()],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    for _ in range(60):
        if docker_answers():
            return
        if daemon.poll() is not None:
            break
        time.sleep(1)
    raise ClusterError(f"dockerd does not come up; the end of {log}:\n{tail(log)}")


def _runtime_options() -> list[str]:
    if not lacks_sys_resource():
        return []
    wrapper = cache.folder() / "runc-wrapper"  # not the checkout's: that one may go while the daemon runs
    shutil.copy(_WRAPPER, wrapper)
    return [f"--add-runtime=wrapped={wrapper}", "--default-runtime=wrapped"]
