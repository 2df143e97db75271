"""What judging costs at the most: the largest objects, by the API server within its CEL budget and by us in time."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from modelward.api.validate import canonical, parse
from modelward.rules.admission_policy import catalogue_policies
from modelward.rules.judge import Review, judge
from tests.corpus import policy
from tests.corpus.largest import ETCD_BYTES, POLICIES, largest_model, largest_policy
from tests.integration.apiserver import ApiServer

SPACE = "largest"
PATH = f"/apis/modelward.io/v1alpha1/namespaces/{SPACE}/modeldeployments"
WEBHOOK_SECONDS = 2.0
FILLS = pytest.mark.parametrize("fill", ["columns", "subjects"])


@pytest.fixture(scope="module")
def client(apiserver: ApiServer) -> Iterator[httpx.Client]:
    """A client of an API server whose namespace has as many DataPolicies as may be, each as large as may be."""
    lax = {"apiVersion": "modelward.io/v1alpha1", "kind": "ClusterDataPolicy", "metadata": {"name": "lax"}, "spec": {}}
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}}
    policies = [policy(largest_policy(index), f"largest-{index}", SPACE) for index in range(POLICIES)]
    objects = [*catalogue_policies(), lax, space, *policies]
    result = apiserver.apply(*objects)
    assert result.ok, result.stderr
    context = ssl.create_default_context(cafile=str(apiserver.ca))
    headers = {"Authorization": f"Bearer {apiserver.token}"}
    with httpx.Client(base_url=apiserver.url, headers=headers, verify=context, timeout=60) as opened:
        deadline = time.monotonic() + 30
        while create(opened, {**largest_model("subjects"), "spec": {"model": {"image": "x"}}}).status_code == 201:
            assert time.monotonic() < deadline, "the policies never came into force"
            time.sleep(0.2)
        yield opened
    apiserver.delete(*objects)


def create(client: httpx.Client, manifest: dict[str, Any]) -> httpx.Response:
    return client.post(PATH, params={"dryRun": "All"}, json=manifest)


@FILLS
def test_it_is_as_large_as_etcd_takes(fill: Any) -> None:
    size = len(json.dumps(largest_model(fill), separators=(",", ":")))
    assert 0.85 * ETCD_BYTES < size < ETCD_BYTES


@FILLS
def test_the_api_server_judges_the_largest_object_within_its_budget(client: httpx.Client, fill: Any) -> None:
    """It breaks nothing, so every expression of every policy is evaluated to its end."""
    began = time.monotonic()
    answer = create(client, largest_model(fill))
    print(f"\nthe largest object ({fill}), {POLICIES} policies: {time.monotonic() - began:.2f} s")
    assert answer.status_code == 201, answer.json()["message"]


@FILLS
def test_a_change_to_the_largest_object_is_judged_as_well(client: httpx.Client, fill: Any) -> None:
    """The object as it was is compared with what it becomes before anything else is asked."""
    manifest = largest_model(fill)
    manifest["metadata"]["name"] = f"changing-{fill}"
    stored = client.post(PATH, json=manifest)
    assert stored.status_code == 201, stored.json()["message"]
    changed = stored.json()
    changed["spec"]["replicas"] = 2
    answer = client.put(f"{PATH}/changing-{fill}", params={"dryRun": "All"}, json=changed)
    assert answer.status_code == 200, answer.json()["message"]
    changed["spec"]["securityTest"]["gate"] = False
    refused = client.put(f"{PATH}/changing-{fill}", params={"dryRun": "All"}, json=changed)
    assert refused.status_code == 403
    assert "TST-002" in refused.json()["message"]
    assert client.delete(f"{PATH}/changing-{fill}").status_code == 200


@FILLS
def test_the_webhook_would_judge_it_well_within_its_time(fill: Any) -> None:
    manifest = largest_model(fill)
    policies = [canonical(parse(policy(largest_policy(index), f"largest-{index}", SPACE))) for index in range(POLICIES)]
    judge(Review(canonical(parse(manifest)), namespace=SPACE), policies)  # compiles
    began = time.process_time()
    verdict = judge(Review(canonical(parse(manifest)), namespace=SPACE), policies)
    took = time.process_time() - began
    print(f"\nthe largest object ({fill}), {POLICIES} policies, by us: {took:.2f} s of {WEBHOOK_SECONDS} s")
    assert verdict.everything == ()
    assert len(verdict.policies) == POLICIES
    assert took < WEBHOOK_SECONDS / 2
