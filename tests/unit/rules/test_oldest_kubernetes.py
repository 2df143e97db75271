"""No expression asks for more of CEL than the oldest supported Kubernetes has; `make test-oldest` asks that one.

An API server takes in *new* expressions only what its predecessor knew as well, so that it can be rolled back: 1.30
what 1.29 had. The list is that of k8s.io/apiserver v0.30, pkg/cel/environment/base.go.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from modelward.api.crd import KINDS, crd
from modelward.planner.pod_policy import identity_policies, pod_policies
from modelward.rules.admission_policy import catalogue_policies
from tests.cluster import versions

CHART = Path(__file__).parents[3] / "charts" / "modelward"
LIBRARY = {
    "macros": "has all exists exists_one map filter",
    "functions": "size contains startsWith endsWith matches type dyn int uint double string bytes bool",
    "times": "timestamp duration getDate getDayOfMonth getDayOfWeek getDayOfYear getFullYear getHours getMilliseconds"
    " getMinutes getMonth getSeconds",
    "strings, version 2": "charAt format indexOf join lastIndexOf lowerAscii quote replace split substring trim"
    " upperAscii",
    "optional values": "of ofNonZeroValue none hasValue value or orValue optMap optFlatMap",
    "lists": "isSorted sum min max indexOf lastIndexOf",
    "regular expressions": "find findAll",
    "URLs": "url isURL getScheme getHost getHostname getPort getEscapedPath getQuery",
    "authorizer": "path group resource subresource namespace name serviceAccount check allowed reason errored error",
    "quantities": "quantity isQuantity isInteger asInteger asApproximateFloat sign add sub isLessThan isGreaterThan"
    " compareTo",
    "sets": "contains equivalent intersects",
}
KNOWN = {name for names in LIBRARY.values() for name in names.split()}
QUOTED = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'')
CALLED = re.compile(r"(\w+)\(")
# `all(i, v, ...)`, of 1.32; `map` and `filter` are left out: map(item, condition, result) is as old as CEL.
TWO_VARIABLES = re.compile(r"\.(?:(?:all|exists|exists_one)\(\s*\w+\s*,\s*\w+\s*,|(?:existsOne|transform\w+)\()")
KEYS = ("expression", "messageExpression", "valueExpression", "rule")


def unknown(expression: str) -> set[str]:
    """What of an expression the oldest version does not know."""
    text = QUOTED.sub('""', expression)
    return {name for name in CALLED.findall(text) if name not in KNOWN} | set(TWO_VARIABLES.findall(text))


def expressions(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key in KEYS and isinstance(value, str):
                yield value
            else:
                yield from expressions(value)
    elif isinstance(node, list):
        for value in node:
            yield from expressions(value)


@pytest.mark.parametrize(
    ("manifests", "at_least"),
    [
        (catalogue_policies(), 60),
        (pod_policies(), 50),
        (identity_policies("modelward-sidecar@sha256:00", "a2V5"), 5),
        ([crd(kind) for kind in KINDS], 30),
    ],
    ids=["catalogue", "pods and managed objects", "identity", "CRDs"],
)
def test_what_the_api_server_compiles_is_within_the_oldest(manifests: list[Any], at_least: int) -> None:
    found = list(expressions(manifests))
    assert len(found) >= at_least
    assert {text: names for text in found if (names := unknown(text))} == {}


@pytest.mark.parametrize(
    ("expression", "what"),
    [
        ("object.spec.names.all(i, n, i < 3 || n != '')", {".all(i, n,"}),
        ("object.spec.names.transformList(i, n, n) == []", {"transformList", ".transformList("}),
        ("object.metadata.name.reverse() == 'x'", {"reverse"}),
        ("isIP(object.spec.address)", {"isIP"}),  # in 1.30, but not in what it takes anew
        ("semver('1.2.3').major() == 1", {"semver", "major"}),
        ("!format.dns1123Label().validate(object.metadata.name).hasValue()", {"dns1123Label", "validate"}),
        ("authorizer.group('').resource('pods').labelSelector('a=b').check('list').allowed()", {"labelSelector"}),
        ("object.spec.names.map(n, n.startsWith('isIP('), n)", set()),
        ("object.metadata.?labels.orValue({}) == {}", set()),
    ],
)
def test_what_came_later_is_seen(expression: str, what: set[str]) -> None:
    assert unknown(expression) == what


def test_the_chart_installs_from_the_oldest_that_is_tried() -> None:
    oldest, _ = versions.OTHER_KUBERNETES[0].removeprefix("v").rsplit(".", 1)
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"] == f">={oldest}.0-0"
