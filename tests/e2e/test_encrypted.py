"""Encryption in use on the kind cluster: a model asked by a request that nobody there can read."""

from __future__ import annotations

import json
import time

import numpy as np

from demo.kubectl import NotAsToldError, wait_for
from demo.serving import wait_ready
from modelward.encrypted.client import Client, ClientKeys, v2_answer, v2_body
from tests.corpus import Manifest
from tests.e2e.conftest import Installed
from tests.e2e.test_detection import DOCTOR, replicas
from tests.e2e.test_life import MODEL, in_namespace

COLUMNS = ("a", "b", "c")
WEIGHTS = {"coef": [1.5, -0.25, 0.5], "intercept": 0.75, "link": "logistic", "columns": list(COLUMNS)}
ROW = np.array([[0.123456789, -1.5, 2.75]])


def offered(modelward: Installed, namespace: str) -> list[Manifest]:
    """The example's model, offered under encryption by weights of three columns."""
    model = in_namespace(modelward.example("model.yaml"), namespace)
    model["spec"]["encryption"]["inUse"] = {
        "scheme": "CKKS",
        "weightsConfigMapName": "weights",
        "only": True,
        "statistics": True,
    }
    del model["spec"]["monitoring"], model["spec"]["explanations"]
    weights = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "weights", "namespace": namespace},
        "data": {"weights.json": json.dumps(WEIGHTS)},
    }
    return [in_namespace(modelward.example("jwks.yaml"), namespace), weights, model]


def test_scored_and_not_read(modelward: Installed, namespace: str) -> None:
    cluster = modelward.cluster
    modelward.apply(*offered(modelward, namespace))
    wait_ready(cluster, namespace, MODEL)
    keys = ClientKeys.generate(columns=4)
    client = Client(keys)
    request = client.encrypt(ROW, COLUMNS, model=MODEL, now=int(time.time()))
    mean = client.encrypt(np.vstack([ROW, -3 * ROW]), COLUMNS, model=MODEL, now=int(time.time()), statistic="mean")
    plain = {"inputs": [{"name": "features", "datatype": "FP64", "shape": [1, 3], "data": ROW[0].tolist()}]}
    with replicas(cluster, namespace) as (one, other):
        status, content = one.send(DOCTOR, v2_body(request, keys.public))
        averaged = one.send(DOCTOR, v2_body(mean))
        refused = one.send(DOCTOR, json.dumps(plain).encode())
        unknown = other.send(DOCTOR, v2_body(request))
    assert status == 200, content
    score = client.decrypt(v2_answer(content))[0][0, 0]
    expected = 1 / (1 + np.exp(-(ROW[0] @ WEIGHTS["coef"] + WEIGHTS["intercept"])))
    assert abs(score - expected) < 1e-6
    assert averaged[0] == 200, averaged[1]
    assert np.allclose(client.decrypt(v2_answer(averaged[1]))[0], -ROW, atol=1e-6)
    assert (refused[0], b"encrypted requests alone" in refused[1]) == (422, True)
    assert (unknown[0], b"unknown-keys" in unknown[1]) == (409, True)

    def recorded() -> bool | None:
        logs = ("logs", "-n", namespace, "-l", f"modelward.io/model={MODEL}", "-c", "modelward-sidecar", "--tail=-1")
        text = cluster.kubectl(*logs).expect_ok().stdout
        if '"fields":["encrypted"]' not in text:
            raise NotAsToldError("no record of an encrypted request")
        assert repr(ROW[0, 0]) not in text
        return True

    wait_for("the record of the encrypted request", recorded, timeout=180)
