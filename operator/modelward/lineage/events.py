"""OpenLineage events (spec 2-0-2) of a model's life: deployed, its baseline fitted, serving window by window.

Runs have names that follow from what they are about (RFC 9562, version 5), so that an event that is sent twice, by two
controllers one after another, is the same event. The client's own classes know the schemas; nothing here sends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit
from uuid import NAMESPACE_URL, UUID, uuid5

from openlineage.client.event_v2 import InputDataset, Job, JobEvent, OutputDataset, Run, RunEvent, RunState
from openlineage.client.generated.base import DatasetFacet, JobFacet, RunFacet
from openlineage.client.generated.dataset_version_dataset import DatasetVersionDatasetFacet
from openlineage.client.generated.error_message_run import ErrorMessageRunFacet
from openlineage.client.generated.input_statistics_input_dataset import InputStatisticsInputDatasetFacet
from openlineage.client.generated.job_dependencies_run import JobDependenciesRunFacet, JobDependency, JobIdentifier
from openlineage.client.generated.job_type_job import EmissionPattern, JobTypeJobFacet
from openlineage.client.generated.lifecycle_state_change_dataset import (
    LifecycleStateChange,
    LifecycleStateChangeDatasetFacet,
)
from openlineage.client.generated.nominal_time_run import NominalTimeRunFacet
from openlineage.client.generated.output_statistics_output_dataset import OutputStatisticsOutputDatasetFacet
from openlineage.client.generated.parent_run import Job as ParentJob
from openlineage.client.generated.parent_run import ParentRunFacet
from openlineage.client.generated.parent_run import Run as ParentRun
from openlineage.client.generated.processing_engine_run import ProcessingEngineRunFacet
from openlineage.client.generated.schema_dataset import SchemaDatasetFacet, SchemaDatasetFacetFields

from modelward import __version__
from modelward.lineage import columns
from modelward.lineage.facets import (
    PURPOSE,
    SERVING,
    TRANSFORMATIONS,
    PurposeJobFacet,
    ServingRunFacet,
    TransformationsJobFacet,
)
from modelward.lineage.subject import Field, Fit, Subject
from modelward.lineage.texts import storable
from modelward.windows import SECONDS, Window

Event = RunEvent | JobEvent
Change = Literal["CREATE", "ALTER", "DROP"]
PRODUCER = f"https://modelward.io/modelward/{__version__}"
_RUNS = uuid5(NAMESPACE_URL, "https://modelward.io/runs")
_MAX_MESSAGE = 1024


def deployment(subject: Subject, namespace: str, now: str, change: Change) -> tuple[Event, ...]:
    """The run in which a model began to serve, serves otherwise from now on, or serves no more.

    What its owner declares of its making goes before it, as a job without a run: nobody here saw it.

    Args:
        subject: the model.
        namespace: of jobs, and of data sets that have no address.
        now: when that was, RFC 3339.
        change: what became of the model's answers.
    """
    subject = storable(subject)
    facets: dict[str, RunFacet] = {"processing_engine": _engine(), **_training_run(subject)}
    run = Run(str(_deployment_run(subject)) if change != "DROP" else str(_run(subject.uid, "removal")), facets)
    job = _job(subject, namespace, "", "BATCH")
    inputs = [_artefact(subject, namespace).read()]
    answers = _named(subject, namespace, "answers")
    state = LifecycleStateChangeDatasetFacet(LifecycleStateChange(change), producer=PRODUCER)
    outputs = [OutputDataset(*answers, facets={"lifecycleStateChange": state, **_schema(subject.outputs)})]
    pair = (_event(kind, now, run, job, inputs, outputs) for kind in (RunState.START, RunState.COMPLETE))
    return (*(() if change == "DROP" else _making(subject, namespace, now)), *pair)


def fitting(subject: Subject, namespace: str, now: str, fit: Fit) -> Event:
    """That a baseline's fitting began, ended or failed."""
    subject, fit = storable(subject), storable(fit)
    run_facets: dict[str, RunFacet] = {"processing_engine": _engine(), "parent": _parent(subject, namespace)}
    if fit.state == "FAIL":
        run_facets["errorMessage"] = ErrorMessageRunFacet(fit.why[:_MAX_MESSAGE], "Python", producer=PRODUCER)
    outputs = []
    if fit.state == "COMPLETE":
        version = _version(f"sha256:{fit.sha256}" if fit.sha256 else "")
        outputs = [OutputDataset(*_named(subject, namespace, "baseline"), facets=version)]
    job = _job(subject, namespace, ".baseline", "BATCH")
    inputs = [_addressed(fit.dataset, namespace).read()]
    run = Run(str(_run(subject.uid, "fit", fit.run)), run_facets)
    return _event(RunState(fit.state), now, run, job, inputs, outputs)


