from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tarfile
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.lineage.bundle import read_bundles
from modelward.lineage.layout import read_layout
from modelward.lineage.reading import StatementError
from tests.unit.lineage.signers import DATASET, MODEL, about, signed

BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"


class Layout:
    """An OCI image layout in the making."""

    def __init__(self) -> None:
        self.files = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}'}

    def add(self, content: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        self.files[f"blobs/sha256/{digest}"] = content
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}

    def manifest(self, *layers: dict[str, Any]) -> dict[str, Any]:
        content = json.dumps({"schemaVersion": 2, "layers": layers}).encode()
        return self.add(content, "application/vnd.oci.image.manifest.v1+json")

    def index(self, *manifests: dict[str, Any]) -> Layout:
        self.files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()
        return self

    def tar(self, mode: Any = "w:") -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode=mode) as archive:
            for name, content in self.files.items():
                entry = tarfile.TarInfo(f"./{name}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        return out.getvalue()


def layout() -> Layout:
    made = Layout()
    weights = made.add(b"weights", "application/octet-stream")
    first = made.manifest(weights, made.add(signed(about(MODEL)), BUNDLE_TYPE))
    envelope = json.dumps(json.loads(signed(about(DATASET)))["dsseEnvelope"]).encode()
    second = made.manifest(made.add(envelope, "application/vnd.in-toto+json"))
    return made.index(first, second)


def test_bundles_and_envelopes_among_the_layers_are_read() -> None:
    assert len(read_bundles("wdbc.oci.tar", layout().tar())) == 2


def test_an_index_in_an_index() -> None:
    made = Layout()
    inner = json.dumps({"manifests": [made.manifest(made.add(signed(about(MODEL)), BUNDLE_TYPE))]}).encode()
    outer = made.add(inner, "application/vnd.oci.image.index.v1+json")
    assert len(read_layout(made.index(outer, outer).tar())) == 1


def test_what_is_no_layout_is_said() -> None:
    bare, other = layout(), layout()
    del bare.files["index.json"]
    del other.files[next(name for name in other.files if b"layers" in other.files[name])]
    for content, words in (
        (b"", "has no index.json"),
        (b"x" * 600, "is no tar"),
        (layout().tar("w:gz"), "damaged or compressed"),
        (layout().tar()[:1540], "was cut"),
        (bare.tar(), "has no index.json"),
        (other.tar(), "names a blob that is not in it"),
        (Layout().index().tar(), "no layer that is a signed statement"),
    ):
        with pytest.raises(StatementError, match=words):
            read_layout(content)
    only = Layout()
    content = signed(about(MODEL))
    only.index(only.manifest(only.add(content, BUNDLE_TYPE)))
    only.files[f"blobs/sha256/{hashlib.sha256(content).hexdigest()}"] += b" "
    with pytest.raises(StatementError, match="is not what its digest says"):
        read_layout(only.tar())


def test_a_layout_is_bounded() -> None:
    many = Layout()
    layers = [many.add(str(index).encode(), BUNDLE_TYPE) for index in range(200)]
    with pytest.raises(StatementError, match="more than 128 manifests and layers"):
        read_layout(many.index(many.manifest(*layers)).tar())
    many.files.update({f"x{index}": b"" for index in range(300)})
    with pytest.raises(StatementError, match="more than 256 files"):
        read_layout(many.tar())


def test_extended_headers_are_passed_over() -> None:
    made = layout()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:", format=tarfile.PAX_FORMAT) as archive:
        for name, content in made.files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(content), 1.5  # type: ignore[assignment]
            entry.pax_headers = {"comment": "1" * 100_000}
            archive.addfile(entry, io.BytesIO(content))
    assert len(read_layout(out.getvalue())) == 2


@given(st.data())
def test_a_damaged_layout_is_read_or_refused(data: Any) -> None:
    content = bytearray(layout().tar())
    for _ in range(data.draw(st.integers(1, 20))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    for damaged in (bytes(content), bytes(content[:cut])):
        with contextlib.suppress(StatementError):
            assert read_layout(damaged)
