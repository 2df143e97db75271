"""What is REST's own about a request: the media types that are read, and the request as the model gets it."""

from modelward.sidecar import binary
from modelward.sidecar.binary import Body
from modelward.sidecar.exchange import Exchange
from modelward.sidecar.problems import Refusal
from modelward.sidecar.routes import Route

_JSON = b"application/json"
_OTHER_MEDIA = (binary.HEADER, b"content-encoding")  # headers of bodies that are more, or less, than JSON
_UTF8 = (b"", b"charset=utf-8", b'charset="utf-8"')


def body_of(exchange: Exchange) -> Body:
    """What came, as one."""
    pieces = exchange.body
    content = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    return Body(content, exchange.header.get(binary.HEADER))


def check_media(header: dict[bytes, bytes], route: Route) -> None:
    """Whether the body is in a form that is read; raises Refusal (415)."""
    if header.get(b"content-type") == _JSON and header.keys().isdisjoint(_OTHER_MEDIA):  # what most send
        return
    media, _, parameters = header.get(b"content-type", b"").partition(b";")
    media = media.strip().lower()
    if binary.HEADER in header:
        if not route.binary:
            raise _unsupported("Binary tensors are for `infer` of the protocol V2; send the body as JSON here.")
        if media not in (binary.MEDIA, b""):  # Triton's own client says nothing
            raise _unsupported("Send a body with binary tensors as `Content-Type: application/octet-stream`.")
    elif media != _JSON or parameters.strip().lower() not in _UTF8:
        raise _unsupported(
            "Send the body as `Content-Type: application/json`, in UTF-8; one with binary tensors needs the header "
            "Inference-Header-Content-Length."
            if media == binary.MEDIA and route.binary
            else "Send the body as `Content-Type: application/json`, in UTF-8."
        )
    if header.get(b"content-encoding", b"identity").lower() != b"identity":
        raise _unsupported("Send the body plain, not compressed.")


def _unsupported(detail: str) -> Refusal:
    return Refusal("unsupported-media-type", detail)


def request(method: bytes, exchange: Exchange, authority: bytes, body: Body | None, target: bytes = b"") -> bytes:
    """The request as the model gets it: nothing of the client's header but its path, and the trace it belongs to.

    `target`: another path than the client's.
    """
    # The protocol writes /v2/ and /v2; servers know one and redirect the other.
    target = target or exchange.target.rstrip(b"/")
    named = exchange.id.encode()
    parts = [method, b" ", target, b" HTTP/1.1\r\nhost: ", authority, b"\r\nx-request-id: ", named, b"\r\n"]
    if exchange.trace is not None:
        parts.append(exchange.trace.header())
    if body is None:
        parts.append(b"\r\n")
    elif body.json_length is None:
        parts.append(b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body.content))
        parts.append(body.content)
    else:
        parts.append(
            b"content-type: application/octet-stream\r\ninference-header-content-length: %b\r\n"
            b"content-length: %d\r\n\r\n" % (body.json_length, len(body.content))
        )
        parts.append(body.content)
    return b"".join(parts)