def serving(subject: Subject, namespace: str, replica: str, process: str, window: Window) -> tuple[Event, Event]:
    """A window of serving by one replica, as a run that began and is complete."""
    subject, replica, window = storable(subject), storable(replica), storable(window)
    identifier = str(_run(subject.uid, "window", replica, process, str(window.sequence)))
    facets: dict[str, RunFacet] = {
        "processing_engine": _engine(),
        "parent": _parent(subject, namespace),
        "nominalTime": NominalTimeRunFacet(window.start, window.end, producer=PRODUCER),
    }
    job = _job(subject, namespace, ".serving", "SERVICE")
    requests, features = _named(subject, namespace, "requests"), _named(subject, namespace, "features")
    read = InputStatisticsInputDatasetFacet(rowCount=window.rows, producer=PRODUCER)
    kept = [one for one in subject.inputs if not one.dropped]
    inputs = [
        InputDataset(*requests, facets=_schema(subject.inputs), inputFacets={"inputStatistics": read}),
        # The model reads them: Marquez keeps of answers' column lineage what leads to an input of the run alone.
        InputDataset(*features, facets=_schema(kept)),
        _artefact(subject, namespace).read(),
    ]
    written = OutputStatisticsOutputDatasetFacet(rowCount=window.rows, producer=PRODUCER)
    seen = columns.of_features(subject.inputs, requests, PRODUCER)
    scored = columns.of_answers(subject.outputs, subject.inputs, features, PRODUCER)
    outputs = [
        OutputDataset(*features, facets={**_schema(kept), "columnLineage": seen}),
        OutputDataset(
            *_named(subject, namespace, "answers"),
            facets={**_schema(subject.outputs), "columnLineage": scored},
            outputFacets={"outputStatistics": written},
        ),
    ]
    counted = {**facets, SERVING: _counts(subject, replica, window)}
    return (
        _event(RunState.START, window.start, Run(identifier, facets), job, *_bare(inputs, outputs)),
        _event(RunState.COMPLETE, window.end, Run(identifier, counted), job, inputs, outputs),
    )


def _event(
    kind: RunState,
    when: str,
    run: Run,
    job: Job,
    inputs: Sequence[InputDataset],
    outputs: Sequence[OutputDataset],
) -> RunEvent:
    return RunEvent(
        eventTime=when, producer=PRODUCER, run=run, job=job, eventType=kind, inputs=[*inputs], outputs=[*outputs]
    )


def _making(subject: Subject, namespace: str, now: str) -> tuple[JobEvent, ...]:
    """How the model was made, as its owner declares; nothing where that is not told."""
    if not {"dataset", "model"} <= set(subject.declared):
        return ()
    job = _job(subject, namespace, ".training", "BATCH")
    inputs = [_addressed(subject.declared["dataset"], namespace).read()]
    outputs = [_artefact(subject, namespace).written()]
    return (JobEvent(eventTime=now, producer=PRODUCER, job=job, inputs=inputs, outputs=outputs),)


def _job(subject: Subject, namespace: str, part: str, processing: Literal["BATCH", "SERVICE"]) -> Job:
    pattern = EmissionPattern("EVENT_BASED", "ACCUMULATIVE")
    if processing == "SERVICE":
        pattern = EmissionPattern("PERIODIC", "COMPLETE_SNAPSHOT", SECONDS)
    facets: dict[str, JobFacet] = {
        "jobType": _job_type(processing, pattern),
        PURPOSE: PurposeJobFacet(
            list(subject.purposes),
            [{key: value for key, value in basis._asdict().items() if value} for basis in subject.bases],
            list(subject.classifications),
            subject.declared.get("consumer"),
            producer=PRODUCER,
        ),
    }
    if subject.steps and part in ("", ".training"):
        steps = [step._asdict() for step in subject.steps]
        facets[TRANSFORMATIONS] = TransformationsJobFacet(steps, producer=PRODUCER)
    return Job(namespace, f"{subject.namespace}.{subject.name}{part}", facets)


