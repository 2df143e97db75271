"""Lineage events as a Marquez that runs keeps them: written by the controller's receiver, read back by its API.

Marquez is on no registry of libraries: who has one gives its address. Its namespaces gain what is written here.
"""

from __future__ import annotations

import json
import re
import urllib.request
import uuid
from collections.abc import Iterator
from itertools import pairwise
from typing import Any
from urllib.parse import quote

from modelward.controller.receivers import HttpReceiver, UndeliveredError
from modelward.lineage.events import Event, deployment, serving
from modelward.lineage.subject import Subject
from tests.conformance.lineage_samples import WINDOW, life, ordinary, strange
from tests.conformance.told import Told
from tests.unit.lineage.manifests import NOW

STRANGE = 30
NAMESPACES = re.compile(r"[a-zA-Z0-9_@+\-:=;/.]{1,1024}")
"""What Marquez takes for one; it answers 400 to an event with another, such as an IPv6 address has."""


class Marquez:
    """Its API, as far as it is asked here."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self._url}/api/v1{path}", timeout=60) as answer:
            return json.load(answer)

    def job(self, name: str) -> Any:
        return self.get(f"/namespaces/modelward/jobs/{quote(name, safe='')}")

    def dataset(self, name: str, namespace: str = "modelward") -> Any:
        return self.get(f"/namespaces/{quote(namespace, safe='')}/datasets/{quote(name, safe='')}")


def conformance(url: str) -> Iterator[Told]:
    name = f"m{uuid.uuid4().hex[:8]}"  # not there before
    about = ordinary(name)
    receiver, there = HttpReceiver(url), Marquez(url)
    kinds = [event for event in life(about) if _change(event) != "DROP"]
    yield Told("events of a model's life", f"{len(kinds)} taken", _written(receiver, kinds))
    yield Told("the same again", f"{len(kinds)} taken", _written(receiver, kinds))
    yield from _jobs(there, name)
    yield from _datasets(there, name)
    yield from _graph(there, name)
    drawn = [one for one in strange(STRANGE) if all(map(NAMESPACES.fullmatch, _namespaces(one)))]
    what = f"of {STRANGE} manifests drawn at random, events with namespaces that Marquez takes"
    yield Told(what, f"{len(drawn)} taken", _written(receiver, drawn))
    yield from _end(there, receiver, about)
    receiver.close()


def _jobs(there: Marquez, name: str) -> Iterator[Told]:
    place = f"clinic.{name}"
    for part, inputs, outputs, state in (
        ("", {"wdbc"}, {"answers"}, "COMPLETED"),
        (".training", {"wdbc.csv"}, {"wdbc"}, "no run"),
        (".baseline", {"wdbc.csv"}, {"baseline"}, "COMPLETED"),
        (".serving", {"wdbc", "requests", "features"}, {"features", "answers"}, "COMPLETED"),
    ):
        job = there.job(place + part)
        found = f"{_last(job['inputs'])} -> {_last(job['outputs'])}, {(job['latestRun'] or {}).get('state', 'no run')}"
        yield Told(f"the job <model>{part}", f"{sorted(inputs)} -> {sorted(outputs)}, {state}", found)
        yield Told(
            f"why there is it: <model>{part}", "['diagnosis']", str(job["facets"]["modelward_purpose"]["purposes"])
        )
    states = sorted(run["state"] for run in there.get(f"/namespaces/modelward/jobs/{place}.baseline/runs")["runs"])
    yield Told("two fits that were told twice", "['COMPLETED', 'FAILED']", str(states))
    (window,) = there.get(f"/namespaces/modelward/jobs/{place}.serving/runs")["runs"]
    served = window["facets"]["modelward_serving"]
    told = f"{window['startedAt']} to {window['endedAt']}, {[one['client'] for one in served['consumers']]}"
    yield Told("the window", f"{WINDOW.start} to {WINDOW.end}, ['user:lee']", told)
    parent = there.job(f"{place}.serving")["parentJobName"]
    yield Told("the parent of serving", place, parent)


def _datasets(there: Marquez, name: str) -> Iterator[Told]:
    features, answers = (there.dataset(f"clinic/{name}/{part}") for part in ("features", "answers"))
    columns = {one["name"]: one["inputFields"][0] for one in features["columnLineage"]}
    told = {field: f"{one['dataset']} {one['field']} {one['transformationType']}" for field, one in columns.items()}
    where = f"clinic/{name}/requests"
    expected = {name: f"{where} {name} MASKED" for name in ("radius", "ssn")} | {"texture": f"{where} texture IDENTITY"}
    yield Told("columns of what the model gets", str(expected), str(dict(sorted(told.items()))))
    why = "replaced by a pseudonym (Identifier of SpecialCategory data, DataPolicy/clinic/clinic)"
    yield Told("why one is another", why, columns["ssn"]["transformationDescription"])
    (malignant,) = answers["columnLineage"] or [{"inputFields": []}]
    led = sorted(f"{one['dataset'].rpartition('/')[2]} {one['field']}" for one in malignant["inputFields"])
    yield Told("columns of the answer", "['features radius', 'features ssn', 'features texture']", str(led))
    version = there.dataset("wdbc.csv", "s3://clinic")["facets"]["version"]["datasetVersion"]
    yield Told("the version of the data set", f"sha256:{'a' * 64}", version)


def _graph(there: Marquez, name: str) -> Iterator[Told]:
    graph = there.get(f"/lineage?nodeId=dataset:modelward:clinic/{name}/answers&depth=10")["graph"]
    edges = {node["id"]: [edge["destination"] for edge in node["outEdges"]] for node in graph}
    way = [
        "dataset:s3://clinic:wdbc.csv",
        f"job:modelward:clinic.{name}.training",
        "dataset:oci://registry.example:wdbc",
        f"job:modelward:clinic.{name}.serving",
        f"dataset:modelward:clinic/{name}/answers",
    ]
    missing = [f"{one} -> {other}" for one, other in pairwise(way) if other not in edges.get(one, ())]
    yield Told("the way from the data set to the answers", "whole", ", ".join(missing) or "whole")
    answer = f"datasetField:modelward:clinic/{name}/answers:malignant"
    fields = there.get(f"/column-lineage?nodeId={answer}&depth=10")["graph"]
    back = any(node["id"] == f"datasetField:modelward:clinic/{name}/requests:ssn" for node in fields)
    yield Told("from an answer back to a field of the request", "found", "found" if back else "lost")


def _end(there: Marquez, receiver: HttpReceiver, about: Subject) -> Iterator[Told]:
    gone = deployment(about, "modelward", NOW, "DROP")
    yield Told("that it serves no more", f"{len(gone)} taken", _written(receiver, gone))
    back = [*deployment(about, "modelward", NOW, "CREATE"), *serving(about, "modelward", "r", "p2", WINDOW)]
    yield Told("that it serves again", f"{len(back)} taken", _written(receiver, back))
    there_again = there.dataset(f"clinic/{about.name}/answers")["name"]
    yield Told("its answers, then", f"clinic/{about.name}/answers", there_again)


def _written(receiver: HttpReceiver, events: list[Event] | tuple[Event, ...]) -> str:
    taken, refused = 0, set()
    for event in events:
        try:
            receiver.deliver(event)
            taken += 1
        except UndeliveredError as error:
            refused.add(str(error))
    return f"{taken} taken" + "".join(f", {why}" for why in sorted(refused))


def _namespaces(event: Event) -> list[str]:
    return [one.namespace for one in [*(event.inputs or ()), *(event.outputs or ())]]


def _change(event: Event) -> str:
    for one in event.outputs or ():
        if told := (one.facets or {}).get("lifecycleStateChange"):
            return str(told.lifecycleStateChange.value)  # type: ignore[attr-defined]
    return ""


def _last(named: list[dict[str, str]]) -> list[str]:
    return sorted(one["name"].rpartition("/")[2] for one in named)
