"""Why a sidecar's configuration cannot be made."""

from __future__ import annotations

from typing import Literal


class SidecarConfigError(Exception):
    """Something that the configuration is made of cannot be used; the message names the field and the object."""

    reason: Literal["ReferenceUnusable", "AddressNotAllowed"] = "ReferenceUnusable"


class AddressNotAllowedError(SidecarConfigError):
    """An address that the installation does not allow a sidecar to connect to."""

    reason = "AddressNotAllowed"
