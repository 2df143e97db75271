"""kopf's own webhook server with the judgement that modelward's admission server makes: the peer to measure by.

python -m tests.bench.kopf_peer PORT CERTIFICATE KEY POLICIES   (and KUBECONFIG in the environment)
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import kopf

from modelward.api.validate import SchemaError, stored
from modelward.rules.judge import Review, denial, judge
from modelward.rules.prepared import PreparedPolicy, prepare

POLICIES: list[PreparedPolicy] = []


def main() -> None:
    port, certificate, key, policies = sys.argv[1:]
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("kopf").setLevel(logging.ERROR)
    POLICIES.extend(prepare(policy) for policy in json.loads(Path(policies).read_text()))
    registry = kopf.OperatorRegistry()

    @kopf.on.startup(registry=registry)
    async def start(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.admission.server = kopf.WebhookServer(
            addr="127.0.0.1", host="127.0.0.1", port=int(port), certfile=certificate, pkeyfile=key
        )
        settings.posting.enabled = False

    @kopf.on.validate("modelward.io", "v1alpha1", "modeldeployments", registry=registry, id="judge")
    async def judged(body: kopf.Body, namespace: str | None, **_: Any) -> None:
        try:
            new = stored({name: value for name, value in dict(body).items() if name != "status"})
        except SchemaError:
            return
        verdict = judge(Review(new, None, namespace or "", {}), POLICIES)
        if verdict.violations:
            raise kopf.AdmissionError(denial(verdict, "ModelDeployment"))

    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_kubeconfig(**kwargs)

    kopf.run(registry=registry, standalone=True, clusterwide=True)


if __name__ == "__main__":
    main()
