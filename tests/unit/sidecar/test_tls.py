from __future__ import annotations

import ssl
import time
from datetime import UTC, datetime
from ipaddress import IPv4Address

import pytest
from cryptography import x509

from modelward.controller.certificates import issue, new_authority
from modelward.sidecar.config import ConfigError, Tls
from modelward.sidecar.tls import expires, server_context
from tests.unit.sidecar.harness import infer, request, settings, token
from tests.unit.sidecar.pki import LOCALHOST, Authority


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def files(authority, tmp_path):
    return authority.issue(tmp_path, LOCALHOST)


def test_tls_end_to_end_with_alpn(run, authority, files):
    running = run(server_context(Tls(), *files))
    context = authority.client_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with running.client(context) as client:
        assert client.socket.version() == "TLSv1.3"
        assert client.socket.selected_alpn_protocol() == "http/1.1"
        for _ in range(3):
            client.send(request(infer()))
            assert client.read().status == 200


@pytest.mark.parametrize(("offered", "chosen"), [(["http/1.1"], "http/1.1"), (["h2"], None), (["http/1.0"], None)])
def test_http_1_1_is_all_that_is_offered(run, authority, files, offered, chosen):
    """Who has only HTTP/2 is told so, in the words of HTTP/1.1, when it begins; nothing of it is forwarded."""
    running = run(server_context(Tls(), *files))
    context = authority.client_context()
    context.set_alpn_protocols(offered)
    with running.client(context) as client:
        assert client.socket.selected_alpn_protocol() == chosen
        if chosen is None:
            client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9))
            answer = client.read()
            assert answer.problem in ("bad-framing", "http-version-not-supported", "not-implemented")
            assert answer.header["connection"] == "close"
            assert client.closed()
    assert running.model.asked == []


def test_plaintext_gets_nothing_from_a_tls_listener(run, files):
    running = run(server_context(Tls(), *files))
    with running.client() as client:
        client.send(request(infer()))
        data = client.socket.recv(1000)
        assert not data.startswith(b"HTTP/")
    assert running.model.asked == []


@pytest.mark.parametrize(
    ("least", "offered", "works"), [("1.3", "1.2", False), ("1.2", "1.2", True), ("1.2", "1.3", True)]
)
def test_the_least_version_is_held(run, authority, files, least, offered, works):
    running = run(server_context(Tls(min_version=least), *files))
    context = authority.client_context()
    version = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[offered]
    context.minimum_version = context.maximum_version = version
    if not works:
        with pytest.raises(ssl.SSLError):
            running.client(context)
        return
    with running.client(context) as client:
        client.send(request(infer()))
        assert client.read().status == 200


def mutual(authority: Authority, **access):
    access = settings()["access"] | {"issuers": []} | access
    return {"tls": {"mode": "MutualTLS", "clientCA": authority.pem}, "access": access}


SAN_RULE = {"subjects": ["san:spiffe://clinic/app"], "operations": ["Infer"]}


def test_a_client_certificate_is_a_caller_by_its_san(run, authority, files, tmp_path):
    context = server_context(Tls(mode="MutualTLS", client_ca=authority.pem), *files)
    running = run(context, **mutual(authority, rules=[SAN_RULE]))

    def ask(*names: x509.GeneralName, bearer: str | None = None):
        client_side = authority.client_context()
        client_side.load_cert_chain(*authority.issue(tmp_path, *names, name="client"))
        with running.client(client_side) as client:
            client.send(request(infer(), bearer=bearer))
            return client.read()

    assert ask(x509.UniformResourceIdentifier("spiffe://clinic/app")).status == 200
    assert ask(x509.DNSName("app.clinic"), x509.UniformResourceIdentifier("spiffe://clinic/app")).status == 200
    assert ask(x509.DNSName("someone.else")).status == 403
    assert ask().status == 401  # no alternative name: the common name counts for nothing
    # A token that is shown must verify, even beside a certificate that would do.
    assert ask(x509.UniformResourceIdentifier("spiffe://clinic/app"), bearer=token()).status == 401
    first = running.log(5)[0]
    assert (first["subject"], first["issuer"]) == ("san:spiffe://clinic/app", "client-certificate")


def ask_once(running, context):
    with running.client(context) as client:
        client.send(request(infer(), bearer=None))
        return client.read()


def test_without_a_client_certificate_or_with_a_strangers_there_is_no_connection(run, authority, files, tmp_path):
    context = server_context(Tls(mode="MutualTLS", client_ca=authority.pem), *files)
    running = run(context, **mutual(authority, rules=[SAN_RULE]))
    stranger = authority.client_context()
    stranger.load_cert_chain(
        *Authority("stranger").issue(tmp_path, x509.UniformResourceIdentifier("spiffe://clinic/app"), name="client")
    )
    for client_side in (authority.client_context(), stranger):
        with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
            ask_once(running, client_side)
    assert running.model.asked == []


