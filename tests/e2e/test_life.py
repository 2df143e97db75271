"""A model's life on the kind cluster: what it waits for, how it is called with a client certificate, how it goes."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from demo.kubectl import Cluster, NotAsToldError, wait_for
from demo.serving import authority, condition, wait_ready
from tests.corpus import Manifest
from tests.e2e.conftest import Installed

MADE = "deployment,service,serviceaccount,networkpolicy,configmap,secret,poddisruptionbudget,pod"
MODEL = "wdbc"


def in_namespace(manifest: Manifest, namespace: str) -> Manifest:
    return {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}}


def made(cluster: Cluster, namespace: str) -> list[str]:
    found = cluster.kubectl("get", MADE, "-n", namespace, "-l", f"modelward.io/model={MODEL}", "-o", "name")
    return found.expect_ok().stdout.split()


def wait_gone(cluster: Cluster, namespace: str) -> None:
    def look() -> bool | None:
        left = made(cluster, namespace)
        if left:
            raise NotAsToldError(f"still there: {', '.join(left)}")
        return True

    wait_for("everything that was made for the model is gone", look, timeout=90)


def test_what_is_missing_is_told_awaited_and_nothing_half_made(modelward: Installed, namespace: str) -> None:
    cluster = modelward.cluster
    modelward.apply(in_namespace(modelward.example("model.yaml"), namespace))

    def stalled() -> dict[str, Any] | None:
        told = condition(cluster.get("modeldeployment", MODEL, "-n", namespace), "Stalled")
        return told if told.get("reason") == "ReferenceMissing" else None

    told = wait_for("the condition Stalled for what is missing", stalled, timeout=30)
    assert "clinic-jwks" in told["message"]
    assert made(cluster, namespace) == [], "something was made although a ConfigMap is missing"
    for name in ("jwks.yaml", "baseline.yaml"):
        modelward.apply(in_namespace(modelward.example(name), namespace))
    wait_ready(cluster, namespace, MODEL)
    assert len([name for name in made(cluster, namespace) if name.startswith("pod/")]) == 2

    cluster.kubectl("delete", "modeldeployment", MODEL, "-n", namespace).expect_ok()
    wait_gone(cluster, namespace)


def test_mutual_tls(modelward: Installed, namespace: str, tmp_path: Path) -> None:
    cluster = modelward.cluster
    callers = Callers()
    manifest = in_namespace(modelward.example("model.yaml"), namespace)
    spec = manifest["spec"]
    spec["replicas"] = 1
    spec["encryption"]["inTransit"] = {"mode": "MutualTLS", "minVersion": "1.3", "clientCASecretName": "callers"}
    spec["access"] = {"rules": [{"subjects": ["san:triage.clinic.svc"], "operations": ["Infer"]}]}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "callers", "namespace": namespace},
        "data": {"ca.crt": base64.b64encode(callers.authority).decode()},
    }
    modelward.apply(secret, in_namespace(modelward.example("baseline.yaml"), namespace), manifest)
    wait_ready(cluster, namespace, MODEL)
    trusted = authority(cluster, namespace, MODEL).decode()
    with cluster.port_forward(namespace, f"service/{MODEL}", 443) as port:

        def ask(name: str | None) -> int:
            context = ssl.create_default_context(cadata=trusted)
            if name is not None:
                context.load_cert_chain(*callers.certificate(name, tmp_path))
            return infer(port, f"{MODEL}.{namespace}.svc", context, row(cluster.folder))

        assert ask("triage.clinic.svc") == 200
        assert ask("billing.clinic.svc") == 403
        try:
            status = ask(None)
        except (ssl.SSLError, ConnectionError):
            status = 0
        assert status == 0, f"answered {status} without a client certificate"


def row(folder: Path) -> list[float]:
    line = (folder / "build/example/holdout.csv").read_text().splitlines()[1]
    return [float(value) for value in line.split(",")[:30]]


def infer(port: int, server_name: str, context: ssl.SSLContext, values: list[float]) -> int:
    tensor = {"name": "features", "datatype": "FP64", "shape": [1, len(values)], "data": values}

    class Named(http.client.HTTPSConnection):
        def connect(self) -> None:
            http.client.HTTPConnection.connect(self)
            self.sock = context.wrap_socket(self.sock, server_hostname=server_name)

    connection = Named("127.0.0.1", port, timeout=30)
    try:
        headers = {"content-type": "application/json"}
        connection.request("POST", f"/v2/models/{MODEL}/infer", json.dumps({"inputs": [tensor]}), headers)
        return connection.getresponse().status
    finally:
        connection.close()


class Callers:
    """An authority for client certificates."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the callers' authority")])
        self._certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def authority(self) -> bytes:
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def certificate(self, name: str, folder: Path) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            self._builder(x509.Name([]), key.public_key())
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        files = folder / f"{name}.crt", folder / f"{name}.key"
        files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return files

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(hours=1))
        )
