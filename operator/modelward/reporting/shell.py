"""What every page has: a head that lets it run its own style and script and fetch nothing."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources

from modelward.reporting.html import Html, el


def whole(title: str, *body: object, class_: str | None = None) -> str:
    """Return a document with the common style and script; `body` is what they work on, `class_` is of all of it."""
    style, script = _part("look.css"), _part("behaviour.js")
    within = f"style-src '{_hash(style)}'; script-src '{_hash(script)}'"
    allowed = f"default-src 'none'; {within}; base-uri 'none'; form-action 'none'"
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=allowed),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="referrer", content="no-referrer"),
        el("title", title),
        el("style", Html(style)),
    )
    content = el("body", *body, el("script", Html(script)), class_=class_)
    return f"<!doctype html>\n{el('html', head, content, lang='en')}\n"


@cache
def _part(name: str) -> str:
    return (resources.files("modelward.reporting") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
