"""The API server, as the controller needs it: objects as JSON, no more verbs than it has rights for."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import load_incluster_config, load_kube_config

from modelward.planner.access import ClusterIssuer
from modelward.planner.names import FIELD_MANAGER, KubeObject

TIMEOUT_SECONDS = 15
_PAGE = 500
_SMALL_PAGE = 100

_PATHS = {
    "ModelDeployment": "apis/modelward.io/v1alpha1/modeldeployments",
    "DataPolicy": "apis/modelward.io/v1alpha1/datapolicies",
    "ClusterDataPolicy": "apis/modelward.io/v1alpha1/clusterdatapolicies",
    "Namespace": "api/v1/namespaces",
    "Pod": "api/v1/pods",
    "Service": "api/v1/services",
    "ServiceAccount": "api/v1/serviceaccounts",
    "ConfigMap": "api/v1/configmaps",
    "Secret": "api/v1/secrets",
    "Event": "api/v1/events",
    "Deployment": "apis/apps/v1/deployments",
    "StatefulSet": "apis/apps/v1/statefulsets",
    "DaemonSet": "apis/apps/v1/daemonsets",
    "ReplicaSet": "apis/apps/v1/replicasets",
    "Job": "apis/batch/v1/jobs",
    "CronJob": "apis/batch/v1/cronjobs",
    "InferenceService": "apis/serving.kserve.io/v1beta1/inferenceservices",
    "SeldonDeployment": "apis/machinelearning.seldon.io/v1/seldondeployments",
    "NetworkPolicy": "apis/networking.k8s.io/v1/networkpolicies",
    "PodDisruptionBudget": "apis/policy/v1/poddisruptionbudgets",
    "EndpointSlice": "apis/discovery.k8s.io/v1/endpointslices",
    "Report": "apis/openreports.io/v1alpha1/reports",
    "Lease": "apis/coordination.k8s.io/v1/leases",
    "MutatingWebhookConfiguration": "apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
    "ValidatingAdmissionPolicy": "apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
}


class ApiError(Exception):
    """The API server said no, or nothing at all (status 0)."""

    def __init__(self, status: int, what: str, message: str, causes: Sequence[Mapping[str, str]] = ()) -> None:
        super().__init__(f"{what}: {message}")
        self.status = status
        self.message = message
        self.causes = causes
        """What is wrong with which field, where the API server says so: `field`, `reason`, `message`."""


class Cluster:
    """A connection to the API server."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    @classmethod
    @asynccontextmanager
    async def connected(cls) -> AsyncIterator[Cluster]:
        """Connect as the pod's service account, or outside a cluster by the kubeconfig."""
        configuration = Configuration()
        if "KUBERNETES_SERVICE_HOST" in os.environ:
            load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            # Read now: the library's default is what the variable was when it was imported.
            await load_kube_config(  # type: ignore[no-untyped-call]
                config_file=os.environ.get("KUBECONFIG"), client_configuration=configuration
            )
        configuration.client_session_kwargs = {"trust_env": False}  # the API server is never behind a proxy
        async with ApiClient(configuration) as client:
            yield cls(client)

    async def get(self, kind: str, namespace: str, name: str) -> KubeObject | None:
        """Return an object, or None where there is none."""
        try:
            return await self._request("GET", _path(kind, namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def issuer(self) -> ClusterIssuer | None:
        """Return who issues this cluster's service-account tokens; None where the API server does not tell us."""
        try:
            about = await self._request("GET", ".well-known/openid-configuration")
            keys = await self._request("GET", "openid/v1/jwks")
        except ApiError as error:
            if error.status in (403, 404):
                return None
            raise
        return ClusterIssuer(issuer=str(about.get("issuer", "")), jwks=keys)

    async def find(
        self, kind: str, namespace: str = "", labels: Mapping[str, str] | None = None, selector: str = ""
    ) -> list[KubeObject]:
        """Return all objects of a kind, in one namespace or in all, with these labels, or by a label selector."""
        selector = selector or ",".join(f"{key}={value}" for key, value in (labels or {}).items())
        return [item async for page in self.pages(kind, namespace, selector, _PAGE) for item in page]

    async def pages(
        self, kind: str, namespace: str = "", selector: str = "", size: int = _SMALL_PAGE
    ) -> AsyncIterator[list[KubeObject]]:
        """Give all objects of a kind that a label selector chooses, a page at a time, so that none need be kept."""
        query = {"limit": str(size)} | ({"labelSelector": selector} if selector else {})
        while True:
            page = await self._request("GET", _path(kind, namespace), query)
            # Items of a list come without their own kind and apiVersion.
            head = {"apiVersion": page["apiVersion"], "kind": kind}
            yield [{**head, **item} for item in page["items"]]
            query["continue"] = page["metadata"].get("continue", "")
            if not query["continue"]:
                return

    async def kinds(self, api_version: str) -> list[str]:
        """Return the kinds of resources in an API group's version; `ApiError` with status 404 where there is none."""
        listed = await self._request("GET", f"apis/{api_version}")
        return [resource["kind"] for resource in listed.get("resources", ())]

    async def lines(self, path: str, starting: tuple[str, ...], server: str = "") -> list[str]:
        """Return the lines of a text that start so; the others, which may be many, are never held.

        Args:
            path: where the text is.
            starting: what the lines start with.
            server: one API server's own address; none: the one that is always asked.
        """
        what = f"GET {path}"
        try:
            async with await self._send("GET", path, accept="text/plain", server=server) as answer:
                if answer.status != 200:
                    raise ApiError(answer.status, what, str(answer.reason))
                wanted = tuple(word.encode() for word in starting)
                return [line.decode().rstrip() async for line in answer.content if line.startswith(wanted)]
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise _unanswered(what, error) from error

    async def create(self, item: KubeObject) -> KubeObject:
        """Make an object; `ApiError` with status 409 where one is there already."""
        return await self._request("POST", _path(*_identity(item)[:2]), body=item)

    async def apply(self, item: KubeObject, manager: str = FIELD_MANAGER) -> KubeObject:
        """Make an object so, or change it so: server-side apply, which takes our fields from whoever set them."""
        query = {"force": "true", "fieldManager": manager}
        return await self._patch(item, "application/apply-patch+yaml", item, query)

    async def replace(self, item: KubeObject) -> KubeObject:
        """Replace an object, provided that nobody changed it since (status 409)."""
        return await self._request("PUT", _path(*_identity(item)), body=item)

    async def merge(self, item: KubeObject, patch: KubeObject, subresource: str = "") -> KubeObject:
        """Change an object by a JSON merge patch (RFC 7386)."""
        return await self._patch(item, "application/merge-patch+json", patch, subresource=subresource)

    async def json_patch(
        self, item: KubeObject, operations: list[KubeObject], manager: str = FIELD_MANAGER
    ) -> KubeObject:
        """Change an object by a JSON patch (RFC 6902)."""
        return await self._patch(item, "application/json-patch+json", operations, {"fieldManager": manager})

    async def delete(self, item: KubeObject) -> None:
        """Delete this very object, and not one of its name made since; gone already is fine."""
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": item["metadata"]["uid"]}}
        try:
            await self._request("DELETE", _path(*_identity(item)), body=options)
        except ApiError as error:
            if error.status not in (404, 409):
                raise

    async def evict(self, pod: KubeObject) -> None:
        """Have this very pod deleted, as far as its PodDisruptionBudgets allow (`ApiError` with status 429)."""
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace},
            "deleteOptions": {"preconditions": {"uid": pod["metadata"]["uid"]}},
        }
        await self._request("POST", f"{_path('Pod', namespace, name)}/eviction", body=eviction)

    async def _patch(
        self,
        item: KubeObject,
        content_type: str,
        body: Any,
        query: Mapping[str, str] | None = None,
        subresource: str = "",
    ) -> KubeObject:
        path = _path(*_identity(item)) + (f"/{subresource}" if subresource else "")
        query = {"fieldManager": FIELD_MANAGER, **(query or {})}
        return await self._request("PATCH", path, query, body, content_type)

    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> KubeObject:
        what = f"{method} {path}"
        try:
            answer = await self._send(method, path, query, body, content_type)
            content = await answer.read()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise _unanswered(what, error) from error
        try:
            document = json.loads(content)
        except ValueError:
            document = {"message": "the answer is not JSON"}
        if not 200 <= answer.status < 300:
            causes = (document.get("details") or {}).get("causes") or ()
            raise ApiError(answer.status, what, str(document.get("message", answer.reason)), causes)
        return dict(document)

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        accept: str = "application/json, */*",  # a JWKS document has a media type of its own
        server: str = "",
    ) -> aiohttp.ClientResponse:
        url = f"{server or self._client.configuration.host}/{path}" + (f"?{urlencode(query)}" if query else "")
        headers = {"Accept": accept, "Content-Type": content_type, "User-Agent": FIELD_MANAGER}
        await self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, None)
        answer = await self._client.call_api(
            method, url, headers, body, _request_timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        )
        response: aiohttp.ClientResponse = answer.response
        return response


def _unanswered(what: str, error: Exception) -> ApiError:
    return ApiError(0, what, f"no answer from the API server ({type(error).__name__})")


def _identity(item: KubeObject) -> tuple[str, str, str]:
    return item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"]


def _path(kind: str, namespace: str, name: str = "") -> str:
    """`api/v1/pods` becomes `api/v1/namespaces/<namespace>/pods/<name>`."""
    prefix, plural = _PATHS[kind].rsplit("/", 1)
    middle = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
    return f"{prefix}{middle}/{plural}" + (f"/{quote(name, safe='')}" if name else "")
