"""Images made of Debian packages alone, with debootstrap."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster import cache
from tests.cluster.commands import ClusterError, pipe, run

if TYPE_CHECKING:
    from collections.abc import Sequence

_BUNDLE = Path("etc/ssl/certs/ca-certificates.crt")
_LOCAL_AUTHORITIES = Path("usr/local/share/ca-certificates")
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Of no use in a container.
_LEFT_OUT = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/apt", "var/lib/apt/lists")


def make_image(tag: str, suite: str, packages: Sequence[str]) -> None:
    """Make the image ``tag`` of a Debian suite's minimal system and ``packages``.

    It trusts the certificate authorities that this machine trusts: Docker builds reach what this machine reaches.
    """
    with cache.scratch() as folder:
        root = folder / "root"
        _debootstrap(root, suite, packages)
        changes = [f"--change=ENV {setting}" for setting in _trust_local_authorities(root)]
        excluded = [f"--exclude=./{path}/*" for path in _LEFT_OUT]
        pipe(["tar", "-C", root, *excluded, "-c", "."], ["docker", "import", *changes, "-", tag])


def mirror() -> str | None:
    """The address of the Debian mirror that apt is set to use here, if it is."""
    wanted = ["Created-By: Packages", "Origin: Debian", "Label: Debian"]
    try:
        sites = run(["apt-get", "indextargets", "--format", "$(SITE)", *wanted], timeout=60).split()
    except ClusterError:
        return None
    return sites[0] if sites else None


def _debootstrap(root: Path, suite: str, packages: Sequence[str]) -> None:
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(packages)}", suite, str(root)]
    address = mirror()
    run(command if address is None else [*command, address], env={"DEBIAN_FRONTEND": "noninteractive"})


def _trust_local_authorities(root: Path) -> list[str]:
    """Give the tree this machine's own certificate authorities, if it has some; the settings that go with them."""
    own = sorted((Path("/") / _LOCAL_AUTHORITIES).glob("*.crt"))
    if not own or not (root / _BUNDLE).exists():
        return []
    for certificate in own:
        shutil.copy(certificate, root / _LOCAL_AUTHORITIES)
    run(["chroot", root, "update-ca-certificates"], env={"PATH": SYSTEM_PATH})
    # pip and others bring their own list of authorities, and take these for it.
    return [f"SSL_CERT_FILE=/{_BUNDLE}", f"PIP_CERT=/{_BUNDLE}"]
