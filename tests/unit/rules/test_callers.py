from __future__ import annotations

from typing import Any

import pytest

from modelward.api.modeldeployment import ModelDeployment
from modelward.api.validate import parse
from modelward.rules.callers import unreachable
from tests.corpus import good

TOKENS = {"name": "a", "issuer": "https://a.example", "audiences": ["m"], "jwksConfigMapName": "keys"}
CLUSTER = {"name": "c", "issuer": "https://c.example", "audiences": ["m"], "serviceAccounts": True}
OWN_CA = {"mode": "MutualTLS"}
GIVEN_CA = {"mode": "MutualTLS", "clientCASecretName": "clients"}


def told(subjects: list[str], issuers: list[Any], in_transit: dict[str, Any]) -> list[str]:
    manifest = good()
    manifest["spec"]["encryption"]["inTransit"] = in_transit
    manifest["spec"]["access"] = {"issuers": issuers, "rules": [{"subjects": ["*"]}, {"subjects": subjects}]}
    md = parse(manifest)
    assert isinstance(md, ModelDeployment)
    return [f"{field} {message.split(':')[0].split(' ')[0]}" for field, message in unreachable(md)]


HERE = "spec.access.rules[1].subjects"


@pytest.mark.parametrize(
    ("subjects", "issuers", "in_transit", "expected"),
    [
        (["user:a", "group:b"], [TOKENS], {}, []),
        (["user:a"], [], GIVEN_CA, [f"{HERE} user"]),
        (["group:a"], [], GIVEN_CA, [f"{HERE} user"]),
        (["serviceaccount:a/b"], [CLUSTER], {}, []),
        (["serviceaccount:a/b"], [TOKENS], {}, [f"{HERE} serviceaccount"]),
        (["san:a"], [TOKENS], GIVEN_CA, []),
        (["san:a"], [TOKENS], {"mode": "TLS"}, [f"{HERE} san"]),
        (["san:a"], [], OWN_CA, ["spec.encryption.inTransit MutualTLS"]),
        (["user:a"], [TOKENS], OWN_CA, ["spec.encryption.inTransit MutualTLS"]),
    ],
)
def test_who_is_named_and_cannot_call(subjects, issuers, in_transit, expected):
    assert told(subjects, issuers, in_transit) == expected
