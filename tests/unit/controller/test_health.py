from __future__ import annotations

import asyncio

import httpx
import pytest

from modelward.controller.health import quoted, rendered, served
from modelward.controller.main import options
from tests.ports import free_port


def test_the_text_format() -> None:
    metrics = {
        "b_total": ("Second.", {}),
        "a": ("First.", {'{rule="ENC-001"}': 2, '{rule="ACC-001"}': 1827031176.0}),
    }
    assert rendered(metrics) == (
        "# HELP a First.\n# TYPE a gauge\n"
        'a{rule="ACC-001"} 1827031176.0\na{rule="ENC-001"} 2\n'
        "# HELP b_total Second.\n# TYPE b_total counter\n"
    )


@pytest.mark.parametrize(("text", "told"), [("age", '"age"'), ('a "b"', r'"a \"b\""'), ("a\\b\nc", r'"a\\b\nc"')])
def test_a_labels_value_ends_where_it_ends(text: str, told: str) -> None:
    assert quoted(text) == told


async def test_the_port() -> None:
    port = free_port()
    async with served(port, lambda: {"up": ("Whether.", {"": 1})}), httpx.AsyncClient() as client:
        for path in ("/healthz", "/readyz", "/metrics"):
            assert (await client.get(f"http://127.0.0.1:{port}{path}")).status_code == 200
        assert "up 1\n" in (await client.get(f"http://127.0.0.1:{port}/metrics")).text
        assert (await client.get(f"http://127.0.0.1:{port}/secrets")).status_code == 404
    with pytest.raises(OSError, match="Connect call failed"):
        await asyncio.open_connection("127.0.0.1", port)


def test_options_come_from_flags_and_environment(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = options([], {"MODELWARD_SIDECAR_IMAGE": "x@sha256:1", "POD_NAME": "controller-1"})
    assert (chosen.namespace, chosen.sidecar_image, chosen.identity) == (
        "modelward-system",
        "x@sha256:1",
        "controller-1",
    )
    with pytest.raises(SystemExit) as left:
        options([], {})
    assert left.value.code == 2
    assert "MODELWARD_SIDECAR_IMAGE" in capsys.readouterr().err
