"""The example's caller: issues tokens as the clinic's login service would, and asks the model with them.

    client.py keygen            a signing key, kept private, and the ConfigMap clinic-jwks with its public half
    client.py token             a token for the shell:  curl -H "authorization: Bearer $(client.py token)" ...
    client.py infer --url ...   sends a row of the data set that the model was not trained on, shows request and answer
    client.py explain --url ... the same, and why the answer is that

Needs PyJWT and cryptography (`make setup` installs both). `prepare.py` calls keygen for you.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import http.client
import json
import os
import socket
import ssl
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm
from jwt.utils import base64url_encode

if TYPE_CHECKING:
    from collections.abc import Iterable

BUILD = Path(__file__).resolve().parents[2] / "build" / "example"
ISSUER, AUDIENCE = "https://login.clinic.example", "wdbc"  # as spec.access.issuers of model.yaml has them
NAMESPACE = "clinic"
PATH = "/v2/models/wdbc/"
TIMEOUT = 30.0  # seconds, for each read and write


class UsageError(Exception):
    """Something the caller can mend; the message says how."""


# --- the clinic's login service


def private_key(path: Path) -> Ed25519PrivateKey:
    """Return the key in `path`, made where it is not there yet, for its owner's eyes alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        pem = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(pem)
    return _key(path)


def keygen(folder: Path) -> None:
    """Make issuer.key, unless it is there, and write its public half as the manifest jwks.yaml."""
    jwks = json.dumps({"keys": [_public_jwk(private_key(folder / "issuer.key"))]})
    manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "clinic-jwks", "namespace": NAMESPACE},
        "data": {"jwks.json": jwks},
    }
    (folder / "jwks.yaml").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")  # JSON is YAML


def token(folder: Path, sub: str, purpose: str | None, groups: list[str], seconds: int) -> str:
    """Return a signed token: who asks (`sub`, `groups`), what for (`purpose`), for how long (`seconds`)."""
    now = int(time.time())
    claims: dict[str, Any] = {"iss": ISSUER, "aud": AUDIENCE, "sub": sub, "iat": now, "exp": now + seconds}
    if purpose:
        claims["purpose"] = purpose
    if groups:
        claims["groups"] = groups
    key = _key(folder / "issuer.key")
    return jwt.encode(claims, key, algorithm="EdDSA", headers={"kid": _public_jwk(key)["kid"]})


def _key(path: Path) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except FileNotFoundError:
        raise UsageError(f"{path} is not there: run prepare.py, or `client.py keygen`") from None
    except ValueError:
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{path} is not an Ed25519 key: delete it, and run `client.py keygen`")
    return key


def _public_jwk(key: Ed25519PrivateKey) -> dict[str, str]:
    jwk = OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    thumbprint = json.dumps({name: jwk[name] for name in ("crv", "kty", "x")}, separators=(",", ":"))  # RFC 7638
    kid = base64url_encode(hashlib.sha256(thumbprint.encode()).digest()).decode()
    return {**jwk, "use": "sig", "alg": "EdDSA", "kid": kid}


# --- the caller


def row(folder: Path, index: int, *, anomalous: bool) -> list[float]:
    """Return a held-out row: 30 features.

    Anomalous: each value is one that occurs, and together they are impossible: the smallest radius, the largest area.
    """
    path = folder / "holdout.csv"
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            header, *lines = csv.reader(stream)
    except FileNotFoundError:
        raise UsageError(f"{path} is not there: run prepare.py") from None
    rows = [[float(value) for value in line] for line in lines]
    if not 0 <= index < len(rows):
        raise UsageError(f"--row {index}: the rows are 0 to {len(rows) - 1}")
    chosen = rows[index]
    if anomalous:
        radius, area = header.index("mean_radius"), header.index("mean_area")
        chosen[radius] = min(one[radius] for one in rows)
        chosen[area] = max(one[area] for one in rows)
    return chosen


def body(values: list[float], *, probabilities: bool) -> bytes:
    """Return the request body of the Open Inference Protocol for one row."""
    request: dict[str, Any] = {
        "inputs": [{"name": "features", "datatype": "FP64", "shape": [1, len(values)], "data": values}]
    }
    if probabilities:
        request["outputs"] = [{"name": "predict"}, {"name": "predict_proba"}]
    return json.dumps(request).encode()