def test_certificate_and_token_together_have_the_subjects_of_both(run, authority, files, tmp_path):
    context = server_context(Tls(mode="MutualTLS", client_ca=authority.pem), *files)
    rules = [
        {"subjects": ["user:alice"], "operations": ["Infer"], "purposes": ["diagnosis"]},
        SAN_RULE | {"operations": ["Metadata"]},
    ]
    running = run(context, **mutual(authority, rules=rules, issuers=settings()["access"]["issuers"]))
    client_side = authority.client_context()
    client_side.load_cert_chain(
        *authority.issue(tmp_path, x509.UniformResourceIdentifier("spiffe://clinic/app"), name="client")
    )
    with running.client(client_side) as client:
        client.send(request(infer()))
        assert client.read().status == 200
        client.send(request(method="GET", target="/v2"))
        assert client.read().status == 200


def test_each_kind_of_name_counts_letter_by_letter(run, authority, files, tmp_path):
    names = ["san:app.clinic", "san:spiffe://clinic/app", "san:app@clinic.example"]
    rules = [{"subjects": [name], "operations": ["Infer"]} for name in names]
    running = run(
        server_context(Tls(mode="MutualTLS", client_ca=authority.pem), *files), **mutual(authority, rules=rules)
    )

    def status(*wanted: x509.GeneralName) -> int:
        client_side = authority.client_context()
        client_side.load_cert_chain(*authority.issue(tmp_path, *wanted, name="client"))
        return ask_once(running, client_side).status

    assert status(x509.DNSName("app.clinic")) == 200
    assert status(x509.UniformResourceIdentifier("spiffe://clinic/app")) == 200
    assert status(x509.RFC822Name("app@clinic.example")) == 200
    assert status(x509.DNSName("*.clinic")) == 403  # a name, not a pattern
    assert status(x509.DNSName("APP.clinic")) == 403
    assert status(x509.DNSName("app.clinic.")) == 403
    assert status(x509.UniformResourceIdentifier("app.clinic")) == 200  # one namespace of names, whatever the kind
    assert status(x509.IPAddress(IPv4Address("10.0.0.1"))) == 401  # an address is nobody
    assert status(x509.DNSName("other"), x509.RFC822Name("app@clinic.example")) == 200


def test_a_serving_certificate_of_modelwards_own_authority_is_no_callers(run, tmp_path):
    """Every namespace has one in a Secret; the authority that issued it is what MutualTLS trusts by default."""
    own = new_authority(datetime.now(UTC))
    serving = issue(own, ["localhost", "triage.clinic.svc"], datetime.now(UTC))
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    certificate.write_bytes(serving.chain)
    key.write_bytes(serving.key)
    context = server_context(Tls(mode="MutualTLS", client_ca=own.bundle.decode()), certificate, key)
    tls = {"mode": "MutualTLS", "clientCA": own.bundle.decode()}
    rule = {"subjects": ["san:triage.clinic.svc"], "operations": ["Infer"]}
    running = run(context, tls=tls, access={"issuers": [], "rules": [rule]})
    client_side = ssl.create_default_context(cadata=own.bundle.decode())
    client_side.load_cert_chain(certificate, key)
    with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
        ask_once(running, client_side)
    assert running.log() == []
    assert running.model.asked == []


def test_files_that_do_not_fit_are_told(authority, files, tmp_path):
    other = authority.issue(tmp_path, LOCALHOST, name="other")
    with pytest.raises(ConfigError, match="do not load"):
        server_context(Tls(), files[0], other[1])
    with pytest.raises(ConfigError, match="do not load"):
        server_context(Tls(), tmp_path / "missing.crt", other[1])
    with pytest.raises(ConfigError, match="clientCA"):
        server_context(Tls(mode="MutualTLS"), *files)
    with pytest.raises(ConfigError, match="PEM"):
        server_context(Tls(mode="MutualTLS", client_ca="rubbish"), *files)
    assert 86_000 < expires(files[0]) - time.time() < 86_400
    with pytest.raises(ConfigError, match="not a PEM"):
        expires(files[1])


def test_a_client_that_never_ends_its_handshake_is_no_connection(run, files):
    running = run(server_context(Tls(), *files))
    with running.client() as client:
        client.send(b"\x16\x03\x01")
        assert running.sidecar.server.connections == set()
