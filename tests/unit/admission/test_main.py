from pathlib import Path

import pytest

from modelward.admission.main import options


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    for name in ("ca.crt", "token"):
        (tmp_path / name).write_text("x")
    return [f"--ca={tmp_path}/ca.crt", f"--token={tmp_path}/token"]


def test_in_a_cluster_everything_is_known(files: list[str]):
    environment = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443", "MODELWARD_NAMESPACE": "x"}
    chosen = options(files, environment)
    assert chosen.api_server == "https://10.96.0.1:443"
    assert (chosen.namespace, chosen.port, chosen.health_port) == ("x", 8443, 8080)
    assert options(files, {"KUBERNETES_SERVICE_HOST": "fd00::1"}).api_server == "https://[fd00::1]:443"
    assert options(files, {"KUBERNETES_SERVICE_HOST": "h"}).namespace == "modelward-system"


@pytest.mark.parametrize("environment", [{}, {"KUBERNETES_SERVICE_HOST": "h"}])
def test_what_is_missing_is_named(environment: dict[str, str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as left:
        options([], environment)
    assert left.value.code == 2
    message = capsys.readouterr().err
    assert ("--ca and --token" if environment else "--api-server") in message
