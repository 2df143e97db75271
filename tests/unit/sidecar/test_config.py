from __future__ import annotations

import base64
import hashlib
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from modelward.sidecar.config import Binding, Config, ConfigError, parse
from modelward.sidecar.signed import check_binding, read_signed, verify
from tests.unit.sidecar.harness import fitted, settings

SIGNER = Ed25519PrivateKey.generate()
PUBLIC = SIGNER.public_key().public_bytes_raw()


def write(folder, document, *, signature=None, baseline=None):
    content = json.dumps(document).encode()
    (folder / "config.json").write_bytes(content)
    (folder / "config.sig").write_bytes(base64.b64encode(signature or SIGNER.sign(content)))
    (folder / "baseline.npz").write_bytes(fitted() if baseline is None else baseline)


def read(folder, generation=0):
    return read_signed(folder, folder / "secrets", PUBLIC, "clinic", "m", generation)


def test_a_signed_configuration_is_read_with_its_baseline(tmp_path):
    write(tmp_path, settings())
    config, baseline, weights, *_ = read(tmp_path)
    assert weights is None
    assert config.binding == Binding(namespace="clinic", name="m", generation=1)
    assert baseline == fitted()
    assert config.limits.body_bytes == 4 << 20


def test_the_signature_covers_every_byte(tmp_path):
    write(tmp_path, settings())
    content = (tmp_path / "config.json").read_bytes()
    (tmp_path / "config.json").write_bytes(content + b" ")
    with pytest.raises(ConfigError, match="signature"):
        read(tmp_path)


@pytest.mark.parametrize("signature", [b"", b"x", b"\xff", base64.b64encode(bytes(64)), base64.b64encode(bytes(63))])
def test_a_malformed_signature_is_refused(signature):
    with pytest.raises(ConfigError, match="signature"):
        verify(b"{}", signature, PUBLIC)


def test_another_key_does_not_verify():
    other = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    verify(b"{}", base64.b64encode(SIGNER.sign(b"{}")), PUBLIC)
    with pytest.raises(ConfigError):
        verify(b"{}", base64.b64encode(SIGNER.sign(b"{}")), other)
    with pytest.raises(ConfigError):
        verify(b"{}", base64.b64encode(SIGNER.sign(b"{}")), b"short")


def test_binding_and_generation():
    binding = Binding(namespace="a", name="b", generation=3)
    check_binding(binding, "a", "b", 3)
    for namespace, name, generation in (("x", "b", 0), ("a", "x", 0), ("a", "b", 4)):
        with pytest.raises(ConfigError):
            check_binding(binding, namespace, name, generation)


def test_a_baseline_that_is_another_is_refused(tmp_path):
    write(tmp_path, settings(), baseline=b"something else")
    with pytest.raises(ConfigError, match=hashlib.sha256(b"something else").hexdigest()):
        read(tmp_path)
    (tmp_path / "baseline.npz").unlink()
    with pytest.raises(ConfigError, match="cannot read"):
        read(tmp_path)


def test_a_baseline_from_a_secret_is_read_from_where_secrets_are(tmp_path):
    document = settings()
    document["screening"]["baseline"]["secret"] = True
    write(tmp_path, document, baseline=b"of somebody who may write ConfigMaps")
    with pytest.raises(ConfigError, match="cannot read"):
        read(tmp_path)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "baseline.npz").write_bytes(fitted())
    assert read(tmp_path)[1] == fitted()


def test_weights_that_are_others_are_refused(tmp_path):
    weights = b'{"coef": [1]}'
    in_use = {"parameters": {}, "weights": {"sha256": hashlib.sha256(weights).hexdigest()}}
    write(tmp_path, settings(inUse=in_use))
    (tmp_path / "weights.json").write_bytes(weights)
    assert read(tmp_path)[2] == weights
    (tmp_path / "weights.json").write_bytes(b'{"coef": [2]}')
    with pytest.raises(ConfigError, match=hashlib.sha256(b'{"coef": [2]}').hexdigest()):
        read(tmp_path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"unknown": 1}, "unknown"),
        ({"binding": {"namespace": "a", "name": "b"}}, "generation"),
        ({"upstream": {"port": 0, "model": "m"}}, "port"),
        ({"upstream": {"port": 80, "model": "m", "readyPath": "/a\r\nx: y"}}, "readyPath"),
        ({"upstream": {"port": 80, "model": "../x"}}, "model"),
        ({"tls": {"minVersion": "1.1"}}, "1.1"),
        ({"access": {"issuers": [{"name": "a", "issuer": "b", "audiences": [], "jwks": {}}]}}, "audiences"),
        ({"access": {"rules": [{"subjects": [], "operations": ["Infer"]}]}}, "subjects"),
        ({"access": {"rules": [{"subjects": ["a"], "operations": ["Delete"]}]}}, "Delete"),
        ({"access": {"clockSkewSeconds": 301}}, "clockSkewSeconds"),
        ({"screening": {"detectors": [{"type": "Oracle"}]}}, "Oracle"),
        ({"screening": {"baseline": {"file": "../../etc/passwd", "sha256": "0" * 64}}}, "file"),
        ({"limits": {"bodyBytes": 0}}, "bodyBytes"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change, told):
    with pytest.raises(ConfigError, match=told):
        parse(json.dumps(settings() | change).encode())


def test_the_file_is_bounded():
    with pytest.raises(ConfigError, match="at most"):
        parse(b" " * (1 << 20) + b"{}")


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_rubbish_is_refused_and_nothing_else(content):
    with pytest.raises(ConfigError):
        parse(content)


@given(
    st.sampled_from(sorted(settings())),
    st.none() | st.integers() | st.lists(st.integers()) | st.dictionaries(st.text(), st.integers()),
)
def test_any_part_of_the_wrong_kind_is_refused_or_has_defaults(part, value):
    try:
        parsed = parse(json.dumps(settings() | {part: value}).encode())
    except ConfigError:
        return
    assert isinstance(parsed, Config)
