"""Runs in a pod: asks a model once with each token, and prints the statuses, a line each.

    python3 caller.py https://wdbc.clinic.svc/v2/models/wdbc/infer body.json ca.crt TOKEN-FILE ...

Python's standard library alone.
"""

from __future__ import annotations

import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path


def ask(url: str, body: bytes, context: ssl.SSLContext, token: str) -> int:
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    request = urllib.request.Request(url, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=20, context=context) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


if __name__ == "__main__":
    url, body, authority, *tokens = sys.argv[1:]
    trusting = ssl.create_default_context(cafile=authority)
    for token in tokens:
        print(ask(url, Path(body).read_bytes(), trusting, Path(token).read_text().strip()), flush=True)