@dataclass(frozen=True)
class Server:
    """Where the model is, and how its certificate is judged."""

    url: str
    ca: Path | None
    server_name: str | None

    def connect(self) -> http.client.HTTPConnection:
        """Return an open connection; https is verified against `ca` and `server_name` (the URL's host when none)."""
        url = urlsplit(self.url)
        if url.scheme not in ("https", "http") or not url.hostname:
            raise UsageError(f"--url {self.url}: give it as https://host:port")
        port = url.port or (443 if url.scheme == "https" else 80)
        connection = http.client.HTTPConnection(url.hostname, port, timeout=TIMEOUT)
        try:
            plain = socket.create_connection((url.hostname, port), timeout=TIMEOUT)
            connection.sock = plain if url.scheme == "http" else self._secure(plain, self.server_name or url.hostname)
        except ssl.SSLCertVerificationError as error:
            fix = "give the right authority with --ca, and the certificate's name with --server-name"
            raise UsageError(f"the certificate of {self.url} does not verify: {error.verify_message}; {fix}") from error
        except OSError as error:
            raise UsageError(f"{self.url} does not answer: {error}") from error
        return connection

    def _secure(self, plain: socket.socket, name: str) -> ssl.SSLSocket:
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except OSError as error:  # ssl.SSLError, where it is not PEM, is one
            raise UsageError(f"--ca {self.ca}: {error.strerror or error}") from error
        return context.wrap_socket(plain, server_hostname=name)


def ask(server: Server, verb: str, bearer: str | None, content: bytes) -> int:
    """Send one request to `infer` or to `explain`, print it and its answer, and return the answer's status."""
    path = PATH + verb
    headers = {"content-type": "application/json", "accept": "application/json"}
    shown = dict(headers)
    if bearer:
        headers["authorization"] = f"Bearer {bearer}"
        claims = jwt.decode(bearer, options={"verify_signature": False})
        shown["authorization"] = f"Bearer {bearer[:12]}...   whose claims are {json.dumps(claims)}"
    connection = server.connect()
    try:
        connection.request("POST", path, body=content, headers=headers)
        response = connection.getresponse()
        answer = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise UsageError(f"{server.url} ended the exchange: {error or type(error).__name__}") from error
    finally:
        connection.close()
    print(f"> POST {path}")
    _show(">", shown.items(), content)
    print(f"< {response.status} {response.reason}")
    _show("<", response.getheaders(), answer)
    if verb == "explain" and response.status == 200:
        print("because")
        for reason in json.loads(answer)["explanation"]["rows"][0]["reasons"]:
            print(f"  {reason}")
    return response.status


def _show(mark: str, headers: Iterable[tuple[str, str]], content: bytes) -> None:
    for name, value in headers:
        print(f"{mark} {name}: {value}")
    print(f"{mark}\n{mark} {content.decode(errors='replace')}")


# --- the command line


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=BUILD, help="folder that prepare.py filled (%(default)s)")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("keygen", help="make the signing key, unless it is there, and jwks.yaml")
    for verb, text in (("token", "print a token"), ("infer", "ask the model"), ("explain", "ask it, and why")):
        sub = verbs.add_parser(verb, help=text)
        sub.add_argument("--sub", default="dr-lee", help="who asks (%(default)s)")
        sub.add_argument("--group", action="append", default=[], help="a group they belong to")
        sub.add_argument("--purpose", default="diagnosis", help="what for (%(default)s); empty for none")
        sub.add_argument("--seconds", type=int, default=600, help="how long the token is good (%(default)s)")
        if verb != "token":
            _add_request(sub)
    return parser


def _add_request(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--url", required=True, help="https://host:port, or http:// for a loopback test")
    sub.add_argument("--ca", type=Path, help="the authority that signed the server's certificate (PEM)")
    sub.add_argument("--server-name", help="the name in the certificate, where the URL's host is another")
    sub.add_argument("--row", type=int, default=0, help="which of the rows held out (%(default)s)")
    sub.add_argument("--anomalous", action="store_true", help="make the row impossible: tiny radius, huge area")
    sub.add_argument("--proba", action="store_true", help="ask for the probabilities as well")
    sub.add_argument("--no-token", action="store_true", help="come without a token")
    sub.add_argument("--expect", type=int, default=200, help="exit 0 on this status, 1 on another (%(default)s)")


def main() -> int:
    """Run a verb; 0 fine, 1 another answer than expected, 2 usage."""
    args = _parser().parse_args()
    try:
        if args.verb == "keygen":
            keygen(args.build)
            return 0
        bearer = token(args.build, args.sub, args.purpose, args.group, args.seconds)
        if args.verb == "token":
            print(bearer)
            return 0
        content = body(row(args.build, args.row, anomalous=args.anomalous), probabilities=args.proba)
        server = Server(args.url, args.ca, args.server_name)
        shown = None if args.no_token else bearer
        return 0 if ask(server, args.verb, shown, content) == args.expect else 1
    except UsageError as error:
        print(f"client.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
