"""The address of the data that a baseline is fitted on: which are read, and from where within the Job's pod.

`pvc://<claim>/<path>` is a file on a PersistentVolumeClaim of the model's namespace, mounted for reading alone.
`https://<host>/<path>` is fetched. Either may end in `@sha256:<64 hex digits>`; the digest of the lineage annotation
`dataset` holds where none is given. Object stores are not read: their keys would have to lie in the model's namespace.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from modelward.api.lineage import lineage

SUFFIXES = (".csv", ".npz", ".parquet")
_DIGEST = re.compile(r"(?P<address>.+)@sha256:(?P<sha256>[0-9a-f]{64})")
_CLAIM = re.compile(r"pvc://(?P<claim>[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?)/(?P<path>[!-~]+)")


class DatasetError(Exception):
    """An address that no data is read from; the message says why, and which are."""


@dataclass(frozen=True)
class Dataset:
    """Where the data is.

    Attributes:
        claim: PersistentVolumeClaim that holds it; empty where it is fetched.
        path: within the claim.
        url: https address; empty where it is on a claim.
        sha256: of the data; empty where neither the address nor the lineage tells.
    """

    claim: str = ""
    path: str = ""
    url: str = ""
    sha256: str = ""


def read_dataset(address: str, annotations: Mapping[str, str]) -> Dataset:
    """Read an address.

    Args:
        address: `spec.monitoring.baseline.dataset`.
        annotations: the ModelDeployment's, whose lineage may tell the digest.

    Raises:
        DatasetError: nothing is read from there.
    """
    own = _DIGEST.fullmatch(address)
    if not own and "@sha256:" in address:
        raise DatasetError("a digest is @sha256: and 64 lower-case hex digits, at the end")
    place = own["address"] if own else address
    declared = _DIGEST.fullmatch(lineage(annotations).get("dataset", ""))
    sha256 = (own or declared or {"sha256": ""})["sha256"]
    if place.startswith("pvc://"):
        found = _CLAIM.fullmatch(place)
        path = PurePosixPath(found["path"]) if found else PurePosixPath("/")
        if found is None or path.is_absolute() or ".." in path.parts:
            raise DatasetError("write it as pvc://<claim>/<path>, the path without `..`")
        dataset = Dataset(claim=found["claim"], path=str(path), sha256=sha256)
    elif place.startswith("https://"):
        path = PurePosixPath(place.partition("?")[0])
        if not sha256:
            raise DatasetError(
                "what is fetched must be known by its digest: end it in @sha256:<64 hex digits>, or give the lineage "
                "annotation dataset one"
            )
        dataset = Dataset(url=place, sha256=sha256)
    else:
        scheme = place.partition("://")[0] if "://" in place else "no scheme"
        raise DatasetError(
            f"{scheme[:32]}: data is read from pvc://<claim>/<path> and https:// alone; fit elsewhere with "
            "`modelward fit` and use configMapName"
        )
    if path.suffix.lower() not in SUFFIXES:
        raise DatasetError(f"its name must end in {', '.join(SUFFIXES)}")
    return dataset
