"""`modelward top`: the models of a cluster, whether they are ready, and what their sidecars answer.

Asks through `kubectl`, with whatever cluster and credentials it uses: nothing further needs to be installed. Sidecars'
metrics come through the API server's proxy to pods; who may not use it (in protected namespaces it needs the verb
`breakglass`) sees the models without their rates.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from modelward.cli.kubectl import KubectlError, items, kubectl
from modelward.cli.output import to_json
from modelward.planner.sidecar import MODEL_LABEL

MONITOR_PORT = 9090
_SERIES = re.compile(r'^modelward_requests_total\{outcome="([a-z-]+)"\} ([0-9.e+]+)$', re.MULTILINE)

Ask = Callable[..., str]


@dataclass
class Model:
    """A model and its pods: `requests` by outcome, summed over the pods that could be asked; None where none could."""

    namespace: str
    name: str
    ready: str
    pods: int = 0
    asked: int = 0
    requests: dict[str, float] = field(default_factory=dict)
    rate: float | None = None


def look(ask: Ask, namespace: str | None) -> list[Model]:
    """The models now, with what their sidecars have counted since they began."""
    scope = ("--namespace", namespace) if namespace else ("--all-namespaces",)
    models = {}
    for item in items(ask("get", "modeldeployments.modelward.io", *scope, "--output", "json")):
        metadata = item["metadata"]
        models[metadata["namespace"], metadata["name"]] = Model(metadata["namespace"], metadata["name"], _ready(item))
    for pod in items(ask("get", "pods", *scope, "--selector", MODEL_LABEL, "--output", "json")):
        metadata = pod["metadata"]
        model = models.get((metadata["namespace"], metadata["labels"][MODEL_LABEL]))
        if model is None or pod.get("status", {}).get("phase") != "Running":
            continue
        model.pods += 1
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}:{MONITOR_PORT}/proxy/metrics"
        try:
            text = ask("get", "--raw", path)
        except KubectlError:
            continue
        model.asked += 1
        for outcome, count in _SERIES.findall(text):
            model.requests[outcome] = model.requests.get(outcome, 0) + float(count)
    return sorted(models.values(), key=lambda model: (model.namespace, model.name))


def _ready(item: dict[str, Any]) -> str:
    """The condition Ready: `True`, or why not."""
    for condition in item.get("status", {}).get("conditions", ()):
        if condition["type"] == "Ready":
            return "True" if condition["status"] == "True" else str(condition.get("reason") or condition["status"])
    return "Unknown"


def with_rates(models: list[Model], before: list[Model], seconds: float) -> list[Model]:
    """`models`, with requests a second since `before`; a sidecar that began anew meanwhile counts from zero."""
    known = {(model.namespace, model.name): model for model in before}
    for model in models:
        earlier = known.get((model.namespace, model.name))
        if model.asked and earlier is not None and earlier.asked:
            grown = sum(model.requests.values()) - sum(earlier.requests.values())
            model.rate = max(grown, 0.0) / seconds
    return models


def as_table(models: list[Model]) -> Table:
    """The models as a table; a dash where a sidecar's metrics could not be had."""
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for heading in ("namespace", "model", "ready", "pods", "requests/s", "answered", "refused", "most refused for"):
        table.add_column(
            heading, justify="right" if heading in ("pods", "requests/s", "answered", "refused") else "left"
        )
    for model in models:
        refused = {
            name: count for name, count in model.requests.items() if name not in ("answered", "abandoned") and count
        }
        table.add_row(
            Text(model.namespace),
            Text(model.name),
            Text(model.ready, "green" if model.ready == "True" else "red"),
            str(model.pods),
            "-" if model.rate is None else f"{model.rate:.1f}",
            f"{model.requests.get('answered', 0):.0f}" if model.asked else "-",
            f"{sum(refused.values()):.0f}" if model.asked else "-",
            max(refused, key=lambda name: refused[name], default=""),
        )
    return table


def as_document(models: list[Model]) -> list[dict[str, Any]]:
    """The models as they are printed by `-o json`; `requestsPerSecond` null where it is not known."""
    return [
        {
            "namespace": model.namespace,
            "name": model.name,
            "ready": model.ready,
            "pods": model.pods,
            "podsAsked": model.asked,
            "requestsPerSecond": model.rate,
            "requests": {name: int(count) for name, count in sorted(model.requests.items())},
        }
        for model in models
    ]


@click.command("top", help="Show a cluster's models: whether they are ready, and what their sidecars answer.")
@click.option("-n", "--namespace", help="Of one namespace; default: of all.")
@click.option("--interval", type=click.FloatRange(0.5, 60), default=2.0, show_default=True, help="Seconds.")
@click.option("-o", "output", type=click.Choice(("table", "json")), default="table", show_default=True, help="Format.")
def command(namespace: str | None, interval: float, output: str) -> None:
    """Refresh until Ctrl-C in a terminal; once as JSON, or where standard output is none. Exit 2: no answer."""
    console = Console()
    try:
        began, before = time.monotonic(), look(kubectl, namespace)
        time.sleep(interval)
        models = with_rates(look(kubectl, namespace), before, time.monotonic() - began)
        if output == "json":
            click.echo(to_json(as_document(models)), nl=False)
        elif not console.is_terminal:
            console.print(as_table(models))
        else:
            _refresh(console, models, namespace, interval)
    except KubectlError as error:
        click.echo(f"modelward: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        return


def _refresh(console: Console, models: list[Model], namespace: str | None, interval: float) -> None:
    began = time.monotonic()
    with Live(as_table(models), console=console, auto_refresh=False) as view:
        while True:
            view.update(as_table(models), refresh=True)
            time.sleep(interval)
            now, found = time.monotonic(), look(kubectl, namespace)
            models, began = with_rates(found, models, now - began), now
