from hypothesis import given
from hypothesis import strategies as st

from modelward.planner.sidecar import CONTAINER_NAME, sidecar_container, sidecar_volumes

IMAGE = "modelward-sidecar@sha256:" + "a" * 64
KEY = "a2V5" * 10 + "a2U="


def test_is_a_native_sidecar_as_the_parts_agreed():
    container = sidecar_container("wdbc", IMAGE, KEY)
    assert container["name"] == CONTAINER_NAME == "modelward-sidecar"
    assert container["restartPolicy"] == "Always"  # what makes an init container a sidecar
    assert container["image"] == IMAGE
    assert container["command"] == ["modelward-sidecar"]
    assert container["args"] == [
        "--config-dir=/etc/modelward/config",
        "--tls-dir=/etc/modelward/tls",
        f"--config-key={KEY}",
        "--model=wdbc",
    ]
    assert {variable["name"]: variable["valueFrom"]["fieldRef"]["fieldPath"] for variable in container["env"]} == {
        "MODELWARD_NAMESPACE": "metadata.namespace",
        "MODELWARD_POD": "metadata.name",
    }
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"https": 8443, "modelward-grpc": 8444, "metrics": 9090}


def test_passes_the_restricted_pod_security_standard():
    context = sidecar_container("wdbc", IMAGE, KEY)["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] == 65532
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert context["readOnlyRootFilesystem"] is True


def test_mounts_each_of_its_volumes_read_only():
    mounts = sidecar_container("wdbc", IMAGE, KEY)["volumeMounts"]
    assert [mount["name"] for mount in mounts] == [volume["name"] for volume in sidecar_volumes("wdbc")]
    assert all(mount["readOnly"] for mount in mounts)


def test_volumes_are_those_of_the_model():
    config, tls = sidecar_volumes("wdbc")
    assert config["configMap"]["name"] == "wdbc-sidecar"
    assert tls["secret"]["secretName"] == "wdbc-serving"


@given(st.text(), st.text(), st.text())
def test_each_call_gives_an_equal_value_of_its_own(model, image, key):
    first, second = sidecar_container(model, image, key), sidecar_container(model, image, key)
    assert first == second
    first["args"].append("--more")
    assert first != second