def _job_type(processing: str, pattern: EmissionPattern) -> JobTypeJobFacet:
    return JobTypeJobFacet(processing, "MODELWARD", "MODEL", pattern, producer=PRODUCER)


def _engine() -> ProcessingEngineRunFacet:
    return ProcessingEngineRunFacet(__version__, "modelward", producer=PRODUCER)


def _parent(subject: Subject, namespace: str) -> ParentRunFacet:
    job = ParentJob(namespace, f"{subject.namespace}.{subject.name}")
    return ParentRunFacet(ParentRun(str(_deployment_run(subject))), job, producer=PRODUCER)


def _training_run(subject: Subject) -> dict[str, RunFacet]:
    """The run that made the model comes before; it is no parent, for it did not start this one."""
    address = subject.declared.get("training-run")
    if not address:
        return {}
    place = _place(address) or ("training-run", address)
    upstream = JobDependency(JobIdentifier(*place), dependency_type="IMPLICIT_DEPENDENCY")
    return {"jobDependencies": JobDependenciesRunFacet([upstream], producer=PRODUCER)}


def _bare(
    inputs: Sequence[InputDataset], outputs: Sequence[OutputDataset]
) -> tuple[list[InputDataset], list[OutputDataset]]:
    """The same by their names alone: what is known of them comes once, with the run's end."""
    return (
        [InputDataset(one.namespace, one.name) for one in inputs],
        [OutputDataset(one.namespace, one.name) for one in outputs],
    )


def _counts(subject: Subject, replica: str, window: Window) -> ServingRunFacet:
    consumers: list[dict[str, Any]] = [
        {
            "client": one.client,
            "issuer": one.issuer,
            "purpose": one.purpose,
            "requests": one.requests,
            "rows": one.rows,
            "first": one.first,
            "last": one.last,
        }
        for one in window.consumers
    ]
    return ServingRunFacet(
        replica,
        window.requests,
        window.answered,
        window.rows,
        window.others,
        subject.unnamed,
        consumers,
        producer=PRODUCER,
    )


def _named(subject: Subject, namespace: str, part: str) -> tuple[str, str]:
    return namespace, f"{subject.namespace}/{subject.name}/{part}"


class _Addressed(NamedTuple):
    """What an address names, with its version."""

    namespace: str
    name: str
    facets: dict[str, DatasetFacet]

    def read(self) -> InputDataset:
        return InputDataset(self.namespace, self.name, facets=self.facets)

    def written(self) -> OutputDataset:
        return OutputDataset(self.namespace, self.name, facets=self.facets)


def _artefact(subject: Subject, namespace: str) -> _Addressed:
    """The model itself: where its owner says it is, or under its own name."""
    declared = subject.declared.get("model")
    return _addressed(declared, namespace) if declared else _Addressed(*_named(subject, namespace, "model"), {})


def _addressed(address: str, namespace: str) -> _Addressed:
    """What `<address>@sha256:<hex>`, or an address alone, names."""
    where, _, digest = address.rpartition("@sha256:")
    where = where or address
    place = _place(where) or (namespace, where)
    return _Addressed(*place, _version(f"sha256:{digest}" if "@sha256:" in address else ""))


def _place(address: str) -> tuple[str, str] | None:
    """`scheme://authority` and the path of an address, as OpenLineage names what has one."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return None
    path = address.partition("://")[2].partition("/")[2]
    return (f"{parts.scheme}://{parts.netloc}", path) if parts.scheme and parts.netloc and path else None


def _version(version: str) -> dict[str, DatasetFacet]:
    return {"version": DatasetVersionDatasetFacet(version, producer=PRODUCER)} if version else {}


def _schema(fields: Sequence[Field]) -> dict[str, DatasetFacet]:
    if not fields:
        return {}
    told = [SchemaDatasetFacetFields(one.name, one.datatype) for one in fields]
    return {"schema": SchemaDatasetFacet(told, producer=PRODUCER)}


def _deployment_run(subject: Subject) -> UUID:
    return _run(subject.uid, "deployment", subject.digest)


def _run(*parts: str) -> UUID:
    return uuid5(_RUNS, "\0".join(parts))
