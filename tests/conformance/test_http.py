"""gunicorn's corpus of raw requests against the reader: what is refused never gets as far as a body."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from modelward.sidecar.config import Limits
from modelward.sidecar.exchange import Exchange
from modelward.sidecar.problems import Refusal
from modelward.sidecar.reader import RequestReader
from tests.conformance.corpora import files, raw_request

# Invalid by gunicorn's own limits or settings, and read here without ambiguity.
READ_ALL_THE_SAME = {
    "001": "the header has not ended: it is waited for, and answered 408",
    "006": "a long target: within the limit here, and no route has it",
    "007": "a long field: within the limit here",
    "008": "long fields: within the limit here",
    "010": "one field more than gunicorn is set to: within the limit here",
    "011": "one field more than gunicorn is set to: within the limit here",
    "012": "fields larger than gunicorn is set to: within the limit here",
    "017": "a field larger than gunicorn is set to: within the limit here",
    "019": "contradictory X-Forwarded fields: none of them counts for anything here",
    "chunked_07": "underscores in names: fields are not passed on to the model, so none can pose as another",
    "040": "underscores in names: fields are not passed on to the model, so none can pose as another",
    "limit_header_default_01": "a long field: within the limit here",
    "rfc9112_chunked_missing_final_crlf_01": "the body has not ended: it is waited for, and answered 408",
}
# Valid, and refused here.
REFUSED_ALL_THE_SAME = {
    "009": "the coding identity is gone since RFC 7230",
    "013": "spaces within a chunk extension",
    "024": "a header larger than the limit",
    "025": "a transfer coding other than chunked",
    "025_line": "a transfer coding other than chunked",
    "027": "letters beyond ASCII in a target are to be encoded (RFC 3986)",
    "028": "a space before the colon must be refused (RFC 9112, 5.1)",
    "029": "the coding identity is gone since RFC 7230",
    "030": "the coding identity is gone since RFC 7230",
    "031": "a method of nobody's",
    "031compat": "a method of nobody's",
    "031compat2": "a method of nobody's",
    "compat_obs_fold": "folded lines must be refused (RFC 9112, 5.2)",
    "compat_obs_fold_huge": "folded lines must be refused (RFC 9112, 5.2)",
    "pp_01": "the PROXY protocol is not spoken",
    "pp_02": "the PROXY protocol is not spoken",
    "pp_04": "the PROXY protocol is not spoken",
    "pp_05": "the PROXY protocol is not spoken",
    "rfc9112_smuggle_gzip_chunked_01": "a transfer coding other than chunked",
    "rfc9112_smuggle_te_identity_chunked_01": "the coding identity is gone since RFC 7230",
    "rfc9112_target_absolute_01": "only paths are served: this is no proxy",
    "rfc9112_target_absolute_https_01": "only paths are served: this is no proxy",
    "rfc9112_target_absolute_ipv6_01": "only paths are served: this is no proxy",
    "rfc9112_target_absolute_userinfo_01": "only paths are served: this is no proxy",
    "rfc9112_target_asterisk_options_01": "only paths are served",
    "rfc9112_target_authority_connect_01": "this is no tunnel",
    "rfc9112_target_authority_ipv6_01": "this is no tunnel",
}


class _Sink:
    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []

    def head(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)

    def hold(self, exchange: Exchange, size: int) -> None:
        pass


def read(content: bytes) -> list[Exchange]:
    sink = _Sink()
    RequestReader(Limits(), sink).feed(content, 0.0)
    return sink.exchanges


def with_host(content: bytes) -> bytes:
    """HTTP/1.1 without Host must be refused (RFC 9112, 3.2), and half of the corpus leaves it out."""
    if re.search(rb"\r\nhost:", content.partition(b"\r\n\r\n")[0], re.IGNORECASE):
        return content
    return re.sub(rb"( HTTP/1\.1\r\n)", rb"\1Host: x\r\n", content)


@pytest.mark.parametrize("path", files("http/invalid", "*.http"), ids=lambda path: path.stem)
def test_invalid_requests_are_refused(path: Path) -> None:
    content = raw_request(path)
    for candidate in (content, with_host(content)):
        if path.stem in READ_ALL_THE_SAME:
            continue
        with pytest.raises(Refusal) as refused:
            read(candidate)
        assert refused.value.close


@pytest.mark.parametrize("path", files("http/valid", "*.http"), ids=lambda path: path.stem)
def test_valid_requests_are_read_or_the_exception_has_a_reason(path: Path) -> None:
    content = with_host(raw_request(path))
    if path.stem in REFUSED_ALL_THE_SAME:
        with pytest.raises(Refusal):
            read(content)
        return
    exchanges = read(content)
    assert exchanges
    assert exchanges[-1].complete or path.stem == "099"  # whose length counts the line breaks of the file


@pytest.mark.parametrize("path", files("http/invalid", "*.http"), ids=lambda path: path.stem)
def test_exceptions_are_still_exceptions(path: Path) -> None:
    if path.stem in READ_ALL_THE_SAME:
        read(with_host(raw_request(path)))
