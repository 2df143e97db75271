"""What a fit in the cluster is asked for, and how its baseline is fetched: one contract for the controller and the Job.

The Job's pod has no account at the API server and, where its data lies on a volume, no way out of its pod at all. It
fits, then waits to be asked, over TLS, with a token as `modelward.incidents` makes them:

    GET    /.modelward/baseline   -> the baseline, with the request's digest in the header
    DELETE /.modelward/baseline   -> it is kept now: the Job may end
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from modelward.jobrequest import JobRequest

BASELINE = "/.modelward/baseline"
DIGEST_HEADER = "x-modelward-request"
PORT = 8443
DATA_DIR = "/data"
"""Where the volume is mounted."""
MAX_BASELINE_BYTES = 1_000_000
"""A Secret holds 1 MiB, and the one that it goes into holds a certificate as well."""
MAX_DATA_BYTES = 512 << 20
MESSAGE_CHARS = 1000
USER_ERROR = 2
"""Exit code for what trying again does not mend."""


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where the data is: a file of the mounted volume, by its path there, or an https address.

    `claim` names the volume: the same path on another is other data, and another request.
    """

    claim: str = ""
    file: str = ""
    url: str = ""


class Anonymity(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """What the data must keep to before anything is fitted on it.

    Attributes:
        k: of k-anonymity, by the quasi-identifiers among the fields; 0: not asked.
        fields: quasi-identifiers and identifiers with their roles and treatments, as a DataPolicy writes `spec.fields`.
        hierarchies: the text of each that they name.
    """

    k: int
    fields: tuple[dict[str, Any], ...]
    hierarchies: dict[str, str] = {}


class FitRequest(JobRequest, frozen=True):
    """What to fit, and on what.

    Attributes:
        model: namespace/name.
        source: where the data is.
        sha256: of the data; empty: whatever it is.
        lineage: the model's annotation of its training data; empty: none.
        columns: those that the model takes and detectors see, in order; none: the data's own, without names.
        fields: how each column is treated before the detectors see it, as a DataPolicy writes `spec.fields`.
        false_positive_rate: the least that one of the model's detectors may have.
        seed: of the fit.
        anonymity: what the data must keep to; None: no policy asks for anything.
    """

    model: str
    source: Source
    sha256: Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")]
    lineage: str
    columns: tuple[str, ...]
    fields: tuple[dict[str, Any], ...]
    false_positive_rate: float
    seed: int = 0
    anonymity: Anonymity | None = None


class Errand(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A request with what the installation decides about data from elsewhere.

    Attributes:
        request: what to fit.
        allow: addresses that data may be fetched from, see `modelward.allowlist`.
        authorities: PEM bundle that is trusted there; empty: public authorities.
    """

    request: FitRequest
    allow: tuple[str, ...] = ()
    authorities: str = ""
